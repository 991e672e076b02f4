//! Routers that can be killed, each behind a wire to the registry that can be cut at a chosen word, and rollouts that take
//! seconds.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser as _;
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    runtime::Runtime,
    task::JoinHandle,
};
use tonic::{Status, transport::Channel};
use understudy_protocol::v1::{
    AgreementGate, ConfidenceGate, Gates, GetRolloutRequest, GetRolloutResponse, LabelGate, LatencyGate, Phase,
    Rollout, RolloutSpec, RolloutStatus, StartRolloutRequest, Step, Strategy, TextGate, Transition,
    analyst_client::AnalystClient, rollouts_client::RolloutsClient, routes_client::RoutesClient,
};
use understudy_registry::Registry;
use understudy_router::{Router, RouterOptions};

use crate::kit::{Client, FakeWorker, MODEL, RegistryProcess, manifest, route};

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    router: RouterOptions,
}

/// A router in a runtime of its own, so that it can be killed with its leases left behind.
pub struct Peer {
    pub name: String,
    pub address: SocketAddr,
    pub wire: Wire,
    pub metrics: MetricsRegistry,
    router: Option<Router>,
    runtime: Option<Runtime>,
    _state: tempfile::TempDir,
}

impl Peer {
    pub async fn start(registry: &RegistryProcess, name: &str, cut: Option<Cut>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let wire = Wire::start(registry.address).await;
        wire.cut_at(cut);
        let state = tempfile::tempdir().unwrap();
        let flags = Flags::parse_from([
            "router".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            format!("--registry=http://{}", wire.address),
            format!("--state-dir={}", state.path().display()),
            format!("--name={name}"),
            "--controller-ttl=2s".to_owned(),
        ]);
        let started = runtime.spawn(async move {
            let mut metrics = MetricsRegistry::default();
            (Router::start(flags.router, &mut metrics).await.unwrap(), metrics)
        });
        let (router, metrics) = started.await.unwrap();
        Self {
            name: name.to_owned(),
            address: router.address(),
            wire,
            metrics,
            router: Some(router),
            runtime: Some(runtime),
            _state: state,
        }
    }

    /// Like SIGKILL.
    pub fn kill(&mut self) {
        // In this order: a router that is dropped gives its leases back.
        self.runtime.take().unwrap().shutdown_background();
        drop(self.router.take());
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub async fn rollouts(&self) -> RolloutsClient<Channel> {
        RolloutsClient::new(self.channel().await)
    }

    pub async fn routes(&self) -> RoutesClient<Channel> {
        RoutesClient::new(self.channel().await)
    }

    pub async fn client(&self) -> Client {
        Client(AnalystClient::new(self.channel().await))
    }

    pub fn metric(&self, line: &str) -> Option<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line))?;
        Some(value.trim().parse().unwrap())
    }

    /// The registry as this router's neighbours see it.
    pub async fn get(&self) -> GetRolloutResponse {
        let request = GetRolloutRequest { model: MODEL.into() };
        self.rollouts().await.get_rollout(request).await.unwrap().into_inner()
    }

    pub async fn begin(&self, spec: RolloutSpec) -> Result<Rollout, Status> {
        self.begin_over(spec, false).await
    }

    pub async fn begin_over(&self, spec: RolloutSpec, supersede: bool) -> Result<Rollout, Status> {
        let request = StartRolloutRequest {
            model: MODEL.into(),
            spec: Some(spec),
            supersede,
        };
        let answer = self.rollouts().await.start_rollout(request).await?;
        Ok(answer.into_inner().rollout.unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.runtime.is_some() {
            self.kill();
        }
    }
}

/// Passes bytes to the registry until a word is seen.
pub struct Wire {
    pub address: SocketAddr,
    trap: Arc<Trap>,
    task: JoinHandle<()>,
}

/// Where a wire is cut.
#[derive(Debug, Clone)]
pub struct Cut {
    pub word: String,
    /// Whether what holds the word still arrives.
    pub arrives: bool,
}

#[derive(Default)]
struct Trap {
    cut: Mutex<Option<Cut>>,
    sprung: AtomicBool,
    arrives: AtomicBool,
}

impl Wire {
    async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trap = Arc::new(Trap::default());
        let own = Arc::clone(&trap);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(upstream).await else {
                    continue;
                };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ((from, back), (answers, to)) = (near.into_split(), far.into_split());
                tokio::spawn(ask(from, to, Arc::clone(&own)));
                tokio::spawn(answer(answers, back, Arc::clone(&own)));
            }
        });
        Self { address, trap, task }
    }

    /// From the word on nothing comes back; and nothing arrives, unless what holds the word shall.
    fn cut_at(&self, cut: Option<Cut>) {
        *self.trap.cut.lock().unwrap() = cut;
    }

    pub fn is_cut(&self) -> bool {
        self.trap.sprung.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, trap: Arc<Trap>) {
    let (mut chunk, mut window) = (vec![0; 65_536], Vec::new());
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        window.extend_from_slice(&chunk[..length]);
        if let Some(Cut { word, arrives }) = trap.cut.lock().unwrap().clone()
            && window.windows(word.len()).any(|part| part == word.as_bytes())
        {
            trap.arrives.store(arrives, Ordering::SeqCst);
            trap.sprung.store(true, Ordering::SeqCst);
        }
        let arrives = !trap.sprung.load(Ordering::SeqCst) || trap.arrives.load(Ordering::SeqCst);
        if !arrives {
            return std::future::pending().await;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
        window.drain(..window.len().saturating_sub(200));
    }
}

async fn answer(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, trap: Arc<Trap>) {
    let mut chunk = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if trap.sprung.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// A registry with published versions and a route to v1, workers that have v1 and v2, and routers.
pub struct Stage {
    pub registry: RegistryProcess,
    pub workers: Vec<FakeWorker>,
    pub peers: Vec<Peer>,
    /// Of routers to come.
    cut: Option<Cut>,
}

impl Stage {
    pub async fn start(peers: usize) -> Self {
        let registry = RegistryProcess::start().await;
        let client = registry.client().await;
        for version in ["v1", "v2", "v3"] {
            client.create_manifest(&manifest(MODEL, version)).await.unwrap();
        }
        let mut first = route(&[("stable", "v1", 1_000_000)]);
        first.epoch = 1;
        client.put_route(&first, 0).await.unwrap();
        let mut stage = Self {
            workers: vec![
                FakeWorker::start(&registry, "w1", &["v1", "v2", "v3"], None).await,
                FakeWorker::start(&registry, "w2", &["v1", "v2", "v3"], None).await,
            ],
            registry,
            peers: Vec::new(),
            cut: None,
        };
        for index in 0..peers {
            stage.peer(&format!("r{index}")).await;
        }
        eventually("somebody leads", async || {
            let leads = |peer: &Peer| peer.metric("understudy_rollout_leader ") > Some(0.5);
            stage.peers.iter().any(leads)
        })
        .await;
        stage
    }

    /// Starts a router and waits until it serves.
    pub async fn peer(&mut self, name: &str) {
        let peer = Peer::start(&self.registry, name, self.cut.clone()).await;
        let mut client = peer.client().await;
        eventually("the router serves", async || client.call("x", &[]).await.is_ok()).await;
        self.peers.push(peer);
    }

    pub fn first(&self) -> &Peer {
        &self.peers[0]
    }

    pub async fn record(&self) -> Rollout {
        record(&self.registry.client().await).await
    }

    /// Waits until the rollout is in this phase.
    pub async fn reaches(&self, phase: Phase) -> Rollout {
        self.reaches_within(phase, Duration::from_secs(30)).await
    }

    pub async fn reaches_within(&self, phase: Phase, time: Duration) -> Rollout {
        let (client, since) = (self.registry.client().await, Instant::now());
        loop {
            let record = record(&client).await;
            if status(&record).phase() == phase {
                return record;
            }
            assert!(since.elapsed() < time, "not {phase:?}: {:#?}", told(&record));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Cuts off whoever writes the word, also routers to come.
    pub fn cut_at(&mut self, cut: Option<Cut>) {
        self.peers.iter().for_each(|peer| peer.wire.cut_at(cut.clone()));
        self.cut = cut;
    }

    /// Waits until some router is cut off the registry, and takes it off the stage.
    pub async fn cut(&mut self, what: &str) -> Peer {
        let since = Instant::now();
        loop {
            if let Some(index) = self.peers.iter().position(|peer| peer.wire.is_cut()) {
                return self.peers.remove(index);
            }
            let told = told(&self.record().await);
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "nobody writes {what}: {told:#?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Shares of the arms in the registry.
    pub async fn weights(&self) -> BTreeMap<String, u32> {
        let stored = self.registry.client().await.route(MODEL).await.unwrap().unwrap();
        let arms = stored.value.arms.into_iter();
        arms.map(|arm| (arm.version, arm.weight_ppm)).collect()
    }
}

pub async fn record(registry: &Registry) -> Rollout {
    registry.rollout(MODEL).await.unwrap().unwrap().value
}

pub fn status(record: &Rollout) -> &RolloutStatus {
    record.status.as_ref().unwrap()
}

/// The history in short.
pub fn told(record: &Rollout) -> Vec<String> {
    let line = |t: &Transition| format!("{:?} {} {} {}: {}", t.to(), t.step, t.weight_ppm, t.by, t.reason);
    record.history.iter().map(line).collect()
}

/// The phases and steps that the history tells of.
pub fn course(record: &Rollout) -> Vec<(Phase, u32)> {
    record.history.iter().map(|t| (t.to(), t.step)).collect()
}

pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !is_so().await {
        assert!(since.elapsed() < Duration::from_secs(20), "not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn time(millis: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: millis / 1_000,
        nanos: i32::try_from(millis % 1_000 * 1_000_000).unwrap(),
    })
}

/// A canary of some seconds that only errors can stop.
pub fn canary(candidate: &str, weights_ppm: &[u32], hold: i64) -> RolloutSpec {
    let step = |&weight_ppm: &u32| Step {
        weight_ppm,
        hold: time(hold),
        requests_min: 5,
        manual: false,
    };
    RolloutSpec {
        candidate: candidate.into(),
        steps: weights_ppm.iter().map(step).collect(),
        gates: Some(only_errors()),
        watch: time(hold),
        standby: time(hold),
        ..RolloutSpec::default()
    }
}

pub fn blue_green(candidate: &str, hold: i64) -> RolloutSpec {
    RolloutSpec {
        strategy: Strategy::BlueGreen.into(),
        ..canary(candidate, &[], hold)
    }
}

fn only_errors() -> Gates {
    Gates {
        latency: Some(LatencyGate {
            off: true,
            ..LatencyGate::default()
        }),
        agreement: Some(AgreementGate {
            off: true,
            ..AgreementGate::default()
        }),
        confidence: Some(ConfidenceGate {
            off: true,
            ..ConfidenceGate::default()
        }),
        text: Some(TextGate {
            off: true,
            ..TextGate::default()
        }),
        labels: Some(LabelGate {
            off: true,
            ..LabelGate::default()
        }),
        proof: Some(false),
        ..Gates::default()
    }
}

/// What requests came to.
#[derive(Debug, Default)]
pub struct Seen {
    pub versions: BTreeMap<String, u64>,
    pub failures: Vec<Status>,
}

impl Seen {
    pub fn of(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or_default()
    }
}

/// Requests one after another, from some clients at a time, until it is stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<(String, Arc<AtomicBool>)>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub async fn start(peers: &[Peer]) -> Self {
        let mut traffic = Self {
            stop: Arc::default(),
            clients: Vec::new(),
            seen: Arc::default(),
            tasks: Vec::new(),
        };
        for peer in peers {
            traffic.through(peer).await;
        }
        traffic
    }

    /// Further requests, through this router.
    pub async fn through(&mut self, peer: &Peer) {
        let (stop, over, seen) = (
            Arc::clone(&self.stop),
            Arc::new(AtomicBool::new(false)),
            Arc::clone(&self.seen),
        );
        self.clients.push((peer.name.clone(), Arc::clone(&over)));
        let mut client = peer.client().await;
        self.tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) && !over.load(Ordering::SeqCst) {
                let answer = client.call("x", &[]).await;
                {
                    let mut seen = seen.lock().unwrap();
                    match answer {
                        Ok(answer) => *seen.versions.entry(answer.version).or_default() += 1,
                        Err(status) => seen.failures.push(status),
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }));
    }

    /// No more through this router.
    pub async fn leave(&mut self, name: &str) {
        let of = self.clients.iter().position(|(client, _)| client == name).unwrap();
        self.clients.remove(of).1.store(true, Ordering::SeqCst);
        self.tasks.remove(of).await.unwrap();
    }

    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    pub async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
        self.take()
    }
}
