//! What went wrong with an attempt, and whether the request may be sent again.

use std::fmt;

use h2::Reason;
use http::Request;
use hyper::client::conn::TrySendError;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::Begun;
use crate::{answer::h2_error, endpoint::ConnectError, replay::Replay, target::ForwardedService};

/// Reasons of UNAVAILABLE with which a worker says that it did not begin.
const NOT_BEGUN: [&str; 2] = ["VERSION_NOT_RESIDENT", "DRAINING"];

/// An attempt without an answer to pass on.
pub(super) enum Failure {
    /// The worker could not be reached.
    Connect(ConnectError),
    /// The worker refused the request, or closed the connection in good order before it took it.
    NotTaken(String),
    /// The worker gave up the request by resetting it.
    Reset(String),
    /// The connection broke after the request was sent.
    Lost(String),
    /// The worker said UNAVAILABLE and nothing else.
    Unavailable {
        /// That answer, to be passed on if there is no other.
        begun: Box<Begun>,
        /// It said also that it did not begin.
        not_begun: bool,
    },
}

impl Failure {
    pub(super) fn from_send(error: &TrySendError<Request<Replay>>) -> Self {
        let problem = chain(error.error());
        if error.message().is_some() {
            return Self::NotTaken(problem);
        }
        match h2_error(error.error()) {
            Some(error) if error.reason() == Some(Reason::REFUSED_STREAM) => Self::NotTaken(problem),
            // Requests that the worker had taken are not told of its GOAWAY.
            Some(error) if error.is_go_away() && error.is_remote() => Self::NotTaken(problem),
            Some(error) if error.is_reset() && error.is_remote() => Self::Reset(problem),
            _ => Self::Lost(problem),
        }
    }

    pub(super) fn from_unavailable(begun: Begun) -> Self {
        let reason = Status::from_header_map(begun.response.headers())
            .and_then(|status| status.get_details_error_info())
            .map(|info| info.reason);
        let not_begun = reason.is_some_and(|reason| NOT_BEGUN.contains(&reason.as_str()));
        Self::Unavailable {
            begun: Box::new(begun),
            not_begun,
        }
    }

    /// A label for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::NotTaken(_) => "not_taken",
            Self::Reset(_) => "reset",
            Self::Lost(_) => "lost",
            Self::Unavailable { not_begun: true, .. } => "not_begun",
            Self::Unavailable { not_begun: false, .. } => "unavailable",
        }
    }

    pub(super) fn is_safe_to_repeat(&self, service: &ForwardedService) -> bool {
        match self {
            Self::Connect(_) | Self::NotTaken(_) | Self::Unavailable { not_begun: true, .. } => true,
            Self::Reset(_) | Self::Lost(_) | Self::Unavailable { not_begun: false, .. } => service.idempotent,
        }
    }

    /// The worker took the request and did not answer it.
    pub(super) fn blames_version(&self) -> bool {
        matches!(
            self,
            Self::Reset(_) | Self::Lost(_) | Self::Unavailable { not_begun: false, .. }
        )
    }

    pub(super) fn blames_connection(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Lost(_))
    }

    /// A new connection to the same worker may do, if there is no other worker.
    pub(super) fn same_worker_may_do(&self) -> bool {
        matches!(self, Self::NotTaken(_) | Self::Lost(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::NotTaken(problem) => write!(f, "the worker did not take it: {problem}"),
            Self::Reset(problem) => write!(f, "the worker reset it: {problem}"),
            Self::Lost(problem) => write!(f, "the connection was lost: {problem}"),
            Self::Unavailable { .. } => f.write_str("the worker is unavailable"),
        }
    }
}

fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
