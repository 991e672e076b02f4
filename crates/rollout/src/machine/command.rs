//! What operators may do, and when.

use super::{
    Advance, Command, Observation, Phase, Rollout, Stage,
    course::{Next, go},
    words::{percent, place, workers},
};
use crate::spec::Strategy;

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
    /// Does what an operator says, with what the router that was asked sees. No transition: it was done already.
    ///
    /// # Errors
    /// If the command does not fit where the rollout is.
    pub fn command(&self, command: Command, observation: &Observation) -> Result<Advance, Refused> {
        let approves = command == Command::Approve;
        let next = match command {
            _ if self.is_over() => Err(self.over(&command)),
            Command::Pause { reason } => self.hold(&reason),
            Command::Resume => self.resume(),
            Command::Approve => self.approve(),
            Command::Promote => self.promote(observation),
            Command::Abort { reason } => Ok(self.abort(observation, reason)),
            Command::Undo { reason } => self.undo(observation, &reason),
            Command::Supersede { reason } => self.supersede(reason),
        }?;
        let mut rollout = self.clone();
        let mut transitions = Vec::new();
        if let Next::Go { to, reason } = next {
            transitions.push(rollout.enter(to, reason, observation));
            rollout.approved |= approves;
        }
        Ok(Advance { rollout, transitions })
    }

    fn refuse(&self, advice: impl Into<String>) -> Refused {
        Refused {
            problem: format!("rollout {} {}", self.number, place(&self.phase)),
            advice: advice.into(),
        }
    }

    fn over(&self, command: &Command) -> Refused {
        let stable = &self.spec.stable;
        match command {
            Command::Undo { .. } if self.is_promoted() => self.refuse(format!(
                "{stable} left the route: start a rollout of {stable} to go back"
            )),
            Command::Undo { .. } => self.refuse("nothing was promoted that could be undone"),
            Command::Abort { .. } if self.is_promoted() => self.refuse(format!(
                "to give all traffic back to {stable}, use `understudy rollout undo`"
            )),
            Command::Abort { .. } => self.refuse("there is nothing to give back"),
            _ => self.refuse("start another one"),
        }
    }

    /// Over, with all traffic on the candidate.
    fn is_promoted(&self) -> bool {
        self.phase == Phase::Done && self.candidate_weight_ppm() > 0
    }

    fn hold(&self, reason: &str) -> Result<Next, Refused> {
        match self.phase {
            Phase::Paused { .. } => Err(self.refuse("resume or abort it")),
            Phase::RollingBack { .. } => Err(self.refuse("that is never held up: wait until it has gone back")),
            _ => Ok(self.pause(reason)),
        }
    }

    fn resume(&self) -> Result<Next, Refused> {
        match &self.phase {
            Phase::Paused { from, .. } => Ok(go(from.unpaused().clone(), "resumed")),
            _ => Err(self.refuse("only a paused rollout can be resumed: there is nothing to do")),
        }
    }

    fn approve(&self) -> Result<Next, Refused> {
        match self.phase {
            Phase::Step { stage, .. } if self.gate_closed() => match stage {
                Stage::Judging => {
                    let weight = percent(self.candidate_weight_ppm());
                    Ok(go(
                        self.phase.clone(),
                        format!("the manual gate at {weight} was opened"),
                    ))
                }
                Stage::Shifting | Stage::Baking => {
                    Err(self.refuse("its manual gate can be opened once the hold is over: wait, or promote by force"))
                }
            },
            Phase::Paused { .. } => Err(self.refuse("resume it first")),
            _ => Err(self.refuse("no manual gate waits for a word: wait, or promote by force to skip what is left")),
        }
    }

    fn promote(&self, observation: &Observation) -> Result<Next, Refused> {
        let candidate = &self.spec.candidate;
        if self.spec.strategy == Strategy::Shadow {
            return Err(self.refuse(format!(
                "the strategy shadow never promotes: start a canary of {candidate}"
            )));
        }
        match self.phase.unpaused() {
            Phase::Promoting | Phase::Watching | Phase::Standby => {
                return Err(self.refuse(format!("{candidate} has all traffic: there is nothing to do")));
            }
            Phase::RollingBack { .. } => return Err(self.refuse("wait until it has, then start another rollout")),
            _ => {}
        }
        let ready = observation.candidate_ready;
        if ready == 0 {
            let why = observation.candidate_failed.as_ref();
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            return Err(self.refuse(format!(
                "{candidate} is ready on no worker{why}: wait until it is loaded, or abort"
            )));
        }
        let reason = format!("promoted by force; {candidate} is ready on {}", workers(ready));
        Ok(go(Phase::Promoting, reason))
    }

    fn abort(&self, observation: &Observation, reason: String) -> Next {
        match self.phase.unpaused() {
            // Nothing was served.
            Phase::Pending | Phase::Loading => go(Phase::RolledBack { reason: reason.clone() }, reason),
            Phase::RollingBack { candidate_ppm: 0, .. } => Next::Wait("it goes back already".to_owned()),
            Phase::RollingBack { reason: first, .. } => {
                let to = Phase::RollingBack {
                    reason: first.clone(),
                    candidate_ppm: 0,
                };
                let stable = &self.spec.stable;
                go(
                    to,
                    format!("aborted once more: {stable} takes everything now ({reason})"),
                )
            }
            _ => self.give_back(observation, &reason),
        }
    }

    fn undo(&self, observation: &Observation, reason: &str) -> Result<Next, Refused> {
        match self.phase.unpaused() {
            Phase::Promoting | Phase::Watching | Phase::Standby => Ok(self.give_back(observation, reason)),
            _ => Err(self.refuse("nothing was promoted that could be undone: abort it instead")),
        }
    }

    fn supersede(&self, reason: String) -> Result<Next, Refused> {
        let candidate = &self.spec.candidate;
        match self.phase.unpaused() {
            Phase::Promoting | Phase::Watching => Err(self.refuse(format!(
                "wait until {candidate} was watched, or undo it first: until then it is open which version is the stable one"
            ))),
            Phase::Standby => Ok(go(Phase::Done, format!("{candidate} stays; {reason}"))),
            Phase::RollingBack { candidate_ppm, .. } if *candidate_ppm > 0 => {
                Err(self.refuse("wait until it has, or abort once more to take everything back now"))
            }
            _ => Ok(go(Phase::Superseded { reason: reason.clone() }, reason)),
        }
    }
}
