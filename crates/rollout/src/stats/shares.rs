//! Whether arms get their shares: the Dirichlet-multinomial Bayes factor of Lindon & Malek 2022 (public package
//! `ssrm`), for two arms.
//!
//! `E = B(a + k, b + n − k) / (B(a, b) · p^k · (1−p)^(n−k))`, a = concentration · w, b = concentration · (1 − w): the
//! likelihood of k of n, averaged over shares about w, over that of a share of exactly p.

use super::special::{count_ln, ln_beta};

/// Logarithm of the e-value against "the share is `null`", of alternatives about `wanted`, all in (0, 1).
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts")]
pub fn ln_bayes_factor(count: u64, all: u64, null: f64, wanted: f64, concentration: f64) -> f64 {
    let (hits, misses) = (count as f64, all.saturating_sub(count) as f64);
    let (a, b) = (concentration * wanted, concentration * (1.0 - wanted));
    ln_beta(a + hits, b + misses) - ln_beta(a, b) - count_ln(hits, null) - count_ln(misses, 1.0 - null)
}
