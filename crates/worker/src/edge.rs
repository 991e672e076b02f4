//! What has to happen around the generated code.
//!
//! * The caller's deadline is read here, before the body arrives, because tonic keeps it to itself.
//! * A message that cannot be decoded (text that is no UTF-8, say, or far too long) never reaches the service: the
//!   generated code answers INTERNAL, a server fault, or OUT_OF_RANGE. It is the caller's, so it becomes INVALID_ARGUMENT
//!   here. What tells the two apart is not the error's text but whether the service was reached.
//! * Injected faults ([`Faults`]) are carried out here: what is behind knows nothing of them.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;
use understudy_protocol::{metadata, status};

use crate::{Faults, faults::Injected};

/// Counts the calls that never reach their service.
pub trait Calls: Clone + Send + Sync + 'static {
    /// Methods that have figures of their own; a path is the caller's, and may be anything.
    const METHODS: &'static [&'static str];

    /// A call was refused.
    fn refused(&self, refused: &Refused<'_>);
}

/// A call that never reached its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused<'a> {
    /// One of [`Calls::METHODS`], or "".
    pub method: &'static str,
    /// The model that it was for, if that is known.
    pub model: &'a str,
    /// The version that it was for, if that is known.
    pub version: &'a str,
    /// A copy, whose answer no client sees.
    pub shadow: bool,
    /// How it ended.
    pub code: Code,
}

/// Whether a call is a copy, whose answer no client sees: it is served from spare capacity only.
#[must_use]
pub fn is_shadow(headers: &HeaderMap) -> bool {
    headers.get(metadata::SHADOW).is_some_and(|value| value == "1")
}

/// A gRPC service with its edge.
#[derive(Debug, Clone)]
pub struct Edge<S, C> {
    inner: S,
    calls: C,
    faults: Faults,
}

impl<S, C: Calls> Edge<S, C> {
    /// Puts the edge around a service.
    pub fn new(inner: S, calls: C) -> Self {
        Self {
            inner,
            calls,
            faults: Faults::default(),
        }
    }

    /// Has these faults carried out.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }
}

impl<S: NamedService, C> NamedService for Edge<S, C> {
    const NAME: &'static str = S::NAME;
}

impl<S, C: Calls> Service<Request<Body>> for Edge<S, C>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let deadline = timeout(request.headers()).and_then(|timeout| Instant::now().checked_add(timeout));
        let arrival = Arrival {
            deadline,
            reached: Arc::default(),
        };
        request.extensions_mut().insert(arrival.clone());
        let calls = self.calls.clone();
        let name = request.uri().path().rsplit('/').next();
        let method = C::METHODS.iter().copied().find(|method| name == Some(*method));
        let method = method.unwrap_or_default();
        let shadow = is_shadow(request.headers());
        let injected = self.faults.next(request.headers());
        // Nothing is done before it is awaited.
        let answer = self.inner.call(request);
        Box::pin(async move {
            if let Some(injected) = injected
                && let Err(status) = carry_out(&injected, deadline).await
            {
                calls.refused(&Refused {
                    method,
                    model: &injected.model,
                    version: &injected.version,
                    shadow,
                    code: status.code(),
                });
                return Ok(status.into_http());
            }
            let response = answer.await?;
            match response.extensions().get::<Status>() {
                Some(status) if !arrival.reached.load(Ordering::Relaxed) => {
                    let status = undecodable(status);
                    calls.refused(&Refused {
                        method,
                        model: "",
                        version: "",
                        shadow,
                        code: status.code(),
                    });
                    Ok(status.into_http())
                }
                _ => Ok(response),
            }
        })
    }
}

/// The status is that of a version which fails so by itself.
async fn carry_out(injected: &Injected, deadline: Option<Instant>) -> Result<(), Status> {
    let waited = within(deadline, tokio::time::sleep(injected.delay)).await;
    let mut status = match waited {
        None => Status::deadline_exceeded("the deadline passed during an injected delay"),
        Some(()) if injected.fails => Status::internal("injected fault"),
        Some(()) => return Ok(()),
    };
    if let Ok(version) = injected.version.parse() {
        status.metadata_mut().insert(metadata::VERSION, version);
    }
    Err(status)
}

/// What the edge knows of a request.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    reached: Arc<AtomicBool>,
}

impl Arrival {
    /// Takes note that the request reached the service.
    pub fn reach<T>(request: &tonic::Request<T>) -> Self {
        let arrival = request.extensions().get::<Self>().cloned().unwrap_or_default();
        arrival.reached.store(true, Ordering::Relaxed);
        arrival
    }
}

/// The answer to bytes that are not the message they should be; other errors stay as they are.
#[must_use]
pub fn undecodable(error: &Status) -> Status {
    if !matches!(error.code(), Code::Internal | Code::OutOfRange) {
        return error.clone();
    }
    // "failed to decode Protobuf message: GenerateRequest.prompt: invalid string value: …"
    let message = error.message();
    let problem = message
        .strip_prefix("failed to decode Protobuf message: ")
        .unwrap_or(message);
    match problem
        .split_once(": ")
        .and_then(|(place, problem)| Some((place.split_once('.')?.1, problem)))
    {
        Some((field, problem)) => status::bad_request(field, problem),
        None => status::bad_request("request", problem),
    }
}

/// Runs work until the deadline; `None` if that came first. The work is dropped then.
pub async fn within<F: Future>(deadline: Option<Instant>, work: F) -> Option<F::Output> {
    let Some(deadline) = deadline else {
        return Some(work.await);
    };
    let mut work = pin!(work);
    let mut alarm = pin!(tokio::time::sleep_until(deadline.into()));
    poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        // The clock is asked too: tonic has an alarm of its own for the same instant, which must not win (it answers
        // CANCELLED).
        if alarm.as_mut().poll(context).is_ready() || Instant::now() >= deadline {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// `grpc-timeout`: up to 8 digits and a unit. One that cannot be read is none, as in tonic.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicUsize};

    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn timeouts() {
        let read = |text: &str| {
            timeout(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap(),
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        for bad in ["", "m", "1", "1x", "-1S", "+1S", "123456789S", "1 S"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn undecodable_messages_are_the_callers_fault() {
        use tonic_types::StatusExt as _;
        let error =
            Status::internal("failed to decode Protobuf message: GenerateRequest.prompt: invalid string value: data");
        let status = undecodable(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.get_details_bad_request().unwrap().field_violations[0].field,
            "prompt"
        );
        assert_eq!(
            undecodable(&Status::internal("Missing request message.")).code(),
            Code::InvalidArgument
        );
        assert_eq!(
            undecodable(&Status::out_of_range("too large")).code(),
            Code::InvalidArgument
        );
        assert_eq!(undecodable(&Status::unimplemented("")).code(), Code::Unimplemented);
    }

    /// Answers everything, and counts.
    #[derive(Clone, Default)]
    struct Inner(Arc<AtomicUsize>);

    impl Service<Request<Body>> for Inner {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let count = Arc::clone(&self.0);
            Box::pin(async move {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(Response::new(Body::empty()))
            })
        }
    }

    #[derive(Clone, Default)]
    struct Books(Arc<Mutex<Vec<String>>>);

    impl Calls for Books {
        const METHODS: &'static [&'static str] = &["Classify"];

        fn refused(&self, refused: &Refused<'_>) {
            let Refused {
                method,
                model,
                version,
                shadow,
                code,
            } = refused;
            let line = format!("{method} {model}/{version} {shadow} {code:?}");
            self.0.lock().unwrap().push(line);
        }
    }

    #[tokio::test]
    async fn injected_faults_look_like_a_versions_own() {
        let specs = ["m/v5:error=1", "m/v4:delay=60ms"].map(|spec| spec.parse().unwrap());
        let mut registry = Registry::default();
        let faults = Faults::new(&specs, &mut registry).unwrap();
        let (inner, books) = (Inner::default(), Books::default());
        let mut edge = Edge::new(inner.clone(), books.clone()).with_faults(faults);
        let mut call = |version: &str, timeout: &str| {
            let request = Request::post("http://w/understudy.v1.Analyst/Classify")
                .header(metadata::MODEL, "m")
                .header(metadata::VERSION, version)
                .header(metadata::SHADOW, "1")
                .header("grpc-timeout", timeout);
            edge.call(request.body(Body::empty()).unwrap())
        };
        let status = |response: Response<Body>| Status::from_header_map(response.headers());

        let v5 = call("v5", "5S").await.unwrap();
        assert_eq!(v5.headers().get(metadata::VERSION).unwrap(), "v5");
        assert_eq!(status(v5).unwrap().code(), Code::Internal);
        assert_eq!(inner.0.load(Ordering::Relaxed), 0, "it was not worked on");

        let began = Instant::now();
        assert!(status(call("v4", "5S").await.unwrap()).is_none());
        assert!(began.elapsed() >= Duration::from_millis(60));
        assert_eq!(inner.0.load(Ordering::Relaxed), 1);
        let late = status(call("v4", "1m").await.unwrap()).unwrap();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert!(status(call("v1", "5S").await.unwrap()).is_none());
        assert_eq!(
            *books.0.lock().unwrap(),
            ["Classify m/v5 true Internal", "Classify m/v4 true DeadlineExceeded"]
        );

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let count = |fault: &str| text.lines().find(|line| line.contains(fault)).unwrap().to_owned();
        assert!(count("fault=\"error\"").ends_with(" 1"), "{text}");
        assert!(count("fault=\"delay\"").ends_with(" 2"), "{text}");
    }
}
