//! A request body that can be sent more than once.
//!
//! Frames go to the first worker as they come from the client, and up to `retry_body_bytes_max` of them are kept (as counted
//! references, not copies). A later attempt gets the kept frames first and then the rest from the client. Once an answer
//! began, or the body outgrew the bound, nothing is kept any more and there is no other attempt.
//!
//! A request that may be mirrored is kept a second time, within bounds of its own and until its answer's end.
//!
//! Only the newest attempt reads. An older one, which hyper may still be sending, ends with an error: that resets it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::observe::Frames;

/// What keeping a frame costs beside its data, so that many empty ones do not pass as nothing.
const FRAME_BYTES: usize = 64;

/// What keeps an attempt from going on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request ended, or another attempt took its place. The source tells hyper to reset it as cancelled.
    #[error("the attempt was given up")]
    GivenUp(#[source] h2::Error),
    /// The client's stream broke.
    #[error("the client's stream broke")]
    Client(#[source] hyper::Error),
}

/// The client's body. Dropping it gives up the attempt that reads it.
#[derive(Debug)]
pub struct Source(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    incoming: Incoming,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    keep_bytes_max: usize,
    /// For mirroring.
    copy: Option<Frames>,
    trailers: Option<HeaderMap>,
    ended: bool,
    broken: bool,
    /// Frames can be replayed.
    keeping: bool,
    /// The attempt that may read; 0 is none.
    attempt: u32,
    waker: Option<Waker>,
}

impl Source {
    /// Wraps a client's body. What passes is also kept in `copy`, if there is one.
    #[must_use]
    pub fn new(incoming: Incoming, keep_bytes_max: usize, copy: Option<Frames>) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            incoming,
            kept: Vec::new(),
            kept_bytes: 0,
            keep_bytes_max,
            copy,
            trailers: None,
            ended: false,
            broken: false,
            keeping: true,
            attempt: 0,
            waker: None,
        })))
    }

    /// The body for the next attempt; `None` if what was sent already cannot be sent again.
    #[must_use]
    pub fn attempt(&self) -> Option<Replay> {
        let mut shared = lock(&self.0);
        if shared.attempt > 0 && (!shared.keeping || shared.broken) {
            return None;
        }
        shared.attempt += 1;
        shared.wake();
        Some(Replay(Sent::Live(Live {
            shared: Arc::clone(&self.0),
            attempt: shared.attempt,
            next: 0,
        })))
    }

    /// The copy, if all of the request passed.
    #[must_use]
    pub fn take_copy(&self) -> Option<Frames> {
        let mut shared = lock(&self.0);
        let complete = !shared.broken && (shared.ended || shared.incoming.is_end_stream());
        shared.copy.take().filter(|_| complete)
    }

    /// Whether the client's stream broke.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        lock(&self.0).broken
    }

    /// An answer began: nothing will be sent again.
    pub fn commit(&self) {
        let mut shared = lock(&self.0);
        shared.keeping = false;
        // The attempt may be behind what is kept if it is not the first one.
        if shared.attempt == 1 {
            shared.kept = Vec::new();
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.attempt = 0;
        shared.wake();
    }
}

impl Shared {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if let Some(copy) = &mut self.copy {
            copy.push(data);
        }
        if !self.keeping {
            return;
        }
        self.kept_bytes += data.len() + FRAME_BYTES;
        if self.kept_bytes > self.keep_bytes_max {
            self.keeping = false;
            self.kept = Vec::new();
        } else {
            self.kept.push(data.clone());
        }
    }
}

/// A body that a worker is sent.
#[derive(Debug)]
pub struct Replay(Sent);

#[derive(Debug)]
enum Sent {
    /// One attempt of a client's request.
    Live(Live),
    /// A copy.
    Copy(VecDeque<Bytes>),
}

impl Replay {
    /// A body of these frames.
    #[must_use]
    pub fn of(frames: &[Bytes]) -> Self {
        Self(Sent::Copy(frames.iter().cloned().collect()))
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Sent::Live(live) => live.poll_frame(cx),
            Sent::Copy(frames) => Poll::Ready(frames.pop_front().map(|data| Ok(Frame::data(data)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Sent::Live(live) => live.is_end_stream(),
            Sent::Copy(frames) => frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[derive(Debug)]
struct Live {
    shared: Arc<Mutex<Shared>>,
    attempt: u32,
    /// Kept frames that were sent.
    next: usize,
}

impl Live {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self;
        let mut shared = lock(&this.shared);
        if shared.attempt != this.attempt {
            return Poll::Ready(Some(Err(Error::GivenUp(Reason::CANCEL.into()))));
        }
        if let Some(data) = shared.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if shared.ended {
            // Trailers of a request are unheard of in gRPC, but they are kept for a replay all the same.
            return Poll::Ready(
                shared
                    .trailers
                    .clone()
                    .filter(|_| this.next != usize::MAX)
                    .map(|trailers| {
                        this.next = usize::MAX;
                        Ok(Frame::trailers(trailers))
                    }),
            );
        }
        match Pin::new(&mut shared.incoming).poll_frame(cx) {
            Poll::Pending => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(None) => {
                shared.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                shared.broken = true;
                Poll::Ready(Some(Err(Error::Client(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    shared.keep(data);
                    this.next = shared.kept.len();
                } else if let Some(trailers) = frame.trailers_ref() {
                    shared.trailers = Some(trailers.clone());
                    shared.ended = true;
                    this.next = usize::MAX;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        shared.attempt == self.attempt
            && self.next >= shared.kept.len()
            && shared.trailers.is_none()
            && (shared.ended || shared.incoming.is_end_stream())
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
