//! What every request goes through first.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tonic::Status;
use tower::ServiceExt as _;

use crate::{
    admit::Admission,
    answer::AnswerBody,
    forward::{Admitted, Forwarder},
    metrics::Metrics,
    state::State,
    status::Refusal,
    target::{self, ForwardedService},
};

/// Anybody may ask for health: those who watch a router have no token.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Who calls a service of this router; empty if nobody asked.
#[derive(Debug, Clone)]
pub struct Identity(pub Arc<str>);

/// Serves requests, whatever connection they come from.
#[derive(Debug)]
pub struct App {
    /// The snapshot.
    pub state: Arc<ArcSwap<State>>,
    /// The data plane's door.
    pub admission: Admission,
    /// The data plane.
    pub forwarder: Forwarder,
    /// Services of this router.
    pub local: axum::Router,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

impl App {
    /// Answers a request of a caller with this name in its certificate.
    pub async fn handle(&self, certificate: Option<&Arc<str>>, request: Request<Incoming>) -> Response<AnswerBody> {
        if request.version() != Version::HTTP_2 {
            return upgrade_required();
        }
        // Boxed, because hyper moves the future that it gets several times.
        let result = match target::forwarded(request.uri().path()) {
            Some(service) => Box::pin(self.forward(service, certificate, request)).await,
            None => Box::pin(self.serve(certificate, request)).await,
        };
        result.unwrap_or_else(|refusal| {
            self.metrics.reject(refusal.label());
            tracing::debug!(?refusal, "request refused");
            Status::from(refusal).into_http()
        })
    }

    async fn forward(
        &self,
        service: &'static ForwardedService,
        certificate: Option<&Arc<str>>,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let started = Instant::now();
        let (mut head, body) = request.into_parts();
        let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if head.method != Method::POST || !head.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) {
            return Err(Refusal::NotGrpc);
        }
        let identity = self.admission.identify(&mut head.headers, certificate)?;
        let permit = self.admission.admit(&identity, started)?;
        let state = self.state.load_full();
        self.forwarder
            .forward(
                &state,
                Admitted {
                    service,
                    head,
                    body,
                    started,
                    permit,
                },
            )
            .await
    }

    async fn serve(
        &self,
        certificate: Option<&Arc<str>>,
        mut request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        if !request.uri().path().starts_with(HEALTH) {
            let identity = self.admission.identify(request.headers_mut(), certificate)?;
            request.extensions_mut().insert(Identity(identity));
        }
        match self.local.clone().oneshot(request).await {
            Ok(response) => Ok(response.map(AnswerBody::Local)),
            Err(never) => match never {},
        }
    }
}

fn upgrade_required() -> Response<AnswerBody> {
    let text = "This port speaks gRPC over HTTP/2 (prior knowledge, or ALPN \"h2\" with TLS), not HTTP/1.1.\n";
    let mut response = Response::new(AnswerBody::Text(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::UPGRADE, HeaderValue::from_static("h2c"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade, close"));
    response
}
