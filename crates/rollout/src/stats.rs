//! Always-valid statistics, each computed from counts that merge.
//!
//! An e-process starts at 1 and has, while its null hypothesis holds, an expected value of at most 1 at whatever moment
//! one looks and stops; so the chance that it ever reaches 1/α is at most α (Ville 1939). A confidence sequence is the
//! set of values that their e-processes have not refuted yet. Looking each second costs nothing. Everything is in
//! logarithms; counts are taken in any order, since the values depend on sums only.

pub mod mean;
pub mod quantile;
pub mod rate;
pub mod ratio;
pub mod shares;
mod special;

#[cfg(test)]
mod tests;

/// The logarithm of a weighted mean of e-values, by pairs of weight and logarithm; the weights have to sum to 1.
#[must_use]
pub fn ln_weighted_mean(terms: &[(f64, f64)]) -> f64 {
    special::ln_sum_exp(terms.iter().copied())
}

/// The logarithm of a mean of e-values, by their logarithms; 0 (an e-value of 1) of none. A mean of e-values is one, if
/// the weights do not depend on what is counted.
#[must_use]
pub fn ln_mean(logs: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let weight = 1.0 / logs.len() as f64;
    if logs.is_empty() {
        return 0.0;
    }
    special::ln_sum_exp(logs.iter().map(|&log| (weight, log)))
}
