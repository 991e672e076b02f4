//! Where a rollout goes by itself.

use std::time::Duration;

use super::{
    Advance, Observation, Phase, Rollout, Stage, Transition,
    words::{amount, percent, span, unproved, workers, worse},
};
use crate::{
    gates::{self, Report, Verdict},
    scorecard::{LabelCard, LatencyMark},
    spec::{Step, Strategy},
    split::PPM,
};

/// Greatest probability, per step, to call a right split wrong.
const MISMATCH_ALPHA: f64 = 0.001;

/// Most transitions of one call; a course has four in a row that leave the route alone at most.
const TRANSITIONS_MAX: usize = 8;

/// What a moment's look says.
pub(super) enum Next {
    /// To another phase, or to another share while going back.
    Go { to: Phase, reason: String },
    /// Stay, and wait for this.
    Wait(String),
}

pub(super) fn go(to: Phase, reason: impl Into<String>) -> Next {
    Next::Go {
        to,
        reason: reason.into(),
    }
}

impl Rollout {
    /// Goes on as far as what is seen allows, at most to the next change of the route. `elapsed`: the time since the last
    /// call. If there are no transitions, only time passed.
    #[must_use]
    pub fn advance(&self, observation: &Observation, elapsed: Duration) -> Advance {
        let mut rollout = self.clone();
        let mut transitions = Vec::new();
        rollout.pass(elapsed, observation);
        if matches!(rollout.phase, Phase::Step { .. }) {
            let live = observation.current(&rollout);
            rollout.latency_mark = live.and_then(|live| LatencyMark::of(live, rollout.latency_mark.take()));
        }
        let plan = rollout.plan();
        // Nothing that is seen is about a route that is only wanted: the next call decides on.
        while rollout.plan() == plan
            && transitions.len() < TRANSITIONS_MAX
            && let Next::Go { to, reason } = rollout.next(observation)
        {
            transitions.push(rollout.enter(to, reason, observation));
        }
        Advance { rollout, transitions }
    }

    /// What the phase asks for now. A paused rollout and one that is over ask for nothing.
    pub(super) fn next(&self, observation: &Observation) -> Next {
        let verdicts = self.verdicts(observation);
        if let Some(next) = self.guard(observation, &verdicts) {
            return next;
        }
        match self.onward(observation, &verdicts) {
            Next::Wait(what) if self.runs() && self.stalled >= self.spec.progress_deadline => {
                self.pause(&format!("no progress for {}: it waits for {what}", span(self.stalled)))
            }
            next => next,
        }
    }

    /// Whether it goes forward.
    fn runs(&self) -> bool {
        matches!(
            self.phase,
            Phase::Loading | Phase::Shadow | Phase::Step { .. } | Phase::Promoting | Phase::Watching | Phase::Standby
        )
    }

    /// What comes before going on: trouble with the candidate, then doubts about what is seen.
    fn guard(&self, observation: &Observation, verdicts: &[Report]) -> Option<Next> {
        if !self.runs() {
            return None;
        }
        if let Some(why) = self.trouble(observation, verdicts) {
            return Some(self.give_back(observation, &why));
        }
        if observation.route_changed {
            return Some(self.pause("the route was changed by hand; resume sets it again"));
        }
        self.mismatch(observation).map(|why| self.pause(&why))
    }

    fn onward(&self, observation: &Observation, verdicts: &[Report]) -> Next {
        match &self.phase {
            Phase::Pending => {
                let reason = format!("workers load {} beside {}", self.spec.candidate, self.spec.stable);
                go(Phase::Loading, reason)
            }
            Phase::Loading => self.load(observation, verdicts),
            Phase::Shadow => self.compare(observation, verdicts),
            Phase::Step { index, stage } => match self.spec.steps.get(*index) {
                Some(step) => self.step(observation, verdicts, (*index, *stage), step),
                None => self.give_back(observation, &format!("step {} is not in the spec", index + 1)),
            },
            Phase::Promoting if self.all_current(observation) => {
                go(Phase::Watching, "every router gives it all traffic")
            }
            Phase::Promoting => Next::Wait(routers(observation)),
            Phase::Watching if self.elapsed >= self.spec.watch => {
                let watched = span(self.spec.watch);
                go(Phase::Standby, format!("no gross failure in {watched} of watching"))
            }
            Phase::Watching => Next::Wait(self.clock("the watch", self.spec.watch)),
            Phase::Standby if self.elapsed >= self.spec.standby => {
                go(Phase::Done, format!("promoted; {} leaves the route", self.spec.stable))
            }
            Phase::Standby => Next::Wait(self.clock("the standby time", self.spec.standby)),
            Phase::RollingBack { reason, candidate_ppm } => self.go_back(observation, reason, *candidate_ppm),
            Phase::Paused { .. } => {
                let mut what = "an operator to resume or abort it".to_owned();
                let reports = self.reports(observation);
                if let Some(report) = reports.iter().find(|report| report.verdict == Verdict::Worse) {
                    what = format!("{what}; better abort: {}", worse(report));
                }
                Next::Wait(what)
            }
            Phase::Done | Phase::RolledBack { .. } | Phase::Superseded { .. } => {
                Next::Wait("nothing: it is over".to_owned())
            }
        }
    }

    fn load(&self, observation: &Observation, verdicts: &[Report]) -> Next {
        let candidate = &self.spec.candidate;
        if let (Some(why), 0) = (&observation.candidate_failed, observation.candidate_ready) {
            let reason = format!("{candidate} cannot be loaded: {why}");
            return go(Phase::RolledBack { reason: reason.clone() }, reason);
        }
        if self.spec.shadow.is_none() {
            return self.towards(0, observation, verdicts, "loaded");
        }
        let all = self.spec.strategy == Strategy::BlueGreen;
        match self.cold(observation, if all { PPM } else { 0 }) {
            Some(what) => Next::Wait(what),
            None => go(
                Phase::Shadow,
                format!("{candidate} is ready on {}", workers(observation.candidate_ready)),
            ),
        }
    }

    fn compare(&self, observation: &Observation, verdicts: &[Report]) -> Next {
        let (hold, wanted) = self
            .spec
            .shadow
            .map_or((Duration::ZERO, 1), |s| (s.hold, s.pairs_min.max(1)));
        let pairs = observation.shadow.pairs;
        if self.elapsed < hold {
            return Next::Wait(self.clock("the shadow's hold", hold));
        }
        if pairs < wanted {
            return Next::Wait(format!("compared pairs: {pairs} of {wanted}"));
        }
        let open = |report: &&Report| report.gate == "agreement" && report.verdict != Verdict::Good;
        if let Some(report) = verdicts.iter().filter(|_| self.spec.gates.proof).find(open) {
            return Next::Wait(format!("a proof: {}", unproved(report)));
        }
        self.towards(0, observation, verdicts, &format!("{pairs} pairs compared"))
    }

    fn step(&self, observation: &Observation, verdicts: &[Report], at: (usize, Stage), step: &Step) -> Next {
        let (index, stage) = at;
        let weight = percent(step.weight_ppm);
        match stage {
            Stage::Shifting if self.all_current(observation) => {
                let stage = Stage::Baking;
                go(Phase::Step { index, stage }, format!("every router gives it {weight}"))
            }
            Stage::Shifting => Next::Wait(routers(observation)),
            Stage::Baking if self.elapsed >= step.hold => {
                let stage = Stage::Judging;
                go(
                    Phase::Step { index, stage },
                    format!("held {weight} for {}", span(step.hold)),
                )
            }
            Stage::Baking => Next::Wait(self.clock("the step's hold", step.hold)),
            Stage::Judging => {
                let (requests, wanted) = (self.requests(observation, step.weight_ppm), step.requests_min.max(1));
                if requests < wanted {
                    return Next::Wait(format!(
                        "requests of {} at {weight}: {requests} of {wanted}",
                        self.spec.candidate
                    ));
                }
                if self.gate_closed() {
                    return Next::Wait(format!("an operator's promote: the step at {weight} is manual"));
                }
                let reason = format!("{requests} requests at {weight}, and no gate says worse");
                self.towards(index + 1, observation, verdicts, &reason)
            }
        }
    }

    /// To a step, or past the last one, if enough workers are warm and, for a promotion, the gates agree.
    fn towards(&self, index: usize, observation: &Observation, verdicts: &[Report], reason: &str) -> Next {
        if self.spec.strategy == Strategy::Shadow {
            return go(Phase::Done, format!("compared only: {reason}"));
        }
        let step = self.spec.steps.get(index);
        let weight = step.map_or(PPM, |step| step.weight_ppm);
        if step.is_none()
            && let Some(what) = self.unproved(observation, verdicts)
        {
            return Next::Wait(what);
        }
        if let Some(what) = self.cold(observation, weight) {
            return Next::Wait(what);
        }
        let stage = Stage::Shifting;
        go(
            step.map_or(Phase::Promoting, |_| Phase::Step { index, stage }),
            format!("{reason}: on to {}", percent(weight)),
        )
    }

    /// What a promotion still lacks.
    fn unproved(&self, observation: &Observation, verdicts: &[Report]) -> Option<String> {
        let known = labelled(&observation.labels);
        let wanted = self.spec.gates.labels.map_or(0, |gate| gate.labels_min);
        if known < wanted {
            return Some(format!("labels: {known} of {wanted}"));
        }
        let ab = self.spec.strategy == Strategy::Ab;
        let asked = |report: &&Report| {
            match report.gate == "labels" {
                // Labels come late, and maybe never enough: a rollout waits for them only if it is told to.
                true => ab || (self.spec.gates.proof && wanted > 0),
                false => !ab && self.spec.gates.proof,
            }
        };
        let asked: Vec<&Report> = verdicts.iter().filter(asked).collect();
        if ab && asked.is_empty() {
            return Some("labels of answered requests: none yet".to_owned());
        }
        let open = asked.iter().filter(|report| report.verdict != Verdict::Good);
        let open: Vec<String> = open.map(|report| unproved(report)).collect();
        (!open.is_empty()).then(|| format!("a proof: {}", open.join(", ")))
    }

    /// What the candidate lacks to carry a share: as large a part of the stable version's workers, and at least one.
    fn cold(&self, observation: &Observation, weight_ppm: u32) -> Option<String> {
        let share = u64::from(weight_ppm) * u64::from(observation.stable_ready.max(1));
        let wanted = share.div_ceil(u64::from(PPM)).max(1);
        let ready = observation.candidate_ready;
        (u64::from(ready) < wanted).then(|| {
            let (candidate, weight) = (&self.spec.candidate, percent(weight_ppm));
            let for_weight = if weight_ppm > 0 {
                format!(" for {weight}")
            } else {
                String::new()
            };
            format!("workers to load {candidate}: ready on {ready}, {wanted} wanted{for_weight}")
        })
    }

    /// What the gates that decide in this phase say.
    fn verdicts(&self, observation: &Observation) -> Vec<Report> {
        match self.phase {
            Phase::Loading | Phase::Shadow | Phase::Step { .. } => {
                gates::judge(&self.spec.gates, &observation.evidence(self))
            }
            // Not the ones before: an operator may have promoted in spite of them.
            Phase::Promoting | Phase::Watching => self.watch_report(observation).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Why traffic must go back.
    fn trouble(&self, observation: &Observation, verdicts: &[Report]) -> Option<String> {
        if self.phase != Phase::Loading
            && let (Some(why), 0) = (&observation.candidate_failed, observation.candidate_ready)
        {
            return Some(format!("{} is no longer loaded anywhere: {why}", self.spec.candidate));
        }
        verdicts
            .iter()
            .find(|report| report.verdict == Verdict::Worse)
            .map(worse)
    }

    /// Whether the routers' split is not the wanted one. A slice that was settled at a pause was seen by an operator.
    fn mismatch(&self, observation: &Observation) -> Option<String> {
        let at_work = matches!(
            self.phase,
            Phase::Step {
                stage: Stage::Baking | Stage::Judging,
                ..
            }
        );
        let live = observation.current(self).filter(|_| at_work)?;
        if self.settled.iter().any(|slice| slice.epoch == live.epoch) {
            return None;
        }
        let e = gates::sample_ratio_mismatch(std::slice::from_ref(live));
        (e >= 1.0 / MISMATCH_ALPHA).then(|| {
            let (stable, candidate) = (live.stable.requests, live.candidate.requests);
            let weight = percent(live.weight_ppm);
            format!(
                "the split is not the wanted one: {candidate} of {} requests at {weight}, e = {}; see that {} stays ready \
                 and every router serves the route, then resume or abort",
                stable.saturating_add(candidate),
                amount(e),
                self.spec.candidate
            )
        })
    }

    pub(super) fn pause(&self, why: &str) -> Next {
        let to = Phase::Paused {
            reason: why.to_owned(),
            from: Box::new(self.phase.clone()),
        };
        go(to, why)
    }

    /// Changes the phase, and keeps the evidence that its route gathered.
    pub(super) fn enter(&mut self, to: Phase, reason: String, observation: &Observation) -> Transition {
        let plan = self.plan();
        let doubted = observation.route_changed || self.mismatch(observation).is_some();
        let from = std::mem::replace(&mut self.phase, to);
        let to = self.phase.clone();
        let (was, is) = (from.unpaused(), to.unpaused());
        if self.plan() != plan || doubted {
            self.settle(observation);
        }
        if plan.shadow.is_some() && self.plan().shadow.is_none() {
            self.settled_shadow = Some(observation.shadow.clone());
        }
        self.approved &= step_of(was) == step_of(is);
        if std::mem::discriminant(was) != std::mem::discriminant(is) || step_stage(was) != step_stage(is) {
            self.elapsed = Duration::ZERO;
        }
        self.stalled = Duration::ZERO;
        Transition { from, to, reason }
    }

    fn settle(&mut self, observation: &Observation) {
        let Some(live) = observation.current(self).cloned() else {
            return;
        };
        if live.stable.requests == 0 && live.candidate.requests == 0 {
            return;
        }
        match self.settled.iter_mut().find(|slice| slice.epoch == live.epoch) {
            Some(slice) => *slice = live,
            None => self.settled.push(live),
        }
    }

    /// Lets time pass. A hold and a closed manual gate are no lack of progress.
    fn pass(&mut self, time: Duration, observation: &Observation) {
        if matches!(self.phase, Phase::Paused { .. }) || self.is_over() {
            return;
        }
        self.elapsed = self.elapsed.saturating_add(time);
        let stalls = match &self.phase {
            Phase::Loading => true,
            // Nobody could take more before.
            Phase::RollingBack { .. } => observation.stable_ready > 0,
            Phase::Shadow => self.spec.shadow.is_none_or(|shadow| self.elapsed >= shadow.hold),
            Phase::Step { stage, .. } => *stage == Stage::Shifting || (*stage == Stage::Judging && !self.gate_closed()),
            _ => false,
        };
        if stalls {
            self.stalled = self.stalled.saturating_add(time);
        }
    }

    /// Whether the step waits for an operator's word.
    pub(super) fn gate_closed(&self) -> bool {
        let step = step_of(&self.phase).and_then(|index| self.spec.steps.get(index));
        step.is_some_and(|step| step.manual) && !self.approved
    }

    /// The candidate's requests at a weight, also those before the route was set again.
    fn requests(&self, observation: &Observation, weight_ppm: u32) -> u64 {
        let live = observation.current(self).cloned().unwrap_or_default();
        let settled = self
            .settled_besides(&live)
            .filter(|slice| slice.weight_ppm == weight_ppm);
        settled
            .chain([&live])
            .map(|slice| slice.candidate.requests)
            .fold(0, u64::saturating_add)
    }

    /// Whether every router serves the route. An observation from before that route cannot know.
    pub(super) fn all_current(&self, observation: &Observation) -> bool {
        let stale = (1..self.route_epoch).contains(&observation.live.epoch);
        !stale && observation.routers > 0 && observation.routers_current >= observation.routers
    }

    fn clock(&self, what: &str, whole: Duration) -> String {
        format!("{what}: {} of {}", span(self.elapsed), span(whole))
    }
}

fn labelled(labels: &LabelCard) -> u64 {
    let pairs = [
        labels.both_right,
        labels.only_stable_right,
        labels.only_candidate_right,
        labels.both_wrong,
    ];
    let singles = [
        labels.stable_right,
        labels.stable_wrong,
        labels.candidate_right,
        labels.candidate_wrong,
    ];
    pairs.into_iter().chain(singles).fold(0, u64::saturating_add)
}

pub(super) fn routers(observation: &Observation) -> String {
    let (current, all) = (observation.routers_current, observation.routers);
    format!("routers: {current} of {all} serve the wanted route")
}

fn step_of(phase: &Phase) -> Option<usize> {
    step_stage(phase).map(|(index, _)| index)
}

fn step_stage(phase: &Phase) -> Option<(usize, Stage)> {
    match phase.unpaused() {
        Phase::Step { index, stage } => Some((*index, *stage)),
        _ => None,
    }
}
