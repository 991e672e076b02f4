//! Connections from clients.

use std::{io, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{app::App, config::Http2Options, metrics::Metrics, tls};

/// Time for the first byte, or the TLS handshake, of a new connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the head of an HTTP/1.1 request.
const HTTP1_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which comes from a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Flow control windows: what a slow worker can make one request, or one connection, hold in memory.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Answer bytes that one request may have waiting for a slow client.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Accepts connections.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// TLS, if it is on.
    pub tls: Option<TlsAcceptor>,
    /// What serves requests.
    pub app: Arc<App>,
    /// Bounds.
    pub options: Http2Options,
}

impl Listener {
    /// Accepts until `stop`, which also asks open connections to finish. They belong to `connections`.
    pub async fn run(self, stop: CancellationToken, connections: TaskTracker) {
        let places = Arc::new(Semaphore::new(self.options.connections_max));
        let server = Arc::new(Server {
            builder: builder(&self.options),
            tls: self.tls,
            app: self.app,
            stop,
        });
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.socket.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = server.stop.cancelled() => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (server, open) = (Arc::clone(&server), Open::new(&server.app.metrics));
                    connections.spawn(async move {
                        let (_place, _open) = (place, open);
                        server.serve(stream).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Counts an open connection.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

struct Server {
    builder: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
    stop: CancellationToken,
}

impl Server {
    async fn serve(&self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%error, "connection closed at once");
        }
        let result = match &self.tls {
            None => match tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.readable()).await {
                Ok(Ok(())) => self.connection(stream, None).await,
                Ok(Err(error)) => Err(error.into()),
                Err(_) => return tracing::debug!("a client sent nothing"),
            },
            Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificate = tls::identity(stream.get_ref().1.peer_certificates());
                    self.connection(stream, certificate).await
                }
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            },
        };
        if let Err(error) = result {
            tracing::debug!(
                error = &*error as &dyn std::error::Error,
                "a client's connection failed"
            );
        }
    }

    async fn connection<I>(
        &self,
        io: I,
        certificate: Option<Arc<str>>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let (app, certificate) = (Arc::clone(&self.app), certificate.clone());
            async move { Ok::<_, std::convert::Infallible>(app.handle(certificate.as_ref(), request).await) }
        });
        let connection = self.builder.serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result,
            () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

fn builder(options: &Http2Options) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_HEAD_TIMEOUT)
        .keep_alive(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(options.streams_max)
        .max_pending_accept_reset_streams(options.reset_streams_max)
        .max_local_error_reset_streams(options.reset_streams_max)
        .max_header_list_size(options.metadata_bytes_max)
        .max_frame_size(options.frame_bytes_max)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(options.keep_alive_timeout);
    builder
}
