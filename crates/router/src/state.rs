//! What the data plane knows: one immutable snapshot in an `ArcSwap`, built by one writer, loaded once a request.
//!
//! A snapshot is derived from [`known::Known`] (the routes and workers that hold now) and from the snapshot before it, of
//! which these live on: endpoints of workers with the same name and address, splitters of routes whose arms and weights are
//! the same with their arms' counts, the observer of a rollout, and its slice while the route is the same.

pub mod build;
pub mod known;
pub mod lkg;
pub mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderValue};
use tonic::Code;
use understudy_protocol::{
    metadata,
    v1::{self, Kind},
};
use understudy_rollout::split::{Position, Splitter};

use crate::{
    endpoint::Endpoint,
    metrics::ArmMetrics,
    observe::{self, Limits, Observed, Observer, Side, SliceCounts},
    status::{Refusal, is_fault},
};

/// One snapshot.
#[derive(Debug, Default)]
pub struct State {
    /// Models that have a route, by name.
    pub models: BTreeMap<String, Arc<Model>>,
    /// Workers, by name.
    pub workers: BTreeMap<String, Worker>,
    /// Whether the registry's changes reach this router now.
    pub connected: bool,
    /// Models whose first arm gets all traffic, because an operator told this router so.
    pub aborted: BTreeSet<String>,
    /// Bounds of what is kept to be looked at, over all models.
    pub limits: Arc<Limits>,
}

/// A worker of the snapshot.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its record.
    pub record: v1::Worker,
    /// How to reach it.
    pub endpoint: Arc<Endpoint>,
}

/// A model's route, resolved.
#[derive(Debug)]
pub struct Model {
    /// The route as it is in the registry.
    pub route: v1::Route,
    /// Kind of model.
    pub kind: Kind,
    /// Its name as metadata.
    pub header: HeaderValue,
    /// In the route's order; never empty.
    pub arms: Vec<Arc<Arm>>,
    /// Versions that no arm names and some worker still has: what serves when no arm can.
    pub leftovers: Vec<Arc<Arm>>,
    /// Gives unpinned, unsticky requests to arms.
    pub splitter: Arc<Splitter>,
    /// What is learned for the route's rollout, if it has one.
    pub observer: Option<Arc<Observer>>,
    /// Where requests count that this route splits; there whenever the observer is.
    pub slice: Option<Arc<SliceCounts>>,
}

/// An arm of a route with those who can serve it.
#[derive(Debug)]
pub struct Arm {
    /// Name of the arm.
    pub name: HeaderValue,
    /// Its version.
    pub version: HeaderValue,
    /// Its share.
    pub weight_ppm: u32,
    /// Its part in a rollout.
    pub side: Side,
    /// Workers where the version is ready.
    pub ready: Vec<Arc<Endpoint>>,
    /// Counts, since the router took over the route.
    pub counts: Arc<ArmCounts>,
}

/// What happened on an arm.
#[derive(Debug)]
pub struct ArmCounts {
    /// Metrics of the arm.
    pub metrics: ArmMetrics,
    failures: AtomicU64,
}

impl ArmCounts {
    /// Starts at 0.
    #[must_use]
    pub fn new(metrics: ArmMetrics) -> Self {
        Self {
            metrics,
            failures: AtomicU64::new(0),
        }
    }

    /// Counts a request that ended.
    pub fn ended(&self, code: Code, seconds: f64) {
        self.metrics.ended(code, seconds);
        if is_fault(code) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests that ended in a server fault.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// What the client asked of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Nothing.
    None,
    /// This version.
    Pinned(&'a str),
    /// The arm at this place.
    At(Position),
}

/// The arm that shall serve a request, and whether it must.
#[derive(Debug)]
pub struct Chosen {
    /// The arm.
    pub arm: Arc<Arm>,
    /// No other may serve it.
    pub pinned: bool,
}

impl State {
    /// The model with this name for this kind; without a name the only one.
    ///
    /// # Errors
    /// [`Refusal::Uninformed`], [`Refusal::ModelNotNamed`] or [`Refusal::UnknownModel`].
    pub fn model(&self, name: Option<&str>, kind: Kind) -> Result<&Arc<Model>, Refusal> {
        if self.models.is_empty() && !self.connected {
            return Err(Refusal::Uninformed);
        }
        let mut of_kind = self.models.iter().filter(|(_, model)| model.kind == kind);
        let names = || -> Vec<String> {
            self.models
                .iter()
                .filter(|(_, model)| model.kind == kind)
                .map(|(name, _)| name.clone())
                .collect()
        };
        match name {
            Some(name) => {
                self.models
                    .get(name)
                    .filter(|model| model.kind == kind)
                    .ok_or_else(|| Refusal::UnknownModel {
                        model: name.to_owned(),
                        models: names(),
                    })
            }
            None => match (of_kind.next(), of_kind.next()) {
                (Some((_, model)), None) => Ok(model),
                _ => Err(Refusal::ModelNotNamed { models: names() }),
            },
        }
    }
}

impl Model {
    /// Gives a request to an arm. Only a request without a wish takes a number of the split.
    ///
    /// # Errors
    /// [`Refusal::PinningDenied`] or [`Refusal::UnknownVersion`].
    pub fn choose(&self, wish: Wish<'_>) -> Result<Chosen, Refusal> {
        let index = match wish {
            Wish::Pinned(_) if self.route.pinning == i32::from(v1::Pinning::Denied) => {
                return Err(Refusal::PinningDenied {
                    model: self.route.model.clone(),
                });
            }
            Wish::Pinned(version) => {
                let arms = self.route.arms.iter();
                arms.clone()
                    .position(|arm| arm.version == version)
                    .ok_or_else(|| Refusal::UnknownVersion {
                        model: self.route.model.clone(),
                        version: version.to_owned(),
                        versions: arms.map(|arm| arm.version.clone()).collect(),
                    })?
            }
            Wish::At(position) => self.splitter.arm_at(position),
            Wish::None => {
                let index = self.splitter.draw();
                self.arms[index].counts.metrics.splits.inc();
                index
            }
        };
        Ok(Chosen {
            arm: Arc::clone(&self.arms[index]),
            pinned: matches!(wish, Wish::Pinned(_)),
        })
    }

    /// How a request counts for the rollout, if there is one and the request was given to its arm by the router.
    #[must_use]
    pub fn observe(&self, chosen: &Chosen, headers: &HeaderMap) -> Option<Observed> {
        let slice = self.slice.as_ref()?;
        let counts = !chosen.pinned && !headers.contains_key(metadata::SHADOW);
        counts.then(|| Observed::new(Arc::clone(slice), chosen.arm.side, observe::caller(headers)))
    }

    /// Who may serve instead of an arm: the other arms, highest weight first, then versions that are still loaded.
    pub fn instead_of<'a>(&'a self, arm: &'a Arc<Arm>) -> impl Iterator<Item = &'a Arc<Arm>> {
        let mut others: Vec<_> = self.arms.iter().filter(|other| !Arc::ptr_eq(other, arm)).collect();
        others.sort_by_key(|other| std::cmp::Reverse(other.weight_ppm));
        others.into_iter().chain(&self.leftovers)
    }
}
