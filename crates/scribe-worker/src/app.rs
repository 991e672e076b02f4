//! The process, put together: what `main` runs and tests start.

use std::{future::Future, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tonic::service::Routes;
use understudy_protocol::v1::scribe_server::ScribeServer;
use understudy_telemetry::{MetricsServer, serve_metrics};
use understudy_worker::{Edge, Worker, WorkerOptions};

use crate::{
    loader::ScribeLoader,
    metrics::{Engines, Metrics},
    options::EngineOptions,
    request::REQUEST_BYTES_MAX,
    service::ScribeService,
};

/// A running scribe.
pub struct App {
    worker: Worker<ScribeLoader>,
    routes: Routes,
    _metrics: MetricsServer,
}

impl App {
    /// Binds the addresses and begins to load what the routes name. `binary` tries files: this one, or in tests the one that
    /// was built with them.
    ///
    /// # Errors
    /// Bad options, an address that is taken, a device that is not there.
    pub async fn start(worker: WorkerOptions, engine: EngineOptions, binary: PathBuf) -> anyhow::Result<Self> {
        let loader = ScribeLoader::new(engine, binary)?;
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let metrics_listen = worker.metrics_listen;
        let worker = Worker::start(worker, loader, &mut registry).await?;
        Engines::register(worker.versions(), &mut registry);
        let metrics_server = serve_metrics(metrics_listen, registry).await.with_context(|| {
            format!("cannot serve metrics on {metrics_listen}; choose another address with --metrics-listen")
        })?;
        let service = ScribeService::new(worker.versions(), metrics.clone());
        let service = ScribeServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX);
        let routes = Routes::new(Edge::new(service, metrics).with_faults(worker.faults()));
        Ok(Self {
            worker,
            routes,
            _metrics: metrics_server,
        })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.worker.address()
    }

    /// Serves until `shutdown` resolves, then drains.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        Ok(self.worker.serve(self.routes, shutdown).await?)
    }
}
