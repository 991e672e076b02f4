//! Leaves a candidate alone that answers no copy: how dead or broken it is was learned, and trying on costs as much as real
//! requests do.
//!
//! Statistics bear it: whether the next request is copied depends on what was seen before, never on what it would show.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Copies in a row without an answer after which it rests.
const FAILURES_MAX: u32 = 20;
/// How long, from each further failure on.
const REST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Rest {
    began: Instant,
    failures: AtomicU32,
    /// Nanoseconds from the begin.
    until: AtomicU64,
}

impl Rest {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            failures: AtomicU32::new(0),
            until: AtomicU64::new(0),
        }
    }

    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.nanos(now) < self.until.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, now: Instant) {
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        // A lost race loses one failure of many.
        self.failures.store(failures, Ordering::Relaxed);
        if failures >= FAILURES_MAX {
            self.until.fetch_max(self.nanos(now + REST), Ordering::Relaxed);
        }
    }

    fn nanos(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_after_failures_in_a_row_and_tries_again() {
        let mut now = Instant::now();
        let rest = Rest::new(now);
        for _ in 1..FAILURES_MAX {
            rest.failed(now);
        }
        assert!(!rest.is_on(now));
        rest.answered();
        for _ in 0..FAILURES_MAX {
            assert!(!rest.is_on(now));
            rest.failed(now);
        }
        assert!(rest.is_on(now) && rest.is_on(now + REST / 2) && !rest.is_on(now + REST));
        now += REST;
        rest.failed(now);
        assert!(rest.is_on(now), "one more is enough");
        now += REST;
        rest.answered();
        rest.failed(now);
        assert!(!rest.is_on(now), "an answer forgives");
    }
}
