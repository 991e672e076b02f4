//! How calls are sent again while workers restart or are full.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Of one call.
const ATTEMPTS_MAX: u32 = 6;
const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Retry {
    attempt: u32,
}

impl Retry {
    pub(crate) fn new() -> Self {
        Self { attempt: 1 }
    }

    /// A stream that gave something is not one that fails again and again.
    pub(crate) fn progress(&mut self) {
        self.attempt = 1;
    }

    /// Waits for the next attempt, as long as the server asks for.
    ///
    /// # Errors
    /// The status itself, if there is nothing to wait for.
    pub(crate) async fn wait(&mut self, status: Status) -> Result<(), Status> {
        if !matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) || self.attempt == ATTEMPTS_MAX {
            return Err(status);
        }
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        tokio::time::sleep(asked.unwrap_or(BACKOFF * 2u32.pow(self.attempt - 1)).min(BACKOFF_MAX)).await;
        self.attempt += 1;
        Ok(())
    }
}
