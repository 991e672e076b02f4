//! What a rollout still has ahead: what comes after what it waits for, how long that takes at least, and when it gives up
//! waiting. Pure, from the spec and what is counted.
//!
//! Times are lower bounds: holds and counts can be foreseen, but not how soon a proof comes.

use std::time::{Duration, SystemTime};

use understudy_protocol::v1::{ArmCard, Live, Phase, Rollout, RolloutSpec, ShadowStage, Step, Strategy, Verdict};

use super::words::{self, ppm, span, time};
use crate::output::thousands;

/// A rate over less than this says nothing.
const COUNTED_MIN: Duration = Duration::from_secs(3);

/// A rollout that goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forecast<'a> {
    pub(super) rollout: &'a Rollout,
    pub(super) live: &'a Live,
    /// Requests per second of both arms, if known.
    pub(super) rate: Option<f64>,
    /// Time in this phase.
    pub(super) elapsed: Duration,
}

/// Where a rollout is, as far as it has things ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Load,
    Shadow,
    Step(usize),
    Promoting,
    Watching,
    Standby,
}

impl Forecast<'_> {
    fn at(&self) -> Option<At> {
        let status = self.rollout.status.as_ref()?;
        Some(match status.phase() {
            Phase::Pending | Phase::Loading => At::Load,
            Phase::Shadow => At::Shadow,
            Phase::Shifting | Phase::Baking | Phase::Judging => At::Step(usize::try_from(status.step).ok()?),
            Phase::Promoting => At::Promoting,
            Phase::Watching => At::Watching,
            Phase::Standby => At::Standby,
            _ => return None,
        })
    }

    /// `requests of v2 (38 of 100) → proof of latency p95 → 100%`: what comes after what it waits for now.
    pub(super) fn then(&self) -> Option<String> {
        let (spec, at) = (words::spec(self.rollout), self.at()?);
        let mut ahead = Vec::new();
        match at {
            At::Load => {}
            At::Shadow => {
                let stage = spec.shadow.unwrap_or_default();
                let (pairs, wanted) = (self.pairs(), stage.pairs_min.max(1));
                let held = self.elapsed >= time(stage.hold);
                if !held && pairs < wanted {
                    ahead.push(format!("pairs ({} of {})", thousands(pairs), thousands(wanted)));
                }
                if !held || pairs < wanted {
                    ahead.extend(self.unproved(&spec, |gate| gate == "agreement"));
                }
            }
            At::Step(index) => {
                let step = spec.steps.get(index)?;
                let judging = self.rollout.phase() == Phase::Judging;
                let (requests, wanted) = (self.requests(), step.requests_min.max(1));
                if !judging && requests < wanted {
                    let (requests, wanted) = (thousands(requests), thousands(wanted));
                    ahead.push(format!("requests of {} ({requests} of {wanted})", spec.candidate));
                }
                let counted = judging && requests >= wanted;
                let approved = self.rollout.status.as_ref().is_some_and(|status| status.approved);
                let gate_ahead = step.manual && !approved;
                if gate_ahead && !counted {
                    ahead.push("`rollout promote`".to_owned());
                }
                if index + 1 == spec.steps.len() && (gate_ahead || !counted) {
                    ahead.extend(self.unproved(&spec, |gate| gate != "labels"));
                }
            }
            At::Promoting => ahead.push(format!("{} of watching", span(time(spec.watch)))),
            At::Watching => ahead.push(format!("{} on standby", span(time(spec.standby)))),
            At::Standby => {}
        }
        ahead.push(next(&spec, at));
        Some(ahead.join(" → "))
    }

    /// `at least 11 min to 100% at 39 requests/s; then 20 min watched and on standby`
    pub(super) fn left(&self) -> Option<String> {
        let (spec, at) = (words::spec(self.rollout), self.at()?);
        let rest = |whole| time(whole).saturating_sub(self.elapsed);
        let after = match at {
            At::Watching => rest(spec.watch) + time(spec.standby),
            At::Standby => rest(spec.standby),
            _ => time(spec.watch) + time(spec.standby),
        };
        if matches!(at, At::Promoting | At::Watching | At::Standby) {
            return Some(format!("{} until {} is unloaded", rough(after), spec.stable));
        }
        let mut ahead = Ahead {
            rate: self.rate,
            time: Duration::ZERO,
            unknown: false,
        };
        if let (Some(stage), At::Load | At::Shadow) = (&spec.shadow, at) {
            let (elapsed, pairs) = match at {
                At::Shadow => (self.elapsed, self.pairs()),
                _ => (Duration::ZERO, 0),
            };
            ahead.shadow(stage, elapsed, pairs);
        }
        let from = match at {
            At::Step(index) => index,
            _ => 0,
        };
        for (index, step) in spec.steps.iter().enumerate().skip(from) {
            let (elapsed, requests) = match (at, self.rollout.phase()) {
                (At::Step(here), Phase::Baking) if here == index => (self.elapsed, self.requests()),
                (At::Step(here), Phase::Judging) if here == index => (Duration::MAX, self.requests()),
                _ => (Duration::ZERO, 0),
            };
            ahead.step(step, elapsed, requests);
        }
        if self.rate == Some(0.0) && ahead.unknown {
            return Some("it needs requests, and none come".to_owned());
        }
        if ahead.time.is_zero() {
            return Some("as long as that takes: nothing else is ahead".to_owned());
        }
        let mut said = format!("at least {}", rough(ahead.time));
        said += if spec.strategy() == Strategy::Shadow {
            " to its end"
        } else {
            " to 100%"
        };
        match self.rate {
            Some(rate) if rate >= 10.0 => said += &format!(" at {rate:.0} requests/s"),
            Some(rate) => said += &format!(" at {rate:.1} requests/s"),
            None => said += " by the holds alone",
        }
        if spec.steps.iter().skip(from).any(|step| step.manual) {
            said += ", and as long as you take";
        }
        if spec.strategy() != Strategy::Shadow {
            said += &format!("; then {} watched and on standby", rough(after));
        }
        Some(said)
    }

    /// What happens without progress, and when. `None` in phases that only wait for time or an operator.
    pub(super) fn deadline(&self) -> Option<String> {
        let (spec, status) = (words::spec(self.rollout), self.rollout.status.as_ref()?);
        let stalls = match status.phase() {
            Phase::Loading | Phase::Shifting => true,
            Phase::Shadow => self.elapsed >= spec.shadow.map_or(Duration::ZERO, |stage| time(stage.hold)),
            Phase::Judging => !words::waits_for_promote(self.rollout),
            _ => false,
        };
        let left = time(spec.progress_deadline).saturating_sub(time(status.stalled));
        stalls.then(|| {
            format!(
                "pauses in {} if it gets no further; traffic stays as it is",
                rough(left)
            )
        })
    }

    fn pairs(&self) -> u64 {
        self.live.shadow.as_ref().map_or(0, |card| card.pairs)
    }

    /// Of the candidate at this weight.
    fn requests(&self) -> u64 {
        let candidate = self.live.slice.as_ref().and_then(|slice| slice.candidate.as_ref());
        candidate.map_or(0, |card| card.requests)
    }

    /// The gates whose proof is still missing. Without any data a gate asks for none.
    fn unproved(&self, spec: &RolloutSpec, is_asked: impl Fn(&str) -> bool) -> Option<String> {
        let gates = spec.gates.clone().unwrap_or_default();
        let open = |verdict| !matches!(verdict, Verdict::Good);
        let names: Vec<_> = match spec.strategy() {
            Strategy::Ab => vec!["labels"],
            _ if gates.proof == Some(false) => return None,
            _ => self
                .live
                .gates
                .iter()
                .filter(|report| is_asked(&report.gate) && open(report.verdict()))
                .map(|report| report.gate.as_str())
                .collect(),
        };
        (!names.is_empty()).then(|| format!("proof of {}", names.join(", ")))
    }
}

/// `25%`, `100%`, `its end`: where it goes from here.
fn next(spec: &RolloutSpec, at: At) -> String {
    let step = |index: usize| match spec.steps.get(index) {
        Some(step) => ppm(step.weight_ppm),
        None if spec.strategy() == Strategy::Shadow => "its end".to_owned(),
        None => "100%".to_owned(),
    };
    match at {
        At::Load if spec.shadow.is_some() => "shadow".to_owned(),
        At::Load | At::Shadow => step(0),
        At::Step(index) => step(index + 1),
        At::Promoting => format!("{} on standby", span(time(spec.standby))),
        At::Watching | At::Standby => format!("{} is unloaded", spec.stable),
    }
}

/// The rate at which requests came since the route was set.
pub(super) fn rate(rollout: &Rollout, live: &Live, now: SystemTime) -> Option<f64> {
    let slice = live.slice.as_ref()?;
    let requests = |card: &Option<ArmCard>| card.as_ref().map_or(0, |card| card.requests);
    let total = requests(&slice.stable) + requests(&slice.candidate);
    let sets_route = |to: Phase| matches!(to, Phase::Shadow | Phase::Shifting | Phase::Promoting);
    let mut latest = rollout.history.iter().rev();
    let set = latest.find(|transition| sets_route(transition.to()) || transition.from() == Phase::Paused)?;
    let since = now.duration_since(SystemTime::try_from(set.at?).ok()?).ok()?;
    (set.rollout == rollout.number && since >= COUNTED_MIN).then(|| total as f64 / since.as_secs_f64())
}

/// `1, 5, 25, 50 and 100%; at least 5 min to 100% with 167 requests/s or more, …`: what a spec will take.
pub(super) fn outline(spec: &RolloutSpec) -> String {
    let mut ahead = Ahead {
        rate: None,
        time: Duration::ZERO,
        unknown: false,
    };
    let mut stages = Vec::new();
    let mut rates = Vec::new();
    let mut rate = |count: u64, share_ppm: u32, hold: Duration| {
        if !hold.is_zero() && share_ppm > 0 {
            rates.push(count as f64 / (f64::from(share_ppm) / 1e6 * hold.as_secs_f64()));
        }
    };
    if let Some(stage) = &spec.shadow {
        stages.push(format!("shadow with {} of the requests", ppm(stage.sample_ppm)));
        rate(stage.pairs_min.max(1), stage.sample_ppm, time(stage.hold));
        ahead.shadow(stage, Duration::ZERO, 0);
    }
    for step in &spec.steps {
        let gate = if step.manual {
            " (waits for `rollout promote`)"
        } else {
            ""
        };
        stages.push(format!("{}{gate}", ppm(step.weight_ppm)));
        rate(step.requests_min.max(1), step.weight_ppm, time(step.hold));
        ahead.step(step, Duration::ZERO, 0);
    }
    let compares_only = spec.strategy() == Strategy::Shadow;
    if !compares_only {
        stages.push("100%".to_owned());
    }
    let mut said = format!("plan: {}\ntime: at least {}", stages.join(" → "), rough(ahead.time));
    if let Some(most) = rates.into_iter().reduce(f64::max) {
        said += &format!(", longer with less than {} requests/s", most.ceil());
    }
    if !compares_only {
        said += &format!(
            "; at 100% {} watched and {} on standby",
            rough(time(spec.watch)),
            rough(time(spec.standby))
        );
    }
    said
}

/// Sums up.
struct Ahead {
    rate: Option<f64>,
    time: Duration,
    /// Some requests never come at this rate.
    unknown: bool,
}

impl Ahead {
    fn shadow(&mut self, stage: &ShadowStage, elapsed: Duration, pairs: u64) {
        let missing = stage.pairs_min.max(1).saturating_sub(pairs);
        self.add(time(stage.hold).saturating_sub(elapsed), missing, stage.sample_ppm);
    }

    fn step(&mut self, step: &Step, elapsed: Duration, requests: u64) {
        let missing = step.requests_min.max(1).saturating_sub(requests);
        self.add(time(step.hold).saturating_sub(elapsed), missing, step.weight_ppm);
    }

    /// The longer of a hold and of what the missing ones take, which are a share of the requests.
    fn add(&mut self, hold: Duration, missing: u64, share_ppm: u32) {
        let missing = match self.rate {
            _ if missing == 0 => Some(0.0),
            None => Some(0.0),
            Some(rate) if rate > 0.0 && share_ppm > 0 => Some(missing as f64 / (rate * f64::from(share_ppm) / 1e6)),
            Some(_) => None,
        };
        let seconds = missing.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        self.unknown |= seconds.is_none();
        self.time = self.time.saturating_add(hold.max(seconds.unwrap_or_default()));
    }
}

/// Not more exact than a forecast is: to 5 seconds, and from 5 minutes on to minutes.
fn rough(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil();
    let unit = if seconds > 300.0 { 60.0 } else { 5.0 };
    span(Duration::try_from_secs_f64((seconds / unit).ceil() * unit).unwrap_or(time))
}

#[cfg(test)]
mod tests;
