//! The course of a rollout: a pure function of what it was, what is observed, and how much time passed.
//!
//! ```text
//! Pending → Loading → Shadow → Step[i]: Shifting → Baking → Judging → … → Promoting → Watching → Standby → Done
//!              any of these → Paused(reason) | RollingBack(reason) → RolledBack(reason) | Superseded(reason)
//! ```
//!
//! It is level triggered: [`Rollout::advance`] looks at what is, not at what happened, so that a lost, repeated or late
//! call does no harm, and a new leader goes on where the record says. Decisions are in `course` and `back`, an
//! operator's in `command`, words in `words`.
//!
//! Invariants, each held by a property test: a plan's weights sum to 1,000,000; no step is skipped; `Done`, `RolledBack`
//! and `Superseded` are never left; once traffic goes back, the candidate's weight never rises; evidence of another epoch
//! than the route's changes nothing; without requests, time promotes no canary.
//!
//! Deliberately absent: clocks, epochs of its own (who writes the route counts them), and retries (the next call is one).

mod back;
mod command;
mod course;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

pub use command::Refused;
pub(crate) use words::percent;

use crate::{
    gates::{self, Report},
    scorecard::{Evidence, LabelCard, LatencyMark, ShadowCard, Slice},
    spec::{Spec, Strategy},
    split::PPM,
};

/// A rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Counts the model's rollouts from 1.
    pub number: u64,
    /// What it shall do.
    pub spec: Spec,
    /// Where it is.
    pub phase: Phase,
    /// Time in this phase.
    pub elapsed: Duration,
    /// Time since the last progress.
    pub stalled: Duration,
    /// The epoch of the route that this phase set; 0 before the first. Set by who writes the route.
    pub route_epoch: u64,
    /// An operator opened the step's manual gate.
    pub approved: bool,
    /// Evidence under the routes that are over: of steps, and of the stable version alone before them.
    pub settled: Vec<Slice>,
    /// Evidence of mirrored requests, once none are mirrored any more.
    pub settled_shadow: Option<ShadowCard>,
    /// Parts the current route's latencies in older and newer ones.
    pub latency_mark: Option<LatencyMark>,
    /// Names of the classes, for words; empty if they are not known.
    pub class_names: Vec<String>,
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Just begun.
    Pending,
    /// Workers load the candidate.
    Loading,
    /// Requests are mirrored and compared.
    Shadow,
    /// The candidate has a step's weight.
    Step {
        /// Index in the spec's steps.
        index: usize,
        /// How far.
        stage: Stage,
    },
    /// All traffic goes to the candidate.
    Promoting,
    /// It has all traffic and is watched.
    Watching,
    /// The old version is still loaded.
    Standby,
    /// Promoted.
    Done,
    /// Stands still.
    Paused {
        /// Why.
        reason: String,
        /// What it goes on with.
        from: Box<Phase>,
    },
    /// Traffic goes back to the stable version.
    RollingBack {
        /// Why.
        reason: String,
        /// The share that the candidate still has: 0 at once unless too few workers have the stable version ready.
        /// Each change of it is a transition, so a record has it as its last transition's weight.
        candidate_ppm: u32,
    },
    /// It has gone back.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// Another rollout took its place.
    Superseded {
        /// By which.
        reason: String,
    },
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Routers take over its weight.
    Shifting,
    /// Its time runs.
    Baking,
    /// Its time is over; a verdict or an operator's word is awaited.
    Judging,
}

/// What is seen at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// Workers of the model's kind.
    pub workers: u32,
    /// Workers where the stable version is ready.
    pub stable_ready: u32,
    /// Workers where the candidate is ready.
    pub candidate_ready: u32,
    /// Why it cannot be loaded, if every worker that tried failed.
    pub candidate_failed: Option<String>,
    /// Routers that report.
    pub routers: u32,
    /// Those that serve the route of `route_epoch` or a later one.
    pub routers_current: u32,
    /// The route in the registry is not what this rollout set.
    pub route_changed: bool,
    /// The current route's counts (of epoch `route_epoch` only), the mirrored requests and the labels.
    pub live: Slice,
    /// Mirrored requests since the rollout began.
    pub shadow: ShadowCard,
    /// Labels since the rollout began.
    pub labels: LabelCard,
}

/// What an operator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stand still.
    Pause {
        /// Why.
        reason: String,
    },
    /// Go on.
    Resume,
    /// Open the manual gate.
    Approve,
    /// Go to 100% whatever the gates say, if the candidate is ready somewhere.
    Promote,
    /// Go back.
    Abort {
        /// Why.
        reason: String,
    },
    /// Go back after the promotion.
    Undo {
        /// Why.
        reason: String,
    },
    /// Give way to another rollout.
    Supersede {
        /// To which.
        reason: String,
    },
}

/// A step of the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// The rollout after it.
    pub rollout: Rollout,
    /// Transitions, in order; empty if only time passed.
    pub transitions: Vec<Transition>,
}

/// A change of phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: Phase,
    /// After.
    pub to: Phase,
    /// Why, in words.
    pub reason: String,
}

/// The route that a phase wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The stable version's share; `None`: it is not in the route.
    pub stable_ppm: Option<u32>,
    /// The candidate's share; `None`: it is not in the route.
    pub candidate_ppm: Option<u32>,
    /// Mirroring: share of requests, and of those for the noise floor.
    pub shadow: Option<(u32, u32)>,
}

impl Observation {
    /// All that is known, with what the rollout settled before: what the gates judge.
    #[must_use]
    pub fn evidence(&self, rollout: &Rollout) -> Evidence {
        let live = self.current(rollout).cloned().unwrap_or_default();
        Evidence {
            settled: rollout.settled_besides(&live).cloned().collect(),
            recent: rollout.latency_mark.as_ref().and_then(|mark| mark.recent(&live)),
            live,
            shadow: rollout.settled_shadow.as_ref().unwrap_or(&self.shadow).clone(),
            labels: self.labels,
            class_names: rollout.class_names.clone(),
        }
    }

    /// The live counts, if they are of the route that the rollout set.
    fn current(&self, rollout: &Rollout) -> Option<&Slice> {
        Some(&self.live).filter(|live| live.epoch == rollout.route_epoch && rollout.route_epoch > 0)
    }
}

impl Phase {
    /// What a paused rollout goes on with; else the phase itself.
    #[must_use]
    pub fn unpaused(&self) -> &Self {
        let mut phase = self;
        while let Self::Paused { from, .. } = phase {
            phase = from;
        }
        phase
    }
}

impl Rollout {
    /// A rollout that has not begun. The spec must have passed [`Spec::check`].
    #[must_use]
    pub fn start(number: u64, spec: Spec) -> Self {
        Self {
            number,
            spec,
            phase: Phase::Pending,
            elapsed: Duration::ZERO,
            stalled: Duration::ZERO,
            route_epoch: 0,
            approved: false,
            settled: Vec::new(),
            settled_shadow: None,
            latency_mark: None,
            class_names: Vec::new(),
        }
    }

    /// The route that the phase wants. Who writes it counts the route's epoch up, and sets `route_epoch`, only if the
    /// route in the registry differs from this: a new epoch begins a new slice of evidence.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let split = |candidate: u32| Plan {
            stable_ppm: Some(PPM - candidate.min(PPM)),
            candidate_ppm: Some(candidate.min(PPM)),
            shadow: None,
        };
        let stable_only = Plan {
            candidate_ppm: None,
            ..split(0)
        };
        // Rare classes need more pairs than the shadow stage waits for, so mirroring goes on beside the steps.
        let shadow = self.spec.shadow.map(|shadow| (shadow.sample_ppm, shadow.noise_ppm));
        match self.phase.unpaused() {
            Phase::Loading => split(0),
            Phase::Shadow => Plan { shadow, ..split(0) },
            Phase::Step { index, .. } => Plan {
                shadow,
                ..split(self.spec.steps.get(*index).map_or(0, |step| step.weight_ppm))
            },
            Phase::Promoting | Phase::Watching | Phase::Standby => split(PPM),
            Phase::Done if self.spec.strategy != Strategy::Shadow => Plan {
                stable_ppm: None,
                ..split(PPM)
            },
            Phase::RollingBack { candidate_ppm, .. } => split(*candidate_ppm),
            Phase::Pending
            | Phase::Done
            | Phase::Paused { .. }
            | Phase::RolledBack { .. }
            | Phase::Superseded { .. } => stable_only,
        }
    }

    /// The candidate's share in [`Rollout::plan`].
    #[must_use]
    pub fn candidate_weight_ppm(&self) -> u32 {
        self.plan().candidate_ppm.unwrap_or(0)
    }

    /// Whether nothing can change it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self.phase,
            Phase::Done | Phase::RolledBack { .. } | Phase::Superseded { .. }
        )
    }

    /// What each gate says; gates without any data are left out.
    #[must_use]
    pub fn reports(&self, observation: &Observation) -> Vec<Report> {
        let mut reports = gates::judge(&self.spec.gates, &observation.evidence(self));
        reports.extend(self.watch_report(observation));
        reports
    }

    /// What was settled under other routes than the live counts': those replace what was settled of theirs.
    fn settled_besides(&self, live: &Slice) -> impl Iterator<Item = &Slice> {
        let epoch = live.epoch;
        self.settled.iter().filter(move |slice| slice.epoch != epoch)
    }

    /// What is known against a candidate that has, or had, all traffic.
    fn watch_report(&self, observation: &Observation) -> Option<Report> {
        let all = |slice: &&Slice| slice.weight_ppm == PPM;
        let live = observation.current(self).filter(all);
        let promoted = live.or_else(|| self.settled.iter().rev().find(all))?;
        gates::watch_report(&self.spec.gates, &self.settled, &promoted.candidate)
    }
}
