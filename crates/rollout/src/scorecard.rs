//! What routers count of a rollout. Everything here merges by addition, so that the order of routers does not matter.

mod merge;
mod pairs;
#[cfg(test)]
mod tests;

pub use pairs::CLASSES_MAX;

use crate::{distinct::Distinct, sketch::Sketch};

/// Both arms under one route (one weight).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slice {
    /// The route's epoch.
    pub epoch: u64,
    /// The candidate's share.
    pub weight_ppm: u32,
    /// The stable arm.
    pub stable: ArmCard,
    /// The candidate's.
    pub candidate: ArmCard,
}

/// One arm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArmCard {
    /// Requests that ended, and that the split (not a pin) gave to the arm.
    pub requests: u64,
    /// Server faults of requests without an affinity key.
    pub errors: u64,
    /// Callers, by affinity key, that met at least one server fault.
    pub erring_keys: Distinct,
    /// Requests that another arm served because this one had no ready worker.
    pub fallbacks: u64,
    /// Seconds, of requests that ended well.
    pub latency: Sketch,
    /// Of a sample of the answers.
    pub predictions: Predictions,
}

/// Of a sample of an arm's answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// Counts in the order of the manifest's labels; empty for texts.
    pub classes: Vec<u64>,
    /// Of the named class.
    pub confidence: Moments,
    /// Tokens that the model saw or wrote.
    pub tokens: Moments,
}

/// Count, sum and sum of squares.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their squares' sum.
    pub sum_of_squares: f64,
}

/// Mirrored requests, since the rollout began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShadowCard {
    /// Requests chosen for mirroring.
    pub chosen: u64,
    /// Of those, not sent because they were too large.
    pub too_large: u64,
    /// Not sent because there was no place.
    pub no_place: u64,
    /// Sent, and refused by a candidate that was too busy.
    pub busy: u64,
    /// The candidate failed where the stable version answered.
    pub candidate_errors: u64,
    /// Both answered.
    pub pairs: u64,
    /// Seconds.
    pub stable_latency: Sketch,
    /// Seconds.
    pub candidate_latency: Sketch,
    /// Of classifications.
    pub classes: ClassPairs,
    /// Of generated texts.
    pub texts: TextPairs,
}

/// Pairs of classifications.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassPairs {
    /// Row by row: the stable version's label, then the candidate's; K·K counts.
    pub confusion: Vec<u64>,
    /// Absolute difference of the probabilities, averaged over the classes.
    pub probability_difference: Moments,
    /// Candidate's confidence less the stable version's.
    pub confidence_difference: Moments,
    /// Triples: stable, candidate, and stable once more.
    pub noise_triples: u64,
    /// Triples where only the candidate differed from the first answer.
    pub only_candidate: u64,
    /// Triples where only the second answer of the stable version did.
    pub only_noise: u64,
}

/// Pairs of generated texts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TextPairs {
    /// Natural logarithm of the candidate's length over the stable version's.
    pub log_length_ratio: Moments,
    /// Candidate's share of supported claims less the stable version's.
    pub grounding_difference: Moments,
    /// Pairs that ended for the same reason.
    pub same_finish_reason: u64,
}

/// Labels that came later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LabelCard {
    /// Requests that both versions answered.
    pub both_right: u64,
    /// Discordant.
    pub only_stable_right: u64,
    /// Discordant.
    pub only_candidate_right: u64,
    /// Neither.
    pub both_wrong: u64,
    /// Requests that only the stable version answered.
    pub stable_right: u64,
    /// The same.
    pub stable_wrong: u64,
    /// Requests that only the candidate answered.
    pub candidate_right: u64,
    /// The same.
    pub candidate_wrong: u64,
}

/// Latencies of a slice as they were when the candidate had answered half as often: what came since shows whether it is still as
/// fast as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyMark {
    /// The slice's epoch.
    pub epoch: u64,
    /// The stable version's.
    pub stable: Sketch,
    /// The candidate's.
    pub candidate: Sketch,
}

/// Latencies since a [`LatencyMark`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// The stable version's.
    pub stable: Sketch,
    /// The candidate's.
    pub candidate: Sketch,
    /// How many marks the slice has had.
    pub marks: u32,
}

impl LatencyMark {
    /// The first mark is made at so many answers of the candidate, the next at twice as many, and so on.
    const FIRST: u64 = 200;

    /// The mark that a slice has now, given the one before.
    #[must_use]
    pub fn of(live: &Slice, before: Option<Self>) -> Option<Self> {
        let before = before.filter(|mark| mark.recent(live).is_some());
        let due = before.as_ref().map_or(Self::FIRST, |mark| 2 * mark.candidate.count());
        if live.candidate.latency.count() < due {
            return before;
        }
        Some(Self {
            epoch: live.epoch,
            stable: live.stable.latency.clone(),
            candidate: live.candidate.latency.clone(),
        })
    }

    /// What came since; `None` for another slice, or if somebody's counts are gone.
    #[must_use]
    pub fn recent(&self, live: &Slice) -> Option<Recent> {
        (live.epoch == self.epoch).then_some(())?;
        Some(Recent {
            stable: live.stable.latency.since(&self.stable)?,
            candidate: live.candidate.latency.since(&self.candidate)?,
            marks: (self.candidate.count() / Self::FIRST).max(1).ilog2() + 1,
        })
    }
}

/// All that is known of a rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Of the steps that are over.
    pub settled: Vec<Slice>,
    /// Of the current one.
    pub live: Slice,
    /// The newer part of the current one's latencies.
    pub recent: Option<Recent>,
    /// Mirrored requests.
    pub shadow: ShadowCard,
    /// Labels that came later.
    pub labels: LabelCard,
    /// Names of the classes in the order of their numbers; empty if they are not known.
    pub class_names: Vec<String>,
}
