//! Registry, router, workers and clients for tests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Runtime,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap, transport::Channel};
use understudy_embedded_registry::Options;
use understudy_protocol::v1::{
    Arm, ArtifactFile, ClassProbability, Classification, ClassifyBatchRequest, ClassifyBatchResponse, ClassifyRequest,
    ClassifyResponse, ClassifyStreamRequest, ClassifyStreamResponse, GetModelInfoRequest, Kind, Manifest, ModelInfo,
    Residency, ResidencyState, Route, SetRouteRequest, Worker,
    analyst_client::AnalystClient,
    analyst_server::{Analyst, AnalystServer},
    classify_stream_response,
    models_client::ModelsClient,
    routes_client::RoutesClient,
};
use understudy_registry::{Announcement, Registry, RegistryOptions};
use understudy_router::{Router, RouterOptions};

pub const MODEL: &str = "m";

/// A registry that can be killed and started again with its data, on the same port.
pub struct RegistryProcess {
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    runtime: Option<Runtime>,
}

impl RegistryProcess {
    pub async fn start() -> Self {
        let mut process = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            runtime: None,
        };
        process.restart().await;
        process
    }

    pub async fn restart(&mut self) {
        for _ in 0..50 {
            let runtime = runtime();
            let options = Options {
                data_dir: self.folder.path().to_owned(),
                listen: self.address,
            };
            let (ready, address) = tokio::sync::oneshot::channel();
            runtime.spawn(async move {
                let ready = |address| _ = ready.send(address);
                understudy_embedded_registry::serve(options, ready, std::future::pending()).await
            });
            if let Ok(address) = address.await {
                self.address = address;
                self.runtime = Some(runtime);
                return;
            }
            runtime.shutdown_background();
            tokio::time::sleep(Duration::from_millis(100)).await; // the old one still holds the port or the data
        }
        panic!("the registry did not come back");
    }

    pub fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub async fn client(&self) -> Registry {
        let endpoints = vec![format!("http://{}", self.address)];
        Registry::connect(&RegistryOptions {
            endpoints,
            ..RegistryOptions::default()
        })
        .await
        .unwrap()
    }
}

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// What a worker saw and what it is to do wrong.
#[derive(Default)]
pub struct Behaviour {
    pub calls: AtomicU64,
    pub cancelled: AtomicU64,
    pub last: Mutex<MetadataMap>,
    /// Answer with UNAVAILABLE and this reason.
    pub refuse: Mutex<Option<&'static str>>,
    /// What is wrong with a version.
    pub parts: Mutex<HashMap<String, Part>>,
    /// Calls by version, and whether they were copies.
    pub seen: Mutex<HashMap<(String, bool), u64>>,
    /// Copies that are open, and the most that ever were.
    pub copies: AtomicU64,
    pub copies_max: AtomicU64,
}

/// What is wrong with a version.
#[derive(Clone, Copy, Default)]
pub struct Part {
    pub slow: Duration,
    pub fail: Option<Code>,
    /// Says "positive" for "negative" and the other way round.
    pub swapped: bool,
    /// The same, but only to copies.
    pub copies_swapped: bool,
}

impl Behaviour {
    pub fn play(&self, version: &str, part: Part) {
        self.parts.lock().unwrap().insert(version.to_owned(), part);
    }

    pub fn seen(&self, version: &str, copy: bool) -> u64 {
        let seen = self.seen.lock().unwrap();
        seen.get(&(version.to_owned(), copy)).copied().unwrap_or_default()
    }

    /// Takes note of a call, and does what is wrong with its version. Returns the version and whether labels are swapped.
    async fn begin(self: &Arc<Self>, metadata: &MetadataMap) -> Result<(String, bool), Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        *self.last.lock().unwrap() = metadata.clone();
        if let Some(reason) = *self.refuse.lock().unwrap() {
            return Err(understudy_protocol::status::reason(
                Code::Unavailable,
                "not here",
                reason,
            ));
        }
        let version = metadata
            .get("understudy-version")
            .map_or("", |version| version.to_str().unwrap());
        let copy = metadata.contains_key("understudy-shadow");
        *self.seen.lock().unwrap().entry((version.to_owned(), copy)).or_default() += 1;
        let part = self.parts.lock().unwrap().get(version).copied().unwrap_or_default();
        let _open = copy.then(|| OpenCopy::new(self));
        if !part.slow.is_zero() {
            let mut watch = Watch(Arc::clone(self), false);
            tokio::time::sleep(part.slow).await;
            watch.1 = true;
        }
        match part.fail {
            Some(code) => Err(Status::new(code, "it is broken")),
            None => Ok((version.to_owned(), part.swapped || copy && part.copies_swapped)),
        }
    }
}

struct OpenCopy(Arc<Behaviour>);

impl OpenCopy {
    fn new(behaviour: &Arc<Behaviour>) -> Self {
        let open = behaviour.copies.fetch_add(1, Ordering::SeqCst) + 1;
        behaviour.copies_max.fetch_max(open, Ordering::SeqCst);
        Self(Arc::clone(behaviour))
    }
}

impl Drop for OpenCopy {
    fn drop(&mut self) {
        self.0.copies.fetch_sub(1, Ordering::SeqCst);
    }
}

/// "positive …" and "negative …" are classified as a model would; any other text is its own label.
fn classified(text: &str, version: &str, swapped: bool) -> Classification {
    let class = |label: &str, probability| ClassProbability {
        label: label.into(),
        probability,
    };
    let positive = match text.split_whitespace().next() {
        Some("positive") => !swapped,
        Some("negative") => swapped,
        _ => {
            return Classification {
                label: text.into(),
                version: version.into(),
                ..Classification::default()
            };
        }
    };
    let (label, probability) = if positive {
        ("positive", 0.875)
    } else {
        ("negative", 0.125)
    };
    Classification {
        label: label.into(),
        confidence: 0.875,
        probabilities: vec![class("negative", 1.0 - probability), class("positive", probability)],
        token_count: 3,
        version: version.into(),
        ..Classification::default()
    }
}

/// A worker in a runtime of its own, so that it can be killed with all its connections.
pub struct FakeWorker {
    pub behaviour: Arc<Behaviour>,
    announcement: Mutex<Option<Announcement>>,
    record: Mutex<Worker>,
    runtime: Option<Runtime>,
}

pub fn residency(version: &str, state: ResidencyState) -> Residency {
    Residency {
        model: MODEL.into(),
        version: version.into(),
        state: state.into(),
        reason: String::new(),
    }
}

impl FakeWorker {
    /// Serves and announces these versions as ready. Its connections are closed in good order at the given age.
    pub async fn start(registry: &RegistryProcess, name: &str, versions: &[&str], age: Option<Duration>) -> Self {
        let runtime = runtime();
        let behaviour = Arc::new(Behaviour::default());
        let listener = runtime
            .spawn(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .await
            .unwrap()
            .unwrap();
        let address = listener.local_addr().unwrap();
        let service = AnalystServer::new(Fake {
            name: name.into(),
            behaviour: Arc::clone(&behaviour),
        })
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20);
        let mut server = tonic::transport::Server::builder();
        if let Some(age) = age {
            server = server.max_connection_age(age);
        }
        runtime.spawn(
            server
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let record = Worker {
            worker: name.into(),
            kind: Kind::Analyst.into(),
            address: format!("http://{address}"),
            versions: versions
                .iter()
                .map(|version| residency(version, ResidencyState::Ready))
                .collect(),
            engine: "fake".into(),
        };
        let (client, announced) = (registry.client().await, record.clone());
        let announcement = runtime
            .spawn(async move { client.announce(announced, Duration::from_secs(2)) })
            .await
            .unwrap();
        Self {
            behaviour,
            announcement: Mutex::new(Some(announcement)),
            record: Mutex::new(record),
            runtime: Some(runtime),
        }
    }

    /// Announces other states of its versions.
    pub fn announce(&self, versions: Vec<Residency>) {
        let mut record = self.record.lock().unwrap();
        record.versions = versions;
        self.announcement.lock().unwrap().as_ref().unwrap().set(record.clone());
    }

    /// Like SIGKILL: connections break, the lease is not revoked.
    pub fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub fn calls(&self) -> u64 {
        self.behaviour.calls.load(Ordering::SeqCst)
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        drop(self.announcement.lock().unwrap().take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Fake {
    name: String,
    behaviour: Arc<Behaviour>,
}

/// Counts a call that was dropped before its end.
struct Watch(Arc<Behaviour>, bool);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tonic::async_trait]
impl Analyst for Fake {
    /// Does what the text says: `sleep MILLISECONDS`, `fail CODE`, else answers at once.
    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        let (version, swapped) = self.behaviour.begin(request.metadata()).await?;
        let custom = request.metadata().get("x-custom").cloned();
        let text = request.into_inner().text;
        if let Some(millis) = text.strip_prefix("sleep ") {
            let mut watch = Watch(Arc::clone(&self.behaviour), false);
            tokio::time::sleep(Duration::from_millis(millis.parse().unwrap())).await;
            watch.1 = true;
        }
        if let Some(code) = text.strip_prefix("fail ") {
            return Err(Status::new(Code::from(code.parse::<i32>().unwrap()), "as you wish"));
        }
        let mut response = Response::new(ClassifyResponse {
            classification: Some(classified(&text, &version, swapped)),
        });
        response
            .metadata_mut()
            .insert("understudy-worker", self.name.parse().unwrap());
        if let Some(custom) = custom {
            response.metadata_mut().insert("x-custom-back", custom);
        }
        Ok(response)
    }

    async fn classify_batch(
        &self,
        request: Request<ClassifyBatchRequest>,
    ) -> Result<Response<ClassifyBatchResponse>, Status> {
        let (version, swapped) = self.behaviour.begin(request.metadata()).await?;
        let texts = request.into_inner().texts;
        let classifications = texts.iter().map(|text| classified(text, &version, swapped)).collect();
        Ok(Response::new(ClassifyBatchResponse { classifications }))
    }

    type ClassifyStreamStream = Pin<Box<dyn Stream<Item = Result<ClassifyStreamResponse, Status>> + Send>>;

    /// Answers each text by itself as the label; `fail CODE` ends the stream.
    async fn classify_stream(
        &self,
        request: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let (version, swapped) = self.behaviour.begin(request.metadata()).await?;
        let (mut index, watch) = (0, Watch(Arc::clone(&self.behaviour), false));
        let stream = request.into_inner().map(move |item| {
            let _watch = &watch;
            let text = item?.text;
            if let Some(code) = text.strip_prefix("fail ") {
                return Err(Status::new(Code::from(code.parse::<i32>().unwrap()), "as you wish"));
            }
            index += 1;
            let result = classify_stream_response::Result::Classification(classified(&text, &version, swapped));
            Ok(ClassifyStreamResponse {
                index: index - 1,
                result: Some(result),
            })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_model_info(&self, _: Request<GetModelInfoRequest>) -> Result<Response<ModelInfo>, Status> {
        Ok(Response::new(ModelInfo::default()))
    }
}

/// A registry with versions v1 to v3 of one model, and a router.
pub struct Cluster {
    pub registry: RegistryProcess,
    pub state_dir: tempfile::TempDir,
    pub router: Option<Router>,
    pub metrics: MetricsRegistry,
    pub address: SocketAddr,
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    router: RouterOptions,
}

impl Cluster {
    pub async fn start(flags: &[&str]) -> Self {
        let registry = RegistryProcess::start().await;
        let client = registry.client().await;
        for version in ["v1", "v2", "v3"] {
            client.create_manifest(&manifest(MODEL, version)).await.unwrap();
        }
        let address = registry.address;
        let mut cluster = Self {
            registry,
            state_dir: tempfile::tempdir().unwrap(),
            router: None,
            metrics: MetricsRegistry::default(),
            address,
        };
        cluster.start_router(flags).await;
        cluster
    }

    pub async fn start_router(&mut self, flags: &[&str]) {
        let registry = format!("--registry=http://{}", self.registry.address);
        let state = format!("--state-dir={}", self.state_dir.path().display());
        let own = ["router", "--listen=127.0.0.1:0", &registry, &state];
        let flags = Flags::parse_from(own.iter().chain(flags));
        self.metrics = MetricsRegistry::default();
        let router = Router::start(flags.router, &mut self.metrics).await.unwrap();
        self.address = router.address();
        self.router = Some(router);
    }

    pub async fn worker(&self, name: &str, versions: &[&str]) -> FakeWorker {
        FakeWorker::start(&self.registry, name, versions, None).await
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.http2_max_header_list_size(1 << 20).connect().await.unwrap()
    }

    pub async fn client(&self) -> Client {
        Client(AnalystClient::new(self.channel().await).max_decoding_message_size(64 << 20))
    }

    pub async fn models(&self) -> ModelsClient<Channel> {
        ModelsClient::new(self.channel().await)
    }

    pub async fn routes(&self) -> RoutesClient<Channel> {
        RoutesClient::new(self.channel().await)
    }

    /// Sets the model's route and waits until the router serves it.
    pub async fn route(&self, arms: &[(&str, &str, u32)]) -> Route {
        self.route_of(route(arms)).await
    }

    pub async fn route_of(&self, route: Route) -> Route {
        let mut routes = self.routes().await;
        let request = SetRouteRequest {
            route: Some(route),
            expected_epoch: None,
        };
        let route = routes.set_route(request).await.unwrap().into_inner().route.unwrap();
        for _ in 0..500 {
            let request = understudy_protocol::v1::GetRouteRequest {
                model: route.model.clone(),
            };
            let answer = routes.get_route(request).await.unwrap().into_inner();
            if answer.route.unwrap() == route && answer.traffic.len() == route.arms.len() {
                return route;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the router does not serve the route");
    }

    /// Waits until each arm has this many ready workers.
    pub async fn ready(&self, counts: &[u32]) {
        let mut routes = self.routes().await;
        let mut seen = Vec::new();
        for _ in 0..1_000 {
            let request = understudy_protocol::v1::GetRouteRequest { model: MODEL.into() };
            let traffic = routes.get_route(request).await.unwrap().into_inner().traffic;
            seen = traffic.iter().map(|arm| arm.ready_workers).collect();
            if seen == counts {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("ready workers: {seen:?} instead of {counts:?}");
    }

    /// Names of the workers that the router knows.
    pub async fn workers(&self) -> Vec<String> {
        let request = understudy_protocol::v1::ListWorkersRequest {};
        let answer = self.routes().await.list_workers(request).await.unwrap().into_inner();
        answer
            .workers
            .into_iter()
            .map(|status| status.worker.unwrap().worker)
            .collect()
    }

    /// Sum of all series of a metric whose line contains the text.
    pub fn metric(&self, name: &str, with: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let name = format!("understudy_router_{name}");
        let values = text
            .lines()
            .filter(|line| line.starts_with(&name) && line.contains(with));
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

pub fn route(arms: &[(&str, &str, u32)]) -> Route {
    let arm = |&(name, version, weight_ppm): &(&str, &str, u32)| Arm {
        name: name.into(),
        version: version.into(),
        weight_ppm,
    };
    Route {
        model: MODEL.into(),
        kind: Kind::Analyst.into(),
        arms: arms.iter().map(arm).collect(),
        ..Route::default()
    }
}

pub fn manifest(model: &str, version: &str) -> Manifest {
    Manifest {
        format: 1,
        model: model.into(),
        version: version.into(),
        kind: Kind::Analyst.into(),
        artifact_uri: "file:///nowhere".into(),
        files: vec![ArtifactFile {
            path: "config.json".into(),
            sha256: "0".repeat(64),
            size_bytes: 1,
        }],
        labels: vec!["negative".into(), "positive".into()],
        ..Manifest::default()
    }
}

/// An answer and its metadata.
#[derive(Debug)]
pub struct Answer {
    pub version: String,
    pub arm: String,
    pub worker: String,
    pub label: String,
    pub metadata: MetadataMap,
}

#[derive(Clone)]
pub struct Client(pub AnalystClient<Channel>);

impl Client {
    pub async fn call(&mut self, text: &str, metadata: &[(&'static str, &str)]) -> Result<Answer, Status> {
        let response = self.0.classify(request(text, metadata)).await?;
        let (metadata, body, _) = response.into_parts();
        let get = |key: &str| {
            metadata
                .get(key)
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        let classification = body.classification.unwrap();
        assert_eq!(
            get("understudy-version"),
            classification.version,
            "the worker was asked for the version that is told"
        );
        Ok(Answer {
            version: get("understudy-version"),
            arm: get("understudy-arm"),
            worker: get("understudy-worker"),
            label: classification.label,
            metadata,
        })
    }
}

pub fn request(text: &str, metadata: &[(&'static str, &str)]) -> Request<ClassifyRequest> {
    let mut request = Request::new(ClassifyRequest { text: text.to_owned() });
    for (key, value) in metadata {
        request.metadata_mut().insert(*key, value.parse().unwrap());
    }
    request
}

/// Sends `n` requests over `clients` connections, `each` at a time on each; returns how many each arm answered.
pub async fn load(cluster: &Cluster, clients: usize, each: usize, n: usize) -> HashMap<String, u64> {
    let left = Arc::new(AtomicU64::new(n as u64));
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let client = cluster.client().await;
        for _ in 0..each {
            let (mut client, left) = (client.clone(), Arc::clone(&left));
            tasks.push(tokio::spawn(async move {
                let mut arms = HashMap::new();
                let take = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    *arms.entry(client.call("x", &[]).await.unwrap().arm).or_default() += 1;
                }
                arms
            }));
        }
    }
    let mut sum = HashMap::new();
    for task in tasks {
        let arms: HashMap<String, u64> = task.await.unwrap();
        arms.into_iter()
            .for_each(|(arm, count)| *sum.entry(arm).or_default() += count);
    }
    sum
}

/// Waits until a worker and a route are on disk.
pub async fn state_saved(cluster: &Cluster) {
    let saved = |text: String| text.contains("\"worker\"") && text.contains("\"arms\"");
    for _ in 0..500 {
        if std::fs::read_to_string(state_file(cluster)).is_ok_and(saved) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the state is not saved");
}

pub fn state_file(cluster: &Cluster) -> PathBuf {
    cluster.state_dir.path().join("last-known-good.json")
}

/// A client without tonic, which would do some of the router's work.
pub type Http2 = http2::SendRequest<Full<Bytes>>;

pub async fn http2<I>(io: I) -> Http2
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn classify(authority: &str) -> http::request::Builder {
    http::Request::post(format!("http://{authority}/understudy.v1.Analyst/Classify"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// A `ClassifyRequest` with its frame's head.
pub fn message(text: &str) -> Bytes {
    let length = u8::try_from(text.len()).unwrap();
    [&[0, 0, 0, 0, length + 2, 0x0a, length], text.as_bytes()]
        .concat()
        .into()
}

/// Sends an empty text and returns the answer's code.
pub async fn code(sender: &mut Http2, request: http::request::Builder) -> i32 {
    code_for(sender, request, "").await
}

pub async fn code_for(sender: &mut Http2, request: http::request::Builder, text: &str) -> i32 {
    let response = sender
        .send_request(request.body(Full::new(message(text))).unwrap())
        .await
        .unwrap();
    let status = |headers: &http::HeaderMap| headers.get("grpc-status").map(|v| v.to_str().unwrap().parse().unwrap());
    let in_headers = status(response.headers());
    let trailers = response
        .into_body()
        .collect()
        .await
        .unwrap()
        .trailers()
        .cloned()
        .unwrap_or_default();
    in_headers.or_else(|| status(&trailers)).unwrap()
}
