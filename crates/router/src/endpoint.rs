//! One worker as the router reaches it: its connections, its load, its health.
//!
//! An endpoint lives as long as the worker has the same name and address, across snapshots of the state. It holds up to
//! `worker_connections_max` HTTP/2 connections: a further one is opened in the background once every one carries
//! `worker_streams` requests, because few busy connections cost less than many idle ones.
//!
//! ```text
//!   in rotation ── FAILURES_TO_EJECT connection failures in a row ──▶ ejected for 1 s, 2 s, 4 s … 30 s
//!        ▲  ▲                                                             │
//!        │  └────────────── an answer ────────── on trial ◀── time over ──┘
//!        │                                          └── one failure: ejected again, twice as long
//! ```
//!
//! Only failures of the connection eject. What a worker answers is its version's doing and is judged elsewhere.

mod health;
mod pool;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Method, Request, Uri, request,
    uri::{self, Authority},
};
use understudy_protocol::metadata;

pub use health::Health;
pub use pool::{ConnectError, Lease, PoolOptions};

use crate::metrics::Metrics;

/// Weight of the newest sample in the mean of a worker's latency.
const LATENCY_GAIN: f64 = 0.1;

/// One worker.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    address: String,
    authority: Authority,
    header: HeaderValue,
    pool: pool::Pool,
    health: Health,
    in_flight: AtomicU32,
    /// Mean time to an answer's first byte in seconds, as bits of an f64; 0 before the first one.
    latency: AtomicU64,
    /// It vanished from the registry without draining.
    vanished: AtomicBool,
}

/// A worker whose address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} has an address that this router cannot use: {address} (expected http://HOST:PORT)")]
pub struct BadAddress {
    worker: String,
    address: String,
}

impl Endpoint {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// If the address is not `http://host:port`.
    pub fn new(name: &str, address: &str, options: PoolOptions) -> Result<Self, BadAddress> {
        let bad = || BadAddress {
            worker: name.to_owned(),
            address: address.to_owned(),
        };
        let authority: Authority = address
            .strip_prefix("http://")
            .and_then(|rest| rest.trim_end_matches('/').parse().ok())
            .filter(|authority: &Authority| authority.port_u16().is_some())
            .ok_or_else(bad)?;
        Ok(Self {
            name: name.to_owned(),
            address: address.to_owned(),
            header: HeaderValue::try_from(name).map_err(|_| bad())?,
            pool: pool::Pool::new(authority.as_str(), options),
            authority,
            health: Health::default(),
            in_flight: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            vanished: AtomicBool::new(false),
        })
    }

    /// The worker's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address as announced.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A request to it like the client's, for this version.
    #[must_use]
    pub fn request<B>(&self, head: &request::Parts, version: &HeaderValue, body: B) -> Request<B> {
        let mut uri = uri::Parts::default();
        uri.scheme = Some(uri::Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = head.uri.path_and_query().cloned();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let headers = request.headers_mut();
        headers.clone_from(&head.headers);
        headers.insert(metadata::VERSION, version.clone());
        request
    }

    /// Its name as metadata.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Requests that this router has open on it.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it is in rotation.
    #[must_use]
    pub fn is_available(&self, now: Instant) -> bool {
        !self.health.is_ejected(now) && (!self.vanished.load(Ordering::Relaxed) || self.pool.is_connected())
    }

    /// Whether its last calls failed so that it is left alone for a time.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.health.is_ejected(now)
    }

    /// Whether a connection to it stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.pool.is_connected()
    }

    /// Says whether the registry knows it.
    pub fn set_vanished(&self, vanished: bool) {
        self.vanished.store(vanished, Ordering::Relaxed);
    }

    /// Load as power of two choices compares it: expected wait of one more request. Without a latency of its own a worker
    /// is taken to be as fast as the one it is compared with.
    #[must_use]
    pub fn is_less_loaded_than(&self, other: &Self) -> bool {
        let (mine, others) = (self.latency(), other.latency());
        let (mine, others) = if mine > 0.0 && others > 0.0 {
            (mine, others)
        } else {
            (1.0, 1.0)
        };
        f64::from(self.in_flight() + 1) * mine < f64::from(other.in_flight() + 1) * others
    }

    fn latency(&self) -> f64 {
        f64::from_bits(self.latency.load(Ordering::Relaxed))
    }

    /// An answer began: the connection is sound.
    pub fn answered(&self) {
        self.health.succeeded();
    }

    /// A good answer began after this time. Refusals do not count: they are fast and must not attract traffic.
    pub fn observe_latency(&self, after: Duration) {
        let (old, sample) = (self.latency(), after.as_secs_f64().max(1e-6));
        let new = if old == 0.0 {
            sample
        } else {
            old + LATENCY_GAIN * (sample - old)
        };
        // A lost race loses one sample of many.
        self.latency.store(new.to_bits(), Ordering::Relaxed);
    }

    /// It could not be reached, or the connection broke before the answer began.
    pub fn failed(&self, now: Instant, metrics: &Metrics) {
        if let Some(time) = self.health.failed(now) {
            metrics.eject(&self.name);
            tracing::warn!(
                worker = self.name,
                seconds = time.as_secs_f32(),
                "worker put aside: its connections fail"
            );
        }
    }

    /// A place on one of its connections, for one request.
    ///
    /// # Errors
    /// If it cannot be reached in time.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, ConnectError> {
        let slot = self.pool.slot().await?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Lease::new(Arc::clone(self), slot, true))
    }

    /// The same for a copy, which does not count as load: a worker serves it from spare capacity, so it says nothing of how long
    /// a request would wait.
    ///
    /// # Errors
    /// If it cannot be reached in time.
    pub async fn lease_aside(self: &Arc<Self>) -> Result<Lease, ConnectError> {
        Ok(Lease::new(Arc::clone(self), self.pool.slot().await?, false))
    }
}
