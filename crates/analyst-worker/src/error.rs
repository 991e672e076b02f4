//! Why a valid text got no answer, and the status that says so.

use std::time::Duration;

use tonic::{Code, Status};
use understudy_protocol::status;

/// When a refused caller may try again: about the time of a few batches.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why a valid text got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// As many texts or tokens wait as may.
    #[error("the queue is full ({0}): try again later, or add workers")]
    QueueFull(&'static str),
    /// The caller's deadline passed.
    #[error("the deadline passed before the answer was ready")]
    Expired,
    /// The engine died with the text in its hands, or the process ends.
    #[error("the engine that had this text was lost: try again")]
    EngineLost,
    /// The network's computation failed.
    #[error("inference failed: {0}")]
    Inference(String),
    /// The tokenizer failed on a text that passed the checks.
    #[error("the text could not be tokenised: {0}")]
    Tokenizer(String),
    /// The network's output is no number.
    #[error("inference failed: the network's output is not a finite number, so its weights may be damaged")]
    NotFinite,
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::QueueFull(_) => status::retry_later(Code::ResourceExhausted, message, RETRY_AFTER),
            Failure::Expired => Self::deadline_exceeded(message),
            Failure::EngineLost => status::reason(Code::Unavailable, message, "ENGINE_LOST"),
            Failure::Inference(_) | Failure::Tokenizer(_) | Failure::NotFinite => Self::internal(message),
        }
    }
}
