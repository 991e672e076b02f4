//! Quantiles of positive values.
//!
//! A DDSketch (Masson, Rim, Lee 2019): a value x counts in bucket `ceil(ln x / ln γ)` with γ = (1 + ε)/(1 − ε), and the
//! bucket answers with 2γ^i/(γ + 1), which is within ε of each value in it. Sums of buckets are sketches of all values
//! together, so routers merge without loss. The range is fixed, [`SECONDS_MIN`] to [`SECONDS_MAX`], which bounds the
//! buckets (1,728 of them) without collapsing any.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// Greatest relative error of a quantile.
pub const RELATIVE_ERROR: f64 = 0.01;

/// Shorter ones count as 0.
pub const SECONDS_MIN: f64 = 1e-9;

/// Longer ones count as this.
pub const SECONDS_MAX: f64 = 1e6;

const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);

/// Counts in logarithmic buckets with a relative error of 0.01 (DDSketch).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    zeros: u64,
    buckets: BTreeMap<i32, u64>,
}

impl Sketch {
    /// Takes counts by bucket; those outside of the range count in its outermost buckets.
    #[must_use]
    pub fn from_parts(zeros: u64, buckets: impl IntoIterator<Item = (i32, u64)>) -> Self {
        let (first, last) = (index(SECONDS_MIN), index(SECONDS_MAX));
        let mut sketch = Self {
            zeros,
            buckets: BTreeMap::new(),
        };
        for (bucket, count) in buckets {
            if count > 0 {
                add(sketch.buckets.entry(bucket.clamp(first, last)).or_default(), count);
            }
        }
        sketch
    }

    /// Counts a value. What is no number does not count.
    pub fn insert(&mut self, seconds: f64) {
        if seconds.is_nan() {
            return;
        }
        if seconds < SECONDS_MIN {
            add(&mut self.zeros, 1);
        } else {
            add(self.buckets.entry(index(seconds)).or_default(), 1);
        }
    }

    /// Counts what another one counted.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.zeros, other.zeros);
        for (&bucket, &count) in &other.buckets {
            add(self.buckets.entry(bucket).or_default(), count);
        }
    }

    /// What was counted since an earlier look; `None` if it is no earlier one (somebody's counts are gone since).
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut since = self.clone();
        since.zeros = since.zeros.checked_sub(earlier.zeros)?;
        for (bucket, &count) in &earlier.buckets {
            let now = since.buckets.get_mut(bucket)?;
            *now = now.checked_sub(count)?;
        }
        since.buckets.retain(|_, count| *count > 0);
        Some(since)
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets
            .values()
            .fold(self.zeros, |sum, &count| sum.saturating_add(count))
    }

    /// The value below which a share `q` of all values lies; `None` if there are none.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rank within the count"
    )]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = (q.clamp(0.0, 1.0) * count as f64).ceil() as u64;
        self.rank_value(rank.clamp(1, count.max(1)))
    }

    /// The k-th smallest value, within the relative error; `None` if k is 0 or there are fewer.
    #[must_use]
    pub fn rank_value(&self, k: u64) -> Option<f64> {
        if k == 0 {
            return None;
        }
        if k <= self.zeros {
            return Some(0.0);
        }
        let mut seen = self.zeros;
        for (&bucket, &count) in &self.buckets {
            seen = seen.saturating_add(count);
            if k <= seen {
                return Some(2.0 * GAMMA.powi(bucket) / (GAMMA + 1.0));
            }
        }
        None
    }

    /// Values below [`SECONDS_MIN`].
    #[must_use]
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Buckets with their counts, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.buckets.iter().map(|(&bucket, &count)| (bucket, count))
    }
}

/// The bucket of a value that is above 0.
#[expect(clippy::cast_possible_truncation, reason = "within ±1,100")]
fn index(seconds: f64) -> i32 {
    (seconds.clamp(SECONDS_MIN, SECONDS_MAX).ln() / GAMMA.ln()).ceil() as i32
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}
