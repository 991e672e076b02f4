//! Bootstrap intervals (Efron 1979; percentile method: Efron & Tibshirani 1993, ch. 13).
//!
//! Whole examples are drawn with replacement, or whole groups of them where examples of a group are alike (reviews of one film):
//! drawn one by one, they would make intervals too narrow (Field & Welsh 2007).

use std::collections::HashMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::statistics::Interval;

/// Which examples are drawn together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    of: Vec<usize>,
    count: usize,
}

impl Clusters {
    /// Each example by itself.
    #[must_use]
    pub fn single(examples: usize) -> Self {
        Self {
            of: (0..examples).collect(),
            count: examples,
        }
    }

    /// Examples with the same key together.
    #[must_use]
    pub fn by<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut numbers = HashMap::new();
        let of = keys
            .into_iter()
            .map(|key| {
                let next = numbers.len();
                *numbers.entry(key).or_insert(next)
            })
            .collect();
        Self {
            of,
            count: numbers.len(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// How often.
    pub resamples: usize,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl Bootstrap {
    /// The statistics of each resample. `statistics` is told how often each example was drawn; what it returns always has the
    /// same length `N`. The result has one list for each statistic.
    pub fn run<const N: usize>(
        &self,
        clusters: &Clusters,
        mut statistics: impl FnMut(&[u32]) -> [f64; N],
    ) -> [Vec<f64>; N] {
        let mut replicates: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(self.resamples));
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut drawn = vec![0_u32; clusters.count];
        let mut weights = vec![0_u32; clusters.of.len()];
        for _ in 0..self.resamples {
            drawn.fill(0);
            for _ in 0..clusters.count {
                drawn[random.random_range(0..clusters.count)] += 1;
            }
            for (weight, &cluster) in weights.iter_mut().zip(&clusters.of) {
                *weight = drawn[cluster];
            }
            for (list, value) in replicates.iter_mut().zip(statistics(&weights)) {
                list.push(value);
            }
        }
        replicates
    }
}

/// The middle `level` of replicates, between which quantiles are interpolated linearly, as NumPy does. `None` if one of them is
/// not a number: the figure is not defined on every resample.
#[must_use]
pub fn percentile_interval(replicates: &[f64], level: f64) -> Option<Interval> {
    if replicates.is_empty() || replicates.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = replicates.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Interval {
        low: quantile(&sorted, (1.0 - level) / 2.0),
        high: quantile(&sorted, (1.0 + level) / 2.0),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of the length"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}
