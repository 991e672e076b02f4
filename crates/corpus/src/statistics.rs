//! What a classified corpus looks like, in numbers: how often each class occurs, how sure the classifier was, how long
//! and how varied the texts are, which words tell the classes apart, and which texts show it.

mod summary;

pub use summary::{
    CONFIDENCE_BINS, CONFIDENT, ClassSummary, Confidence, Exemplar, Interval, Lengths, Summary, UNCERTAIN,
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A text and what the classifier made of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Classified<'a> {
    /// As it was read; it is cleaned here.
    pub text: &'a str,
    /// Index into the labels.
    pub label: usize,
    /// Of that label, 0 to 1.
    pub confidence: f64,
}

/// A mergeable aggregate of classified texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    labels: Vec<String>,
    texts: Vec<u64>,
}

impl Statistics {
    /// Of no text yet.
    #[must_use]
    pub fn new(labels: Vec<String>) -> Self {
        let texts = vec![0; labels.len()];
        Self { labels, texts }
    }

    /// Takes a text into account.
    ///
    /// # Errors
    /// If the label is none of the labels, or the confidence is not a number.
    pub fn add(&mut self, item: &Classified<'_>) -> Result<(), Error> {
        if item.confidence.is_nan() {
            return Err(Error::Invalid("a confidence is not a number".into()));
        }
        let count = self.texts.get_mut(item.label).ok_or_else(|| Error::Invalid("no such label".into()))?;
        *count += 1;
        Ok(())
    }

    /// Takes into account what another aggregate did: the result is the same, bit by bit, as if its texts had been
    /// added here.
    ///
    /// # Errors
    /// If the labels differ.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        if self.labels != other.labels {
            return Err(Error::Invalid("labels differ".into()));
        }
        for (count, other) in self.texts.iter_mut().zip(other.texts) {
            *count += other;
        }
        Ok(())
    }

    /// The figures so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let nothing = || Lengths { mean: None, median: None, p90: None, histogram: Vec::new() };
        let class = |(label, &texts): (&String, &u64)| ClassSummary {
            label: label.clone(),
            texts,
            share: 0.0,
            interval: Interval { low: 0.0, high: 1.0 },
            mean_confidence: None,
            lengths: nothing(),
            distinctive: Vec::new(),
            exemplars: Vec::new(),
        };
        Summary {
            texts: self.texts.iter().sum(),
            classes: self.labels.iter().zip(&self.texts).map(class).collect(),
            confidence: Confidence { mean: None, confident: 0, uncertain: 0, histogram: [0; CONFIDENCE_BINS] },
            lengths: nothing(),
            vocabulary: 0,
            type_token_ratio: None,
            uncertain: Vec::new(),
        }
    }
}
