//! Whether the arms get the traffic that the route wants.

use super::{slices_of, weight};
use crate::{
    scorecard::Slice,
    stats::{ratio::share, shares::ln_bayes_factor},
};

/// Odds of the candidate's requests that are off by less than this factor are no violation: the splitter itself is
/// exact to one request, but a few heavy callers with an affinity key move the share of requests without anything being
/// wrong.
const TOLERANCE: f64 = 1.5;

/// Of the alternatives. For a null hypothesis of exactly the wanted share, 10,000 is usual; with a tolerance the
/// alternatives lie farther off.
const CONCENTRATION: f64 = 10.0;

/// An e-value against "each arm gets its share of the requests", within a tolerance. Fallbacks count against it: a
/// candidate without workers gets less than its weight.
///
/// Each slice has its Dirichlet-multinomial Bayes factor, against the tolerated share that fits best; the k-th counts
/// 1/(k(k+1)).
#[must_use]
pub fn sample_ratio_mismatch(slices: &[Slice]) -> f64 {
    let e_values = slices_of(slices.iter()).map(|slice| {
        let (stable, candidate) = (slice.stable.requests, slice.candidate.requests);
        let all = stable.saturating_add(candidate);
        let wanted = weight(slice);
        let fitting =
            super::words::share(candidate, all).clamp(share(1.0 / TOLERANCE, wanted), share(TOLERANCE, wanted));
        super::Bar::e_value(ln_bayes_factor(candidate, all, fitting, wanted, CONCENTRATION), 1.0).value
    });
    (1_u32..)
        .map(f64::from)
        .zip(e_values)
        .map(|(place, value)| value / (place * (place + 1.0)))
        .sum()
}
