//! This router's counts, told to all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use understudy_protocol::v1::{self, Phase};
use understudy_registry::ScorecardWriter;

use super::{
    Desk,
    record::{labels_to, shadow_to, slice_to},
};
use crate::state::{Model, State};

/// Between two scorecards of one route.
const EVERY: Duration = Duration::from_secs(1);

/// Writes the counts once a second, and at once when another snapshot is served or a rollout goes on, until it is stopped; then
/// takes them back.
pub async fn run(desk: Arc<Desk>, writer: ScorecardWriter, served: Arc<Notify>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: BTreeSet<String> = BTreeSet::new();
    let mut rollouts = desk.views.rollouts.clone();
    loop {
        let state = desk.state.load_full();
        desk.keep_observers(&state);
        pause(&state, &rollouts.view().records);
        let mut counting = BTreeSet::new();
        for card in state.models.values().filter_map(|model| scorecard(model, &desk.name)) {
            counting.insert(card.model.clone());
            writer.put(card);
        }
        told.difference(&counting).for_each(|gone| writer.remove(gone));
        told = counting;
        tokio::select! {
            () = stop.cancelled() => return writer.withdraw().await,
            () = served.notified() => {}
            () = rollouts.changed() => {}
            _ = tick.tick() => {}
        }
    }
}

/// Nothing is mirrored for a paused rollout.
fn pause(state: &State, rollouts: &BTreeMap<String, v1::Rollout>) {
    for (name, model) in &state.models {
        if let Some(observer) = &model.observer {
            let rollout = rollouts.get(name).filter(|r| r.number == observer.rollout());
            observer.set_paused(rollout.is_some_and(|rollout| rollout.phase() == Phase::Paused));
        }
    }
}

/// What this router counted for a model's rollout, if it has one.
fn scorecard(model: &Model, router: &str) -> Option<v1::Scorecard> {
    let observer = model.observer.as_ref()?;
    let (slice, shadow, labels) = observer.scorecard();
    Some(v1::Scorecard {
        model: model.route.model.clone(),
        router: router.to_owned(),
        rollout: observer.rollout(),
        epoch: model.route.epoch,
        slice: Some(slice_to(&slice)),
        shadow: Some(shadow_to(&shadow)),
        labels: Some(labels_to(labels)),
    })
}
