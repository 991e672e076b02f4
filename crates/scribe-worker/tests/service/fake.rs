//! An engine without llama.cpp, and a server around it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    metadata::MetadataMap,
    transport::{Channel, Server},
};
use understudy_protocol::v1::{scribe_client::ScribeClient, scribe_server::ScribeServer};
use understudy_scribe::{
    engine::{Engine, EngineError, Event, Finish, FinishReason, Gauges, Generation, Info, Stream, Timings, Usage},
    held::{Held, Holder},
    metrics::{Engines, Metrics},
    request::REQUEST_BYTES_MAX,
    service::ScribeService,
};
use understudy_worker::Edge;

/// What the engine does with one generation.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    /// Says this, and ends for this reason.
    Say(Vec<String>, FinishReason),
    /// Says this, and goes on only when it is told to: [`Fake::go_on`].
    Wait(Vec<String>),
    /// Says this, and fails.
    Fail(Vec<String>, EngineError),
    /// Does not begin.
    Refuse(EngineError),
    /// Says this, and dies.
    Die(Vec<String>),
}

/// Says this in one piece.
pub(crate) fn says(text: &str) -> Play {
    Play::Say(vec![text.to_owned()], FinishReason::End)
}

/// Plays what it is given, one for each generation.
pub(crate) struct Fake {
    info: Info,
    gauges: Gauges,
    plays: Mutex<VecDeque<Play>>,
    asked: Mutex<Vec<Generation>>,
    go_on: CancellationToken,
    dropped: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) fn new(plays: impl IntoIterator<Item = Play>, go_on: CancellationToken) -> Self {
        let info = Info {
            name: "Fake 1B".into(),
            architecture: "llama".into(),
            parameters: 1_000_000_000,
            quantization: "Q4_K_M".into(),
            context_tokens: 2048,
            slots: 8,
            device: "cpu".into(),
        };
        let gauges = Gauges::default();
        gauges.kv_cells.store(4096, SeqCst);
        gauges.busy_micros.store(1_500_000, SeqCst);
        Self {
            info,
            gauges,
            plays: Mutex::new(plays.into_iter().collect()),
            asked: Mutex::default(),
            go_on,
            dropped: Arc::default(),
        }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Generation> {
        self.asked.lock().unwrap().clone()
    }

    /// Lets those that wait go on to their end.
    pub(crate) fn go_on(&self) {
        self.go_on.cancel();
    }

    /// How many streams were dropped before their end.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(SeqCst)
    }
}

impl Engine for Fake {
    fn info(&self) -> &Info {
        &self.info
    }

    fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    fn start(&self, generation: Generation) -> Result<Stream, EngineError> {
        self.asked.lock().unwrap().push(generation);
        let play = self.plays.lock().unwrap().pop_front();
        let play = play.unwrap_or_else(|| says("nothing more"));
        if let Play::Refuse(error) = play {
            return Err(error);
        }
        let (events, stream) = mpsc::channel(1000);
        let (go_on, dropped) = (self.go_on.clone(), Arc::clone(&self.dropped));
        tokio::spawn(async move {
            let (pieces, end) = match play {
                Play::Say(pieces, reason) => (pieces, Some(Event::Finished(finish(reason)))),
                Play::Fail(pieces, error) => (pieces, Some(Event::Failed(error))),
                Play::Die(pieces) => (pieces, None),
                Play::Wait(pieces) => {
                    for piece in pieces {
                        let _ = events.send(Event::Text(piece)).await;
                    }
                    tokio::select! {
                        () = go_on.cancelled() => {}
                        () = events.closed() => {
                            dropped.fetch_add(1, SeqCst);
                            return;
                        }
                    }
                    (vec!["the end".into()], Some(Event::Finished(finish(FinishReason::End))))
                }
                Play::Refuse(_) => return,
            };
            for piece in pieces {
                let _ = events.send(Event::Text(piece)).await;
            }
            if let Some(end) = end {
                let _ = events.send(end).await;
            }
        });
        Ok(stream)
    }
}

fn finish(reason: FinishReason) -> Finish {
    Finish {
        reason,
        usage: Usage {
            prompt: 100,
            cached: 60,
            completion: 11,
        },
        timings: Timings {
            queue: Duration::from_millis(1),
            prompt: Duration::from_millis(20),
            decode: Duration::from_millis(500),
        },
    }
}

/// The version "critic/v1", and no other.
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

    fn all(&self) -> Vec<Self> {
        vec![self.clone()]
    }
}

impl Held for Only {
    type Loaded = Fake;

    fn loaded(&self) -> &Fake {
        &self.fake
    }

    fn model(&self) -> &str {
        "critic"
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
    pub(crate) client: ScribeClient<Channel>,
    pub(crate) expired: CancellationToken,
    pub(crate) fake: Weak<Fake>,
    registry: Registry,
    _stop: oneshot::Sender<()>,
}

/// Serves an engine that plays this.
pub(crate) async fn serve(plays: impl IntoIterator<Item = Play>) -> Running {
    let fake = Arc::new(Fake::new(plays, CancellationToken::new()));
    let weak = Arc::downgrade(&fake);
    let expired = CancellationToken::new();
    let versions = Arc::new(Only {
        fake,
        expired: expired.clone(),
    });
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    Engines::register(Arc::clone(&versions), &mut registry);
    let service = ScribeService::new(versions, metrics.clone());
    let service = ScribeServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder().add_service(Edge::new(service, metrics));
    tokio::spawn(
        server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = stopped.await;
        }),
    );
    Running {
        address,
        client: ScribeClient::connect(format!("http://{address}")).await.unwrap(),
        expired,
        fake: weak,
        registry,
        _stop: stop,
    }
}

impl Running {
    pub(crate) fn fake(&self) -> Arc<Fake> {
        self.fake.upgrade().unwrap()
    }

    /// How many hold the version, the service and the metrics among them.
    pub(crate) fn holders(&self) -> usize {
        self.fake.strong_count()
    }

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
        let head = response.headers().get("grpc-status").cloned();
        let body = response.into_body().collect().await.unwrap();
        let tail = body
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"))
            .cloned();
        Code::from_bytes(head.or(tail).unwrap().as_bytes())
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
