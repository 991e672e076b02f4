//! Counting distinct keys.
//!
//! With affinity it is the caller that is split at random, not the request, so errors count by callers. A set of all of
//! them has no bound; the K smallest of their hashes have one, merge without loss, and tell the number: with hashes
//! uniform over `[0, 2^64)`, the k-th smallest of n lies at about k/n of the range (Bar-Yossef et al. 2002, "KMV").

#[cfg(test)]
mod tests;

/// Hashes that are kept. The estimate's standard error is 1/sqrt(K − 2), 3.1%.
pub const HASHES_MAX: usize = 1024;

/// Distinct keys by their hashes: exact below its bound, estimated from the smallest hashes above it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distinct {
    /// Ascending.
    smallest: Vec<u64>,
}

impl Distinct {
    /// Takes hashes in any order.
    #[must_use]
    pub fn from_hashes(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(HASHES_MAX);
        Self { smallest: hashes }
    }

    /// Counts a key by its hash. It is mixed once more, so that which keys are kept does not depend on the arm that the
    /// same hash may have chosen.
    pub fn insert(&mut self, hash: u64) {
        let hash = mixed(hash);
        if self.smallest.len() == HASHES_MAX && self.smallest.last().is_some_and(|&l| l <= hash) {
            return;
        }
        if let Err(place) = self.smallest.binary_search(&hash) {
            self.smallest.insert(place, hash);
            self.smallest.truncate(HASHES_MAX);
        }
    }

    /// Counts what another one counted; a key known to both counts once.
    pub fn merge(&mut self, other: &Self) {
        if other.smallest.is_empty() {
            return;
        }
        let mut hashes = std::mem::take(&mut self.smallest);
        hashes.extend_from_slice(&other.smallest);
        *self = Self::from_hashes(hashes);
    }

    /// How many distinct keys: (K − 1) / (the K-th smallest hash as a part of the range), unbiased; exact below K.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an estimate, positive, and a cast to an integer saturates"
    )]
    pub fn estimate(&self) -> u64 {
        match self.smallest.last() {
            Some(&last) if self.smallest.len() == HASHES_MAX => {
                let part = (last as f64 + 1.0) / 2f64.powi(64);
                // At the bound itself the estimate may lie below what was seen.
                (((HASHES_MAX - 1) as f64 / part).round() as u64).max(HASHES_MAX as u64)
            }
            _ => self.smallest.len() as u64,
        }
    }

    /// Keys of this set and of another one that were not in `earlier`. Counted is below the smallest bound of the three
    /// sets only: a part of the keys that does not depend on the set, so that the two numbers are as comparable as
    /// complete ones.
    #[must_use]
    pub fn new_keys(&self, other: &Self, earlier: &Self) -> (u64, u64) {
        let bound = self.bound().min(other.bound()).min(earlier.bound());
        let new = |set: &Self| {
            let kept = set.smallest.iter().take_while(|&&hash| hash <= bound);
            kept.filter(|hash| earlier.smallest.binary_search(hash).is_err())
                .count() as u64
        };
        (new(self), new(other))
    }

    /// Up to where the hashes are complete.
    fn bound(&self) -> u64 {
        let full = self.smallest.last().filter(|_| self.smallest.len() == HASHES_MAX);
        full.copied().unwrap_or(u64::MAX)
    }

    /// The hashes that are kept, ascending.
    #[must_use]
    pub fn hashes(&self) -> &[u64] {
        &self.smallest
    }
}

/// A bijection whose output bits all depend on all input bits (SplitMix64's finaliser, Steele et al. 2014).
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
