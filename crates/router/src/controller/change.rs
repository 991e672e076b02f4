//! What is written when a rollout goes on: its record and its route. Pure.

use std::time::SystemTime;

use understudy_protocol::v1;
use understudy_registry::HISTORY_MAX;
use understudy_rollout::machine::{Advance, Phase, Rollout};

use super::record::{phase_to, status_to, step_of};

/// All traffic.
const WEIGHT_SUM_PPM: u32 = 1_000_000;
/// Name of the arm that serves whoever is not on trial.
const STABLE: &str = "stable";
/// Name of the arm on trial.
const CANDIDATE: &str = "candidate";

/// Records before a change, and who makes it.
#[derive(Debug)]
pub struct Before<'a> {
    /// The rollout.
    pub record: &'a v1::Rollout,
    /// The model's route.
    pub route: Option<&'a v1::Route>,
    /// Whether somebody else changed the route: then a pause leaves it alone.
    pub route_changed: bool,
    /// The epoch that this router serves: a new one is above it, also after the registry was restored from a backup.
    pub served_epoch: u64,
    /// Who changes: "controller r1", or an operator.
    pub by: &'a str,
    /// When, for people.
    pub at: SystemTime,
}

/// Records after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The rollout.
    pub record: v1::Rollout,
    /// The same, read.
    pub rollout: Rollout,
    /// The route, if it differs.
    pub route: Option<v1::Route>,
    /// What the history has gained.
    pub transitions: Vec<v1::Transition>,
}

/// Turns a step of the machine into records.
#[must_use]
pub fn change(before: &Before<'_>, advance: Advance) -> Change {
    let mut rollout = advance.rollout;
    let mut transitions = Vec::with_capacity(advance.transitions.len());
    for transition in advance.transitions {
        let at_it = Rollout {
            phase: transition.to.clone(),
            ..rollout.clone()
        };
        transitions.push(v1::Transition {
            at: Some(before.at.into()),
            rollout: rollout.number,
            from: phase_to(&transition.from).into(),
            to: phase_to(&transition.to).into(),
            step: u32::try_from(step_of(&transition.to).unwrap_or_default()).unwrap_or(u32::MAX),
            weight_ppm: at_it.candidate_weight_ppm(),
            by: before.by.to_owned(),
            reason: transition.reason,
        });
    }
    let is_left_alone = before.route_changed && matches!(rollout.phase, Phase::Paused { .. });
    let moves = !transitions.is_empty() && !is_left_alone;
    let route = before.route.filter(|_| moves).and_then(|route| {
        let wanted = wanted_route(route, before.record, &rollout);
        let differs = !same(route, &wanted) || (before.route_changed && route.epoch != rollout.route_epoch);
        differs.then(|| v1::Route {
            epoch: route.epoch.max(before.served_epoch).saturating_add(1),
            ..wanted
        })
    });
    if let Some(route) = &route {
        rollout.route_epoch = route.epoch;
    }
    let mut record = before.record.clone();
    record.generation = record.generation.saturating_add(1);
    record.status = Some(status_to(&rollout));
    remember(&mut record, &transitions);
    Change {
        record,
        rollout,
        route,
        transitions,
    }
}

/// Appends to the history, and forgets what is too old.
pub fn remember(record: &mut v1::Rollout, transitions: &[v1::Transition]) {
    record.history.extend_from_slice(transitions);
    let excess = record.history.len().saturating_sub(HISTORY_MAX);
    record.history.drain(..excess);
}

/// Whether the route is what the rollout wants; its epoch aside.
#[must_use]
pub fn is_planned(route: &v1::Route, record: &v1::Rollout, rollout: &Rollout) -> bool {
    same(route, &wanted_route(route, record, rollout))
}

/// The version that has all traffic, if one has.
#[must_use]
pub fn full_version(route: &v1::Route) -> Option<&String> {
    let arm = route.arms.iter().find(|arm| arm.weight_ppm == WEIGHT_SUM_PPM);
    arm.map(|arm| &arm.version)
}

fn same(one: &v1::Route, other: &v1::Route) -> bool {
    one.arms == other.arms && one.rollout == other.rollout && one.shadow == other.shadow
}

/// The route that the rollout's phase wants, in place of this one.
fn wanted_route(route: &v1::Route, record: &v1::Rollout, rollout: &Rollout) -> v1::Route {
    let plan = rollout.plan();
    let spec = &rollout.spec;
    let arm = |name: &str, version: &str, weight_ppm| v1::Arm {
        name: name.to_owned(),
        version: version.to_owned(),
        weight_ppm,
    };
    // Who is alone is the stable version, of the next rollout too.
    let arms = match (plan.stable_ppm, plan.candidate_ppm) {
        (Some(stable), Some(candidate)) => {
            vec![
                arm(STABLE, &spec.stable, stable),
                arm(CANDIDATE, &spec.candidate, candidate),
            ]
        }
        (None, Some(weight)) => vec![arm(STABLE, &spec.candidate, weight)],
        (stable, None) => vec![arm(STABLE, &spec.stable, stable.unwrap_or(WEIGHT_SUM_PPM))],
    };
    let is_over = rollout.is_over();
    v1::Route {
        arms,
        rollout: if is_over { 0 } else { rollout.number },
        shadow: plan
            .shadow
            .filter(|_| !is_over)
            .map(|(sample_ppm, noise_ppm)| v1::Shadow {
                arm: CANDIDATE.to_owned(),
                sample_ppm,
                noise_ppm,
                keep_text: record.spec.as_ref().is_some_and(|spec| spec.keep_text),
            }),
        ..route.clone()
    }
}

#[cfg(test)]
mod tests;
