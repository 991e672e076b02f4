//! Whether a share is above or below a bound: mixtures of Bernoulli likelihood ratios.
//!
//! `E = mean_j (p_j/p_0)^k ((1−p_j)/(1−p_0))^(n−k)` for k of n, with alternatives p_j on one side of p_0, so it is an
//! e-process for the whole half line on the other side (see [`super::ratio`]). The alternatives are multiples of p_0's
//! odds, which suits rates near 0 as well as shares near 1.

use super::{
    ln_mean,
    special::{count_ln, ln_beta},
};

const HIGHER: [f64; 5] = [1.5, 2.0, 3.0, 5.0, 10.0];
const LOWER: [f64; 5] = [0.0, 0.1, 0.25, 0.5, 0.75];
/// Bets on which of two differs more often.
const BETS: [f64; 4] = [0.6, 0.7, 0.8, 0.9];

/// Logarithm of the e-value against "at most `null`", of `count` among `all`.
#[must_use]
pub fn ln_above(count: u64, all: u64, null: f64) -> f64 {
    against(count, all, null, &HIGHER)
}

/// Logarithm of the e-value against "at least `null`".
#[must_use]
pub fn ln_below(count: u64, all: u64, null: f64) -> f64 {
    against(count, all, null, &LOWER)
}

/// Logarithm of the e-value against "the first happens no more often than the second", of cases where exactly one of
/// the two happened: `mean_g (2g)^first · (2(1−g))^second`, g in {0.6, 0.7, 0.8, 0.9}. For discordant pairs of labels
/// this is McNemar's test as an e-value.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts")]
pub fn ln_more_often(first: u64, second: u64) -> f64 {
    ln_mean(&BETS.map(|bet| first as f64 * (2.0 * bet).ln() + second as f64 * (2.0 * (1.0 - bet)).ln()))
}

/// A bound that the share exceeds with probability at most `alpha`, at whatever moment one looks: where the mixture
/// `B(½+k, ½+n−k) / (B(½, ½) p^k (1−p)^(n−k))` reaches 1/α (Robbins 1970).
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts")]
pub fn upper_bound(count: u64, all: u64, alpha: f64) -> f64 {
    let (k, n) = (count.min(all) as f64, all as f64);
    if all == 0 {
        return 1.0;
    }
    let mixture = ln_beta(0.5 + k, 0.5 + n - k) - ln_beta(0.5, 0.5);
    let refuted = |p: f64| mixture - count_ln(k, p) - count_ln(n - k, 1.0 - p) >= -alpha.ln();
    let (mut low, mut high) = (k / n, 1.0_f64);
    for _ in 0..60 {
        let middle = low.midpoint(high);
        if refuted(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn against(count: u64, all: u64, null: f64, multiples: &[f64; 5]) -> f64 {
    if null <= 0.0 || null >= 1.0 {
        return 0.0;
    }
    let (hits, misses) = (count as f64, all.saturating_sub(count) as f64);
    ln_mean(&multiples.map(|multiple| {
        let odds = null / (1.0 - null) * multiple;
        let p = odds / (1.0 + odds);
        count_ln(hits, p / null) + count_ln(misses, (1.0 - p) / (1.0 - null))
    }))
}
