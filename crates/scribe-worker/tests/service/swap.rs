//! A whole worker with a registry, and the engine of [`crate::fake`]: swaps, health, reflection.

use std::{fs, path::Path, sync::Arc, time::Duration};

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Streaming,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use understudy_artifacts::uri_of_folder;
use understudy_protocol::v1::{
    self, GenerateResponse, ResidencyState, generate_response::Event, scribe_client::ScribeClient,
    scribe_server::ScribeServer,
};
use understudy_registry::{Registry, RegistryOptions};
use understudy_scribe::{
    metrics::{Engines, Metrics},
    service::ScribeService,
};
use understudy_worker::{Edge, LoadError, Loader, Manifest, Worker, WorkerOptions};

use crate::{
    fake::{Fake, Play},
    prompt,
};

const PATIENCE: Duration = Duration::from_secs(12);

/// Its engines say their version's name, and wait for this.
struct FakeLoader(CancellationToken);

impl Loader for FakeLoader {
    type Loaded = Fake;
    const KIND: v1::Kind = v1::Kind::Scribe;

    fn description(&self) -> String {
        "fake".into()
    }

    fn load(&self, manifest: &Manifest, folder: &Path) -> Result<Fake, LoadError> {
        assert!(folder.join("model.gguf").is_file());
        let name = manifest.version.clone();
        Ok(Fake::new(vec![Play::Wait(vec![name]); 100], self.0.clone()))
    }
}

struct Cluster {
    temporary: tempfile::TempDir,
    registry: Registry,
    channel: Channel,
    /// Lets the streams finish.
    go_on: CancellationToken,
    stop: Arc<Notify>,
    worker: JoinHandle<Result<(), understudy_worker::Error>>,
    _registry_stop: oneshot::Sender<()>,
}

impl Cluster {
    async fn start(drain_timeout: Duration) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let served = understudy_embedded_registry::Options {
            data_dir: temporary.path().join("registry"),
            listen: ([127, 0, 0, 1], 0).into(),
        };
        let (ready, address) = oneshot::channel();
        let (registry_stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(understudy_embedded_registry::serve(
            served,
            |address| ready.send(address).unwrap(),
            async {
                let _ = stopped.await;
            },
        ));
        let registry = RegistryOptions {
            endpoints: vec![format!("http://{}", address.await.unwrap())],
            ..RegistryOptions::default()
        };
        let options = WorkerOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            name: Some("w1".into()),
            metrics_listen: ([127, 0, 0, 1], 0).into(),
            cache_dir: Some(temporary.path().join("cache")),
            cache_bytes_max: 1 << 30,
            lease_ttl: Duration::from_secs(2),
            drain_grace: Duration::from_millis(100),
            drain_timeout,
            registry: registry.clone(),
            inject_fault: vec![],
        };
        let go_on = CancellationToken::new();
        let mut metrics_registry = MetricsRegistry::default();
        let metrics = Metrics::register(&mut metrics_registry);
        let worker = Worker::start(options, FakeLoader(go_on.clone()), &mut metrics_registry)
            .await
            .unwrap();
        Engines::register(worker.versions(), &mut metrics_registry);
        let address = worker.address();
        let service = ScribeServer::new(ScribeService::new(worker.versions(), metrics.clone()));
        let routes = Routes::new(Edge::new(service, metrics));
        let stop = Arc::new(Notify::new());
        let stopping = Arc::clone(&stop);
        let worker = tokio::spawn(worker.serve(routes, async move { stopping.notified().await }));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            temporary,
            registry: Registry::connect(&registry).await.unwrap(),
            channel: endpoint.connect().await.unwrap(),
            go_on,
            stop,
            worker,
            _registry_stop: registry_stop,
        }
    }

    async fn publish(&self, version: &str) {
        let source = self.temporary.path().join("source").join(version);
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("model.gguf"), version).unwrap();
        let store = uri_of_folder(&self.temporary.path().join("store")).unwrap();
        let prefix = format!("critic/{version}");
        let uploaded = understudy_artifacts::upload(&store, &prefix, &source, &["model.gguf"], |_, _| {})
            .await
            .unwrap();
        let files = uploaded.files.into_iter().map(|file| v1::ArtifactFile {
            path: file.path,
            sha256: file.sha256,
            size_bytes: file.size_bytes,
        });
        let manifest = v1::Manifest {
            format: 1,
            model: "critic".into(),
            version: version.into(),
            kind: v1::Kind::Scribe.into(),
            artifact_uri: uploaded.uri,
            files: files.collect(),
            ..v1::Manifest::default()
        };
        self.registry.create_manifest(&manifest).await.unwrap();
    }

    async fn route(&self, version: &str) {
        let old = self.registry.route("critic").await.unwrap();
        let route = v1::Route {
            model: "critic".into(),
            kind: v1::Kind::Scribe.into(),
            epoch: old.as_ref().map_or(0, |old| old.value.epoch) + 1,
            arms: vec![v1::Arm {
                name: version.into(),
                version: version.into(),
                weight_ppm: 1_000_000,
            }],
            pinning: v1::Pinning::Allowed.into(),
            ..v1::Route::default()
        };
        let revision = old.map_or(0, |old| old.mod_revision);
        self.registry.put_route(&route, revision).await.unwrap();
    }

    /// Waits until the worker announces exactly this.
    async fn announces(&self, expected: &[(&str, ResidencyState)]) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let record = self.registry.get::<v1::Worker>("w1").await.unwrap();
            let versions = record.map_or_else(Vec::new, |stored| stored.value.versions);
            let found: Vec<_> = versions.iter().map(|one| (one.version.as_str(), one.state())).collect();
            if found == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "{found:?}, expected {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Opens a stream; gives it with the name of the version that answers.
    async fn open(&self) -> (Streaming<GenerateResponse>, String) {
        let response = ScribeClient::new(self.channel.clone())
            .generate(prompt("x"))
            .await
            .unwrap();
        let stamp = response.metadata().get("understudy-version").unwrap().clone();
        let mut stream = response.into_inner();
        let Event::Text(version) = stream.message().await.unwrap().unwrap().event.unwrap() else {
            panic!("no text");
        };
        assert_eq!(version, stamp.to_str().unwrap());
        (stream, version)
    }

    async fn health(&self, service: &str) -> i32 {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = HealthClient::new(self.channel.clone()).check(request).await.unwrap();
        answer.into_inner().status
    }

    async fn stop(self) {
        self.stop.notify_one();
        timeout(PATIENCE, self.worker).await.unwrap().unwrap().unwrap();
    }
}

/// The version that says it finished.
async fn finish(mut stream: Streaming<GenerateResponse>) -> String {
    loop {
        match stream.message().await.unwrap().unwrap().event.unwrap() {
            Event::Text(_) => {}
            Event::Finish(finish) => return finish.version,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_streams_finish_on_the_old_version() {
    use ResidencyState::{Draining, Ready};
    let cluster = Cluster::start(Duration::from_secs(10)).await;
    cluster.publish("v1").await;
    cluster.publish("v2").await;
    cluster.route("v1").await;
    cluster.announces(&[("v1", Ready)]).await;
    let (old, version) = cluster.open().await;
    assert_eq!(version, "v1");

    cluster.route("v2").await;
    cluster.announces(&[("v1", Draining), ("v2", Ready)]).await;
    let (new, version) = cluster.open().await;
    assert_eq!(version, "v2");
    cluster.go_on.cancel();
    assert_eq!(finish(old).await, "v1");
    cluster.announces(&[("v2", Ready)]).await;
    assert_eq!(finish(new).await, "v2");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlives_the_drain_timeout_is_told_to_end() {
    let cluster = Cluster::start(Duration::from_millis(300)).await;
    cluster.publish("v1").await;
    cluster.publish("v2").await;
    cluster.route("v1").await;
    cluster.announces(&[("v1", ResidencyState::Ready)]).await;
    let (mut old, _) = cluster.open().await;
    cluster.route("v2").await;
    let error = timeout(PATIENCE, old.message()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert_eq!(error.metadata().get("understudy-version").unwrap(), "v1");
    cluster.announces(&[("v2", ResidencyState::Ready)]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_know_the_scribe() {
    let cluster = Cluster::start(Duration::from_secs(1)).await;
    assert_eq!(cluster.health("").await, 1);
    cluster.publish("v1").await;
    cluster.route("v1").await;
    cluster.announces(&[("v1", ResidencyState::Ready)]).await;
    for service in ["", "understudy.v1.Scribe", "critic/v1"] {
        assert_eq!(cluster.health(service).await, 1, "{service:?}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("understudy.v1.Scribe".into())),
    };
    let answers = ServerReflectionClient::new(cluster.channel.clone())
        .server_reflection_info(tokio_stream::iter([request]))
        .await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
        panic!("{answer:?}");
    };
    assert!(!files.file_descriptor_proto.is_empty());
    cluster.stop().await;
}
