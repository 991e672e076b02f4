//! The one task that publishes snapshots.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::MissedTickBehavior,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use understudy_protocol::v1;
use understudy_registry::Follow;

use super::{
    State,
    build::{Input, build},
    known::Known,
    lkg,
};
use crate::{endpoint::PoolOptions, metrics::Metrics, target::FORWARDED};

/// Vanished workers are looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// Aborts that may wait.
const ABORTS_MAX: usize = 16;

/// An operator's order that the model's first arm gets all traffic on this router.
#[derive(Debug)]
pub struct Abort {
    /// The model.
    pub model: String,
    /// Who says so.
    pub by: String,
    /// Told once it is served: the route that is overruled, or `None` if the model has none.
    pub done: oneshot::Sender<Option<v1::Route>>,
}

/// Orders to the writer.
#[must_use]
pub fn aborts() -> (mpsc::Sender<Abort>, mpsc::Receiver<Abort>) {
    mpsc::channel(ABORTS_MAX)
}

/// What the writer works with.
pub struct Writer {
    /// Where snapshots go.
    pub state: Arc<ArcSwap<State>>,
    /// Metrics of the router.
    pub metrics: Arc<Metrics>,
    /// Health of the services that workers answer.
    pub health: HealthReporter,
    /// Folder of the last known good state.
    pub folder: PathBuf,
    /// Bounds of connections to workers.
    pub pool: PoolOptions,
    /// How long vanished workers are kept.
    pub keep: Duration,
    /// Operators' orders.
    pub aborts: mpsc::Receiver<Abort>,
    /// Told of each new snapshot.
    pub served: Arc<Notify>,
}

/// A writer that has published the state on disk.
pub struct Begun {
    writer: Writer,
    known: Known,
}

impl Begun {
    /// Publishes for ever what the registry, and operators, say.
    pub async fn run(self, routes: Follow<v1::Route>, workers: Follow<v1::Worker>) {
        let Self { writer, known } = self;
        let (saver, newest) = watch::channel(known.clone());
        // Side by side: a slow disk delays no rollback.
        tokio::join!(
            save(writer.folder.clone(), newest),
            writer.publish_all(known, routes, workers, saver)
        );
    }
}

impl Writer {
    /// Publishes the state on disk: a router that listens before it did would refuse what it served a moment ago.
    pub async fn begin(self) -> Begun {
        let known = self.load().await;
        self.publish(&known, &self.state.load(), false).await;
        Begun { writer: self, known }
    }

    async fn publish_all(
        mut self,
        mut known: Known,
        mut routes: Follow<v1::Route>,
        mut workers: Follow<v1::Worker>,
        saver: watch::Sender<Known>,
    ) {
        let mut connected_at = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stale: Vec<String> = Vec::new();
        let mut published = (known.clone(), false);
        let mut aborted: Option<(Abort, Option<v1::Route>)> = None;
        loop {
            let (routes_view, workers_view) = (routes.view(), workers.view());
            let (now, connected) = (Instant::now(), routes_view.connected && workers_view.connected);
            if routes_view.synced {
                let now_stale = known.merge_routes(&routes_view.records);
                for model in now_stale.iter().filter(|model| !stale.contains(model)) {
                    tracing::warn!(
                        model,
                        "the registry has a route of a lower epoch than the one served; ignored"
                    );
                    self.metrics.stale_routes.inc();
                }
                stale = now_stale;
            }
            for model in known.expire_aborts() {
                tracing::warn!(model, "the registry has a newer route: the local abort is over");
            }
            if workers_view.synced {
                known.merge_workers(&workers_view.records, now);
            }
            let state = self.state.load_full();
            known.prune(now, self.keep, |name| {
                state.workers.get(name).is_some_and(|w| w.endpoint.is_connected())
            });
            if connected {
                connected_at = now;
            }
            self.metrics.registry_connected.set(connected.into());
            self.metrics
                .state_age
                .set(i64::try_from((now - connected_at).as_secs()).unwrap_or(i64::MAX));

            if published.0 != known || published.1 != connected {
                self.publish(&known, &state, connected).await;
                published = (known.clone(), connected);
                saver.send_replace(known.clone());
            }
            if let Some((abort, route)) = aborted.take() {
                // Whoever asked may be gone.
                _ = abort.done.send(route);
            }
            tokio::select! {
                () = routes.changed() => {}
                () = workers.changed() => {}
                Some(abort) = self.aborts.recv() => {
                    let route = known.abort(&abort.model);
                    if let Some(route) = &route {
                        let (model, by, epoch) = (&abort.model, &abort.by, route.epoch);
                        tracing::warn!(model, by, epoch, "local abort: the first arm gets all traffic on this router");
                    }
                    aborted = Some((abort, route));
                }
                _ = tick.tick() => {}
            }
        }
    }

    async fn publish(&self, known: &Known, previous: &State, connected: bool) {
        let served = known.served();
        let input = Input {
            known: &served,
            previous,
            connected,
            seed: rand::random(),
            pool: self.pool,
            metrics: &self.metrics,
        };
        let state = Arc::new(build(&input));
        self.metrics
            .workers
            .set(i64::try_from(state.workers.len()).unwrap_or(i64::MAX));
        for gone in previous
            .workers
            .keys()
            .filter(|name| !state.workers.contains_key(*name))
        {
            self.metrics.forget_worker(gone);
            tracing::info!(worker = gone, "worker is gone");
        }
        for new in state
            .workers
            .values()
            .filter(|w| !previous.workers.contains_key(&w.record.worker))
        {
            tracing::info!(
                worker = new.record.worker,
                address = new.record.address,
                "worker is known"
            );
        }
        for model in state.models.values() {
            let before = previous.models.get(&model.route.model).map(|before| before.route.epoch);
            if before != Some(model.route.epoch) {
                tracing::info!(model = model.route.model, epoch = model.route.epoch, "route is served");
            }
        }
        self.state.store(Arc::clone(&state));
        self.served.notify_one();
        for service in FORWARDED {
            let mut models = state.models.values().filter(|model| model.kind == service.kind);
            let serving = models.any(|model| {
                model
                    .arms
                    .iter()
                    .chain(&model.leftovers)
                    .any(|arm| !arm.ready.is_empty())
            });
            let status = if serving {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            self.health.set_service_status(service.name, status).await;
        }
    }

    async fn load(&self) -> Known {
        let folder = self.folder.clone();
        match tokio::task::spawn_blocking(move || lkg::load(&folder)).await {
            Ok(Ok(Some(known))) => {
                tracing::info!(
                    routes = known.routes.len(),
                    workers = known.workers.len(),
                    "last known good state loaded"
                );
                known
            }
            Ok(Ok(None)) => Known::default(),
            Ok(Err(error)) => {
                tracing::error!(%error, "starting without a last known good state");
                Known::default()
            }
            Err(error) => {
                tracing::error!(%error, "the last known good state was not read");
                Known::default()
            }
        }
    }
}

/// Keeps the file up to date with what was published. Traffic does not depend on it, so that it cannot be written is only
/// logged.
async fn save(folder: PathBuf, mut newest: watch::Receiver<Known>) {
    let mut saved = lkg::encode(&newest.borrow_and_update()).unwrap_or_default();
    while newest.changed().await.is_ok() {
        let encoded = lkg::encode(&newest.borrow_and_update());
        let text = match encoded {
            Ok(text) if text != saved => text,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(error, "the last known good state cannot be encoded");
                continue;
            }
        };
        let (folder, copy) = (folder.clone(), text.clone());
        match tokio::task::spawn_blocking(move || lkg::save(&folder, &copy)).await {
            Ok(Ok(())) => saved = text,
            Ok(Err(error)) => tracing::error!(%error, "the last known good state was not written"),
            Err(error) => tracing::error!(%error, "the last known good state was not written"),
        }
    }
}
