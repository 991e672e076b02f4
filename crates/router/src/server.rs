//! Puts the parts together, starts them, and brings them down in good order.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::ServingStatus;
use understudy_protocol::v1::{
    feedback_server::FeedbackServer, models_server::ModelsServer, rollouts_server::RolloutsServer,
    routes_server::RoutesServer,
};
use understudy_registry::{Candidacy, Registry};

use crate::{
    admin::Admin,
    admit::Admission,
    app::App,
    budget::Budget,
    config::RouterOptions,
    controller::{self, Desk, Views, metrics::ControllerMetrics, publish},
    endpoint::PoolOptions,
    forward::Forwarder,
    listen::Listener,
    metrics::Metrics,
    state::{
        State,
        writer::{Writer, aborts},
    },
    tls,
    webhook::Webhooks,
};

/// Time between two refills of the retry budget.
const BUDGET_TICK: std::time::Duration = std::time::Duration::from_secs(1);

/// A router that listens.
pub struct Router {
    address: SocketAddr,
    stop: CancellationToken,
    connections: TaskTracker,
    listener: JoinHandle<()>,
    background: [JoinHandle<()>; 3],
    candidacy: Candidacy,
    /// Takes the scorecards back when it is told to.
    publisher: JoinHandle<()>,
    stop_publishing: CancellationToken,
    health: tonic_health::server::HealthReporter,
    drain_timeout: std::time::Duration,
}

impl Router {
    /// Starts listening. Answers UNAVAILABLE until the registry, or the last known good state, tells of a route.
    ///
    /// # Errors
    /// If an option cannot work or the address is taken.
    pub async fn start(options: RouterOptions, metrics_registry: &mut MetricsRegistry) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(options.listen).await.with_context(|| {
            format!(
                "cannot listen on {}; choose another address by --listen",
                options.listen
            )
        })?;
        let address = socket.local_addr()?;
        let tls = tls::acceptor(&options.tls)?;
        let name = options.identity()?;
        let registry = Registry::connect(&options.registry).await?;
        let metrics = Arc::new(Metrics::new(metrics_registry));
        let state = Arc::new(ArcSwap::from_pointee(State::default()));
        let (health, health_service) = tonic_health::server::health_reporter();

        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        let candidacy = registry.campaign(&name, options.controller_ttl);
        let desk = Arc::new(Desk {
            views: Views::follow(&registry),
            state: Arc::clone(&state),
            leadership: candidacy.leadership(),
            metrics: ControllerMetrics::new(metrics_registry),
            webhooks: Webhooks::default(),
            observers: std::sync::Mutex::default(),
            name,
            registry,
        });
        let (aborter, aborts) = aborts();
        let admin = Admin {
            desk: Arc::clone(&desk),
            artifact_store: artifact_store(&options)?.into(),
            aborts: aborter,
            stop: stop.clone(),
        };
        let local = understudy_protocol::reflection()?
            .add_service(health_service)
            .add_service(ModelsServer::new(admin.clone()))
            .add_service(RoutesServer::new(admin.clone()))
            .add_service(RolloutsServer::new(admin.clone()))
            .add_service(FeedbackServer::new(admin))
            .prepare()
            .into_axum_router();
        let forward = options.forward;
        let served = Arc::new(Notify::new());
        let writer = Writer {
            state: Arc::clone(&state),
            metrics: Arc::clone(&metrics),
            health: health.clone(),
            folder: options.state_dir,
            pool: PoolOptions {
                connections_max: forward.worker_connections_max,
                streams: forward.worker_streams,
                connect_timeout: forward.connect_timeout,
            },
            keep: forward.vanished_worker_keep,
            aborts,
            served: Arc::clone(&served),
        }
        .begin()
        .await;
        let app = Arc::new(App {
            state,
            admission: Admission::new(&options.admission, Instant::now())?,
            forwarder: Forwarder {
                budget: Budget::new(forward.retry_percent, forward.retries_min),
                options: forward,
                metrics: Arc::clone(&metrics),
            },
            local,
            metrics,
        });

        let listener = Listener {
            socket,
            tls,
            app: Arc::clone(&app),
            options: options.http2,
        };
        let refill = async move {
            let mut tick = tokio::time::interval(BUDGET_TICK);
            loop {
                tick.tick().await;
                app.forwarder.budget.second();
            }
        };
        tracing::info!(%address, name = desk.name, "router listens");
        let stop_publishing = CancellationToken::new();
        let scorecards = desk.registry.scorecards(options.controller_ttl);
        let publisher = publish::run(Arc::clone(&desk), scorecards, served, stop_publishing.clone());
        let writer = writer.run(desk.views.routes.clone(), desk.views.workers.clone());
        Ok(Self {
            address,
            listener: tokio::spawn(listener.run(stop.clone(), connections.clone())),
            background: [
                tokio::spawn(writer),
                tokio::spawn(refill),
                tokio::spawn(controller::run(desk)),
            ],
            candidacy,
            publisher: tokio::spawn(publisher),
            stop_publishing,
            stop,
            connections,
            health,
            drain_timeout: options.drain_timeout,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new requests, lets those in flight finish within the bound, and ends. Says whether all could finish.
    pub async fn drain(self) -> bool {
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.stop.cancel();
        self.connections.close();
        // Another router decides from now on.
        self.candidacy.withdraw().await;
        let finished = tokio::time::timeout(self.drain_timeout, self.connections.wait())
            .await
            .is_ok();
        if !finished {
            tracing::warn!(
                connections = self.connections.len(),
                "requests in flight did not finish in time"
            );
        }
        self.stop_publishing.cancel();
        if let Err(error) = self.publisher.await {
            tracing::warn!(%error, "the scorecards were not taken back");
        }
        self.listener.abort();
        self.background.iter().for_each(JoinHandle::abort);
        finished
    }
}

fn artifact_store(options: &RouterOptions) -> anyhow::Result<String> {
    match &options.artifact_store {
        Some(uri) => Ok(uri.trim_end_matches('/').to_owned()),
        None => {
            let folder = std::path::absolute(options.state_dir.join("artifacts"))?;
            let folder = folder
                .to_str()
                .context("the state folder's path is not UTF-8; set --artifact-store")?;
            Ok(format!("file://{folder}"))
        }
    }
}
