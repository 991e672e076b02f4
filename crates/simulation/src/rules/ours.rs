//! The state machine and gates that routers run, fed with counts.

use std::time::Duration;

use understudy_rollout::{
    machine::{Observation, Phase, Rollout},
    scorecard::{ArmCard, ShadowCard, Slice},
    spec::{ShadowStage, Spec, Step, Strategy},
};

use super::{Decision, Rule};
use crate::{
    scenario::Scenario,
    world::{Answers, Second},
};

/// A rollout with its controller.
pub(crate) struct Ours {
    rollout: Rollout,
    live: Slice,
    shadow: ShadowCard,
    classes: usize,
}

impl Ours {
    pub(crate) fn new(scenario: &Scenario, weights: &[u32]) -> Self {
        let mut spec = Spec::new("v1", "v2", Strategy::Canary);
        spec.steps = weights
            .iter()
            .map(|&weight_ppm| Step {
                weight_ppm,
                hold: Duration::from_secs(60),
                requests_min: 100,
                manual: false,
            })
            .collect();
        spec.shadow = scenario.shadow.then_some(ShadowStage {
            sample_ppm: 100_000,
            noise_ppm: 0,
            hold: Duration::from_secs(60),
            pairs_min: 200,
        });
        // A run has a bound of its own.
        spec.progress_deadline = Duration::from_secs(30 * 24 * 3_600);
        Self {
            rollout: Rollout::start(1, spec),
            live: Slice::default(),
            shadow: ShadowCard::default(),
            classes: scenario.classes.len(),
        }
    }

    /// As the controller does it: a new plan is a new route, and routers count anew.
    fn advance(&mut self, elapsed: Duration) {
        let observation = Observation {
            workers: 2,
            stable_ready: 2,
            candidate_ready: 2,
            routers: 1,
            routers_current: 1,
            live: self.live.clone(),
            shadow: self.shadow.clone(),
            ..Observation::default()
        };
        let before = self.rollout.plan();
        self.rollout = self.rollout.advance(&observation, elapsed).rollout;
        if self.rollout.plan() != before {
            self.rollout.route_epoch += 1;
            self.live = Slice {
                epoch: self.rollout.route_epoch,
                weight_ppm: self.candidate_ppm(),
                ..Slice::default()
            };
        }
    }
}

impl Rule for Ours {
    fn candidate_ppm(&self) -> u32 {
        self.rollout.candidate_weight_ppm()
    }

    fn mirrored(&self) -> f64 {
        self.rollout
            .plan()
            .shadow
            .map_or(0.0, |(sample_ppm, _)| f64::from(sample_ppm) / 1e6)
    }

    fn see(&mut self, second: &Second) -> Option<Decision> {
        count(&mut self.live.stable, &second.stable);
        count(&mut self.live.candidate, &second.candidate);
        for &(stable, candidate) in &second.pairs {
            self.shadow.chosen += 1;
            self.shadow.pairs += 1;
            self.shadow.classes.insert(stable, candidate, self.classes);
        }
        // Several ticks, so that phases without a duration take no second.
        self.advance(Duration::from_secs(1));
        for _ in 0..4 {
            self.advance(Duration::ZERO);
        }
        match self.rollout.phase {
            Phase::Promoting | Phase::Watching | Phase::Standby | Phase::Done => Some(Decision::Promoted),
            Phase::RollingBack { .. } | Phase::RolledBack { .. } => Some(Decision::RolledBack),
            _ => None,
        }
    }
}

fn count(card: &mut ArmCard, answers: &Answers) {
    card.requests += answers.requests;
    if answers.erring_callers.is_empty() {
        card.errors += answers.errors;
    }
    for &caller in &answers.erring_callers {
        card.erring_keys.insert(caller);
    }
    for &seconds in &answers.latencies {
        card.latency.insert(seconds);
    }
}
