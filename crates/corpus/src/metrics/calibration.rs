//! Whether probabilities mean what they say.

use serde::Serialize;

use crate::Error;
use crate::statistics::{Interval, wilson};

/// Bins of equal width from 0 to 1, as in Guo et al. 2017.
pub const CALIBRATION_BINS: usize = 15;
/// Temperatures beyond are not looked for: there, every answer is right or the classifier says nothing.
const TEMPERATURE_MAX: f64 = 100.0;

/// How far confidence and accuracy are apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error (Naeini et al. 2015, Guo et al. 2017): `Σ nᵦ/n · |accuracyᵦ − confidenceᵦ|` over the bins,
    /// by the confidence of the class that was said.
    pub ece: f64,
    /// The largest of these differences.
    pub mce: f64,
    /// Mean confidence less accuracy: above 0 the classifier is too sure of itself.
    pub overconfidence: f64,
    /// Bins that have an example.
    pub bins: Vec<CalibrationBin>,
}

/// Answers of like confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Confidences of the bin are above this,
    pub from: f64,
    /// and not above that.
    pub to: f64,
    /// Answers in it.
    pub examples: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of right ones.
    pub accuracy: f64,
    /// Wilson's 95% interval of `accuracy`.
    pub interval: Interval,
}

impl Calibration {
    /// Measures rows of probabilities that fit their classes, as `Scored` checks.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to the number of bins"
    )]
    pub fn measure(truth: &[usize], probabilities: &[Vec<f32>]) -> Self {
        let mut sums = [(0_u64, 0.0, 0_u64); CALIBRATION_BINS];
        for (row, &label) in probabilities.iter().zip(truth) {
            let said = (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            let confidence = f64::from(row.get(said).copied().unwrap_or_default()).clamp(0.0, 1.0);
            let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
            let sum = &mut sums[bin.clamp(1, CALIBRATION_BINS) - 1];
            sum.0 += 1;
            sum.1 += confidence;
            sum.2 += u64::from(said == label);
        }
        let all = truth.len().max(1) as f64;
        let (mut ece, mut mce, mut overconfidence) = (0.0, 0.0_f64, 0.0);
        let mut bins = Vec::new();
        for (index, (examples, confidence, right)) in sums.into_iter().enumerate().filter(|(_, sum)| sum.0 > 0) {
            let n = examples as f64;
            let (confidence, accuracy) = (confidence / n, right as f64 / n);
            ece += n / all * (accuracy - confidence).abs();
            mce = mce.max((accuracy - confidence).abs());
            overconfidence += n / all * (confidence - accuracy);
            bins.push(CalibrationBin {
                from: index as f64 / CALIBRATION_BINS as f64,
                to: (index + 1) as f64 / CALIBRATION_BINS as f64,
                examples,
                confidence,
                accuracy,
                interval: wilson(right, examples),
            });
        }
        Self {
            ece,
            mce,
            overconfidence,
            bins,
        }
    }
}

/// Temperature scaling (Guo et al. 2017): logits are divided by one number, which changes no answer, only how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Temperature {
    /// Above 1 makes less sure.
    pub temperature: f64,
    /// Examples that it was fitted on.
    pub examples: usize,
    /// Their log loss at temperature 1.
    pub log_loss_before: f64,
    /// Their log loss at this temperature.
    pub log_loss_after: f64,
}

impl Temperature {
    /// Finds the temperature with the least log loss. The log loss is convex in `1/T`, so its slope has one zero, which is
    /// found by halving.
    ///
    /// # Errors
    /// If rows do not fit their classes or a logit is not finite.
    pub fn fit(truth: &[usize], logits: &[Vec<f32>]) -> Result<Self, Error> {
        let fits = |(row, &label): (&Vec<f32>, &usize)| label < row.len() && row.iter().all(|z| z.is_finite());
        if truth.is_empty() || truth.len() != logits.len() || !logits.iter().zip(truth).all(fits) {
            return Err(Error::Invalid(format!(
                "cannot fit a temperature: {} labels for {} rows of logits, or a logit that is not finite",
                truth.len(),
                logits.len()
            )));
        }
        let (mut low, mut high) = (-TEMPERATURE_MAX.ln(), TEMPERATURE_MAX.ln());
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if loss(truth, logits, middle.exp()).1 < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        let inverse = f64::midpoint(low, high).exp();
        Ok(Self {
            temperature: 1.0 / inverse,
            examples: truth.len(),
            log_loss_before: loss(truth, logits, 1.0).0,
            log_loss_after: loss(truth, logits, inverse).0,
        })
    }

    /// Logits at this temperature.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "logits need no more than f32")]
    pub fn apply(&self, logits: &[f32]) -> Vec<f32> {
        logits
            .iter()
            .map(|&z| (f64::from(z) / self.temperature) as f32)
            .collect()
    }
}

/// Mean log loss of logits times `scale`, and its slope in `scale`.
fn loss(truth: &[usize], logits: &[Vec<f32>], scale: f64) -> (f64, f64) {
    let (mut loss, mut slope) = (0.0, 0.0);
    for (row, &label) in logits.iter().zip(truth) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut mean) = (0.0, 0.0);
        for &z in row {
            let power = (scale * (f64::from(z) - f64::from(top))).exp();
            sum += power;
            mean += power * f64::from(z);
        }
        loss += sum.ln() - scale * (f64::from(row[label]) - f64::from(top));
        slope += mean / sum - f64::from(row[label]);
    }
    let n = truth.len() as f64;
    (loss / n, slope / n)
}
