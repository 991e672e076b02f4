//! The status that a caller gets.

use std::time::Duration;

use tonic::{Code, Status};
use understudy_protocol::status;

use crate::{engine::EngineError, request::Invalid};

/// When a refused caller may try again: about the time of a short answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<EngineError> for Status {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::BadRequest { field, reason } => status::bad_request(field, &reason),
            EngineError::Busy(_) | EngineError::NoSpare => {
                status::retry_later(Code::ResourceExhausted, message, RETRY_AFTER)
            }
            EngineError::Deadline => Self::deadline_exceeded(message),
            EngineError::Lost => status::reason(Code::Unavailable, message, "ENGINE_LOST"),
            EngineError::Failed(_) => Self::internal(message),
        }
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        status::bad_request(&invalid.field, &invalid.problem)
    }
}
