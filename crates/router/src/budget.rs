//! How many requests may be sent once more, so that retries cannot double the load of workers that are in trouble.
//!
//! A balance in thousandths of a retry: every request adds its share, every second adds the minimum, a retry takes 1,000.

use std::sync::atomic::{AtomicI64, Ordering};

/// The balance holds this many seconds of the minimum.
const BURST_SECONDS: i64 = 100;
const RETRY: i64 = 1_000;

/// Shared by all requests.
#[derive(Debug)]
pub struct Budget {
    balance: AtomicI64,
    max: i64,
    per_request: i64,
    per_second: i64,
}

impl Budget {
    /// Starts full.
    #[must_use]
    pub fn new(percent: u32, min_per_second: u32) -> Self {
        let per_second = i64::from(min_per_second) * RETRY;
        let max = per_second * BURST_SECONDS;
        Self {
            balance: AtomicI64::new(max),
            max,
            per_request: i64::from(percent) * RETRY / 100,
            per_second,
        }
    }

    /// A request came.
    pub fn request(&self) {
        self.add(self.per_request);
    }

    /// A second passed.
    pub fn second(&self) {
        self.add(self.per_second);
    }

    /// Takes a retry if there is one left.
    pub fn take(&self) -> bool {
        let take = |balance: i64| (balance >= RETRY).then_some(balance - RETRY);
        self.balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn add(&self, amount: i64) {
        // Full nearly always: then this is one load.
        if amount > 0 && self.balance.load(Ordering::Relaxed) < self.max {
            self.balance.fetch_add(amount, Ordering::Relaxed); // above the bound by a few at most
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &Budget) -> usize {
        (0..100_000).take_while(|_| budget.take()).count()
    }

    #[test]
    fn burst_share_and_minimum() {
        let budget = Budget::new(20, 10);
        assert_eq!(taken(&budget), 1_000);
        (0..100).for_each(|_| budget.request());
        assert_eq!(taken(&budget), 20);
        budget.second();
        assert_eq!(taken(&budget), 10);
        (0..100_000).for_each(|_| budget.request());
        assert_eq!(taken(&budget), 1_000);
        assert_eq!(taken(&Budget::new(20, 0)), 0);
    }
}
