//! How calls are sent again while workers restart or are full.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::problem::is_broken_transport;

/// Of one call.
const ATTEMPTS_MAX: u32 = 6;
/// Of one call that nobody can make once more: about a minute.
const PATIENT_ATTEMPTS_MAX: u32 = 16;
const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Retry {
    attempt: u32,
    attempts_max: u32,
}

impl Retry {
    pub(crate) fn new() -> Self {
        Self {
            attempt: 1,
            attempts_max: ATTEMPTS_MAX,
        }
    }

    /// For what is gone if it is not answered, as a line of a pipe: sits out the restart of a router.
    pub(crate) fn patient() -> Self {
        Self {
            attempts_max: PATIENT_ATTEMPTS_MAX,
            ..Self::new()
        }
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
        let passes =
            matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) || is_broken_transport(&status);
        if !passes || self.attempt == self.attempts_max {
            return Err(status);
        }
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        tokio::time::sleep(asked.unwrap_or(BACKOFF * 2u32.pow(self.attempt - 1)).min(BACKOFF_MAX)).await;
        self.attempt += 1;
        Ok(())
    }
}
