//! What makes a leader's write a leader's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// A term of leadership. Clones are of the same term.
#[derive(Debug, Clone)]
pub struct Fence {
    create_revision: i64,
    began: Instant,
    /// Since it began; 0 once it is over.
    usable_us: Arc<AtomicU64>,
}

impl PartialEq for Fence {
    fn eq(&self, other: &Self) -> bool {
        self.create_revision == other.create_revision
    }
}

impl Fence {
    /// Whether this process certainly still leads. Look right before each action, not once before many.
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        let usable_us = self.usable_us.load(Ordering::Relaxed);
        now.saturating_duration_since(self.began).as_micros() < u128::from(usable_us)
    }

    /// The revision at which the leader's key was made; grows with each term.
    #[must_use]
    pub fn create_revision(&self) -> i64 {
        self.create_revision
    }
}

/// A term's own end of its fences: they are valid until its drop at the latest.
pub(super) struct Term(Fence);

impl Term {
    pub(super) fn new(create_revision: i64, until: Instant) -> Self {
        let term = Self(Fence {
            create_revision,
            began: Instant::now(),
            usable_us: Arc::new(AtomicU64::new(0)),
        });
        term.extend(until);
        term
    }

    pub(super) fn fence(&self) -> Fence {
        self.0.clone()
    }

    pub(super) fn create_revision(&self) -> i64 {
        self.0.create_revision
    }

    pub(super) fn extend(&self, until: Instant) {
        let usable = until.saturating_duration_since(self.0.began).as_micros();
        let usable = u64::try_from(usable).unwrap_or(u64::MAX);
        self.0.usable_us.store(usable, Ordering::Relaxed);
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.0.usable_us.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn valid_until_the_last_extension_or_the_end() {
        let now = Instant::now();
        let after = |s: u64| now + Duration::from_secs(s);
        let term = Term::new(7, after(10));
        let fence = term.fence();
        assert!(fence.is_valid(after(9)) && !fence.is_valid(after(10)));
        term.extend(after(15));
        assert!(fence.is_valid(after(14)) && !fence.is_valid(after(15)));
        drop(term);
        assert!(!fence.is_valid(now) && !fence.is_valid(after(9)));
    }
}
