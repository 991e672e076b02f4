//! What a [`Spec`] must keep to. Fields are named as in the protocol, so that a file's reader can find their lines.

use std::time::Duration;

use super::{Gates, ShadowStage, Spec, Step, Strategy};
use crate::{machine::percent, split::PPM};

/// Most steps of a rollout.
const STEPS_MAX: usize = 32;

/// Longest hold, deadline, watch and standby.
const DURATION_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Shortest progress deadline.
const DEADLINE_MIN: Duration = Duration::from_secs(1);

/// A field that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// As in the protocol, e.g. `steps[2].weight_ppm`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Spec {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field that cannot be followed.
    pub fn check(&self) -> Result<(), Invalid> {
        demand(!self.stable.is_empty(), "stable", || {
            "name the version that serves now".to_owned()
        })?;
        demand(!self.candidate.is_empty(), "candidate", || {
            "name the version on trial".to_owned()
        })?;
        demand(self.candidate != self.stable, "candidate", || {
            format!("{} serves already; name another version", self.candidate)
        })?;
        demand(
            self.shadow.is_some() || self.strategy != Strategy::Shadow,
            "shadow",
            || "the strategy shadow needs this stage".to_owned(),
        )?;
        if let Some(shadow) = &self.shadow {
            shadow.check()?;
        }
        self.check_steps()?;
        self.gates.check()?;
        demand(
            (DEADLINE_MIN..=DURATION_MAX).contains(&self.progress_deadline),
            "progress_deadline",
            || "must be from 1 second to 30 days".to_owned(),
        )?;
        short(self.watch, "watch")?;
        short(self.standby, "standby")
    }

    fn check_steps(&self) -> Result<(), Invalid> {
        let count = self.steps.len();
        match self.strategy {
            Strategy::Canary => demand((1..=STEPS_MAX).contains(&count), "steps", || {
                format!("{count} steps; a canary has 1 to {STEPS_MAX}")
            })?,
            Strategy::Ab => demand(count == 1, "steps", || {
                format!("{count} steps; the strategy ab has exactly one, its fixed weight")
            })?,
            Strategy::BlueGreen | Strategy::Shadow => demand(count == 0, "steps", || {
                "only the strategies canary and ab have steps; leave them out, or choose canary".to_owned()
            })?,
        }
        let mut before = 0;
        for (index, step) in self.steps.iter().enumerate() {
            step.check(index, before)?;
            before = step.weight_ppm;
        }
        Ok(())
    }
}

impl ShadowStage {
    fn check(&self) -> Result<(), Invalid> {
        demand((1..=PPM).contains(&self.sample_ppm), "shadow.sample_ppm", || {
            format!("{} is not from 0.0001% to 100%", percent(self.sample_ppm))
        })?;
        demand(self.noise_ppm <= PPM, "shadow.noise_ppm", || {
            format!("{} is above 100%", percent(self.noise_ppm))
        })?;
        short(self.hold, "shadow.hold")
    }
}

impl Step {
    fn check(&self, index: usize, before: u32) -> Result<(), Invalid> {
        let weight = self.weight_ppm;
        let field = format!("steps[{index}].weight_ppm");
        demand((1..PPM).contains(&weight), &field, || {
            format!(
                "{} is not from 0.0001% to 99.9999%; the promotion to 100% follows the last step by itself",
                percent(weight)
            )
        })?;
        demand(weight > before, &field, || {
            format!(
                "{} is not above the step before, {}; weights must ascend",
                percent(weight),
                percent(before)
            )
        })?;
        short(self.hold, &format!("steps[{index}].hold"))
    }
}

impl Gates {
    fn check(&self) -> Result<(), Invalid> {
        between(self.alpha, 0.0, 0.5, "gates.alpha")?;
        between(self.beta, 0.0, 0.5, "gates.beta")?;
        if let Some(errors) = &self.errors {
            between(errors.ratio_max, 1.0, 1e6, "gates.errors.ratio_max")?;
            share(errors.negligible, "gates.errors.negligible")?;
        }
        if let Some(latency) = &self.latency {
            demand(!latency.quantiles.is_empty(), "gates.latency.quantiles", || {
                "name at least one, e.g. 0.95, or turn the gate off".to_owned()
            })?;
            for (index, quantile) in latency.quantiles.iter().enumerate() {
                between(*quantile, 0.0, 1.0, &format!("gates.latency.quantiles[{index}]"))?;
            }
            between(latency.increase_min, 0.0, 1e6, "gates.latency.increase_min")?;
            between(latency.increase_max, 0.0, 1e6, "gates.latency.increase_max")?;
        }
        if let Some(agreement) = &self.agreement {
            share(agreement.agreement_min, "gates.agreement.agreement_min")?;
            share(agreement.class_agreement_min, "gates.agreement.class_agreement_min")?;
        }
        if let Some(confidence) = &self.confidence {
            between(confidence.drop_max, 0.0, 1.0, "gates.confidence.drop_max")?;
        }
        if let Some(text) = &self.text {
            between(text.length_change_max, 0.0, 1e6, "gates.text.length_change_max")?;
            between(text.grounding_drop_max, 0.0, 1.0, "gates.text.grounding_drop_max")?;
        }
        Ok(())
    }
}

fn demand(holds: bool, field: &str, problem: impl FnOnce() -> String) -> Result<(), Invalid> {
    if holds {
        return Ok(());
    }
    Err(Invalid {
        field: field.to_owned(),
        problem: problem(),
    })
}

/// Both bounds excluded; no number is never between.
fn between(value: f64, low: f64, high: f64, field: &str) -> Result<(), Invalid> {
    demand(value > low && value < high, field, || {
        format!("{value} is not between {low} and {high}")
    })
}

fn share(value: f64, field: &str) -> Result<(), Invalid> {
    demand((0.0..1.0).contains(&value), field, || {
        format!("{}% is not from 0% to less than 100%", value * 100.0)
    })
}

fn short(value: Duration, field: &str) -> Result<(), Invalid> {
    demand(value <= DURATION_MAX, field, || "must be at most 30 days".to_owned())
}
