//! Counting both arms under one route.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tonic::Code;
use understudy_rollout::{
    distinct::Distinct,
    scorecard::{ArmCard, Predictions, Slice},
    sketch::Sketch,
};

use super::{Answer, Classes, lock};
use crate::{mirror::Mirror, status::is_fault};

/// Time between two sampled answers of an arm, at least: 100 a second.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

/// An arm's part in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The version that served before.
    Stable,
    /// The version on trial.
    Candidate,
}

impl Side {
    /// The name of the candidate's arm.
    const CANDIDATE: &str = "candidate";

    /// By the arm's name.
    #[must_use]
    pub fn of(arm: &str) -> Self {
        if arm == Self::CANDIDATE {
            Self::Candidate
        } else {
            Self::Stable
        }
    }
}

/// Counts of both arms under one route.
#[derive(Debug)]
pub struct SliceCounts {
    /// The route's epoch.
    pub epoch: u64,
    weight_ppm: u32,
    /// What the route says of mirroring.
    pub mirror: Option<Mirror>,
    stable: ArmTally,
    candidate: ArmTally,
    since: Instant,
}

impl Default for SliceCounts {
    fn default() -> Self {
        Self::new(0, 0, None)
    }
}

impl SliceCounts {
    /// Starts at 0, under a route that gives the candidate this share.
    #[must_use]
    pub fn new(epoch: u64, weight_ppm: u32, mirror: Option<Mirror>) -> Self {
        Self {
            epoch,
            weight_ppm,
            mirror,
            stable: ArmTally::default(),
            candidate: ArmTally::default(),
            since: Instant::now(),
        }
    }

    /// No request goes to the stable version.
    #[must_use]
    pub fn is_candidate_alone(&self) -> bool {
        self.weight_ppm >= understudy_rollout::split::PPM
    }

    /// Whether an answer of this arm is to be sampled now.
    pub fn sample(&self, side: Side, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.since);
        self.arm(side).next_sample.take(now)
    }

    /// Counts what an answer says.
    pub fn predicted(&self, side: Side, answer: &Answer, classes: Option<&Classes>) {
        let mut predictions = lock(&self.arm(side).predictions);
        match answer {
            Answer::Classes(answers) => {
                let Some(classes) = classes else { return };
                for answer in answers.iter().flatten() {
                    let class = classes.index(&answer.label);
                    if predictions.classes.len() <= class {
                        predictions.classes.resize((class + 1).max(classes.named()), 0);
                    }
                    predictions.classes[class] += 1;
                    predictions.confidence.insert(f64::from(answer.confidence));
                    predictions.tokens.insert(f64::from(answer.token_count));
                }
            }
            Answer::Text(text) => predictions.tokens.insert(f64::from(text.tokens)),
        }
    }

    /// The counts now.
    #[must_use]
    pub fn card(&self) -> Slice {
        Slice {
            epoch: self.epoch,
            weight_ppm: self.weight_ppm,
            stable: self.stable.card(),
            candidate: self.candidate.card(),
        }
    }

    fn arm(&self, side: Side) -> &ArmTally {
        match side {
            Side::Stable => &self.stable,
            Side::Candidate => &self.candidate,
        }
    }
}

#[derive(Debug, Default)]
struct ArmTally {
    requests: AtomicU64,
    errors: AtomicU64,
    fallbacks: AtomicU64,
    erring_keys: Mutex<Distinct>,
    latency: Mutex<Sketch>,
    predictions: Mutex<Predictions>,
    next_sample: Pace,
}

impl ArmTally {
    fn card(&self) -> ArmCard {
        // Errors are read first, so that they are never more than the requests.
        let erring_keys = lock(&self.erring_keys).clone();
        let errors = self.errors.load(Ordering::Acquire);
        ArmCard {
            errors,
            erring_keys,
            requests: self.requests.load(Ordering::Acquire),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            latency: lock(&self.latency).clone(),
            predictions: lock(&self.predictions).clone(),
        }
    }
}

/// Lets one through in each interval.
#[derive(Debug, Default)]
struct Pace {
    /// Nanoseconds from the slice's begin.
    next: AtomicU64,
}

impl Pace {
    fn take(&self, now: Duration) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (next, now) = (self.next.load(Ordering::Relaxed), nanos(now));
        // Whoever loses the race lets the other one through.
        now >= next
            && self
                .next
                .compare_exchange(
                    next,
                    now.saturating_add(nanos(SAMPLE_INTERVAL)),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }
}

/// A request that counts: one that the split, an affinity key or a call chain's draw gave to an arm.
#[derive(Debug)]
pub struct Observed {
    slice: Arc<SliceCounts>,
    side: Side,
    /// Hash of what keeps the caller on one arm.
    caller: Option<u64>,
}

impl Observed {
    /// Counts in this slice.
    #[must_use]
    pub fn new(slice: Arc<SliceCounts>, side: Side, caller: Option<u64>) -> Self {
        Self { slice, side, caller }
    }

    /// Where it counts.
    #[must_use]
    pub fn slice(&self) -> &Arc<SliceCounts> {
        &self.slice
    }

    /// Its arm.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// It ended on its arm.
    pub fn ended(self, code: Code, seconds: f64) {
        let arm = self.slice.arm(self.side);
        arm.requests.fetch_add(1, Ordering::Release);
        if code == Code::Ok {
            lock(&arm.latency).insert(seconds);
        } else if is_fault(code) {
            match self.caller {
                Some(caller) => lock(&arm.erring_keys).insert(caller),
                None => _ = arm.errors.fetch_add(1, Ordering::Release),
            }
        }
    }

    /// Another arm served it. If a worker of this one took the request and failed, that is this version's error, although the
    /// client did not see it; else the arm had no worker, which says nothing of how it answers.
    pub fn served_by_another(self, failed_here: bool) {
        if failed_here {
            self.ended(Code::Unavailable, 0.0);
        } else {
            self.slice.arm(self.side).fallbacks.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(slice: &Arc<SliceCounts>, side: Side, caller: Option<u64>) -> Observed {
        Observed::new(Arc::clone(slice), side, caller)
    }

    #[test]
    fn errors_count_once_for_each_caller_and_each_time_without_one() {
        let slice = Arc::new(SliceCounts::new(3, 50_000, None));
        for caller in [None, None, Some(7), Some(7), Some(7), Some(8)] {
            observed(&slice, Side::Candidate, caller).ended(Code::Internal, 0.1);
        }
        observed(&slice, Side::Candidate, Some(9)).ended(Code::InvalidArgument, 0.1);
        observed(&slice, Side::Candidate, Some(9)).ended(Code::Ok, 0.1);
        observed(&slice, Side::Stable, None).ended(Code::Ok, 0.2);
        let card = slice.card();
        assert_eq!((card.epoch, card.weight_ppm), (3, 50_000));
        assert_eq!((card.candidate.requests, card.candidate.errors), (8, 2));
        assert_eq!(card.candidate.erring_keys.estimate(), 2);
        assert_eq!((card.candidate.latency.count(), card.stable.latency.count()), (1, 1));
        assert_eq!((card.stable.requests, card.stable.errors), (1, 0));
    }

    #[test]
    fn a_missing_worker_is_no_error_and_a_failing_one_is_although_another_arm_helped() {
        let slice = Arc::new(SliceCounts::default());
        observed(&slice, Side::Candidate, None).served_by_another(false);
        let card = slice.card().candidate;
        assert_eq!((card.requests, card.errors, card.fallbacks), (0, 0, 1));
        observed(&slice, Side::Candidate, None).served_by_another(true);
        let card = slice.card().candidate;
        assert_eq!((card.requests, card.errors, card.fallbacks), (1, 1, 1));
    }

    #[test]
    fn a_sample_has_a_bounded_rate() {
        let pace = Pace::default();
        let taken = (0..1_000).filter(|&i| pace.take(Duration::from_millis(i))).count();
        assert_eq!(taken, 100);
    }
}
