//! Adding up what several routers counted.

use super::{ArmCard, ClassPairs, LabelCard, Moments, Predictions, ShadowCard, Slice, TextPairs};

impl Slice {
    /// Adds what another router counted under the same route.
    pub fn merge(&mut self, other: &Self) {
        self.stable.merge(&other.stable);
        self.candidate.merge(&other.candidate);
    }
}

impl ArmCard {
    /// Adds another router's counts.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.requests, other.requests);
        add(&mut self.errors, other.errors);
        self.erring_keys.merge(&other.erring_keys);
        add(&mut self.fallbacks, other.fallbacks);
        self.latency.merge(&other.latency);
        self.predictions.merge(&other.predictions);
    }

    /// Independent errors: a caller with an affinity key counts once, however often it met one.
    #[must_use]
    pub fn error_events(&self) -> u64 {
        self.errors.saturating_add(self.erring_keys.estimate())
    }
}

impl Predictions {
    /// Adds another router's counts.
    pub fn merge(&mut self, other: &Self) {
        add_all(&mut self.classes, &other.classes);
        self.confidence.merge(&other.confidence);
        self.tokens.merge(&other.tokens);
    }
}

impl ShadowCard {
    /// Adds another router's counts.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.chosen, other.chosen);
        add(&mut self.too_large, other.too_large);
        add(&mut self.no_place, other.no_place);
        add(&mut self.busy, other.busy);
        add(&mut self.candidate_errors, other.candidate_errors);
        add(&mut self.pairs, other.pairs);
        self.stable_latency.merge(&other.stable_latency);
        self.candidate_latency.merge(&other.candidate_latency);
        self.classes.merge(&other.classes);
        self.texts.merge(&other.texts);
    }
}

impl ClassPairs {
    /// Adds another router's counts.
    pub fn merge(&mut self, other: &Self) {
        add_all(&mut self.confusion, &other.confusion);
        self.probability_difference.merge(&other.probability_difference);
        self.confidence_difference.merge(&other.confidence_difference);
        add(&mut self.noise_triples, other.noise_triples);
        add(&mut self.only_candidate, other.only_candidate);
        add(&mut self.only_noise, other.only_noise);
    }
}

impl TextPairs {
    /// Adds another router's counts.
    pub fn merge(&mut self, other: &Self) {
        self.log_length_ratio.merge(&other.log_length_ratio);
        self.grounding_difference.merge(&other.grounding_difference);
        add(&mut self.same_finish_reason, other.same_finish_reason);
    }
}

impl LabelCard {
    /// Adds another router's counts.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.both_right, other.both_right);
        add(&mut self.only_stable_right, other.only_stable_right);
        add(&mut self.only_candidate_right, other.only_candidate_right);
        add(&mut self.both_wrong, other.both_wrong);
        add(&mut self.stable_right, other.stable_right);
        add(&mut self.stable_wrong, other.stable_wrong);
        add(&mut self.candidate_right, other.candidate_right);
        add(&mut self.candidate_wrong, other.candidate_wrong);
    }
}

impl Moments {
    /// Counts a value. What is not finite does not count.
    pub fn insert(&mut self, value: f64) {
        if value.is_finite() {
            self.merge(&Self {
                count: 1,
                sum: value,
                sum_of_squares: value * value,
            });
        }
    }

    /// Adds other values.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.count, other.count);
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
    }

    /// `None` without any value.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Of the sample, by n − 1; `None` with fewer than two values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a variance")]
    pub fn variance(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.count > 1)?;
        Some(((self.sum_of_squares - self.sum * mean) / (self.count - 1) as f64).max(0.0))
    }
}

/// Counts come from other routers: too large a sum stays at the greatest number.
pub(super) fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

fn add_all(counts: &mut Vec<u64>, more: &[u64]) {
    if counts.len() < more.len() {
        counts.resize(more.len(), 0);
    }
    for (count, &more) in counts.iter_mut().zip(more) {
        add(count, more);
    }
}
