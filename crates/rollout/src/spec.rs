//! What a rollout shall do: [`Spec`], complete and valid once made.

mod check;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use check::Invalid;

/// A rollout's course.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The version that serves when it begins.
    pub stable: String,
    /// The version on trial.
    pub candidate: String,
    /// How it is tried.
    pub strategy: Strategy,
    /// Compares answers to mirrored requests first.
    pub shadow: Option<ShadowStage>,
    /// Of the candidate's weight, ascending, each above 0 and below 1,000,000; the last is followed by the promotion.
    pub steps: Vec<Step>,
    /// When it is worse, and when good enough.
    pub gates: Gates,
    /// Without progress for this long it pauses.
    pub progress_deadline: Duration,
    /// How long the promoted candidate is watched.
    pub watch: Duration,
    /// How long the old version stays loaded after that.
    pub standby: Duration,
}

/// How a candidate is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Steps of weight, each judged.
    Canary,
    /// All at once, with both loaded.
    BlueGreen,
    /// Compares only.
    Shadow,
    /// A fixed split, judged by labels.
    Ab,
}

/// Comparing answers to mirrored requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShadowStage {
    /// Share of requests that are mirrored.
    pub sample_ppm: u32,
    /// Share of those that the stable version answers once more.
    pub noise_ppm: u32,
    /// Shortest time.
    pub hold: Duration,
    /// Fewest compared pairs; at least one is always asked.
    pub pairs_min: u64,
}

/// A weight of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its share.
    pub weight_ppm: u32,
    /// Shortest time.
    pub hold: Duration,
    /// Fewest requests of the candidate; at least one is always asked.
    pub requests_min: u64,
    /// Waits for an operator before the next one.
    pub manual: bool,
}

/// Tests, and how sure they must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Gates {
    /// Greatest probability of rolling back a candidate that is no worse.
    pub alpha: f64,
    /// Greatest probability of promoting one that is worse.
    pub beta: f64,
    /// Server faults.
    pub errors: Option<ErrorGate>,
    /// Time to answer.
    pub latency: Option<LatencyGate>,
    /// Labels of mirrored requests.
    pub agreement: Option<AgreementGate>,
    /// Mean confidence.
    pub confidence: Option<ConfidenceGate>,
    /// Generated texts.
    pub text: Option<TextGate>,
    /// Labels that come later.
    pub labels: Option<LabelGate>,
    /// Whether a promotion asks each gate that has data for a proof.
    pub proof: bool,
}

/// Server faults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorGate {
    /// From this ratio to the stable version's on, a candidate is never promoted but by chance beta.
    pub ratio_max: f64,
    /// Below this rate a candidate is good enough whatever the ratio.
    pub negligible: f64,
}

/// Time to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyGate {
    /// Which quantiles, each in (0, 1).
    pub quantiles: Vec<f64>,
    /// Worse if a quantile is proved to have grown by more than this part.
    pub increase_min: f64,
    /// Good if each is proved to have grown by less than this part.
    pub increase_max: f64,
}

/// Labels of mirrored requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgreementGate {
    /// Worse if the share of equal labels is proved to be below, beyond the stable version's own noise.
    pub agreement_min: f64,
    /// The same within each class that the stable version named.
    pub class_agreement_min: f64,
}

/// Mean confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceGate {
    /// Greatest fall.
    pub drop_max: f64,
}

/// Generated texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextGate {
    /// Greatest change of the mean length, as a part.
    pub length_change_max: f64,
    /// Greatest fall of the share of supported claims.
    pub grounding_drop_max: f64,
}

/// Labels that come later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LabelGate {
    /// Labelled requests that a promotion needs.
    pub labels_min: u64,
}

impl Spec {
    /// A strategy's usual course. A canary and a shadow compare answers first, a blue-green and an ab rollout do not.
    #[must_use]
    pub fn new(stable: impl Into<String>, candidate: impl Into<String>, strategy: Strategy) -> Self {
        let percents: &[u32] = match strategy {
            Strategy::Canary => &[1, 5, 25, 50],
            Strategy::Ab => &[50],
            Strategy::BlueGreen | Strategy::Shadow => &[],
        };
        Self {
            stable: stable.into(),
            candidate: candidate.into(),
            strategy,
            shadow: matches!(strategy, Strategy::Canary | Strategy::Shadow).then(ShadowStage::default),
            steps: percents.iter().map(|percent| Step::new(percent * 10_000)).collect(),
            gates: Gates::default(),
            progress_deadline: Duration::from_secs(3_600),
            watch: Duration::from_secs(600),
            standby: Duration::from_secs(600),
        }
    }
}

impl Step {
    /// A weight with the usual hold and requests.
    #[must_use]
    pub fn new(weight_ppm: u32) -> Self {
        Self {
            weight_ppm,
            hold: Duration::from_secs(60),
            requests_min: 100,
            manual: false,
        }
    }
}

impl Default for ShadowStage {
    fn default() -> Self {
        Self {
            sample_ppm: 100_000,
            noise_ppm: 100_000,
            hold: Duration::from_secs(60),
            pairs_min: 200,
        }
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            beta: 0.05,
            errors: Some(ErrorGate::default()),
            latency: Some(LatencyGate::default()),
            agreement: Some(AgreementGate::default()),
            confidence: Some(ConfidenceGate::default()),
            text: Some(TextGate::default()),
            labels: Some(LabelGate::default()),
            proof: true,
        }
    }
}

impl Default for ErrorGate {
    fn default() -> Self {
        Self {
            ratio_max: 1.5,
            negligible: 0.005,
        }
    }
}

impl Default for LatencyGate {
    fn default() -> Self {
        Self {
            quantiles: vec![0.5, 0.95],
            increase_min: 0.2,
            increase_max: 0.5,
        }
    }
}

impl Default for AgreementGate {
    fn default() -> Self {
        Self {
            agreement_min: 0.75,
            class_agreement_min: 0.5,
        }
    }
}

impl Default for ConfidenceGate {
    fn default() -> Self {
        Self { drop_max: 0.1 }
    }
}

impl Default for TextGate {
    fn default() -> Self {
        Self {
            length_change_max: 0.5,
            grounding_drop_max: 0.1,
        }
    }
}
