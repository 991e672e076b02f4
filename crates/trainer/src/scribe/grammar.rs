//! Fact sheets and the critiques that a good critic would write of them.

use rand_chacha::ChaCha8Rng;
use understudy_grounding::{FactSheet, prompt::Message};

/// Sentences and words taken from real reviews.
pub(crate) struct Material {
    sentences: Vec<String>,
}

impl Material {
    pub(crate) fn from_reviews(reviews: &[String]) -> Self {
        Self {
            sentences: reviews.to_vec(),
        }
    }
}

/// What a model learns from: the conversation so far, and the answer.
pub(crate) struct Example {
    pub(crate) sheet: FactSheet,
    pub(crate) messages: Vec<Message>,
    pub(crate) answer: String,
}

pub(crate) fn example(_material: &Material, _rng: &mut ChaCha8Rng) -> Example {
    todo!()
}
