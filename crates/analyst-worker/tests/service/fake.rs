//! A model without libtorch, and a server around it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    metadata::MetadataMap,
    transport::{Channel, Server},
};
use understudy_analyst::{
    batch::Budget,
    config::Limits,
    dispatch::Dispatch,
    engine::Engines,
    held::{Held, Holder},
    metrics::Metrics,
    model::{Info, Model, Tokens},
    pipeline::{Bounds, Pipeline},
    service::AnalystService,
};
use understudy_protocol::v1::{analyst_client::AnalystClient, analyst_server::AnalystServer};
use understudy_worker::Edge;

/// Lengths of the texts of each computed batch.
pub(crate) type Batches = Arc<Mutex<Vec<Vec<usize>>>>;

/// A token is a byte. A text that begins with '+' is positive, one with '-' negative; "nan", "fail" and "panic" do that.
pub(crate) struct Fake {
    info: Info,
    pub(crate) batches: Batches,
    encoded: Arc<AtomicUsize>,
    /// An engine takes one message from here before it computes; when the sender is gone, it runs freely.
    gate: Mutex<mpsc::Receiver<()>>,
}

impl Model for Fake {
    fn info(&self) -> &Info {
        &self.info
    }

    fn encode(&self, text: &str) -> Result<Tokens, String> {
        self.encoded.fetch_add(1, Ordering::SeqCst);
        if text == "untokenisable" {
            return Err("no tokens".into());
        }
        Ok(Tokens {
            ids: text.bytes().take(512).map(u32::from).collect(),
            truncated: text.len() > 512,
        })
    }

    fn logits(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        let _ = self.gate.lock().unwrap().recv();
        self.batches
            .lock()
            .unwrap()
            .push(batch.iter().map(|ids| ids.len()).collect());
        let is = |ids: &[u32], text: &str| ids.iter().copied().eq(text.bytes().map(u32::from));
        if batch.iter().any(|ids| is(ids, "fail")) {
            return Err("the device is on fire".into());
        }
        assert!(!batch.iter().any(|ids| is(ids, "panic")), "a text asked for it");
        let row = |ids: &&[u32]| match () {
            () if is(ids, "nan") => vec![f32::NAN, 0.0],
            () if ids[0] == u32::from(b'+') => vec![-1.0, 1.0],
            () => vec![1.0, -1.0],
        };
        Ok(batch.iter().map(row).collect())
    }
}

/// The version "sentiment/v1", and no other.
#[derive(Clone)]
pub(crate) struct Only {
    fake: Arc<Fake>,
    expired: CancellationToken,
}

impl Holder for Only {
    type Held = Self;

    fn resolve(&self, metadata: &MetadataMap) -> Result<Self, Status> {
        match metadata.get("understudy-version") {
            Some(version) if version != "v1" => Err(Status::unavailable("not resident")),
            _ => Ok(self.clone()),
        }
    }
}

impl Held for Only {
    type Loaded = Fake;

    fn loaded(&self) -> &Fake {
        &self.fake
    }

    fn model(&self) -> &str {
        "sentiment"
    }

    fn version(&self) -> &str {
        "v1"
    }

    async fn expired(&self) {
        self.expired.cancelled().await;
    }

    fn expired_status(&self) -> Status {
        Status::unavailable("gone")
    }
}

/// A running server; stops when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) client: AnalystClient<Channel>,
    pub(crate) batches: Batches,
    pub(crate) registry: Registry,
    pub(crate) expired: CancellationToken,
    fake: Weak<Fake>,
    encoded: Arc<AtomicUsize>,
    gate: Option<mpsc::SyncSender<()>>,
    _stop: oneshot::Sender<()>,
    _engines: Option<Engines<Only>>,
}

/// How to start one.
pub(crate) struct Setup {
    pub(crate) engines: usize,
    /// Engines wait for [`Running::compute`].
    pub(crate) gated: bool,
    pub(crate) batch_max: usize,
    pub(crate) batch_tokens_max: usize,
    pub(crate) queue_depth_max: usize,
    pub(crate) queue_tokens_max: usize,
    pub(crate) shadow_depth_max: usize,
    pub(crate) stream_ahead_max: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            engines: 1,
            gated: false,
            batch_max: 32,
            batch_tokens_max: 4096,
            queue_depth_max: 64,
            queue_tokens_max: 65_536,
            shadow_depth_max: 64,
            stream_ahead_max: 4,
        }
    }
}

impl Setup {
    pub(crate) async fn start(self) -> Running {
        let (gate, turns) = mpsc::sync_channel(10_000);
        let gate = self.gated.then_some(gate);
        let expired = CancellationToken::new();
        let (batches, encoded) = (Batches::default(), Arc::<AtomicUsize>::default());
        let info = Info {
            labels: vec!["negative".into(), "positive".into()],
            tokens_max: 512,
            precision: "fp32".into(),
            device: "cpu".into(),
        };
        let fake = Fake {
            info,
            batches: Arc::clone(&batches),
            encoded: Arc::clone(&encoded),
            gate: Mutex::new(turns),
        };

        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let budget = Budget {
            tokens_max: self.batch_tokens_max,
            padded: false,
        };
        let dispatch = Arc::new(Dispatch::new(budget, metrics.clone()));
        let engines = Engines::start(&dispatch, self.engines, || (), &metrics).unwrap();
        let bounds = Bounds {
            queue_depth_max: self.queue_depth_max,
            queue_tokens_max: self.queue_tokens_max,
            shadow_depth_max: self.shadow_depth_max,
            tokenizer_threads: 2,
        };
        let count = |count: usize| count.try_into().unwrap();
        let limits = Limits {
            batch_max: count(self.batch_max),
            batch_tokens_max: None,
            queue_depth_max: count(self.queue_depth_max),
            queue_tokens_max: count(self.queue_tokens_max),
            stream_ahead_max: count(self.stream_ahead_max),
            tokenizer_threads: None,
        };
        let pipeline = Pipeline::new(dispatch, bounds, metrics.clone());
        let fake = Arc::new(fake);
        let weak = Arc::downgrade(&fake);
        let versions = Arc::new(Only {
            fake,
            expired: CancellationToken::clone(&expired),
        });
        let service = AnalystService::new(versions, pipeline, &limits, metrics.clone());
        let service = Edge::new(AnalystServer::new(service), metrics);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::builder().add_service(service);
        tokio::spawn(
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            }),
        );
        let client = AnalystClient::connect(format!("http://{address}")).await.unwrap();
        Running {
            address,
            client,
            batches,
            registry,
            expired,
            fake: weak,
            encoded,
            gate,
            _stop: stop,
            _engines: Some(engines),
        }
    }
}

impl Running {
    /// The code of a call that fails, without tonic's client: that has an alarm of its own, which would hide the server's.
    pub(crate) async fn raw_call(&self, path: &str, message: &impl prost::Message, timeout: &str) -> Code {
        let mut body = vec![0; 5];
        message.encode(&mut body).unwrap();
        let length = u32::try_from(body.len() - 5).unwrap();
        body[1..5].copy_from_slice(&length.to_be_bytes());
        let request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        let response = client.request(request).await.unwrap();
        Code::from_bytes(response.headers().get("grpc-status").unwrap().as_bytes())
    }

    /// Lets the engines compute one more batch.
    pub(crate) fn compute(&self) {
        self.gate.as_ref().unwrap().send(()).unwrap();
    }

    /// Lets the engines run freely.
    pub(crate) fn open(&mut self) {
        self.gate = None;
    }

    /// How many hold the version, the service among them.
    pub(crate) fn holders(&self) -> usize {
        self.fake.strong_count()
    }

    /// Texts that were tokenised.
    pub(crate) fn encoded(&self) -> usize {
        self.encoded.load(Ordering::SeqCst)
    }

    /// The value of a metric's line that contains each of these; 0 if there is none.
    pub(crate) fn metric(&self, parts: &[&str]) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text
            .lines()
            .find(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gate = None;
    }
}

/// Waits until something is so, or fails after five seconds.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..500 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited five seconds until {what}");
}
