//! Delays between tries: exponential with full jitter, so that a fleet does not return in step after an outage.

use std::time::Duration;

/// The longest first delay.
const FIRST_MAX: Duration = Duration::from_millis(100);
/// The longest delay ever: how late one may notice that the registry is back.
const DELAY_MAX: Duration = Duration::from_secs(3);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next delay. `draw` is uniform in [0, 1).
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let ceiling = FIRST_MAX.saturating_mul(1 << self.failures.min(10)).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        // At least half of it, or a lucky series of draws would hammer a server that is starting.
        ceiling.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_resets() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0.0), FIRST_MAX / 2);
        assert!(backoff.next(0.999) > FIRST_MAX);
        let last = (0..100).map(|_| backoff.next(1.0)).last();
        assert_eq!(last, Some(DELAY_MAX));
        backoff.reset();
        assert_eq!(backoff.next(1.0), FIRST_MAX);
    }
}
