//! Rollouts between the registry's form and the pure crate's. The registry's form is checked here, once.

mod cards;
mod spec;

use std::time::Duration;

use understudy_protocol::v1;
use understudy_rollout::{
    gates::{Report, Verdict},
    machine::{Phase, Rollout, Stage},
};

pub use cards::{labels_from, labels_to, shadow_from, shadow_to, slice_from, slice_to};
use cards::{mark_from, mark_to};
pub use spec::{complete, spec_from, spec_to};

/// A record, or an operator's request, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct Invalid {
    /// Path of the field, e.g. `spec.steps[1].weight_ppm`.
    pub field: String,
    /// What is wrong with it, as a sentence without its subject.
    pub problem: String,
}

impl Invalid {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same, seen from the message that holds it.
    fn within(self, message: &str) -> Self {
        Self::new(format!("{message}.{}", self.field), self.problem)
    }
}

/// Reads a rollout's record.
///
/// # Errors
/// If it breaks a rule.
pub fn rollout_from(record: &v1::Rollout) -> Result<Rollout, Invalid> {
    let spec = record.spec.as_ref().ok_or_else(|| Invalid::new("spec", "is missing"))?;
    let spec = spec_from(spec).map_err(|invalid| invalid.within("spec"))?;
    let status = record
        .status
        .as_ref()
        .ok_or_else(|| Invalid::new("status", "is missing"))?;
    let status_field = |invalid: Invalid| invalid.within("status");
    let index = usize::try_from(status.step).unwrap_or(usize::MAX);
    let weight_ppm = record.history.last().map_or(0, |last| last.weight_ppm);
    let phase = phase_from(status.phase(), status, weight_ppm)
        .filter(|phase| step_of(phase).is_none_or(|_| index < spec.steps.len()))
        .ok_or_else(|| {
            Invalid::new(
                "phase",
                format!("{:?} of step {index} is none of the spec's", status.phase()),
            )
        })
        .map_err(status_field)?;
    let mut settled = Vec::with_capacity(status.settled.len());
    for (index, slice) in status.settled.iter().enumerate() {
        let field = format!("settled[{index}]");
        settled.push(slice_from(slice).map_err(|invalid| status_field(invalid.within(&field)))?);
    }
    let settled_shadow = status.settled_shadow.as_ref().map(shadow_from).transpose();
    let mark = status.latency_mark.as_ref().map(mark_from).transpose();
    Ok(Rollout {
        number: record.number,
        spec,
        phase,
        elapsed: duration_from(status.elapsed.as_ref(), "elapsed").map_err(status_field)?,
        stalled: duration_from(status.stalled.as_ref(), "stalled").map_err(status_field)?,
        route_epoch: status.route_epoch,
        approved: status.approved,
        settled,
        settled_shadow: settled_shadow.map_err(|invalid| status_field(invalid.within("settled_shadow")))?,
        latency_mark: mark.map_err(|invalid| status_field(invalid.within("latency_mark")))?,
        class_names: record.labels.clone(),
    })
}

/// A rollout's status for its record.
#[must_use]
pub fn status_to(rollout: &Rollout) -> v1::RolloutStatus {
    let (reason, from) = match &rollout.phase {
        Phase::Paused { reason, from } => (reason.clone(), Some(&**from)),
        Phase::RollingBack { reason, .. } | Phase::RolledBack { reason } | Phase::Superseded { reason } => {
            (reason.clone(), None)
        }
        _ => (String::new(), None),
    };
    let step = step_of(from.unwrap_or(&rollout.phase)).unwrap_or_default();
    v1::RolloutStatus {
        phase: phase_to(&rollout.phase).into(),
        step: u32::try_from(step).unwrap_or(u32::MAX),
        reason,
        paused_phase: from.map_or(v1::Phase::Unspecified, phase_to).into(),
        elapsed: Some(duration_to(rollout.elapsed)),
        stalled: Some(duration_to(rollout.stalled)),
        route_epoch: rollout.route_epoch,
        approved: rollout.approved,
        settled: rollout.settled.iter().map(slice_to).collect(),
        settled_shadow: rollout.settled_shadow.as_ref().map(shadow_to),
        latency_mark: rollout.latency_mark.as_ref().map(mark_to),
    }
}

/// The step that a phase is of, if it is of one; of a paused one, the step that it goes on with.
#[must_use]
pub fn step_of(phase: &Phase) -> Option<usize> {
    match phase {
        Phase::Step { index, .. } => Some(*index),
        Phase::Paused { from, .. } => step_of(from),
        _ => None,
    }
}

/// A phase's name in the contract.
#[must_use]
pub fn phase_to(phase: &Phase) -> v1::Phase {
    match phase {
        Phase::Pending => v1::Phase::Pending,
        Phase::Loading => v1::Phase::Loading,
        Phase::Shadow => v1::Phase::Shadow,
        Phase::Step { stage, .. } => match stage {
            Stage::Shifting => v1::Phase::Shifting,
            Stage::Baking => v1::Phase::Baking,
            Stage::Judging => v1::Phase::Judging,
        },
        Phase::Promoting => v1::Phase::Promoting,
        Phase::Watching => v1::Phase::Watching,
        Phase::Standby => v1::Phase::Standby,
        Phase::Done => v1::Phase::Done,
        Phase::Paused { .. } => v1::Phase::Paused,
        Phase::RollingBack { .. } => v1::Phase::RollingBack,
        Phase::RolledBack { .. } => v1::Phase::RolledBack,
        Phase::Superseded { .. } => v1::Phase::Superseded,
    }
}

/// The weight is the last transition's: the share that the candidate still has while it is rolled back.
fn phase_from(phase: v1::Phase, status: &v1::RolloutStatus, weight_ppm: u32) -> Option<Phase> {
    let reason = || status.reason.clone();
    let step = |stage| {
        let index = usize::try_from(status.step).ok()?;
        Some(Phase::Step { index, stage })
    };
    Some(match phase {
        v1::Phase::Pending => Phase::Pending,
        v1::Phase::Loading => Phase::Loading,
        v1::Phase::Shadow => Phase::Shadow,
        v1::Phase::Shifting => step(Stage::Shifting)?,
        v1::Phase::Baking => step(Stage::Baking)?,
        v1::Phase::Judging => step(Stage::Judging)?,
        v1::Phase::Promoting => Phase::Promoting,
        v1::Phase::Watching => Phase::Watching,
        v1::Phase::Standby => Phase::Standby,
        v1::Phase::Done => Phase::Done,
        v1::Phase::Paused => {
            let from = status.paused_phase();
            if matches!(from, v1::Phase::Unspecified | v1::Phase::Paused) {
                return None;
            }
            Phase::Paused {
                reason: reason(),
                from: Box::new(phase_from(from, status, weight_ppm)?),
            }
        }
        v1::Phase::RollingBack => Phase::RollingBack {
            reason: reason(),
            candidate_ppm: weight_ppm,
        },
        v1::Phase::RolledBack => Phase::RolledBack { reason: reason() },
        v1::Phase::Superseded => Phase::Superseded { reason: reason() },
        v1::Phase::Unspecified => return None,
    })
}

/// A gate's report for operators.
#[must_use]
pub fn report_to(report: &Report) -> v1::GateReport {
    let verdict = match report.verdict {
        Verdict::Undecided => v1::Verdict::Undecided,
        Verdict::Good => v1::Verdict::Good,
        Verdict::Worse => v1::Verdict::Worse,
    };
    v1::GateReport {
        gate: report.gate.clone(),
        verdict: verdict.into(),
        e_worse: report.e_worse,
        e_worse_threshold: report.e_worse_threshold,
        e_good: report.e_good,
        e_good_threshold: report.e_good_threshold,
        detail: report.detail.clone(),
    }
}

fn duration_from(duration: Option<&prost_types::Duration>, field: &str) -> Result<Duration, Invalid> {
    let duration = duration.ok_or_else(|| Invalid::new(field, "is missing"))?;
    Duration::try_from(*duration).map_err(|_| Invalid::new(field, "must not be negative"))
}

fn duration_to(duration: Duration) -> prost_types::Duration {
    // A time beyond the contract's range, of 10,000 years, is as good as its end.
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs())
            .unwrap_or(i64::MAX)
            .min(315_576_000_000),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
