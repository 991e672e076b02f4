//! The services `Models`, `Routes`, `Rollouts` and `Feedback`. Writes and answers about models, routes and rollouts go to the
//! registry; answers about workers, traffic and mirrored requests are this router's own view.

mod feedback;
mod models;
mod rollouts;
mod routes;
mod validate;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use understudy_protocol::status::{reason, retry_later};
use understudy_registry::Error;

use crate::{app::Identity, controller::Desk, state::writer::Abort};

/// Callers are asked to wait this long when the registry is away.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// Times that a change is repeated when somebody else was faster.
const CONFLICTS_MAX: usize = 5;

/// All services.
#[derive(Clone)]
pub struct Admin {
    /// Rollouts, and the ways to the registry and to this router's state.
    pub desk: Arc<Desk>,
    /// Folder for new artifacts.
    pub artifact_store: Arc<str>,
    /// Local aborts, to the one who carries them out.
    pub aborts: mpsc::Sender<Abort>,
    /// Streams end when this router does.
    pub stop: CancellationToken,
}

/// Who asks, as a history names them.
fn operator<T>(request: &Request<T>) -> String {
    match request.extensions().get::<Identity>() {
        Some(Identity(name)) if !name.is_empty() => name.to_string(),
        _ => "operator".to_owned(),
    }
}

/// After [`CONFLICTS_MAX`] tries.
fn busy(what: &str, model: &str) -> Status {
    let message = format!("the {what} of \"{model}\" is being changed by others all the time; try again");
    reason(Code::Aborted, message, "CONFLICT")
}

/// The registry's errors as callers see them.
fn registry_status(error: &Error) -> Status {
    let message = error.to_string();
    match error {
        Error::Unavailable { .. } => retry_later(Code::Unavailable, message, RETRY_AFTER),
        Error::AlreadyExists(_) => reason(Code::AlreadyExists, message, "ALREADY_EXISTS"),
        Error::Conflict(_) => reason(Code::Aborted, message, "CONFLICT"),
        Error::NotLeader => reason(Code::Aborted, message, "NOT_LEADER"),
        Error::Invalid { .. } => reason(Code::FailedPrecondition, message, "INVALID_RECORD"),
        Error::Refused(_) | Error::Options(_) => Status::internal(message),
        _ => Status::internal(message),
    }
}
