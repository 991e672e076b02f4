//! What all of a router's dealings with rollouts share: the election's outcome, the followed records, and the voice that tells
//! of transitions.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use understudy_protocol::v1;
use understudy_registry::{Error, Leadership, Registry, Stored};
use understudy_rollout::machine::{Observation, Rollout};

use super::{
    Views,
    change::Change,
    metrics::{ControllerMetrics, Measured},
    observation::{Seen, observe},
    record::rollout_from,
};
use crate::{observe::Observer, state::State, webhook::Webhooks};

/// Shared by the controller and the services.
pub struct Desk {
    /// The registry.
    pub registry: Registry,
    /// What is followed of it.
    pub views: Views,
    /// What this router serves.
    pub state: Arc<ArcSwap<State>>,
    /// This router's name.
    pub name: String,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Metrics of rollouts.
    pub metrics: ControllerMetrics,
    /// Calls that tell of transitions.
    pub webhooks: Webhooks,
    /// By model: what this router counts, or counted last. An operator looks at the disagreements of a rollout that has been
    /// rolled back, and its labels still come.
    pub observers: Mutex<BTreeMap<String, Arc<Observer>>>,
}

impl Desk {
    /// A model's rollout and route as they stand in the registry.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn read(&self, model: &str) -> Result<(Option<Stored<v1::Rollout>>, Option<Stored<v1::Route>>), Error> {
        // In this order: a route that is newer than the rollout is a conflict at worst.
        let record = self.registry.rollout(model).await?;
        Ok((record, self.registry.route(model).await?))
    }

    /// The epoch of the model's route that this router serves.
    #[must_use]
    pub fn served_epoch(&self, model: &str) -> u64 {
        self.state.load().models.get(model).map_or(0, |model| model.route.epoch)
    }

    /// What is seen of a rollout now.
    #[must_use]
    pub fn observe(&self, record: &v1::Rollout, rollout: &Rollout, route: Option<&v1::Route>) -> Observation {
        observe(&Seen {
            record,
            rollout,
            route,
            workers: &self.views.workers.view().records,
            scorecards: &self.views.scorecards.view().records,
            router: &self.name,
            epoch: self.served_epoch(&record.model),
        })
    }

    /// What this router counts, or counted last, by model.
    #[must_use]
    pub fn observers(&self) -> BTreeMap<String, Arc<Observer>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over the observers of what is served now. Those of earlier rollouts stay until the next one.
    pub(super) fn keep_observers(&self, state: &State) {
        let mut kept = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|model, _| state.models.contains_key(model));
        for (name, model) in &state.models {
            if let Some(observer) = &model.observer {
                kept.insert(name.clone(), Arc::clone(observer));
            }
        }
    }

    /// Who leads; empty if nobody is known to.
    #[must_use]
    pub fn leader(&self) -> String {
        self.leadership.borrow().leader.clone().unwrap_or_default()
    }

    /// Tells of what was written: log, metrics, webhooks.
    pub fn announce(&self, change: &Change) {
        let model = &change.record.model;
        for transition in &change.transitions {
            tracing::info!(
                model,
                rollout = transition.rollout,
                from = name(transition.from()),
                to = name(transition.to()),
                step = transition.step,
                weight_ppm = transition.weight_ppm,
                epoch = change.rollout.route_epoch,
                by = transition.by,
                reason = transition.reason,
                "rollout went on"
            );
            self.metrics.transition(model, name(transition.to()));
            self.webhooks.send(&change.record, transition);
        }
    }

    /// Brings the metrics up to date.
    pub(super) fn measure(&self) {
        let (view, routes) = (self.views.rollouts.view(), self.views.routes.view());
        let mut measured = Measured::default();
        for (model, record) in &view.records {
            measured.phase(model, name(record.phase()));
            let Ok(rollout) = rollout_from(record) else { continue };
            let weight_ppm = rollout.candidate_weight_ppm();
            if rollout.is_over() {
                measured.wanted(model, weight_ppm);
                continue;
            }
            let observation = self.observe(record, &rollout, routes.records.get(model));
            measured.wanted(model, weight_ppm);
            measured.arms(model, &observation.live);
            measured.gates(model, &rollout.reports(&observation));
        }
        self.metrics.set(measured);
    }
}

/// "canary" of `PHASE_CANARY`.
fn name(phase: v1::Phase) -> &'static str {
    match phase {
        v1::Phase::Unspecified => "unknown",
        v1::Phase::Pending => "pending",
        v1::Phase::Loading => "loading",
        v1::Phase::Shadow => "shadow",
        v1::Phase::Shifting => "shifting",
        v1::Phase::Baking => "baking",
        v1::Phase::Judging => "judging",
        v1::Phase::Promoting => "promoting",
        v1::Phase::Watching => "watching",
        v1::Phase::Standby => "standby",
        v1::Phase::Done => "done",
        v1::Phase::Paused => "paused",
        v1::Phase::RollingBack => "rolling-back",
        v1::Phase::RolledBack => "rolled-back",
        v1::Phase::Superseded => "superseded",
    }
}
