//! Builds a snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::HeaderValue;
use understudy_protocol::v1::{self, Kind, ResidencyState};
use understudy_rollout::split::Splitter;

use super::{Arm, ArmCounts, Model, State, Worker, known::Known};
use crate::{
    endpoint::{Endpoint, PoolOptions},
    metrics::{ArmLabels, Metrics},
    mirror::Mirror,
    observe::{Observer, Side, SliceCounts},
};

/// Arm name on answers by a version that no arm names.
const LEFTOVER: &str = "none";

/// What a snapshot is built from.
#[derive(Debug)]
pub struct Input<'a> {
    /// Routes and workers.
    pub known: &'a Known,
    /// The snapshot before.
    pub previous: &'a State,
    /// Whether the registry is connected.
    pub connected: bool,
    /// Seed for new splitters.
    pub seed: u64,
    /// Bounds of new endpoints.
    pub pool: PoolOptions,
    /// Metrics of new arms.
    pub metrics: &'a Metrics,
}

/// Builds it. What cannot be used is logged and left out; the registry's records were checked before, so that is rare.
#[must_use]
pub fn build(input: &Input<'_>) -> State {
    let workers = workers(input);
    let models = input.known.routes.values().filter_map(|route| {
        let previous = input.previous.models.get(&route.model);
        match model(input, route, previous, &workers) {
            Ok(model) => Some((route.model.clone(), Arc::new(model))),
            Err(problem) => {
                tracing::error!(
                    model = route.model,
                    epoch = route.epoch,
                    problem,
                    "route cannot be used"
                );
                previous.map(|previous| (route.model.clone(), Arc::clone(previous)))
            }
        }
    });
    State {
        models: models.collect(),
        connected: input.connected,
        aborted: input.known.aborted.keys().cloned().collect(),
        limits: Arc::clone(&input.previous.limits),
        workers,
    }
}

fn workers(input: &Input<'_>) -> BTreeMap<String, Worker> {
    let mut workers = BTreeMap::new();
    for (name, known) in &input.known.workers {
        let same = |previous: &&Worker| previous.endpoint.address() == known.record.address;
        let endpoint = match input.previous.workers.get(name).filter(same) {
            Some(previous) => Arc::clone(&previous.endpoint),
            None => match Endpoint::new(name, &known.record.address, input.pool) {
                Ok(endpoint) => Arc::new(endpoint),
                Err(error) => {
                    tracing::error!(%error, "worker left out");
                    continue;
                }
            },
        };
        endpoint.set_vanished(known.vanished.is_some());
        workers.insert(
            name.clone(),
            Worker {
                record: known.record.clone(),
                endpoint,
            },
        );
    }
    workers
}

fn model(
    input: &Input<'_>,
    route: &v1::Route,
    previous: Option<&Arc<Model>>,
    workers: &BTreeMap<String, Worker>,
) -> Result<Model, String> {
    let kind = Kind::try_from(route.kind).map_err(|e| e.to_string())?;
    let ready = |version: &str| -> Vec<Arc<Endpoint>> {
        let has = |worker: &&Worker| {
            worker.record.kind == route.kind
                && worker.record.versions.iter().any(|residency| {
                    residency.model == route.model
                        && residency.version == version
                        && residency.state == i32::from(ResidencyState::Ready)
                })
        };
        workers
            .values()
            .filter(has)
            .map(|worker| Arc::clone(&worker.endpoint))
            .collect()
    };
    let counts = |name: &str, version: &str| {
        let labels = ArmLabels {
            model: route.model.clone(),
            version: version.to_owned(),
            arm: name.to_owned(),
        };
        Arc::new(ArmCounts::new(input.metrics.arm(&labels)))
    };
    let header = |text: &str| HeaderValue::try_from(text).map_err(|e| e.to_string());

    let same_split = previous.filter(|previous| previous.route.arms == route.arms);
    let splitter = match same_split {
        Some(previous) => Arc::clone(&previous.splitter),
        None => {
            let weights: Vec<u32> = route.arms.iter().map(|arm| arm.weight_ppm).collect();
            Arc::new(Splitter::new(&weights, input.seed).map_err(|e| e.to_string())?)
        }
    };
    let mut arms = Vec::new();
    for (index, arm) in route.arms.iter().enumerate() {
        arms.push(Arc::new(Arm {
            name: header(&arm.name)?,
            version: header(&arm.version)?,
            weight_ppm: arm.weight_ppm,
            side: Side::of(&arm.name),
            ready: ready(&arm.version),
            counts: match same_split {
                Some(previous) => Arc::clone(&previous.arms[index].counts),
                None => counts(&arm.name, &arm.version),
            },
        }));
    }

    let named: BTreeSet<&str> = route.arms.iter().map(|arm| arm.version.as_str()).collect();
    let loaded: BTreeSet<&str> = workers
        .values()
        .flat_map(|worker| &worker.record.versions)
        .filter(|residency| residency.model == route.model && !named.contains(residency.version.as_str()))
        .map(|residency| residency.version.as_str())
        .collect();
    let mut leftovers = Vec::new();
    for version in loaded {
        let ready = ready(version);
        if !ready.is_empty() {
            leftovers.push(Arc::new(Arm {
                name: HeaderValue::from_static(LEFTOVER),
                version: header(version)?,
                weight_ppm: 0,
                side: Side::Stable,
                ready,
                counts: counts(LEFTOVER, version),
            }));
        }
    }
    let (observer, slice) = observer(input, route, previous).unzip();
    Ok(Model {
        route: route.clone(),
        kind,
        header: header(&route.model)?,
        arms,
        leftovers,
        splitter,
        observer,
        slice,
    })
}

/// A rollout's observer stays while routes have its number, and its slice while the route is the same.
fn observer(
    input: &Input<'_>,
    route: &v1::Route,
    previous: Option<&Arc<Model>>,
) -> Option<(Arc<Observer>, Arc<SliceCounts>)> {
    if route.rollout == 0 {
        return None;
    }
    let previous = previous.filter(|previous| previous.route.rollout == route.rollout);
    if let Some(previous) = previous.filter(|previous| previous.route == *route) {
        return previous.observer.clone().zip(previous.slice.clone());
    }
    let observer = previous
        .and_then(|previous| previous.observer.clone())
        .unwrap_or_else(|| {
            let metrics = input.metrics.observer(&route.model);
            Arc::new(Observer::new(
                route.rollout,
                metrics,
                Arc::clone(&input.previous.limits),
            ))
        });
    let mirror = route.shadow.as_ref().and_then(|shadow| {
        let arm = route.arms.iter().position(|arm| arm.name == shadow.arm);
        if arm.is_none() {
            tracing::warn!(model = route.model, arm = shadow.arm, "no such arm to mirror to");
        }
        Mirror::new(arm?, shadow.sample_ppm, shadow.noise_ppm, shadow.keep_text, input.seed)
    });
    let candidate = route.arms.iter().find(|arm| Side::of(&arm.name) == Side::Candidate);
    let weight_ppm = candidate.map_or(0, |arm| arm.weight_ppm);
    let slice = Arc::new(SliceCounts::new(route.epoch, weight_ppm, mirror));
    observer.begin(Arc::clone(&slice));
    Some((observer, slice))
}
