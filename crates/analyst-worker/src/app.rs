//! The process, put together: what `main` runs and tests start.

use std::{future::Future, net::SocketAddr, num::NonZero, sync::Arc, thread::available_parallelism};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tonic::service::Routes;
use understudy_distilbert::{Device, cuda_available, init_engine_thread};
use understudy_protocol::v1::analyst_server::AnalystServer;
use understudy_telemetry::{MetricsServer, serve_metrics};
use understudy_worker::{Edge, Resident, Worker, WorkerOptions};

use crate::{
    batch::Budget,
    check::CHARACTERS_MAX,
    config::{AnalystOptions, Auto},
    dispatch::Dispatch,
    engine::Engines,
    loader::{AnalystLoader, Loaded, pads},
    metrics::Metrics,
    pipeline::{Bounds, Pipeline},
    service::AnalystService,
};

/// Tokens that an engine computes at once, unless told otherwise. On a CPU larger batches compute no faster and make their
/// texts wait for each other; a CUDA device needs many to be busy.
const BATCH_TOKENS_CPU: usize = 1024;
const BATCH_TOKENS_CUDA: usize = 16_384;

/// Most bytes of a text that is not too long, with its frame.
const TEXT_BYTES_MAX: usize = 4 * CHARACTERS_MAX + 8;

/// A running analyst.
pub struct App {
    worker: Worker<AnalystLoader>,
    routes: Routes,
    engines: Engines<Resident<Loaded>>,
    _metrics: MetricsServer,
}

impl App {
    /// Binds the addresses, starts the engines and begins to load what the routes name.
    /// [`understudy_distilbert::init_process`] must have been called.
    ///
    /// # Errors
    /// Bad options, an address that is taken, a device that is not there.
    pub async fn start(worker: WorkerOptions, analyst: AnalystOptions) -> anyhow::Result<Self> {
        let AnalystOptions {
            device,
            precision,
            engines,
            limits,
        } = analyst;
        limits.check()?;
        let device = choose_device(device)?;
        let cores = available_parallelism().map_or(1, NonZero::get);
        let (engines, batch_tokens) = match device {
            Device::Cpu => (engines.map_or(cores, NonZero::get), BATCH_TOKENS_CPU),
            Device::Cuda(_) => (1, BATCH_TOKENS_CUDA),
        };
        let precision = match precision {
            Auto::Auto => None,
            Auto::Set(precision) => Some(precision),
        };

        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let metrics_listen = worker.metrics_listen;
        let worker = Worker::start(
            worker,
            AnalystLoader {
                device,
                precision,
                engines,
            },
            &mut registry,
        )
        .await?;
        let metrics_server = serve_metrics(metrics_listen, registry).await.with_context(|| {
            format!("cannot serve metrics on {metrics_listen}; choose another address with --metrics-listen")
        })?;

        let tokens_max = limits.batch_tokens_max.map_or(batch_tokens, NonZero::get);
        let budget = Budget {
            tokens_max,
            padded: pads(device),
        };
        let dispatch = Arc::new(Dispatch::new(budget, metrics.clone()));
        let engines = Engines::start(&dispatch, engines, || init_engine_thread(1), &metrics)
            .context("cannot start the engines' threads")?;
        let pipeline = Pipeline::new(dispatch, Bounds::new(&limits, cores), metrics.clone());
        let service = AnalystService::new(worker.versions(), pipeline, &limits, metrics.clone());
        let request_bytes_max = limits.batch_max.get().max(16).saturating_mul(TEXT_BYTES_MAX);
        let service = AnalystServer::new(service).max_decoding_message_size(request_bytes_max);
        let routes = Routes::new(Edge::new(service, metrics).with_faults(worker.faults()));
        Ok(Self {
            worker,
            routes,
            engines,
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
        self.worker.serve(self.routes, shutdown).await?;
        let engines = self.engines;
        tokio::task::spawn_blocking(move || drop(engines))
            .await
            .context("the engines did not end")
    }
}

fn choose_device(choice: Auto<Device>) -> anyhow::Result<Device> {
    match choice {
        Auto::Auto if cuda_available() => Ok(Device::Cuda(0)),
        Auto::Auto => Ok(Device::Cpu),
        Auto::Set(device @ Device::Cuda(_)) => {
            anyhow::ensure!(
                cuda_available(),
                "--device {device}: no CUDA here; it needs a driver, and the libraries of PyTorch 2.11.0 on \
                 LD_LIBRARY_PATH; or use --device cpu"
            );
            Ok(device)
        }
        Auto::Set(Device::Cpu) => Ok(Device::Cpu),
    }
}
