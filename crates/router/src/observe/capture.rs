//! A request of which more is learned than its code: its answer's frames, and the request's own if it is to be mirrored.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, request};
use tokio::sync::OwnedSemaphorePermit;
use understudy_protocol::metadata;

use super::{Frames, Observed, Observer, Problem, Side, SliceCounts, Task};
use crate::{
    replay::Source,
    state::{Arm, Model},
};

/// One mirrored request.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// What is kept of a request while its answer passes. Dropped before the answer's good end, it leaves nothing.
#[derive(Debug)]
pub struct Capture {
    observer: Arc<Observer>,
    job: Job,
    mirrored: Option<Arms>,
    /// The request's metadata; known when its answer begins.
    head: Option<request::Parts>,
}

#[derive(Debug)]
struct Arms {
    stable: Arc<Arm>,
    candidate: Arc<Arm>,
}

/// A request whose answer ended well, to be looked at.
#[derive(Debug)]
pub struct Job {
    /// The request's name in feedback.
    pub id: u64,
    /// What it asked for.
    pub task: Task,
    /// The answer.
    pub frames: Frames,
    /// The arm that answered.
    pub side: Side,
    /// Where it counts.
    pub slice: Arc<SliceCounts>,
    /// It belongs to the sample of answers.
    pub counted: bool,
    /// When it was sent to the worker.
    pub sent: Instant,
    /// From then to the answer's end.
    pub seconds: f64,
    /// The request, if it is to be mirrored.
    pub mirror: Option<MirrorJob>,
}

/// A request that is to be mirrored.
#[derive(Debug)]
pub struct MirrorJob {
    /// Its metadata.
    pub head: request::Parts,
    /// Its body.
    pub body: Frames,
    /// Who is asked.
    pub candidate: Arc<Arm>,
    /// Who is asked once more, for the noise floor.
    pub stable: Option<Arc<Arm>>,
    /// Its place among the mirrored ones.
    pub place: OwnedSemaphorePermit,
}

impl Capture {
    /// Decides whether this request is sampled or mirrored. The client has no say in either: copies from another router are
    /// never mirrored again, and so are not observed at all.
    #[must_use]
    pub fn begin(model: &Model, observed: &Observed, path: &str, now: Instant) -> Option<Box<Self>> {
        let observer = model.observer.as_ref()?;
        let task = Task::of(path)?;
        let (slice, side) = (observed.slice(), observed.side());
        let mirrored = slice
            .mirror
            .as_ref()
            .filter(|mirror| side == Side::Stable && observer.shared.mirrors() && mirror.chooses())
            .and_then(|mirror| {
                if observer.shared.candidate_rests(now) {
                    observer.shared.tally.chosen.fetch_add(1, Ordering::Relaxed);
                    observer.shared.not_mirrored(Problem::NoPlace);
                    return None;
                }
                Some(Arms {
                    stable: Arc::clone(model.arms.first()?),
                    candidate: Arc::clone(model.arms.get(mirror.arm)?),
                })
            });
        let counted = slice.sample(side, now);
        (counted || mirrored.is_some()).then(|| {
            Box::new(Self {
                observer: Arc::clone(observer),
                job: Job {
                    id: 0,
                    task,
                    frames: observer.shared.answer_frames(),
                    side,
                    slice: Arc::clone(slice),
                    counted,
                    sent: now,
                    seconds: 0.0,
                    mirror: None,
                },
                mirrored,
                head: None,
            })
        })
    }

    /// Where the request's frames are to be kept, if it is mirrored.
    #[must_use]
    pub fn request_frames(&self) -> Option<Frames> {
        self.mirrored
            .is_some()
            .then(|| Frames::new(REQUEST_BYTES_MAX, self.observer.limits()))
    }

    /// The answer begins.
    pub fn answered(&mut self, id: u64, head: request::Parts, sent: Instant) {
        (self.job.id, self.job.sent) = (id, sent);
        self.head = Some(head);
    }

    /// A frame of the answer passes.
    pub fn push(&mut self, data: &Bytes) {
        self.job.frames.push(data);
    }

    /// The answer ended well. Never waits.
    pub fn finish(mut self: Box<Self>, source: &Source) {
        self.job.seconds = self.job.sent.elapsed().as_secs_f64();
        if let Some(arms) = self.mirrored.take() {
            self.job.mirror = self.mirror(arms, source);
        }
        if !self.job.counted && self.job.mirror.is_none() {
            return;
        }
        if let Err(refused) = self.observer.jobs.try_send(self.job) {
            let (shared, job) = (&self.observer.shared, refused.into_inner());
            if job.counted {
                shared.metrics.sampled("dropped");
            }
            if job.mirror.is_some() {
                shared.not_mirrored(Problem::NoPlace);
            }
        }
    }

    fn mirror(&mut self, arms: Arms, source: &Source) -> Option<MirrorJob> {
        // A request that was answered before it was all read is not one that can be sent again.
        let (head, body) = (self.head.take()?, source.take_copy()?);
        let shared = &self.observer.shared;
        shared.tally.chosen.fetch_add(1, Ordering::Relaxed);
        if let Some(problem) = body.problem().or(self.job.frames.problem()) {
            shared.not_mirrored(problem);
            return None;
        }
        let Some(place) = shared.limits.place() else {
            shared.not_mirrored(Problem::NoPlace);
            return None;
        };
        let noise = self.job.slice.mirror.as_ref().is_some_and(|mirror| mirror.asks_again());
        Some(MirrorJob {
            head,
            body,
            candidate: arms.candidate,
            stable: noise.then_some(arms.stable),
            place,
        })
    }
}

/// What keeps a caller on one arm, as a hash: the same in every router.
#[must_use]
pub fn caller(headers: &HeaderMap) -> Option<u64> {
    let key = headers
        .get(metadata::AFFINITY)
        .or_else(|| headers.get(metadata::DRAW))?;
    Some(twox_hash::XxHash64::oneshot(0, key.as_bytes()))
}

/// A request's name as metadata: 16 hexadecimal digits.
#[must_use]
pub fn format_id(id: u64) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = id.to_be_bytes();
    let text: [u8; 16] = std::array::from_fn(|i| {
        let byte = bytes[i / 2];
        DIGITS[usize::from(if i % 2 == 0 { byte >> 4 } else { byte & 15 })]
    });
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Reads it.
#[must_use]
pub(super) fn parse_id(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for id in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let text = format_id(id);
            assert_eq!(parse_id(text.to_str().unwrap()), Some(id));
        }
        assert_eq!(format_id(0xab), "00000000000000ab");
        for bad in ["", "ab", "+0000000000000ab", "00000000000000abc", "é000000000000000"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
