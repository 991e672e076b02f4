//! Answers that the router makes itself. Each is a proper gRPC answer of headers only, so clients and status codes as
//! evidence stay right: what the router cannot do is never blamed on the caller, and the other way round.

use std::time::Duration;

use tonic::{Code, Status};
use understudy_protocol::{
    metadata,
    status::{bad_request, reason, retry_later},
};

/// Clients are asked to wait this long before they try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request was not forwarded, or got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what the variants' texts speak of")]
pub enum Refusal {
    /// Neither a POST nor of a gRPC content type.
    NotGrpc,
    /// No token, or none of the known ones.
    Unauthenticated,
    /// The identity sends more than it may.
    RateLimited,
    /// As many requests are in flight as the router takes.
    Overloaded,
    /// Metadata with a value that cannot be read.
    Metadata { key: &'static str, problem: String },
    /// The router has neither heard from the registry yet nor a state on disk.
    Uninformed,
    /// No model named, and there is not exactly one.
    ModelNotNamed { models: Vec<String> },
    /// No such model for this service.
    UnknownModel { model: String, models: Vec<String> },
    /// The pinned version is not in the model's route.
    UnknownVersion {
        model: String,
        version: String,
        versions: Vec<String>,
    },
    /// The model's route lets nobody pin.
    PinningDenied { model: String },
    /// No worker has a version of the model that could answer.
    NoWorker { model: String, version: Option<String> },
    /// Every attempt failed before an answer began.
    Unreachable { model: String, problem: String },
    /// The deadline passed.
    DeadlineExceeded,
    /// The client broke off while it sent its request.
    ClientGone,
}

impl Refusal {
    /// A label for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotGrpc => "not_grpc",
            Self::Unauthenticated => "unauthenticated",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Metadata { .. } => "metadata",
            Self::Uninformed => "uninformed",
            Self::ModelNotNamed { .. } => "model_not_named",
            Self::UnknownModel { .. } => "unknown_model",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::PinningDenied { .. } => "pinning_denied",
            Self::NoWorker { .. } => "no_worker",
            Self::Unreachable { .. } => "unreachable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ClientGone => "client_gone",
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotGrpc => Status::internal("expected POST with content-type application/grpc"),
            Refusal::Unauthenticated => Status::unauthenticated("send metadata `authorization: Bearer TOKEN`"),
            Refusal::RateLimited => retry_later(
                Code::ResourceExhausted,
                "the caller's rate limit is reached",
                RETRY_AFTER,
            ),
            Refusal::Overloaded => retry_later(
                Code::ResourceExhausted,
                "the router has as many requests as it takes",
                RETRY_AFTER,
            ),
            Refusal::Metadata { key, problem } => bad_request(key, &problem),
            Refusal::Uninformed => retry_later(
                Code::Unavailable,
                "this router knows no routes yet: it has not heard from the registry",
                RETRY_AFTER,
            ),
            Refusal::ModelNotNamed { models } if models.is_empty() => retry_later(
                Code::Unavailable,
                "no model has a route yet that could answer this (classify asks an analyst, chat and critique a scribe); \
                 publish a version and set a route",
                RETRY_AFTER,
            ),
            Refusal::ModelNotNamed { models } => bad_request(
                metadata::MODEL,
                &format!("name one of the models: {}", models.join(", ")),
            ),
            Refusal::UnknownModel { model, models } => reason(
                Code::NotFound,
                format!("no model \"{model}\" for this service; there are: {}", list(&models)),
                "UNKNOWN_MODEL",
            ),
            Refusal::UnknownVersion {
                model,
                version,
                versions,
            } => reason(
                Code::NotFound,
                format!(
                    "the route of \"{model}\" has no version \"{version}\"; it has: {}",
                    list(&versions)
                ),
                "UNKNOWN_VERSION",
            ),
            Refusal::PinningDenied { model } => {
                Status::permission_denied(format!("the route of \"{model}\" lets nobody choose the version"))
            }
            Refusal::NoWorker { model, version: None } => retry_later(
                Code::Unavailable,
                format!("no worker is ready for \"{model}\""),
                RETRY_AFTER,
            ),
            Refusal::NoWorker {
                model,
                version: Some(version),
            } => retry_later(
                Code::Unavailable,
                format!("no worker is ready for \"{model}/{version}\""),
                RETRY_AFTER,
            ),
            Refusal::Unreachable { model, problem } => retry_later(
                Code::Unavailable,
                format!("no worker could answer for \"{model}\": {problem}"),
                RETRY_AFTER,
            ),
            Refusal::DeadlineExceeded => Status::deadline_exceeded("the deadline passed before the worker answered"),
            Refusal::ClientGone => Status::cancelled("the client broke off"),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none yet".to_owned()
    } else {
        names.join(", ")
    }
}

/// Whether an answer's code says that the server, not the caller, is at fault. A full queue counts: a version that is too
/// slow for its traffic shows itself so.
#[must_use]
pub fn is_fault(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

/// The code's name as metrics write it.
#[must_use]
pub fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
