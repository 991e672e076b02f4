//! What both sides read from a rollout's record.

use crate::v1::{Phase, Rollout, RolloutStatus};

impl Rollout {
    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.status.as_ref().map_or(Phase::Unspecified, RolloutStatus::phase)
    }

    /// Whether nothing can change it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase(), Phase::Done | Phase::RolledBack | Phase::Superseded)
    }
}
