//! Confidence sequences for a quantile: the beta-binomial mixture of Howard & Ramdas 2022, "Sequential estimation of
//! quantiles with applications to A/B testing and best-arm identification" (arXiv 1906.09712, for a fixed quantile).
//!
//! Of n values, the number k that are at most the true p-quantile is Bin(n, p). So `M_n(k) = B(a+k, b+n−k) / (B(a, b)
//! p^k (1−p)^(n−k))` is an e-process, and with probability 1 − α it is below 1/α at all n. The k for which it is lie in
//! one interval (ln M is convex in k), and bound the quantile by two ranks. Any a, b will do; they decide at which n
//! the interval is narrowest: a + b = 40 about mean p suits some hundreds of values.

use super::special::ln_beta;

const CONCENTRATION: f64 = 40.0;

/// Ranks, from 1, of the values that bound the quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// The quantile is at least this value; `None`: unbounded.
    pub lower: Option<u64>,
    /// The quantile is at most this value; `None`: unbounded.
    pub upper: Option<u64>,
}

/// Bounds of the p-quantile from `all` values, p in (0, 1); both hold at all times with probability 1 − `alpha`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "ranks; casts to integers saturate"
)]
pub fn ranks(p: f64, all: u64, alpha: f64) -> Ranks {
    let (a, b, n) = (CONCENTRATION * p, CONCENTRATION * (1.0 - p), all as f64);
    let prior = ln_beta(a, b);
    let kept = |count: u64| {
        let k = count as f64;
        ln_beta(a + k, b + n - k) - prior - k * p.ln() - (n - k) * (1.0 - p).ln() < -alpha.ln()
    };
    let middle = ((n * p).round() as u64).min(all);
    if !kept(middle) {
        return Ranks {
            lower: None,
            upper: None,
        };
    }
    // The first kept count at or below the middle, the last one at or above it.
    let (mut refuted, mut first) = (0, middle);
    if kept(0) {
        first = 0;
    }
    while first - refuted > 1 {
        let between = refuted.midpoint(first);
        if kept(between) {
            first = between;
        } else {
            refuted = between;
        }
    }
    let (mut last, mut refuted) = (middle, all);
    if kept(all) {
        last = all;
    }
    while refuted - last > 1 {
        let between = last.midpoint(refuted);
        if kept(between) {
            last = between;
        } else {
            refuted = between;
        }
    }
    Ranks {
        lower: (first > 0).then_some(first),
        upper: (last < all).then(|| last + 1),
    }
}
