//! HTTP/2 connections to one worker.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::Endpoint;
use crate::replay::Replay;

/// A worker that gives no sign of life for `PING_INTERVAL` and then `PING_TIMEOUT` is taken for dead.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Metadata of one answer.
const ANSWER_METADATA_BYTES_MAX: u32 = 65_536;
/// Flow control windows: what a slow client can make one request, or one connection, hold in memory.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Connections at most.
    pub connections_max: usize,
    /// Requests on each connection from which on a further one is opened.
    pub streams: u32,
    /// Time to connect.
    pub connect_timeout: Duration,
}

/// A worker that could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// HTTP/2.
    #[error("no HTTP/2 with {0}: {1}")]
    Handshake(String, hyper::Error),
    /// Neither in time.
    #[error("cannot connect to {0} in time")]
    Timeout(String),
}

#[derive(Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    authority: String,
    options: PoolOptions,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held while the first connection is made, so that a crowd makes one, not a crowd of them.
    connecting: tokio::sync::Mutex<()>,
    /// A further connection is being made.
    growing: AtomicBool,
}

#[derive(Debug)]
struct Connection {
    sender: http2::SendRequest<Replay>,
    streams: AtomicU32,
}

/// A counted place on a connection.
#[derive(Debug)]
pub(super) struct Slot(Arc<Connection>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(authority: &str, options: PoolOptions) -> Self {
        Self(Arc::new(Shared {
            authority: authority.to_owned(),
            options,
            connections: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            growing: AtomicBool::new(false),
        }))
    }

    pub(super) fn is_connected(&self) -> bool {
        self.0.lock().iter().any(|connection| !connection.sender.is_closed())
    }

    pub(super) async fn slot(&self) -> Result<Slot, ConnectError> {
        if let Some(slot) = self.0.free_slot() {
            return Ok(slot);
        }
        let _turn = self.0.connecting.lock().await;
        if let Some(slot) = self.0.free_slot() {
            return Ok(slot);
        }
        let connection = Arc::new(self.0.connect().await?);
        let slot = Slot::on(&connection);
        self.0.lock().push(connection);
        Ok(slot)
    }
}

impl Slot {
    fn on(connection: &Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first connection with room, so that one fills before the next is used; if none has, the emptiest.
    fn free_slot(self: &Arc<Self>) -> Option<Slot> {
        let mut connections = self.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        let streams = |connection: &Arc<Connection>| connection.streams.load(Ordering::Relaxed);
        if let Some(connection) = connections
            .iter()
            .find(|connection| streams(connection) < self.options.streams)
        {
            return Some(Slot::on(connection));
        }
        let slot = Slot::on(connections.iter().min_by_key(|connection| streams(connection))?);
        if connections.len() < self.options.connections_max && !self.growing.swap(true, Ordering::Relaxed) {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                match shared.connect().await {
                    Ok(connection) => shared.lock().push(Arc::new(connection)),
                    Err(error) => tracing::debug!(%error, "no further connection"),
                }
                shared.growing.store(false, Ordering::Relaxed);
            });
        }
        Some(slot)
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let connect = async {
            let stream = TcpStream::connect(&self.authority)
                .await
                .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
                .map_err(|error| ConnectError::Connect(self.authority.clone(), error))?;
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .max_header_list_size(ANSWER_METADATA_BYTES_MAX)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| ConnectError::Handshake(self.authority.clone(), error))
        };
        let (sender, connection) = tokio::time::timeout(self.options.connect_timeout, connect)
            .await
            .map_err(|_| ConnectError::Timeout(self.authority.clone()))??;
        let authority = self.authority.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(
                    authority,
                    error = &error as &dyn std::error::Error,
                    "connection to a worker ended"
                );
            }
        });
        Ok(Connection {
            sender,
            streams: AtomicU32::new(0),
        })
    }
}

/// A place for one request on a connection to a worker; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    slot: Slot,
    /// It counts as load of the worker.
    counted: bool,
}

impl Lease {
    pub(super) fn new(endpoint: Arc<Endpoint>, slot: Slot, counted: bool) -> Self {
        Self {
            endpoint,
            slot,
            counted,
        }
    }

    /// The worker.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Sends the request; dropping the future resets it.
    ///
    /// # Errors
    /// If the connection broke or the worker reset the request before an answer began. The error holds the request if
    /// it never left.
    pub async fn send(&self, request: Request<Replay>) -> Result<Response<Incoming>, TrySendError<Request<Replay>>> {
        self.slot.0.sender.clone().try_send_request(request).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.counted {
            self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
