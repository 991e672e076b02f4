//! One registry, one artifact store and workers with a fake engine, all in this process.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::anyhow;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    service::Routes,
    transport::{Channel, Endpoint},
};
use understudy_artifacts::uri_of_folder;
use understudy_protocol::{
    metadata,
    v1::{
        self, ResidencyState,
        analyst_client::AnalystClient,
        analyst_server::{Analyst, AnalystServer},
    },
};
use understudy_registry::{Registry, RegistryOptions};
use understudy_worker::{LoadError, Loader, Manifest, Versions, Worker, WorkerOptions};

const PREFIX: &str = "/understudy/v1/";
const PATIENCE: Duration = Duration::from_secs(12);
/// Long enough to be seen on a busy machine.
const GRACE: Duration = Duration::from_millis(800);

pub(crate) async fn await_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn model(model: &str) -> MetadataMap {
    let mut map = MetadataMap::new();
    map.insert(metadata::MODEL, model.parse().unwrap());
    map
}

pub(crate) fn asks(name: &str, version: &str) -> MetadataMap {
    let mut map = model(name);
    map.insert(metadata::VERSION, version.parse().unwrap());
    map
}

/// Counts what the fake engine holds.
#[derive(Default)]
pub(crate) struct Counts {
    alive: AtomicUsize,
    freed: AtomicUsize,
    loading: AtomicUsize,
    most_loading: AtomicUsize,
}

impl Counts {
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(SeqCst)
    }

    pub(crate) fn freed(&self) -> usize {
        self.freed.load(SeqCst)
    }

    pub(crate) fn most_loading(&self) -> usize {
        self.most_loading.load(SeqCst)
    }
}

pub(crate) struct Loaded {
    pub(crate) text: String,
    counts: Arc<Counts>,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.counts.alive.fetch_sub(1, SeqCst);
    }
}

struct FakeLoader(Arc<Counts>);

impl Loader for FakeLoader {
    type Loaded = Loaded;
    const KIND: v1::Kind = v1::Kind::Analyst;

    fn description(&self) -> String {
        "fake".into()
    }

    fn load(&self, manifest: &Manifest, folder: &Path) -> Result<Loaded, LoadError> {
        let loading = self.0.loading.fetch_add(1, SeqCst) + 1;
        self.0.most_loading.fetch_max(loading, SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        self.0.loading.fetch_sub(1, SeqCst);
        assert_eq!(manifest.labels.len(), 2);
        let text = fs::read_to_string(folder.join("text"))?;
        match text.as_str() {
            "fail" => Err(anyhow!("layer 3").context("weights are NaN").into()),
            "panic" => panic!("out of cheese"),
            _ => {
                self.0.alive.fetch_add(1, SeqCst);
                Ok(Loaded {
                    text,
                    counts: Arc::clone(&self.0),
                })
            }
        }
    }

    fn freed(&self) {
        self.0.freed.fetch_add(1, SeqCst);
    }
}

/// Answers when it is told to.
#[derive(Default)]
struct Gate {
    arrived: Notify,
    open: Notify,
}

struct SlowAnalyst(Arc<Gate>);

#[tonic::async_trait]
impl Analyst for SlowAnalyst {
    async fn classify(&self, _: Request<v1::ClassifyRequest>) -> Result<Response<v1::ClassifyResponse>, Status> {
        self.0.arrived.notify_one();
        self.0.open.notified().await;
        Ok(Response::new(v1::ClassifyResponse::default()))
    }

    async fn classify_batch(
        &self,
        _: Request<v1::ClassifyBatchRequest>,
    ) -> Result<Response<v1::ClassifyBatchResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type ClassifyStreamStream = tonic::Streaming<v1::ClassifyStreamResponse>;

    async fn classify_stream(
        &self,
        _: Request<tonic::Streaming<v1::ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_model_info(&self, _: Request<v1::GetModelInfoRequest>) -> Result<Response<v1::ModelInfo>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A request that the worker works on.
pub(crate) struct Flight {
    gate: Arc<Gate>,
    call: JoinHandle<Result<Response<v1::ClassifyResponse>, Status>>,
}

impl Flight {
    pub(crate) async fn finish(self) {
        self.gate.open.notify_one();
        let answer = self.call.await.unwrap().unwrap();
        assert_eq!(answer.metadata().get(metadata::WORKER).unwrap(), "w1");
    }
}

/// A running worker.
pub(crate) struct Running {
    pub(crate) versions: Arc<Versions<Loaded>>,
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Counts>,
    gate: Arc<Gate>,
    metrics: prometheus_client::registry::Registry,
    stop: Arc<Notify>,
    task: JoinHandle<Result<(), understudy_worker::Error>>,
}

impl Running {
    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn flight(&self, channel: Channel) -> Flight {
        let call = tokio::spawn(async move {
            AnalystClient::new(channel)
                .classify(v1::ClassifyRequest { text: "slow".into() })
                .await
        });
        self.gate.arrived.notified().await;
        Flight {
            gate: Arc::clone(&self.gate),
            call,
        }
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        text
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) async fn stop(self) {
        self.begin_stop();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) struct Cluster {
    temporary: tempfile::TempDir,
    port: SocketAddr,
    served: Option<(oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>)>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut cluster = Self {
            temporary,
            port: ([127, 0, 0, 1], 0).into(),
            served: None,
        };
        cluster.start_registry().await;
        cluster
    }

    pub(crate) async fn start_registry(&mut self) {
        let options = understudy_embedded_registry::Options {
            data_dir: self.temporary.path().join("registry"),
            listen: self.port,
        };
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(understudy_embedded_registry::serve(
            options,
            |address| ready.send(address).unwrap(),
            async {
                let _ = stopped.await;
            },
        ));
        self.port = address.await.unwrap();
        self.served = Some((stop, task));
    }

    pub(crate) async fn stop_registry(&mut self) {
        let (stop, task) = self.served.take().unwrap();
        drop(stop);
        task.await.unwrap().unwrap();
    }

    fn registry_options(&self) -> RegistryOptions {
        RegistryOptions {
            endpoints: vec![format!("http://{}", self.port)],
            ..RegistryOptions::default()
        }
    }

    async fn registry(&self) -> Registry {
        Registry::connect(&self.registry_options()).await.unwrap()
    }

    async fn etcd(&self) -> etcd_client::Client {
        etcd_client::Client::connect([format!("http://{}", self.port)], None)
            .await
            .unwrap()
    }

    pub(crate) async fn worker(&self, name: &str) -> Running {
        self.worker_with_grace(name, GRACE).await
    }

    pub(crate) async fn worker_with_grace(&self, name: &str, drain_grace: Duration) -> Running {
        let options = WorkerOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            name: Some(name.into()),
            metrics_listen: ([127, 0, 0, 1], 0).into(),
            cache_dir: Some(self.temporary.path().join("cache")),
            cache_bytes_max: 1 << 30,
            lease_ttl: Duration::from_secs(2),
            drain_grace,
            drain_timeout: Duration::from_secs(2),
            registry: self.registry_options(),
            inject_fault: vec![],
        };
        let (engine, gate) = (Arc::new(Counts::default()), Arc::new(Gate::default()));
        let mut metrics = prometheus_client::registry::Registry::default();
        let worker = Worker::start(options, FakeLoader(Arc::clone(&engine)), &mut metrics)
            .await
            .unwrap();
        assert_eq!(worker.name(), name);
        let (versions, address) = (worker.versions(), worker.address());
        let routes = Routes::new(AnalystServer::new(SlowAnalyst(Arc::clone(&gate))));
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(worker.serve(routes, async move { stopped.notified().await }));
        Running {
            versions,
            address,
            engine,
            gate,
            metrics,
            stop,
            task,
        }
    }

    async fn manifest(&self, model: &str, version: &str, text: &str) -> v1::Manifest {
        let source = self.temporary.path().join("source").join(model).join(version);
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("text"), text).unwrap();
        let store = uri_of_folder(&self.temporary.path().join("store")).unwrap();
        let prefix = format!("{model}/{version}");
        let uploaded = understudy_artifacts::upload(&store, &prefix, &source, &["text"], |_, _| {})
            .await
            .unwrap();
        let files = uploaded.files.into_iter().map(|file| v1::ArtifactFile {
            path: file.path,
            sha256: file.sha256,
            size_bytes: file.size_bytes,
        });
        v1::Manifest {
            format: 1,
            model: model.into(),
            version: version.into(),
            kind: v1::Kind::Analyst.into(),
            artifact_uri: uploaded.uri,
            files: files.collect(),
            labels: vec!["negative".into(), "positive".into()],
            ..v1::Manifest::default()
        }
    }

    pub(crate) async fn publish(&self, model: &str, version: &str, text: &str) {
        let manifest = self.manifest(model, version, text).await;
        self.registry().await.create_manifest(&manifest).await.unwrap();
    }

    /// Written as a newer Understudy would: this one refuses to.
    pub(crate) async fn publish_newer(&self, model: &str, version: &str) {
        let manifest = v1::Manifest {
            format: 2,
            ..self.manifest(model, version, "new").await
        };
        let json = understudy_protocol::json::to_string(&manifest).unwrap();
        let key = format!("{PREFIX}models/{model}/versions/{version}");
        self.etcd().await.kv_client().put(key, json, None).await.unwrap();
    }

    pub(crate) fn remove_files(&self, version: &str) {
        fs::remove_dir_all(self.temporary.path().join("store/sentiment").join(version)).unwrap();
    }

    pub(crate) async fn route(&self, model: &str, versions: &[&str]) {
        let registry = self.registry().await;
        let old = registry.route(model).await.unwrap();
        let arms = versions.iter().enumerate().map(|(n, version)| v1::Arm {
            name: (*version).into(),
            version: (*version).into(),
            weight_ppm: if n == 0 { 1_000_000 } else { 0 },
        });
        let route = v1::Route {
            model: model.into(),
            kind: v1::Kind::Analyst.into(),
            epoch: old.as_ref().map_or(0, |old| old.value.epoch) + 1,
            arms: arms.collect(),
            pinning: v1::Pinning::Allowed.into(),
            ..v1::Route::default()
        };
        registry
            .put_route(&route, old.map_or(0, |old| old.mod_revision))
            .await
            .unwrap();
    }

    pub(crate) async fn unroute(&self, model: &str) {
        let key = format!("{PREFIX}models/{model}/route");
        self.etcd().await.kv_client().delete(key, None).await.unwrap();
    }

    pub(crate) async fn delete_worker(&self, name: &str) {
        self.etcd()
            .await
            .kv_client()
            .delete(format!("{PREFIX}workers/{name}"), None)
            .await
            .unwrap();
    }

    pub(crate) async fn worker_record(&self, name: &str) -> Option<v1::Worker> {
        self.registry()
            .await
            .get::<v1::Worker>(name)
            .await
            .unwrap()
            .map(|stored| stored.value)
    }

    /// Waits until a version is announced with this reason.
    pub(crate) async fn says(&self, name: &str, version: &str, expected: &str) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let record = self.worker_record(name).await.unwrap();
            let residency = record
                .versions
                .into_iter()
                .find(|residency| residency.version == version);
            let found = residency.map_or_else(String::new, |residency| residency.reason);
            if found.contains(expected) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{version}: {found:?}, expected {expected:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the registry says exactly this of model "sentiment" on a worker.
    pub(crate) async fn state(&self, name: &str, expected: &[(&str, ResidencyState)]) {
        let full = expected
            .iter()
            .map(|(version, state)| (format!("sentiment/{version}"), *state));
        self.wait_for(name, full.collect()).await;
    }

    pub(crate) async fn state_of(&self, name: &str, expected: &[(&str, ResidencyState)]) {
        let full = expected.iter().map(|(id, state)| ((*id).to_owned(), *state));
        self.wait_for(name, full.collect()).await;
    }

    async fn wait_for(&self, name: &str, mut expected: Vec<(String, ResidencyState)>) {
        expected.sort();
        let registry = self.registry().await;
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let record = registry.get::<v1::Worker>(name).await.unwrap();
            let mut found: Vec<_> = record.map_or_else(Vec::new, |stored| {
                let states = stored.value.versions.into_iter();
                states
                    .map(|r| (format!("{}/{}", r.model, r.version), r.state()))
                    .collect()
            });
            found.sort();
            if found == expected {
                return;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "found {found:?}, expected {expected:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
