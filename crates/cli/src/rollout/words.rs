//! Where a rollout is, in words, and how it ended.

use std::time::Duration;

use understudy_protocol::v1::{Phase, Rollout, RolloutSpec, Strategy, Transition};

use crate::table::percent;

/// How a rollout ended, or that it cannot go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Promoted,
    RolledBack,
    Paused,
    Superseded,
}

/// What a script is told if the command ended before the rollout did: by a key, a signal or its own `--timeout`.
pub(crate) const ENDED_BEFORE: u8 = 5;

/// Until when a command waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Until {
    /// The candidate has all traffic; it is still watched
    Promoted,
    /// It was watched, and the old version is freed
    #[default]
    Done,
}

impl Outcome {
    /// `None` while it goes on by itself.
    pub(crate) fn of(rollout: &Rollout, until: Until) -> Option<Self> {
        match rollout.phase() {
            Phase::Done => Some(Self::Promoted),
            Phase::Watching | Phase::Standby if until == Until::Promoted => Some(Self::Promoted),
            Phase::RolledBack => Some(Self::RolledBack),
            Phase::Paused => Some(Self::Paused),
            Phase::Superseded => Some(Self::Superseded),
            Phase::Unspecified
            | Phase::Pending
            | Phase::Loading
            | Phase::Shadow
            | Phase::Shifting
            | Phase::Baking
            | Phase::Judging
            | Phase::Promoting
            | Phase::Watching
            | Phase::Standby
            | Phase::RollingBack => None,
        }
    }

    /// What a script is told.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Promoted => 0,
            Self::Superseded => 1,
            Self::RolledBack => 3,
            Self::Paused => 4,
        }
    }
}

pub(crate) fn spec(rollout: &Rollout) -> RolloutSpec {
    rollout.spec.clone().unwrap_or_default()
}

/// `sentiment: v1 → v2 (canary, rollout 3)`
pub(crate) fn title(rollout: &Rollout) -> String {
    let spec = spec(rollout);
    format!(
        "{}: {} → {} ({}, rollout {})",
        rollout.model,
        spec.stable,
        spec.candidate,
        strategy(&spec),
        rollout.number
    )
}

/// `sentiment: v1 → v2 (canary, rollout 3): step 2 of 4 at 5%, baking`
pub(crate) fn sentence(rollout: &Rollout) -> String {
    let reason = match rollout.status.as_ref().map(|status| status.reason.as_str()) {
        None | Some("") => String::new(),
        Some(reason) => format!(": {}", crate::output::printable(reason)),
    };
    format!("{}: {}{reason}", title(rollout), state(rollout))
}

pub(crate) fn strategy(spec: &RolloutSpec) -> &'static str {
    match spec.strategy() {
        Strategy::Unspecified => "of an unknown strategy",
        Strategy::Canary => "canary",
        Strategy::BlueGreen => "blue-green",
        Strategy::Shadow => "shadow",
        Strategy::Ab => "ab",
    }
}

/// `step 2 of 4 at 5%, baking`, `paused in step 2 of 4 at 5%, baking`, `rolled back`
pub(crate) fn state(rollout: &Rollout) -> String {
    let Some(status) = &rollout.status else {
        return "unknown".into();
    };
    match status.phase() {
        Phase::Paused => format!("paused in {}", at(rollout, status.paused_phase(), status.step)),
        phase => at(rollout, phase, status.step),
    }
}

fn at(rollout: &Rollout, phase: Phase, step: u32) -> String {
    if !is_of_step(phase) {
        return name(phase).into();
    }
    let spec = spec(rollout);
    let does = match phase {
        Phase::Judging if waits_for_promote(rollout) => "waits for `rollout promote`",
        phase => name(phase),
    };
    match usize::try_from(step).ok().and_then(|step| spec.steps.get(step)) {
        Some(found) => format!(
            "step {} of {} at {}, {does}",
            step + 1,
            spec.steps.len(),
            ppm(found.weight_ppm),
        ),
        None => name(phase).into(),
    }
}

/// Whether the hold of a manual step is over, and nobody has opened its gate.
pub(crate) fn waits_for_promote(rollout: &Rollout) -> bool {
    let Some(status) = &rollout.status else { return false };
    let spec = rollout.spec.as_ref();
    let step = usize::try_from(status.step).ok();
    let step = step.zip(spec).and_then(|(step, spec)| spec.steps.get(step));
    status.phase() == Phase::Judging && !status.approved && step.is_some_and(|step| step.manual)
}

pub(crate) fn is_of_step(phase: Phase) -> bool {
    matches!(phase, Phase::Shifting | Phase::Baking | Phase::Judging)
}

pub(crate) fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Unspecified => "unknown",
        Phase::Pending => "pending",
        Phase::Loading => "loading",
        Phase::Shadow => "shadow",
        Phase::Shifting => "shifting",
        Phase::Baking => "baking",
        Phase::Judging => "judging",
        Phase::Promoting => "promoting",
        Phase::Watching => "watching",
        Phase::Standby => "standby",
        Phase::Done => "done",
        Phase::Paused => "paused",
        Phase::RollingBack => "rolling back",
        Phase::RolledBack => "rolled back",
        Phase::Superseded => "superseded",
    }
}

/// `baking → judging at 5%`
pub(crate) fn change(transition: &Transition) -> String {
    let (to, weight) = (name(transition.to()), ppm(transition.weight_ppm));
    match transition.from() {
        Phase::Unspecified => format!("{to} at {weight}"),
        Phase::Judging if transition.to() == Phase::Judging => format!("manual gate opened at {weight}"),
        // Another share while it goes back.
        from if from == transition.to() => format!("{to}, now at {weight}"),
        from => format!("{} → {to} at {weight}", name(from)),
    }
}

/// The candidate's share that is wanted now.
pub(crate) fn wanted_ppm(rollout: &Rollout) -> u32 {
    rollout
        .history
        .last()
        .filter(|last| last.rollout == rollout.number)
        .map_or(0, |last| last.weight_ppm)
}

pub(crate) fn ppm(share: u32) -> String {
    percent(f64::from(share) / 1e6)
}

pub(crate) fn time(time: Option<prost_types::Duration>) -> Duration {
    time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default()
}

/// `45 s`, `10 min`, `1 min 30 s`, `2 h`
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (major, minor) = match seconds {
        0..90 => return format!("{seconds} s"),
        90..7200 => ((seconds / 60, "min"), (seconds % 60, "s")),
        _ => ((seconds / 3600, "h"), (seconds % 3600 / 60, "min")),
    };
    match minor.0 {
        0 => format!("{} {}", major.0, major.1),
        rest => format!("{} {} {rest} {}", major.0, major.1, minor.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_for_people() {
        let spans = [0, 45, 89, 90, 120, 600, 615, 7199, 7200, 90_000].map(|s| span(Duration::from_secs(s)));
        let expected = [
            "0 s",
            "45 s",
            "89 s",
            "1 min 30 s",
            "2 min",
            "10 min",
            "10 min 15 s",
            "119 min 59 s",
            "2 h",
            "25 h",
        ];
        assert_eq!(spans, expected);
    }

    #[test]
    fn scripts_learn_how_it_ended() {
        let rollout = |phase: Phase| Rollout {
            status: Some(understudy_protocol::v1::RolloutStatus {
                phase: phase.into(),
                ..Default::default()
            }),
            ..Rollout::default()
        };
        let code = |phase, until| Outcome::of(&rollout(phase), until).map(Outcome::exit_code);
        for (phase, promoted, done) in [
            (Phase::Baking, None, None),
            (Phase::Promoting, None, None),
            (Phase::Watching, Some(0), None),
            (Phase::Standby, Some(0), None),
            (Phase::Done, Some(0), Some(0)),
            (Phase::RollingBack, None, None),
            (Phase::RolledBack, Some(3), Some(3)),
            (Phase::Paused, Some(4), Some(4)),
            (Phase::Superseded, Some(1), Some(1)),
        ] {
            assert_eq!(
                (code(phase, Until::Promoted), code(phase, Until::Done)),
                (promoted, done),
                "{phase:?}"
            );
        }
    }
}
