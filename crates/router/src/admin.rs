//! The services `Models` and `Routes`. Writes and answers about models go to the registry; answers about workers and
//! traffic are this router's own view.

mod models;
mod routes;
mod validate;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tonic::{Code, Status};
use understudy_protocol::status::{reason, retry_later};
use understudy_registry::{Error, Registry};

use crate::state::State;

/// Callers are asked to wait this long when the registry is away.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// Both services.
#[derive(Clone)]
pub struct Admin {
    registry: Registry,
    state: Arc<ArcSwap<State>>,
    artifact_store: Arc<str>,
}

impl Admin {
    /// Serves from this registry, with this folder for new artifacts.
    #[must_use]
    pub fn new(registry: Registry, state: Arc<ArcSwap<State>>, artifact_store: String) -> Self {
        Self {
            registry,
            state,
            artifact_store: artifact_store.into(),
        }
    }
}

/// The registry's errors as callers see them.
fn registry_status(error: &Error) -> Status {
    let message = error.to_string();
    match error {
        Error::Unavailable { .. } => retry_later(Code::Unavailable, message, RETRY_AFTER),
        Error::AlreadyExists(_) => reason(Code::AlreadyExists, message, "ALREADY_EXISTS"),
        Error::Conflict(_) => reason(Code::Aborted, message, "CONFLICT"),
        Error::Invalid { .. } => reason(Code::FailedPrecondition, message, "INVALID_RECORD"),
        Error::Refused(_) | Error::Options(_) => Status::internal(message),
        _ => Status::internal(message),
    }
}
