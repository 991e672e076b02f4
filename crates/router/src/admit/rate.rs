//! A token bucket for each identity. Takes the time as an argument.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Identities that are remembered. When there are more, those with a full bucket are forgotten, which changes nothing for
/// them; if none is full, strangers share one bucket.
const IDENTITIES_MAX: usize = 10_000;

/// Limits how many requests per second each identity sends, with bursts of one second.
#[derive(Debug)]
pub struct RateLimiter {
    per_second: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    known: HashMap<Arc<str>, Bucket>,
    strangers: Bucket,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(per_second: f64, now: Instant) -> Self {
        Self {
            tokens: per_second,
            at: now,
        }
    }

    fn refill(&mut self, per_second: f64, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + seconds * per_second).min(per_second);
        self.at = now;
    }

    fn take(&mut self, per_second: f64, now: Instant) -> bool {
        self.refill(per_second, now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

impl RateLimiter {
    /// Buckets begin full.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        let buckets = Buckets {
            known: HashMap::new(),
            strangers: Bucket::full(per_second, now),
        };
        Self {
            per_second,
            buckets: Mutex::new(buckets),
        }
    }

    /// Takes one request of the identity's bucket.
    pub fn take(&self, identity: &Arc<str>, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.known.contains_key(identity) && buckets.known.len() >= IDENTITIES_MAX {
            buckets.known.retain(|_, bucket| {
                bucket.refill(self.per_second, now);
                bucket.tokens < self.per_second
            });
            if buckets.known.len() >= IDENTITIES_MAX {
                return buckets.strangers.take(self.per_second, now);
            }
        }
        let new = Bucket::full(self.per_second, now);
        buckets
            .known
            .entry(Arc::clone(identity))
            .or_insert(new)
            .take(self.per_second, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_identity_has_its_own_rate() {
        let now = Instant::now();
        let limiter = RateLimiter::new(10, now);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let taken = |who, now| (0..100).filter(|_| limiter.take(who, now)).count();
        assert_eq!([taken(&a, now), taken(&b, now)], [10, 10]);
        assert_eq!(taken(&a, now + Duration::from_millis(500)), 5);
        assert_eq!(taken(&a, now + Duration::from_secs(60)), 10);
    }

    #[test]
    fn a_flood_of_identities_is_bounded() {
        let now = Instant::now();
        let limiter = RateLimiter::new(2, now);
        let passed = (0..IDENTITIES_MAX + 100)
            .filter(|i| limiter.take(&i.to_string().into(), now))
            .count();
        assert_eq!(passed, IDENTITIES_MAX + 2);
        assert!(limiter.take(&"later".into(), now + Duration::from_secs(2)));
        assert_eq!(limiter.buckets.lock().unwrap().known.len(), 1);
    }
}
