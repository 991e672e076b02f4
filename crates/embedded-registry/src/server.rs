//! Opens the data, serves, and closes in order.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};
use tonic::transport::{Server, server::TcpIncoming};

use crate::{Options, service, storage, writer};

/// h2 pings find clients that vanished, whose watches would stay.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection at once.
const STREAMS_MAX: u32 = 1024;
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client opened and reset before they were looked at ("rapid reset").
const RESET_STREAMS_MAX: usize = 64;
/// Clients get this long to finish at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Serves until `shutdown`; calls `ready` with the address once clients can connect.
///
/// # Errors
/// If the data cannot be opened, the address not be bound, or the disk fails.
pub async fn serve(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let folder = options.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || storage::open(&folder, std::time::Instant::now())).await?;
    let storage::Loaded {
        storage,
        state,
        cluster,
    } = opened?;
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; is another registry or etcd running there?",
            options.listen
        )
    })?;
    let address = listener.local_addr()?;
    let revision = state.committed;

    let shared = writer::Shared::new(state);
    let (writer, thread) = writer::channel(shared.clone(), storage);
    let (failed, mut failure) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("registry-writer".to_owned())
        .spawn(move || {
            // Dropped without a value when the thread ends as it should, or panics.
            if let Err(error) = thread.run() {
                let _ = failed.send(error);
            }
        })?;

    let (stop, stopping) = watch::channel(false);
    let identity = service::Identity {
        cluster: cluster.unsigned_abs(),
        address,
        data_dir: options.data_dir.clone(),
    };
    let routes = service::routes(shared, writer, stopping.clone(), identity)?;
    let mut stopped = stopping;
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
    let mut server = tokio::spawn(server);
    tracing::info!(%address, revision, data_dir = %options.data_dir.display(), "the registry is ready");
    ready(address);

    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        failure = &mut failure => Err(match failure {
            Ok(error) => error.context("the disk failed; the registry stops rather than lose what it acknowledged"),
            Err(_) => anyhow::anyhow!("the writer ended unexpectedly"),
        }),
        ended = &mut server => {
            ended??;
            Err(anyhow::anyhow!("the server ended unexpectedly"))
        }
    };
    stop.send_replace(true);
    if !server.is_finished() && tokio::time::timeout(SHUTDOWN_GRACE, &mut server).await.is_err() {
        server.abort();
        let _ = server.await;
    }
    // All services are gone, and with them the writer's queue; it finishes what it has.
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    anyhow::ensure!(joined.is_ok(), "the writer panicked");
    outcome
}
