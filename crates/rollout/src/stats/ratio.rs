//! Whether events (errors, wrong labels) are more frequent on one arm: tests of counts conditional on the events, after
//! Lindon & Malek 2022, "Anytime-valid inference for multinomial count data".
//!
//! With a share `w` of the traffic on the candidate, and its rate of events `r` times the stable version's, an event is
//! the candidate's with probability `q(r, w) = w·r / (w·r + 1 − w)`, however often events are: an incident that hits
//! both arms changes nothing. So given n events of a slice (one weight) the candidate's are Bin(n, q).
//!
//! # Likelihood ratios
//!
//! `E = Σ_j π_j Π_slices (q(r_j,w)/q(r_0,w))^x · ((1−q(r_j,w))/(1−q(r_0,w)))^(n−x)`.
//!
//! Each term multiplies by a factor of mean 1 per event if r = r_0, and of mean below 1 if r lies on r_0's other side
//! from r_j (the factor is monotone in x). So E is an e-process for the whole half line, `r ≤ r_0` or `r ≥ r_0`.
//!
//! # A bet with a horizon
//!
//! Likelihood ratios pay for being ready to decide at any time, however late. Where it matters to decide by a certain
//! amount of evidence, the martingale of a fixed-size test does better: a test of N events that refutes at c of the
//! candidate's has, after n events with x of the candidate's, the value
//!
//! `E = P(x + Bin(N−n, q_0) ≥ c) / P(Bin(N, q_0) ≥ c)`, q_0 = q(1, w).
//!
//! Why it is an e-process: the numerator is the conditional probability of `{X_N ≥ c}` given the first n events, which
//! is a martingale for r = 1, and as it grows with x, a supermartingale for r < 1. It starts at 1. After N events it is
//! 0 or its greatest value for good. Counts alone do not tell what x was at N; after more events the value is taken as
//! the greatest only if even with all later events the candidate's there were c before, `x − (n−N) ≥ c`, else as 0:
//! never more than the true one.
//!
//! Over slices: each slice starts a bet whose N is what is left of the horizon and whose c is what is just enough to
//! take the capital won so far to the target. Both are known when the slice starts, so the product is an e-process. The
//! horizon is in units of information, Σ n·q_0·(1−q_0), so that it means the same at any weight; [`HORIZON`] is that of
//! about 20 errors of a candidate at 5% weight that is no worse, where a candidate with twice the rate is nearly always
//! found.
//!
//! A slice may end at any moment, also because of what was counted: that only stops its bet, and a stopped e-process is
//! one.

use super::special::{binomial_tail, count_ln, ln_sum_exp};

/// Information of a horizon: at a weight of 5% about 407 events of both arms.
pub const HORIZON: f64 = 19.3;

/// Ratios that are bet on against "no worse", with their prior weights.
pub const WORSE: [(f64, f64); 5] = [(1.5, 0.1), (2.0, 0.3), (3.0, 0.2), (5.0, 0.2), (10.0, 0.2)];

/// Ratios that are bet on against "worse by a factor of at least this", as parts of it: 0.5, 0.75, 1 and 1.1 of 1.5.
pub const BETTER: [(f64, f64); 4] = [(1.0 / 3.0, 0.25), (0.5, 0.25), (2.0 / 3.0, 0.25), (1.1 / 1.5, 0.25)];

/// Events under one weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Events {
    /// The candidate's share, in (0, 1); other slices tell nothing.
    pub weight: f64,
    /// The candidate's.
    pub candidate: u64,
    /// The stable version's.
    pub stable: u64,
}

/// The probability that an event is the candidate's, at a ratio of the rates.
#[must_use]
pub fn share(ratio: f64, weight: f64) -> f64 {
    weight * ratio / (weight * ratio + 1.0 - weight)
}

/// Logarithm of the e-value against ratio `null`, of alternatives that all lie on one side of it.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of events")]
pub fn ln_likelihood_ratio(slices: &[Events], null: f64, alternatives: &[(f64, f64)]) -> f64 {
    let against = |ratio: f64| -> f64 {
        telling(slices)
            .map(|slice| {
                let (q, q_null) = (share(ratio, slice.weight), share(null, slice.weight));
                count_ln(slice.candidate as f64, q / q_null) + count_ln(slice.stable as f64, (1.0 - q) / (1.0 - q_null))
            })
            .sum()
    };
    ln_sum_exp(alternatives.iter().map(|&(ratio, weight)| (weight, against(ratio))))
}

/// Logarithm of the e-value against "no worse".
#[must_use]
pub fn ln_worse(slices: &[Events]) -> f64 {
    ln_likelihood_ratio(slices, 1.0, &WORSE)
}

/// Logarithm of the e-value against "worse by a factor of at least `null`".
#[must_use]
pub fn ln_better(slices: &[Events], null: f64) -> f64 {
    ln_likelihood_ratio(slices, null, &BETTER.map(|(part, weight)| (part * null, weight)))
}

/// Logarithm of the value of bets with a horizon against "no worse", which aim at `target`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of events; casts to integers saturate"
)]
pub fn ln_horizon_bet(slices: &[Events], target: f64) -> f64 {
    let (mut capital, mut left) = (1.0_f64, HORIZON);
    for slice in telling(slices) {
        let (q, events) = (slice.weight, slice.candidate.saturating_add(slice.stable));
        let information = q * (1.0 - q);
        let size = (left / information).ceil().max(0.0) as u64;
        left -= events as f64 * information;
        if let Some(enough) = enough(size, q, capital / target) {
            let value = if events <= size {
                binomial_tail(enough.saturating_sub(slice.candidate), size - events, q)
            } else if slice.candidate.saturating_sub(events - size) >= enough {
                1.0
            } else {
                0.0
            };
            capital *= value / binomial_tail(enough, size, q);
        }
    }
    capital.ln()
}

/// The fewest events of the candidate that a test of `size` may refute at; `None` if no such test has that level.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of events; casts to integers saturate"
)]
fn enough(size: u64, q: f64, level: f64) -> Option<u64> {
    if level <= 0.0 || level >= 1.0 {
        return None;
    }
    let mean = (size as f64 * q) as u64;
    (mean..=size).find(|&count| binomial_tail(count, size, q) <= level)
}

fn telling(slices: &[Events]) -> impl Iterator<Item = &Events> {
    slices.iter().filter(|slice| 0.0 < slice.weight && slice.weight < 1.0)
}
