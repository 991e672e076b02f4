//! Keeping references to the frames of requests and answers, within bounds.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all kept frames of this router may take together.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Mirrored requests that are open at a time.
const MIRRORED_MAX: usize = 8;
/// What keeping a frame costs beside its data.
const FRAME_BYTES: usize = 64;

/// Bounds over all models of a router.
#[derive(Debug)]
pub struct Limits {
    kept_bytes: AtomicUsize,
    places: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            kept_bytes: AtomicUsize::new(0),
            places: Arc::new(Semaphore::new(MIRRORED_MAX)),
        }
    }
}

impl Limits {
    /// A place for a mirrored request, if there is one now.
    #[must_use]
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// Why frames were not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// They are more than one message may have.
    TooLarge,
    /// All kept frames together are.
    NoPlace,
}

/// Frames of one request or answer. Those of HTTP/2 are counted references, so keeping them copies nothing.
#[derive(Debug)]
pub struct Frames {
    frames: Vec<Bytes>,
    bytes: usize,
    bytes_max: usize,
    problem: Option<Problem>,
    limits: Arc<Limits>,
}

impl Frames {
    /// Keeps nothing yet, and at most so much.
    #[must_use]
    pub fn new(bytes_max: usize, limits: Arc<Limits>) -> Self {
        Self {
            frames: Vec::new(),
            bytes: 0,
            bytes_max,
            problem: None,
            limits,
        }
    }

    /// Keeps a frame. Once one finds no place, none is kept.
    pub fn push(&mut self, data: &Bytes) {
        if self.problem.is_some() || data.is_empty() {
            return;
        }
        let more = data.len() + FRAME_BYTES;
        if self.bytes + more > self.bytes_max {
            return self.give_up(Problem::TooLarge);
        }
        if self.limits.kept_bytes.fetch_add(more, Ordering::Relaxed) + more > KEPT_BYTES_MAX {
            self.limits.kept_bytes.fetch_sub(more, Ordering::Relaxed);
            return self.give_up(Problem::NoPlace);
        }
        self.bytes += more;
        self.frames.push(data.clone());
    }

    /// Why there are none.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        self.problem
    }

    /// What is kept.
    #[must_use]
    pub fn kept(&self) -> &[Bytes] {
        &self.frames
    }

    /// All in one piece.
    #[must_use]
    pub fn joined(&self) -> Bytes {
        match &self.frames[..] {
            [only] => only.clone(),
            frames => {
                let mut joined = BytesMut::with_capacity(self.bytes);
                frames.iter().for_each(|frame| joined.extend_from_slice(frame));
                joined.freeze()
            }
        }
    }

    fn give_up(&mut self, problem: Problem) {
        self.problem = Some(problem);
        self.release();
    }

    fn release(&mut self) {
        self.frames = Vec::new();
        self.limits.kept_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_one_and_of_all() {
        let limits = Arc::new(Limits::default());
        let frame = Bytes::from(vec![0; 1 << 20]);
        let mut one = Frames::new(2 << 20, Arc::clone(&limits));
        one.push(&frame);
        assert_eq!(
            (one.problem(), one.kept().len(), one.joined().len()),
            (None, 1, 1 << 20)
        );
        one.push(&frame);
        assert_eq!((one.problem(), one.kept().len()), (Some(Problem::TooLarge), 0));
        one.push(&Bytes::from_static(b"x"));
        assert!(one.kept().is_empty(), "half a message is none");
        assert_eq!(limits.kept_bytes.load(Ordering::Relaxed), 0);

        let all: Vec<_> = (0..64)
            .map(|_| {
                let mut frames = Frames::new(2 << 20, Arc::clone(&limits));
                frames.push(&frame);
                frames.problem().map_or(Ok(frames), Err)
            })
            .collect();
        let kept = all.iter().filter(|frames| frames.is_ok()).count();
        assert!(kept == 63 && matches!(all[63], Err(Problem::NoPlace)), "{kept}");
        drop(all);
        assert_eq!(limits.kept_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn eight_places() {
        let limits = Limits::default();
        let places: Vec<_> = std::iter::from_fn(|| limits.place()).collect();
        assert_eq!(places.len(), MIRRORED_MAX);
        drop(places);
        assert!(limits.place().is_some());
    }
}
