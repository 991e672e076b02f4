//! How many distinct words there are, in bounded memory.
//!
//! The smallest hashes of the words are kept (k minimum values: Bar-Yossef et al. 2002, Beyer et al. 2007). Up to the
//! limit that is all of them, and the count is exact. Beyond it, the largest of the k hashes kept, as a share of the
//! range of hashes, tells how densely they lie: `(k - 1) / share`, with a relative standard error of 1/√(k - 2), 0.2%
//! for 2^18. The k smallest of a union are among the k smallest of its parts, so merging is exact.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Vocabulary {
    smallest: BTreeSet<u64>,
    /// Whether hashes had to be given up.
    beyond: bool,
}

impl Vocabulary {
    pub(super) fn insert(&mut self, word: &str, limit: usize) {
        self.insert_hash(XxHash64::oneshot(0, word.as_bytes()), limit);
    }

    fn insert_hash(&mut self, hash: u64, limit: usize) {
        let full = self.smallest.len() >= limit;
        if full && self.smallest.last().is_none_or(|&largest| largest < hash) {
            self.beyond = true;
        } else if self.smallest.insert(hash) && full {
            self.smallest.pop_last();
            self.beyond = true;
        }
    }

    pub(super) fn merge(&mut self, other: Self, limit: usize) {
        self.beyond |= other.beyond;
        for hash in other.smallest {
            self.insert_hash(hash, limit);
        }
    }

    pub(super) fn fits(&self, limit: usize) -> bool {
        self.smallest.len() <= limit && (!self.beyond || self.smallest.len() == limit)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an estimate; `as` saturates"
    )]
    pub(super) fn count(&self) -> u64 {
        let kept = self.smallest.len() as u64;
        match self.smallest.last() {
            Some(&largest) if self.beyond => {
                let share = (largest as f64 + 1.0) / 2.0_f64.powi(64);
                ((kept.saturating_sub(1)) as f64 / share).round() as u64
            }
            _ => kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: std::ops::Range<u32>, limit: usize) -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        for word in words {
            vocabulary.insert(&word.to_string(), limit);
        }
        vocabulary
    }

    #[test]
    fn exact_up_to_the_limit_and_close_beyond() {
        assert_eq!(Vocabulary::default().count(), 0);
        assert_eq!(of(0..1000, 1000).count(), 1000);
        let mut again = of(0..1000, 1000);
        again.merge(of(500..1000, 1000), 1000);
        assert_eq!(again.count(), 1000, "nothing new");
        let estimate = of(0..100_000, 1000).count();
        assert!(
            estimate.abs_diff(100_000) < 10_000,
            "{estimate}: three standard errors are 9,500"
        );
    }

    #[test]
    fn parts_that_fit_may_make_a_whole_that_does_not() {
        for (split, limit) in [(60, 100), (100, 100), (101, 100), (1, 3), (150, 1)] {
            let mut left = of(0..split, limit);
            left.merge(of(split..160, limit), limit);
            assert_eq!(left, of(0..160, limit));
            assert!(left.fits(limit));
        }
    }
}
