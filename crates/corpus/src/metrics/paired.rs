//! Two classifiers on the same examples.

use serde::Serialize;

use super::Scored;

/// Examples on which exactly one of two classifiers is right. The others say nothing about which is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Discordant {
    /// Only the first is right.
    pub only_first: u64,
    /// Only the second is right.
    pub only_second: u64,
}

impl Discordant {
    /// Counts them. Both must have answered the same examples in the same order.
    #[must_use]
    pub fn count(first: &Scored, second: &Scored) -> Self {
        let mut pairs = Self {
            only_first: 0,
            only_second: 0,
        };
        for example in 0..first.examples() {
            match (first.is_right(example), second.is_right(example)) {
                (true, false) => pairs.only_first += 1,
                (false, true) => pairs.only_second += 1,
                _ => {}
            }
        }
        pairs
    }

    /// Two-sided p-value of McNemar's test (McNemar 1947) in its exact form: twice the tail of a binomial distribution with
    /// probability ½, at most 1. The exact form is as quick as the approximation by χ² at any number of pairs, so there is no
    /// rule when to change over.
    #[must_use]
    pub fn mcnemar(&self) -> f64 {
        let all = self.only_first + self.only_second;
        let least = self.only_first.min(self.only_second);
        let ln_factorial = |n: u64| libm::lgamma(n as f64 + 1.0);
        let ln_half = -(all as f64) * std::f64::consts::LN_2;
        // From the largest term down: what is too small to count ends the sum.
        let mut tail = 0.0_f64;
        for k in (0..=least).rev() {
            let term = (ln_factorial(all) - ln_factorial(k) - ln_factorial(all - k) + ln_half).exp();
            tail += term;
            if term < tail * 1e-17 {
                break;
            }
        }
        (2.0 * tail).min(1.0)
    }
}

/// Holm's adjustment of p-values (Holm 1979), in the order given: with them all at once, the chance to reject any true
/// hypothesis stays below the level.
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut least = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[index] = least;
    }
    adjusted
}
