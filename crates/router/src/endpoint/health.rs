//! Ejection of a worker whose connections fail. Takes the time as an argument.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Failures in a row that eject a worker.
const FAILURES_TO_EJECT: u32 = 3;
/// The first ejection; each following one lasts twice as long.
const EJECTED_FIRST: Duration = Duration::from_secs(1);
/// The longest ejection.
const EJECTED_MAX: Duration = Duration::from_secs(30);

/// A worker's health as its connections show it.
#[derive(Debug, Default)]
pub struct Health {
    /// Set while `state` is not its default, so that a healthy worker costs one load.
    troubled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    ejections: u32,
    until: Option<Instant>,
}

impl Health {
    /// Whether the worker is to be left alone now.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.troubled.load(Ordering::Relaxed) && self.lock().until.is_some_and(|until| now < until)
    }

    /// An answer came: all is forgotten.
    pub fn succeeded(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            let mut state = self.lock();
            *state = State::default();
            self.troubled.store(false, Ordering::Relaxed);
        }
    }

    /// A connection failed. Returns for how long that ejects the worker, if it does.
    pub fn failed(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        self.troubled.store(true, Ordering::Relaxed);
        if state.until.is_some_and(|until| now < until) {
            return None; // requests that were on their way when it was ejected
        }
        state.failures += 1;
        if state.failures < FAILURES_TO_EJECT {
            return None;
        }
        let time = EJECTED_FIRST
            .saturating_mul(1 << state.ejections.min(16))
            .min(EJECTED_MAX);
        state.ejections += 1;
        state.failures = FAILURES_TO_EJECT - 1; // on trial once the time is over
        state.until = Some(now + time);
        Some(time)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_eject_for_ever_longer_and_an_answer_forgives() {
        let (health, mut now) = (Health::default(), Instant::now());
        assert_eq!([health.failed(now), health.failed(now)], [None, None]);
        health.succeeded();
        assert_eq!([health.failed(now), health.failed(now)], [None, None]);
        let mut times = Vec::new();
        for _ in 0..7 {
            let time = health.failed(now).unwrap();
            assert!(health.is_ejected(now) && health.failed(now).is_none());
            now += time;
            assert!(!health.is_ejected(now), "on trial");
            times.push(time.as_secs());
        }
        assert_eq!(times, [1, 2, 4, 8, 16, 30, 30]);
        health.succeeded();
        assert_eq!(health.failed(now), None);
    }
}
