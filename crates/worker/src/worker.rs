//! A worker process, put together.

use std::{net::SocketAddr, sync::Arc};

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::server::TcpIncoming};
use tonic_health::server::HealthReporter;
use understudy_artifacts::{Cache, CacheOptions};
use understudy_protocol::v1;
use understudy_registry::Registry;

use crate::{
    Error, Faults, Loader, Versions, WorkerOptions,
    load::Source,
    metrics::Metrics,
    reconciler::Reconciler,
    residency::Residency,
    serve::{Health, Serving},
};

/// A worker: it holds the versions that the routes of its kind name, and serves them.
pub struct Worker<L: Loader> {
    address: SocketAddr,
    faults: Faults,
    serving: Serving<L::Loaded>,
}

impl<L: Loader> Worker<L> {
    /// Binds the address, announces the worker and begins to load what the routes name. The registry may be away.
    ///
    /// Serving the metrics is the caller's part: `understudy_telemetry::serve_metrics(options.metrics_listen, …)`.
    ///
    /// # Errors
    /// Bad options, an address that is taken, a cache folder that cannot be used.
    pub async fn start(options: WorkerOptions, loader: L, metrics: &mut MetricsRegistry) -> Result<Self, Error> {
        options.check()?;
        let name = options.name()?;
        let folder = options.cache_dir()?;
        let bytes_max = Some(options.cache_bytes_max);
        let cache = tokio::task::spawn_blocking(move || Cache::open(CacheOptions { folder, bytes_max }))
            .await
            .map_err(|_| Error::Ended("opening of the cache"))??;
        let registry = Registry::connect(&options.registry).await?;
        let listen = |source| Error::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;

        let faults = Faults::new(&options.inject_fault, metrics)?;
        let metrics = Metrics::register(metrics);
        let versions = Arc::new(Versions::default());
        let reporter = HealthReporter::new();
        let stop = CancellationToken::new();
        let record = v1::Worker {
            worker: name.clone(),
            kind: L::KIND.into(),
            address: options.advertise.unwrap_or_else(|| format!("http://{address}")),
            versions: Vec::new(),
            engine: loader.description(),
        };
        tracing::info!(worker = name, %address, advertised = record.address, engine = record.engine, "worker starts");
        let reconciler = Reconciler {
            loader: Arc::new(loader),
            source: Source {
                registry: registry.clone(),
                cache,
                metrics: metrics.clone(),
            },
            metrics,
            versions: Arc::clone(&versions),
            residency: Residency::new(options.drain_grace),
            routes: registry.follow(),
            health: Health::new(reporter.clone(), L::KIND),
            announcement: registry.announce(record.clone(), options.lease_ttl),
            record,
            drain_timeout: options.drain_timeout,
            work: JoinSet::new(),
            stop: stop.clone(),
        };
        let serving = Serving {
            name,
            incoming: TcpIncoming::from(listener).with_nodelay(Some(true)),
            reporter,
            versions,
            drain_grace: options.drain_grace,
            drain_timeout: options.drain_timeout,
            stop,
            reconciler: tokio::spawn(reconciler.run()),
        };
        Ok(Self {
            address,
            faults,
            serving,
        })
    }

    /// The versions that answer requests now.
    #[must_use]
    pub fn versions(&self) -> Arc<Versions<L::Loaded>> {
        Arc::clone(&self.serving.versions)
    }

    /// What `--inject-fault` asks for, for the [`Edge`](crate::Edge)s of its services.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Its name in the registry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.serving.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` with health, reflection and explicit HTTP/2 limits until `shutdown` resolves, then drains: everything is
    /// announced as draining, after the grace time no connection is accepted, what is in flight may end within the drain
    /// timeout, and the lease is withdrawn.
    ///
    /// Limits of messages are each service's own (`max_decoding_message_size`).
    ///
    /// # Errors
    /// If the server or the worker's own task ended before the shutdown.
    pub async fn serve(self, routes: Routes, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        self.serving.run(routes, shutdown).await
    }
}
