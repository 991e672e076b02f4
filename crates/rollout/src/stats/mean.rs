//! Asymptotic e-processes for means and differences of means.
//!
//! Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021, "Time-uniform central limit theory and asymptotic confidence
//! sequences" (arXiv 2103.06476): sums of n values less their mean behave like a Brownian motion at time nσ², and
//! mixing the likelihood ratio over a drift of N(0, τ²) gives, with S the sum of scores about the null's value and I
//! the information,
//!
//! `E = (1 + τ²I)^(−1/2) · exp(τ²S² / (2(1 + τ²I)))`.
//!
//! For one mean I = n/σ² and S = I·(mean − null). With τ² = ρ²σ² the values that E has not refuted at 1/α are `mean ±
//! sqrt(σ² · 2(nρ²+1)/(nρ)² · ln(sqrt(nρ²+1)/α))`, the sequence as it is usually written, and `ρ² = (−2 ln α + ln(1 − 2
//! ln α)) / N` makes it narrowest at N values. For a difference of two arms, I = 1/(σ₁²/n₁ + σ₂²/n₂). Slices add up
//! their scores and information, so that a time when traffic and weights were both unlike now does not look like a
//! difference.

use crate::scorecard::Moments;

/// N: where the sequences are narrowest.
const VALUES: f64 = 500.0;

/// Fewer values are too few for a central limit.
const VALUES_MIN: u64 = 30;

/// What is known of a mean, or of a difference of means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Difference {
    /// Estimates weighted by their information.
    score: f64,
    /// One over the estimate's variance.
    information: f64,
    /// Values of the arm in question.
    count: f64,
}

impl Difference {
    /// The mean of values. Deviations below `deviation_min` are not believed: a few equal values do not prove that all
    /// are.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    pub fn of(values: &Moments, deviation_min: f64) -> Option<Self> {
        let (mean, variance) = spread(values, deviation_min)?;
        let information = values.count as f64 / variance;
        Some(Self {
            score: information * mean,
            information,
            count: values.count as f64,
        })
    }

    /// The candidate's mean less the stable version's, of slices; those with too few values are left out.
    #[must_use]
    pub fn between<'a>(slices: impl Iterator<Item = (&'a Moments, &'a Moments)>, deviation_min: f64) -> Option<Self> {
        sum(slices.filter_map(|(stable, candidate)| {
            let arms = (spread(stable, deviation_min)?, spread(candidate, deviation_min)?);
            Some(((stable, candidate), arms))
        }))
    }

    /// The logarithm of the ratio of the candidate's mean to the stable version's, by the delta method (the variance of
    /// ln m is about σ²/(n·m²)); of slices where both means are positive. `deviation_min` is a part of the mean.
    #[must_use]
    pub fn of_ratio<'a>(slices: impl Iterator<Item = (&'a Moments, &'a Moments)>, deviation_min: f64) -> Option<Self> {
        let log = |values: &Moments| {
            let (mean, variance) = spread(values, 0.0).filter(|&(mean, _)| mean > 0.0)?;
            Some((mean.ln(), (variance / (mean * mean)).max(deviation_min * deviation_min)))
        };
        sum(slices.filter_map(|(stable, candidate)| Some(((stable, candidate), (log(stable)?, log(candidate)?)))))
    }

    /// The estimate.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        self.score / self.information
    }

    /// Logarithm of the e-value against "at most `null`", narrowest for `alpha`.
    #[must_use]
    pub fn ln_above(&self, null: f64, alpha: f64) -> f64 {
        let score = self.score - null * self.information;
        let level = -2.0 * alpha.ln();
        let prior = (level + level.ln_1p()) / VALUES * self.count;
        // τ²I, with τ² such that it is ρ²n.
        let gain = (prior * score * score / self.information / (1.0 + prior) - prior.ln_1p()) / 2.0;
        if score > 0.0 { gain } else { gain.min(0.0) }
    }

    /// Logarithm of the e-value against "at least `null`".
    #[must_use]
    pub fn ln_below(&self, null: f64, alpha: f64) -> f64 {
        Self {
            score: -self.score,
            ..*self
        }
        .ln_above(-null, alpha)
    }
}

/// Mean and variance of enough values.
fn spread(values: &Moments, deviation_min: f64) -> Option<(f64, f64)> {
    let known = values.count >= VALUES_MIN && values.sum.is_finite() && values.sum_of_squares.is_finite();
    let (mean, variance) = (values.mean()?, values.variance()?);
    let variance = variance.max(deviation_min * deviation_min).max(f64::MIN_POSITIVE);
    known.then_some((mean, variance))
}

type Arm = (f64, f64);

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn sum<'a>(slices: impl Iterator<Item = ((&'a Moments, &'a Moments), (Arm, Arm))>) -> Option<Difference> {
    let mut sum = Difference::default();
    for ((stable, candidate), ((stable_mean, stable_variance), (mean, variance))) in slices {
        let information = 1.0 / (stable_variance / stable.count as f64 + variance / candidate.count as f64);
        sum.score += information * (mean - stable_mean);
        sum.information += information;
        sum.count += candidate.count as f64;
    }
    (sum.count > 0.0).then_some(sum)
}
