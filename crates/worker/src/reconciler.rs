//! The shell around `residency.rs`: follows the routes, carries out what was decided, and shows it to the world.
//!
//! Order matters for routers: a version is inserted before it is announced as ready, and announced as draining (for the
//! grace time) before it is removed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use understudy_protocol::v1;
use understudy_registry::{Announcement, Follow};

use crate::{
    Loader, Resident, Versions,
    load::{Source, free, panic_text},
    metrics::Metrics,
    residency::{Action, Failure, Id, Residency},
    serve::Health,
};

pub(crate) enum Event<T> {
    Loaded(Id, Result<Resident<T>, Failure>),
    Freed(Id),
}

pub(crate) struct Reconciler<L: Loader> {
    pub(crate) loader: Arc<L>,
    pub(crate) source: Source,
    pub(crate) metrics: Metrics,
    pub(crate) versions: Arc<Versions<L::Loaded>>,
    pub(crate) residency: Residency,
    pub(crate) routes: Follow<v1::Route>,
    pub(crate) health: Health,
    pub(crate) announcement: Announcement,
    /// Its versions are filled in from `residency`.
    pub(crate) record: v1::Worker,
    pub(crate) drain_timeout: Duration,
    pub(crate) work: JoinSet<Event<L::Loaded>>,
    pub(crate) stop: CancellationToken,
}

impl<L: Loader> Reconciler<L> {
    /// Runs until it is told to stop; then everything is announced as draining, and nothing more is loaded or removed.
    pub(crate) async fn run(mut self) -> (Announcement, Health) {
        loop {
            self.look_at_routes();
            for action in self.residency.advance(Instant::now()) {
                self.carry_out(action);
            }
            self.show(false).await;
            let deadline = self.residency.deadline();
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.routes.changed() => {}
                Some(event) = self.work.join_next() => match event {
                    Ok(event) => self.take_in(event),
                    Err(error) => tracing::error!(%error, "a task of the worker failed"),
                },
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
        }
        self.show(true).await;
        (self.announcement, self.health)
    }

    fn look_at_routes(&mut self) {
        let view = self.routes.view();
        if !view.synced {
            return;
        }
        let ours = view.records.values().filter(|route| route.kind() == L::KIND);
        let ids = ours.flat_map(|route| {
            route.arms.iter().map(|arm| Id {
                model: route.model.clone(),
                version: arm.version.clone(),
            })
        });
        self.residency.want(ids.collect::<BTreeSet<_>>());
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Load(id) => {
                tracing::info!(model = id.model, version = id.version, "loading");
                let load = self.source.clone().load(Arc::clone(&self.loader), id.clone());
                let load = AbortOnDropHandle::new(tokio::spawn(load));
                self.work.spawn(async move {
                    let result = load.await.unwrap_or_else(|error| {
                        let text = error
                            .try_into_panic()
                            .map_or_else(|e| e.to_string(), |p| panic_text(p.as_ref()));
                        Err(Failure {
                            reason: format!("the worker panicked: {text}"),
                            retry: true,
                        })
                    });
                    Event::Loaded(id, result)
                });
            }
            Action::Drain(id) => {
                tracing::info!(model = id.model, version = id.version, "draining");
                self.versions.set_draining(&id, true);
            }
            Action::Revive(id) => {
                tracing::info!(model = id.model, version = id.version, "wanted again while it drained");
                self.versions.set_draining(&id, false);
            }
            Action::Free(id) => {
                let resident = self.versions.remove(&id);
                let (loader, timeout) = (Arc::clone(&self.loader), self.drain_timeout);
                self.work.spawn(async move {
                    if let Some(resident) = resident {
                        free(loader, resident, timeout).await;
                    }
                    Event::Freed(id)
                });
            }
        }
    }

    fn take_in(&mut self, event: Event<L::Loaded>) {
        match event {
            Event::Loaded(id, Ok(resident)) => {
                tracing::info!(model = id.model, version = id.version, "ready");
                self.versions.insert(resident);
                self.residency.loaded(&id);
            }
            Event::Loaded(id, Err(failure)) => {
                let Failure { reason, retry } = &failure;
                tracing::error!(
                    model = id.model,
                    version = id.version,
                    reason,
                    retry,
                    "cannot make a version ready"
                );
                self.residency.failed(&id, failure, Instant::now());
            }
            Event::Freed(id) => {
                tracing::info!(model = id.model, version = id.version, "freed");
                self.residency.freed(&id);
            }
        }
    }

    /// To the registry, health checks and metrics.
    async fn show(&mut self, stopping: bool) {
        let versions = self.residency.record(stopping);
        self.metrics.show(&versions);
        self.health.show(&versions, stopping).await;
        self.announcement.set(v1::Worker {
            versions,
            ..self.record.clone()
        });
    }
}
