//! The course of a rollout: a pure function of what it was, what is observed, and how much time passed.
//!
//! ```text
//! Pending → Loading → Shadow → Step[i]: Shifting → Baking → Judging → … → Promoting → Watching → Standby → Done
//!              any of these → Paused(reason) | RollingBack(reason) → RolledBack(reason) | Superseded(reason)
//! ```

use std::time::Duration;

use crate::{
    scorecard::{Evidence, ShadowCard, Slice},
    spec::Spec,
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
    /// The epoch of the route that this phase set; 0 before the first.
    pub route_epoch: u64,
    /// An operator opened the step's manual gate.
    pub approved: bool,
    /// Evidence of the steps that are over.
    pub settled: Vec<Slice>,
    /// Evidence of the shadow stage, once it is over.
    pub settled_shadow: Option<ShadowCard>,
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
    pub labels: crate::scorecard::LabelCard,
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
    /// Go to 100% whatever the gates say.
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
    /// All that is known with what the rollout settled before.
    #[must_use]
    pub fn evidence(&self, rollout: &Rollout) -> Evidence {
        Evidence {
            settled: rollout.settled.clone(),
            live: self.live.clone(),
            shadow: self.shadow.clone(),
            labels: self.labels,
        }
    }
}

/// A command that does not fit where the rollout is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {advice}")]
pub struct Refused {
    /// Why not.
    pub problem: String,
    /// What to do instead.
    pub advice: String,
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
        }
    }

    /// Goes on as far as what is seen allows. `elapsed`: the time since the last call.
    #[must_use]
    pub fn advance(&self, observation: &Observation, elapsed: Duration) -> Advance {
        let _ = (observation, elapsed);
        Advance {
            rollout: self.clone(),
            transitions: Vec::new(),
        }
    }

    /// Does what an operator says, with what the router that was asked sees.
    ///
    /// # Errors
    /// If the command does not fit where the rollout is.
    pub fn command(&self, command: Command, observation: &Observation) -> Result<Advance, Refused> {
        let _ = (command, observation);
        Ok(Advance {
            rollout: self.clone(),
            transitions: Vec::new(),
        })
    }

    /// The route that the phase wants. The writer changes the route, and counts its epoch up, only where it differs from
    /// this: a new epoch begins a new slice of evidence.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            stable_ppm: Some(1_000_000),
            candidate_ppm: None,
            shadow: None,
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

    /// What it waits for, in words.
    #[must_use]
    pub fn waiting_for(&self, observation: &Observation) -> String {
        let _ = observation;
        String::new()
    }

    /// What each gate says; gates without any data are left out.
    #[must_use]
    pub fn reports(&self, observation: &Observation) -> Vec<crate::gates::Report> {
        crate::gates::judge(&self.spec.gates, &observation.evidence(self))
    }
}
