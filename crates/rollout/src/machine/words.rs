//! What operators read: reasons of transitions, and what a rollout waits for.

use std::time::Duration;

use super::{Observation, Rollout, Stage, course::Next};
use crate::{
    gates::{self, Report},
    machine::Phase,
};

impl Rollout {
    /// What it waits for, in words.
    #[must_use]
    pub fn waiting_for(&self, observation: &Observation) -> String {
        match self.next(observation) {
            Next::Wait(what) => what,
            Next::Go { reason, .. } => format!("the controller: {reason}"),
        }
    }
}

/// Where a rollout is, for sentences.
pub(super) fn place(phase: &Phase) -> String {
    match phase {
        Phase::Pending => "has not begun".to_owned(),
        Phase::Loading => "is loading the candidate".to_owned(),
        Phase::Shadow => "is comparing mirrored requests".to_owned(),
        Phase::Step { index, stage } => {
            let stage = match stage {
                Stage::Shifting => "shifting",
                Stage::Baking => "baking",
                Stage::Judging => "judging",
            };
            format!("is at step {} ({stage})", index + 1)
        }
        Phase::Promoting => "is promoting".to_owned(),
        Phase::Watching => "is watching the promoted version".to_owned(),
        Phase::Standby => "is promoted, and keeps the old version loaded".to_owned(),
        Phase::Done => "is done".to_owned(),
        Phase::Paused { reason, .. } => format!("is paused ({reason})"),
        Phase::RollingBack { .. } => "is going back".to_owned(),
        Phase::RolledBack { .. } => "has gone back".to_owned(),
        Phase::Superseded { .. } => "gave way to another".to_owned(),
    }
}

/// A gate that says "worse", with its grounds.
pub(super) fn worse(report: &Report) -> String {
    let (gate, detail) = (&report.gate, &report.detail);
    let (found, threshold) = (amount(report.e_worse), amount(report.e_worse_threshold));
    format!("the {gate} gate: {detail}, {} = {found} >= {threshold}", evidence(gate))
}

/// A gate that does not say "good" yet.
pub(super) fn unproved(report: &Report) -> String {
    let (gate, detail) = (&report.gate, &report.detail);
    let reached = (gates::reached(report.e_good, report.e_good_threshold) * 100.0).floor();
    format!("{gate} ({detail}; {reached:.0}% of the evidence)")
}

fn evidence(gate: &str) -> &'static str {
    if gate.starts_with("latency") {
        "proved ratio"
    } else {
        "e"
    }
}

pub(super) fn amount(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size > 0.0 && size < 0.001) {
        format!("{value:.1e}")
    } else if size >= 10.0 || size == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// E.g. "5%", "0.25%".
pub(crate) fn percent(ppm: u32) -> String {
    format!("{}%", f64::from(ppm) / 1e4)
}

/// E.g. "1 h 30 min", "2 min", "0.2 s".
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{} s", f64::from(duration.subsec_millis()) / 1e3);
    }
    let parts = [(seconds / 3_600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    parts.join(" ")
}

/// E.g. "no worker", "3 workers".
pub(super) fn workers(count: u32) -> String {
    match count {
        0 => "no worker".to_owned(),
        1 => "1 worker".to_owned(),
        _ => format!("{count} workers"),
    }
}
