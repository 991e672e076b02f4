//! One request, from its metadata to the beginning of its answer.
//!
//! ```text
//!   pick a worker ─▶ connect ─▶ send ─▶ answer begins ─▶ pass it through
//!        ▲              │         │          └ UNAVAILABLE alone, of a worker that drains or lacks the version ┐
//!        │              │         └ connection lost, request refused ────────────────────────────────────────┤
//!        │              └ failed ────────────────────────────────────────────────────────────────────────────┤
//!        └── attempts left, budget left, body can be replayed, safe to send twice ───────────────────────────┘
//! ```
//!
//! A worker that failed a request is not asked again for it, unless it only closed the connection in good order and there is no
//! other. Messages are neither decoded nor copied.

mod failure;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, Request, Response, header, request};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Sleep;
use tonic::{Code, Status};
use understudy_protocol::metadata;
use understudy_rollout::split::Position;

use crate::{
    admit::Permit,
    answer::{AnswerBody, Forwarded, Outcome, code_of},
    budget::Budget,
    config::ForwardOptions,
    deadline,
    endpoint::{Endpoint, Lease},
    metrics::Metrics,
    observe::{self, Capture},
    pick::pick,
    replay::{Replay, Source},
    state::{Arm, Chosen, Model, State, Wish},
    status::Refusal,
    target::ForwardedService,
};
use failure::Failure;

/// Headers that concern one connection only. HTTP/2 forbids them, so they are here in case a client sends them all the same.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    HeaderName::from_static("keep-alive"),
];

/// By how much a worker's timer may be ahead of ours for the same deadline.
const TIMERS_DIFFER_MAX: Duration = Duration::from_millis(10);

/// What forwarding needs beside the request.
#[derive(Debug)]
pub struct Forwarder {
    /// Bounds.
    pub options: ForwardOptions,
    /// Retries that are left.
    pub budget: Budget,
    /// Metrics of the router.
    pub metrics: Arc<Metrics>,
}

/// A request that was admitted.
#[derive(Debug)]
pub struct Admitted {
    /// Its service.
    pub service: &'static ForwardedService,
    /// Its metadata.
    pub head: request::Parts,
    /// Its body.
    pub body: Incoming,
    /// When it came.
    pub started: Instant,
    /// Its place.
    pub permit: Permit,
}

/// A worker's answer that began.
struct Begun {
    arm: Arc<Arm>,
    lease: Lease,
    response: Response<Incoming>,
    sent: Instant,
}

impl Begun {
    /// The worker's timer was faster than ours, and it said CANCELLED, as tonic does.
    fn is_late(&self, deadline: Option<Instant>, now: Instant) -> bool {
        code_of(self.response.headers()) == Some(Code::Cancelled)
            && deadline.is_some_and(|deadline| deadline.saturating_duration_since(now) < TIMERS_DIFFER_MAX)
    }
}

/// One request's way through its attempts.
struct Exchange<'a> {
    forwarder: &'a Forwarder,
    service: &'static ForwardedService,
    head: &'a request::Parts,
    source: &'a Source,
    model: &'a Model,
    chosen: &'a Chosen,
    deadline: Option<Instant>,
    /// A worker of the chosen arm took the request and failed at it.
    failed_on_arm: AtomicBool,
}

/// All that goes into an answer's way back.
struct Passed {
    begun: Begun,
    outcome: Outcome,
    source: Source,
    sleep: Option<std::pin::Pin<Box<Sleep>>>,
    capture: Option<Box<Capture>>,
}

impl Forwarder {
    /// Serves a request by a worker.
    ///
    /// # Errors
    /// If there is no answer of a worker to pass on.
    pub async fn forward(&self, state: &State, mut admitted: Admitted) -> Result<Response<AnswerBody>, Refusal> {
        let headers = &mut admitted.head.headers;
        let deadline = self.deadline(headers, admitted.started)?;
        let model = state.model(text(headers, metadata::MODEL)?, admitted.service.kind)?;
        let chosen = model.choose(wish(&model.route.model, headers)?)?;
        HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(metadata::MODEL, model.header.clone());

        self.budget.request();
        let observed = model.observe(&chosen, headers);
        let path = admitted.head.uri.path();
        let mut capture = observed
            .as_ref()
            .and_then(|observed| Capture::begin(model, observed, path, admitted.started));
        let counts = Arc::clone(&chosen.arm.counts);
        let (started, permit) = (admitted.started, admitted.permit);
        let mut outcome = Outcome::new(counts, Arc::clone(&self.metrics), started, permit, observed);
        let copy = capture.as_ref().and_then(|capture| capture.request_frames());
        let source = Source::new(admitted.body, self.options.retry_body_bytes_max, copy);
        let mut sleep = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        let exchange = Exchange {
            forwarder: self,
            service: admitted.service,
            head: &admitted.head,
            source: &source,
            model,
            chosen: &chosen,
            deadline,
            failed_on_arm: AtomicBool::new(false),
        };
        let result = match &mut sleep {
            None => exchange.run().await,
            Some(sleep) => tokio::select! {
                biased;
                result = exchange.run() => result,
                () = sleep => Err(Refusal::DeadlineExceeded),
            },
        };
        match result {
            Ok(begun) if begun.is_late(deadline, Instant::now()) => {
                outcome.set(Code::DeadlineExceeded);
                Err(Refusal::DeadlineExceeded)
            }
            Ok(begun) => {
                source.commit();
                if !Arc::ptr_eq(&begun.arm, &chosen.arm) {
                    outcome.moved(&begun.arm.counts, exchange.failed_on_arm.load(Ordering::Relaxed));
                    capture = None;
                }
                let id = model.observer.is_some().then(rand::random::<u64>);
                if let (Some(capture), Some(id)) = (&mut capture, id) {
                    capture.answered(id, admitted.head, begun.sent);
                }
                let passed = Passed {
                    begun,
                    outcome,
                    source,
                    sleep,
                    capture,
                };
                let mut response = passed.response();
                if let Some(id) = id {
                    response
                        .headers_mut()
                        .insert(metadata::REQUEST_ID, observe::format_id(id));
                }
                Ok(response)
            }
            Err(refusal) => {
                outcome.set(Status::from(refusal.clone()).code());
                Err(refusal)
            }
        }
    }

    fn deadline(&self, headers: &HeaderMap, started: Instant) -> Result<Option<Instant>, Refusal> {
        let asked = headers
            .get(deadline::GRPC_TIMEOUT)
            .map(|value| {
                deadline::parse(value).ok_or_else(|| Refusal::Metadata {
                    key: deadline::GRPC_TIMEOUT,
                    problem: "expected one to eight digits and one of H, M, S, m, u, n".to_owned(),
                })
            })
            .transpose()?;
        let timeout: Option<Duration> = asked.into_iter().chain(self.options.deadline_max).min();
        Ok(timeout.and_then(|timeout| started.checked_add(timeout)))
    }
}

impl Exchange<'_> {
    async fn run(&self) -> Result<Begun, Refusal> {
        let options = &self.forwarder.options;
        let mut failed: Vec<Arc<Endpoint>> = Vec::new();
        let mut last: Option<Failure> = None;
        for attempt in 1..=options.attempts_max {
            let Some((arm, endpoint)) = self.candidate(&failed).or_else(|| {
                let again = last.as_ref().is_some_and(Failure::same_worker_may_do);
                again.then(|| self.candidate(&[])).flatten()
            }) else {
                break;
            };
            let Some(body) = self.source.attempt() else { break };
            if let Some(failure) = &last {
                if !self.forwarder.budget.take() {
                    break;
                }
                self.forwarder.metrics.retry(failure.label());
            }
            let failure = match self.attempt(&arm, &endpoint, body).await {
                Ok(begun) => return Ok(begun),
                Err(failure) => failure,
            };
            if self.source.is_broken() {
                return Err(Refusal::ClientGone);
            }
            if failure.blames_version() && Arc::ptr_eq(&arm, &self.chosen.arm) {
                self.failed_on_arm.store(true, Ordering::Relaxed);
            }
            if failure.blames_connection() {
                endpoint.failed(Instant::now(), &self.forwarder.metrics);
            }
            tracing::debug!(worker = endpoint.name(), attempt, problem = %failure, "attempt failed");
            let again = failure.is_safe_to_repeat(self.service);
            failed.push(endpoint);
            last = Some(failure);
            if !again {
                break;
            }
        }
        match last {
            Some(Failure::Unavailable { begun, .. }) => Ok(*begun),
            Some(failure) => Err(Refusal::Unreachable {
                model: self.model.route.model.clone(),
                problem: failure.to_string(),
            }),
            None => Err(self.no_worker()),
        }
    }

    /// The arm's own workers, then those of the arms that may serve in its place.
    fn candidate(&self, failed: &[Arc<Endpoint>]) -> Option<(Arc<Arm>, Arc<Endpoint>)> {
        let (now, mut draw) = (Instant::now(), |n| rand::random_range(0..n));
        let arm = &self.chosen.arm;
        if let Some(endpoint) = pick(&arm.ready, failed, now, &mut draw) {
            return Some((Arc::clone(arm), endpoint));
        }
        if self.chosen.pinned {
            return None;
        }
        self.model
            .instead_of(arm)
            .find_map(|other| Some((Arc::clone(other), pick(&other.ready, failed, now, &mut draw)?)))
    }

    fn no_worker(&self) -> Refusal {
        let version = self.chosen.arm.version.to_str().map(str::to_owned).ok();
        Refusal::NoWorker {
            model: self.model.route.model.clone(),
            version: version.filter(|_| self.chosen.pinned),
        }
    }

    async fn attempt(&self, arm: &Arc<Arm>, endpoint: &Arc<Endpoint>, body: Replay) -> Result<Begun, Failure> {
        let lease = endpoint.lease().await.map_err(Failure::Connect)?;
        let sent = Instant::now();
        let request = self.request(arm, endpoint, body, sent);
        let response = lease.send(request).await.map_err(|error| Failure::from_send(&error))?;
        endpoint.answered();
        let code = code_of(response.headers());
        if code.is_none_or(|code| code == Code::Ok) {
            endpoint.observe_latency(sent.elapsed());
        }
        let begun = Begun {
            arm: Arc::clone(arm),
            lease,
            response,
            sent,
        };
        if code == Some(Code::Unavailable) {
            Err(Failure::from_unavailable(begun))
        } else {
            Ok(begun)
        }
    }

    fn request(&self, arm: &Arm, endpoint: &Endpoint, body: Replay, now: Instant) -> Request<Replay> {
        let mut request = endpoint.request(self.head, &arm.version, body);
        if let Some(deadline) = self.deadline {
            request.headers_mut().insert(
                deadline::GRPC_TIMEOUT,
                deadline::format(deadline.saturating_duration_since(now)),
            );
        }
        request
    }
}

impl Passed {
    fn response(self) -> Response<AnswerBody> {
        let Self {
            begun,
            mut outcome,
            source,
            sleep,
            capture,
        } = self;
        let (mut head, upstream) = begun.response.into_parts();
        match code_of(&head.headers) {
            Some(code) if upstream.is_end_stream() => outcome.end(code),
            Some(code) => outcome.set(code),
            None => {}
        }
        head.headers.insert(metadata::VERSION, begun.arm.version.clone());
        head.headers.insert(metadata::ARM, begun.arm.name.clone());
        head.headers
            .insert(metadata::WORKER, begun.lease.endpoint().header().clone());
        let body = Forwarded {
            upstream: Some(upstream),
            sleep,
            outcome,
            source,
            lease: begun.lease,
            capture,
        };
        Response::from_parts(head, AnswerBody::Forwarded(Box::new(body)))
    }
}

/// Reads the split's metadata. A pin wins over an affinity, which wins over a draw.
fn wish<'a>(model: &str, headers: &'a HeaderMap) -> Result<Wish<'a>, Refusal> {
    if let Some(version) = text(headers, metadata::VERSION)? {
        return Ok(Wish::Pinned(version));
    }
    if let Some(key) = headers.get(metadata::AFFINITY) {
        return Ok(Wish::At(Position::of_key(model, key.as_bytes())));
    }
    match text(headers, metadata::DRAW)? {
        None => Ok(Wish::None),
        Some(draw) => Position::parse(draw).map(Wish::At).ok_or_else(|| Refusal::Metadata {
            key: metadata::DRAW,
            problem: "expected a decimal fraction from 0 to below 1, such as 0.25".to_owned(),
        }),
    }
}

fn text<'a>(headers: &'a HeaderMap, key: &'static str) -> Result<Option<&'a str>, Refusal> {
    headers
        .get(key)
        .map(|value| value.to_str())
        .transpose()
        .map_err(|_| Refusal::Metadata {
            key,
            problem: "must be ASCII text".to_owned(),
        })
}
