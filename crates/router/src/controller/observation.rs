//! What is seen of a rollout, from the records that all routers follow. Pure.

use std::collections::{BTreeMap, BTreeSet};

use understudy_protocol::v1::{self, ResidencyState};
use understudy_rollout::machine::{Observation, Rollout};

use super::{
    change::{full_version, is_planned},
    record::{labels_from, shadow_from, slice_from},
};

/// Records, and where this router stands.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The model's rollout.
    pub record: &'a v1::Rollout,
    /// The same, read.
    pub rollout: &'a Rollout,
    /// The model's route.
    pub route: Option<&'a v1::Route>,
    /// All workers.
    pub workers: &'a BTreeMap<String, v1::Worker>,
    /// All scorecards.
    pub scorecards: &'a BTreeMap<String, v1::Scorecard>,
    /// This router's name.
    pub router: &'a str,
    /// The epoch that this router serves.
    pub epoch: u64,
}

/// Merges what all routers counted, and looks where the versions are loaded. A scorecard that cannot be used counts as a router
/// that reports nothing.
#[must_use]
pub fn observe(seen: &Seen<'_>) -> Observation {
    let mut observation = Observation {
        route_changed: route_changed(seen),
        ..Observation::default()
    };
    workers(seen, &mut observation);
    let wanted = seen.rollout.route_epoch;
    let mut routers: BTreeSet<&str> = [seen.router].into();
    let mut current: BTreeSet<&str> = (seen.epoch >= wanted).then_some(seen.router).into_iter().collect();
    let live = &mut observation.live;
    live.epoch = wanted;
    live.weight_ppm = seen.rollout.candidate_weight_ppm();
    let of_rollout = |card: &&v1::Scorecard| card.model == seen.record.model && card.rollout == seen.record.number;
    for card in seen.scorecards.values().filter(of_rollout) {
        routers.insert(&card.router);
        if card.epoch >= wanted && card.router != seen.router {
            current.insert(&card.router);
        }
        match card.slice.as_ref().map(slice_from).transpose() {
            Ok(Some(slice)) if slice.epoch == wanted && card.epoch == wanted => {
                live.stable.merge(&slice.stable);
                live.candidate.merge(&slice.candidate);
            }
            Ok(_) => {}
            Err(problem) => tracing::debug!(router = card.router, %problem, "scorecard left out"),
        }
        match card.shadow.as_ref().map(shadow_from).transpose() {
            Ok(shadow) => observation.shadow.merge(&shadow.unwrap_or_default()),
            Err(problem) => tracing::debug!(router = card.router, %problem, "scorecard left out"),
        }
        observation
            .labels
            .merge(&card.labels.as_ref().map(labels_from).unwrap_or_default());
    }
    observation.routers = count(routers.len());
    observation.routers_current = count(current.len());
    observation
}

fn workers(seen: &Seen<'_>, observation: &mut Observation) {
    let state = |worker: &v1::Worker, version: &str| {
        let mut versions = worker.versions.iter();
        let residency = versions.find(|r| r.model == seen.record.model && r.version == version)?;
        Some((residency.state(), residency.reason.clone()))
    };
    let mut failures = Vec::new();
    let spec = &seen.rollout.spec;
    for worker in seen.workers.values().filter(|worker| worker.kind == seen.record.kind) {
        observation.workers += 1;
        let is_ready = |version| matches!(state(worker, version), Some((ResidencyState::Ready, _)));
        observation.stable_ready += u32::from(is_ready(&spec.stable));
        observation.candidate_ready += u32::from(is_ready(&spec.candidate));
        if let Some((ResidencyState::Failed, reason)) = state(worker, &spec.candidate) {
            failures.push(format!("{}: {reason}", worker.worker));
        }
    }
    let all = observation.workers > 0 && failures.len() == observation.workers as usize;
    observation.candidate_failed = failures.into_iter().next().filter(|_| all);
}

/// Whether somebody else changed the route since the rollout set it, or since it was started.
fn route_changed(seen: &Seen<'_>) -> bool {
    let Some(route) = seen.route else { return true };
    if seen.rollout.route_epoch == 0 {
        full_version(route) != Some(&seen.rollout.spec.stable)
    } else {
        route.epoch != seen.rollout.route_epoch || !is_planned(route, seen.record, seen.rollout)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
