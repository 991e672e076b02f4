//! The gRPC server around an engine's services: limits, health, reflection, and an end that fails no request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapResponseLayer;
use understudy_protocol::{
    metadata,
    v1::{self, ResidencyState},
};
use understudy_registry::Announcement;

use crate::{Error, Resident, Versions};

/// Streams of one connection. Routers open further connections before they reach it.
const STREAMS_MAX: u32 = 1_024;
/// Bytes of a request's metadata.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a peer may reset before they were served ("rapid reset") until its connection is closed.
const RESETS_PENDING_MAX: usize = 64;
/// Streams that this side resets because of a peer's errors, until its connection is closed.
const RESETS_LOCAL_MAX: usize = 1_024;
/// Bytes that a peer may send ahead: of one stream, of one connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Finds peers that are gone without a word.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a message of the services that this crate adds.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// For streams that were told to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Health of the process (""), of the kind's service, and of each version ("model/version").
#[derive(Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    service: &'static str,
    /// Whether each is serving. Only changes are reported, since watchers get each report.
    shown: BTreeMap<String, bool>,
}

impl Health {
    pub(crate) fn new(reporter: HealthReporter, kind: v1::Kind) -> Self {
        let service = match kind {
            v1::Kind::Analyst | v1::Kind::Unspecified => "understudy.v1.Analyst",
            v1::Kind::Scribe => "understudy.v1.Scribe",
        };
        Self {
            reporter,
            service,
            shown: BTreeMap::new(),
        }
    }

    pub(crate) async fn show(&mut self, versions: &[v1::Residency], stopping: bool) {
        let ready = |residency: &v1::Residency| residency.state() == ResidencyState::Ready;
        let mut now: BTreeMap<_, _> = versions
            .iter()
            .map(|r| (format!("{}/{}", r.model, r.version), ready(r)))
            .collect();
        now.insert(String::new(), !stopping);
        now.insert(self.service.to_owned(), versions.iter().any(ready));
        for (name, serving) in now
            .iter()
            .filter(|(name, serving)| self.shown.get(*name) != Some(serving))
        {
            let status = if *serving {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            self.reporter.set_service_status(name, status).await;
        }
        for gone in self.shown.keys().filter(|name| !now.contains_key(*name)) {
            self.reporter.clear_service_status(gone).await;
        }
        self.shown = now;
    }

    /// Ends the streams of those who watch, which would hold up the server's end.
    async fn close(&mut self) {
        for name in std::mem::take(&mut self.shown).into_keys() {
            self.reporter.clear_service_status(&name).await;
        }
    }
}

/// What a running server needs.
pub(crate) struct Serving<T> {
    pub(crate) name: String,
    pub(crate) incoming: TcpIncoming,
    pub(crate) reporter: HealthReporter,
    pub(crate) versions: Arc<Versions<T>>,
    pub(crate) drain_grace: Duration,
    pub(crate) drain_timeout: Duration,
    /// Tells the reconciler to stop, and its end.
    pub(crate) stop: CancellationToken,
    pub(crate) reconciler: tokio::task::JoinHandle<(Announcement, Health)>,
}

impl<T: Send + Sync + 'static> Serving<T> {
    pub(crate) async fn run(self, routes: Routes, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self {
            name,
            incoming,
            reporter,
            versions,
            drain_grace,
            drain_timeout,
            stop,
            mut reconciler,
        } = self;
        let routes = add_common_services(routes, reporter)?;
        let header =
            HeaderValue::from_str(&name).map_err(|_| Error::Options(format!("--name {name:?} is not ASCII")))?;
        let worker = HeaderName::from_static(metadata::WORKER);
        let stop_accepting = CancellationToken::new();
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
            .http2_max_pending_accept_reset_streams(Some(RESETS_PENDING_MAX))
            .http2_max_local_error_reset_streams(Some(RESETS_LOCAL_MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .layer(MapResponseLayer::new(
                move |mut response: http::Response<tonic::body::Body>| {
                    response.headers_mut().insert(worker.clone(), header.clone());
                    response
                },
            ))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, stop_accepting.clone().cancelled_owned());
        let mut server = std::pin::pin!(server);

        tokio::select! {
            result = &mut server => return result.map_err(Error::from).and(Err(Error::Ended("gRPC server"))),
            _ = &mut reconciler => return Err(Error::Ended("reconciler")),
            () = shutdown => {}
        }

        tracing::info!(grace = ?drain_grace, "draining: routers are told to send nothing more");
        stop.cancel();
        let Ok((announcement, mut health)) = reconciler.await else {
            return Err(Error::Ended("reconciler"));
        };
        tokio::select! {
            result = &mut server => result?,
            () = sleep(drain_grace) => {}
        }
        versions.close();
        health.close().await;
        stop_accepting.cancel();
        let ended = match timeout(drain_timeout, &mut server).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!(timeout = ?drain_timeout, "requests are still in flight after the drain timeout");
                versions.all().iter().for_each(Resident::expire);
                timeout(LAST_WORDS, &mut server).await.unwrap_or(Ok(()))
            }
        };
        announcement.withdraw().await;
        tracing::info!("drained");
        Ok(ended?)
    }
}

fn add_common_services(routes: Routes, reporter: HealthReporter) -> Result<Routes, Error> {
    let health = tonic_health::server::HealthService::from_health_reporter(reporter);
    let health = tonic_health::pb::health_server::HealthServer::new(health)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let reflection = understudy_protocol::reflection().map_err(|_| Error::Ended("reflection service"))?;
    // Only one of two merged routers may have an answer for unknown methods.
    let reflection = reflection.into_axum_router().reset_fallback();
    Ok(Routes::from(
        routes.add_service(health).into_axum_router().merge(reflection),
    ))
}
