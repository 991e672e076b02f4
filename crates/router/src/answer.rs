//! The answer's way back: bodies, and what is learned from them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tonic::{Code, Status};

use crate::{
    admit::Permit,
    endpoint::Lease,
    metrics::Metrics,
    observe::{Capture, Observed},
    replay::Source,
    state::ArmCounts,
    status::Refusal,
};

/// Error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Body of an answer.
#[derive(Debug, Default)]
pub enum AnswerBody {
    /// Nothing.
    #[default]
    Empty,
    /// A few words for those who do not speak gRPC.
    Text(Bytes),
    /// From a service of this router.
    Local(axum::body::Body),
    /// From a worker.
    Forwarded(Box<Forwarded>),
}

/// A worker's answer, passed through frame by frame.
#[derive(Debug)]
pub struct Forwarded {
    /// `None` once it ended.
    pub upstream: Option<Incoming>,
    /// The deadline.
    pub sleep: Option<Pin<Box<Sleep>>>,
    /// What is reported in the end.
    pub outcome: Outcome,
    /// The request, which may still be on its way.
    pub source: Source,
    /// The place on the worker's connection.
    pub lease: Lease,
    /// More that is to be learned of it.
    pub capture: Option<Box<Capture>>,
}

/// Reports a request exactly once: before the client can see the end of its answer, or when dropped. Without a code the
/// client went away.
#[derive(Debug)]
pub struct Outcome {
    counts: Arc<ArmCounts>,
    metrics: Arc<Metrics>,
    started: Instant,
    code: Option<Code>,
    /// Its part in a rollout.
    observed: Option<Observed>,
    /// Given back with the report.
    permit: Option<Permit>,
}

impl Outcome {
    /// A request on an arm begins.
    pub fn new(
        counts: Arc<ArmCounts>,
        metrics: Arc<Metrics>,
        started: Instant,
        permit: Permit,
        observed: Option<Observed>,
    ) -> Self {
        metrics.in_flight.inc();
        Self {
            counts,
            metrics,
            started,
            code: None,
            observed,
            permit: Some(permit),
        }
    }

    /// Another arm serves it; the one that it was given to may have failed at it before.
    pub fn moved(&mut self, counts: &Arc<ArmCounts>, failed_before: bool) {
        self.counts.metrics.fallbacks.inc();
        self.counts = Arc::clone(counts);
        if let Some(observed) = self.observed.take() {
            observed.served_by_another(failed_before);
        }
    }

    /// The answer's code is known.
    pub fn set(&mut self, code: Code) {
        self.code.get_or_insert(code);
    }

    /// The answer ends with this code.
    pub fn end(&mut self, code: Code) {
        self.set(code);
        self.report();
    }

    fn report(&mut self) {
        if self.permit.take().is_some() {
            self.metrics.in_flight.dec();
            let code = self.code.unwrap_or(Code::Cancelled);
            let seconds = self.started.elapsed().as_secs_f64();
            self.counts.ended(code, seconds);
            if let Some(observed) = self.observed.take() {
                observed.ended(code, seconds);
            }
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.report();
    }
}

/// The code in headers or trailers, if there is one.
#[must_use]
pub fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

impl Forwarded {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(upstream) = &mut self.upstream else {
            return Poll::Ready(None);
        };
        if self
            .sleep
            .as_mut()
            .is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(Some(Ok(self.end(Refusal::DeadlineExceeded.into()))));
        }
        match Pin::new(upstream).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = code_of(trailers).unwrap_or(Code::Unknown);
                    self.outcome.end(code);
                    if let Some(capture) = self.capture.take().filter(|_| code == Code::Ok) {
                        capture.finish(&self.source);
                    }
                } else if let (Some(capture), Some(data)) = (&mut self.capture, frame.data_ref()) {
                    capture.push(data);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if h2_error(&error).is_some_and(|error| error.is_reset() && error.is_remote()) {
                    // The worker gave up this answer; hyper passes its reason on.
                    self.outcome.set(Code::Internal);
                    self.upstream = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                let worker = self.lease.endpoint().name();
                tracing::warn!(
                    worker,
                    error = &error as &dyn std::error::Error,
                    "worker lost during an answer"
                );
                let status = Status::unavailable(format!("worker {worker} was lost after its answer began"));
                Poll::Ready(Some(Ok(self.end(status))))
            }
            Poll::Ready(None) => {
                self.outcome.set(Code::Unknown); // no trailers: clients see the same
                self.upstream = None;
                Poll::Ready(None)
            }
        }
    }

    /// Ends the answer in the worker's place. Dropping its body resets the request there.
    fn end(&mut self, status: Status) -> Frame<Bytes> {
        self.outcome.end(status.code());
        self.upstream = None;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", (status.code() as i32).into());
        }
        Frame::trailers(trailers)
    }
}

/// The HTTP/2 error below one of hyper's.
#[must_use]
pub fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) => {
                let text = std::mem::take(text);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Self::Local(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Forwarded(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(_) => false,
            Self::Local(body) => body.is_end_stream(),
            Self::Forwarded(body) => body.upstream.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Local(body) => body.size_hint(),
            Self::Forwarded(_) => SizeHint::default(),
        }
    }
}
