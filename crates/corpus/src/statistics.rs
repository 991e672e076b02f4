//! What a classified corpus looks like, in numbers: how often each class occurs, how sure the classifier was, how long
//! and how varied the texts are, which words tell the classes apart, and which texts show it.
//!
//! ```text
//! texts ──add──▶ Statistics ──merge──▶ Statistics ──summary──▶ Summary
//!                     ▲                     │
//!                     └──── file (serde) ◀──┘
//! ```
//!
//! [`Statistics`] is a stream's aggregate. Invariants:
//!
//! * **Merging is exact.** However a corpus is cut into parts, and in whatever order texts are added and parts merged,
//!   the aggregate is the same, bit by bit. So all of it are sums of integers (a confidence counts in units of 2^-24, the
//!   resolution of an `f32` near 1) and firsts of orders that follow from the text alone. Nothing is drawn at random and
//!   nothing depends on what was seen before.
//! * **Memory is bounded** whatever the corpus, by `Bounds`: 2^19 word counts, 2^18 hashes of words, 10,001
//!   lengths a class and 1,024 candidates a class for quotation, of at most 32 sentences of 300 bytes, together some
//!   100 MB at most for two classes. What does not fit is sampled by hash: `vocabulary` and `word_counts` say how, and
//!   how good the figures then are. Up to there they are exact; a corpus of 20,000 IMDb reviews is well within.
//!
//! Absent on purpose: texts themselves, but for sentences that may be quoted; languages without blanks between words.

mod candidates;
mod distinctive;
mod lengths;
mod saved;
mod sentences;
mod summary;
mod tokens;
mod vocabulary;
mod word_counts;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

pub use summary::{
    CONFIDENCE_BINS, CONFIDENT, ClassSummary, Confidence, Exemplar, Interval, Lengths, Summary, UNCERTAIN,
};

use crate::{Error, clean};
use candidates::{Candidates, Rank};
use distinctive::{Telling, distinctive};
use lengths::LengthCounts;
use tokens::Tokens;
use vocabulary::Vocabulary;
use word_counts::{Placed, WordCounts};

/// In which confidences are summed.
const CONFIDENCE_UNIT: f64 = 1.0 / 16_777_216.0;
/// Words of a window of the type–token ratio: so few that short texts have one.
const WINDOW: usize = 20;
/// Characters of the longest word that is counted; the length of a text knows all.
const WORD_CHARACTERS_MAX: usize = 40;
/// Quotations of each class, and of the uncertain texts.
const EXEMPLARS: usize = 6;
/// The quantile of the normal distribution for 95%.
const Z_95: f64 = 1.959_963_984_540_054;

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

/// A mergeable aggregate of classified texts. It can be written and read by serde.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "saved::Saved")]
pub struct Statistics {
    version: u32,
    labels: Vec<String>,
    classes: Vec<Class>,
    confident: u64,
    uncertain: u64,
    histogram: [u64; CONFIDENCE_BINS],
    /// Successive [`WINDOW`] words of a text: how many there are, and the sum of their distinct words.
    windows: (u64, u64),
    vocabulary: Vocabulary,
    words: WordCounts,
    doubtful: Candidates,
    #[serde(skip)]
    bounds: Bounds,
}

/// What is known of one class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Class {
    /// In units of [`CONFIDENCE_UNIT`].
    confidence: u64,
    lengths: LengthCounts,
    candidates: Candidates,
}

/// How much is kept. Aggregates merge exactly only if these are equal, so they are no option.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
    /// Distinct words that are counted exactly.
    vocabulary: usize,
    /// Counts of words by level and class.
    word_counts: usize,
    /// Texts of each class that may be quoted.
    candidates: usize,
    /// Uncertain texts that may be quoted.
    doubtful: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            vocabulary: 1 << 18,
            word_counts: 1 << 19,
            candidates: 1024,
            doubtful: 64,
        }
    }
}

impl Statistics {
    /// Of no text yet.
    #[must_use]
    pub fn new(labels: Vec<String>) -> Self {
        Self::bounded(labels, Bounds::default())
    }

    fn bounded(labels: Vec<String>, bounds: Bounds) -> Self {
        Self {
            version: saved::VERSION,
            classes: vec![Class::default(); labels.len()],
            labels,
            confident: 0,
            uncertain: 0,
            histogram: [0; CONFIDENCE_BINS],
            windows: (0, 0),
            vocabulary: Vocabulary::default(),
            words: WordCounts::default(),
            doubtful: Candidates::default(),
            bounds,
        }
    }

    /// Takes a text into account. It is cleaned first, as [`clean`] does.
    ///
    /// # Errors
    /// If the label is none of the labels, or the confidence is not a number.
    pub fn add(&mut self, item: &Classified<'_>) -> Result<(), Error> {
        let labels = self.labels.len();
        let Some(class) = self.classes.get_mut(item.label) else {
            return Err(Error::Invalid(format!(
                "label {} of a classifier with {labels} labels",
                item.label
            )));
        };
        if item.confidence.is_nan() {
            return Err(Error::Invalid(
                "a confidence that is not a number: the classifier is broken".into(),
            ));
        }
        let confidence = item.confidence.clamp(0.0, 1.0);
        let units = confidence_units(confidence);
        class.confidence += units;
        self.confident += u64::from(confidence >= CONFIDENT);
        self.uncertain += u64::from(confidence < UNCERTAIN);
        self.histogram[confidence_bin(confidence)] += 1;

        let text = clean(item.text);
        let hash = XxHash64::oneshot(0, text.as_bytes());
        let lower = tokens::lower(&text);
        let tokens = Tokens::of(&lower);
        class.lengths.add(tokens.sequence.len() as u64);
        let (windows, types) = tokens.windows(WINDOW);
        self.windows.0 += windows;
        self.windows.1 += types;

        let place = Placed {
            hash,
            class: item.label,
            classes: labels,
        };
        let words = tokens
            .distinct
            .iter()
            .copied()
            .filter(|(word, _)| word.chars().count() <= WORD_CHARACTERS_MAX);
        self.words.add(place, words, self.bounds.word_counts, |word| {
            self.vocabulary.insert(word, self.bounds.vocabulary);
        });

        // Confident texts are alike in hundredths, or the most extreme ones would be shown and no others.
        let (candidates, order, limit) = if confidence < UNCERTAIN {
            (&mut self.doubtful, units, self.bounds.doubtful)
        } else {
            (
                &mut class.candidates,
                hundredths_missing(confidence),
                self.bounds.candidates,
            )
        };
        let rank = Rank {
            mute: false,
            order,
            hash,
        };
        candidates.add(rank, units, item.label, &text, limit);
        Ok(())
    }

    /// Takes into account what another aggregate did: the result is the same, bit by bit, as if its texts had been
    /// added here.
    ///
    /// # Errors
    /// If the labels differ.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        if self.labels != other.labels {
            return Err(Error::Invalid(format!(
                "statistics of different classifiers cannot be merged: {} and {}",
                self.labels.join(", "),
                other.labels.join(", ")
            )));
        }
        for (own, other) in self.classes.iter_mut().zip(other.classes) {
            own.confidence += other.confidence;
            own.lengths.merge(&other.lengths);
            own.candidates.merge(other.candidates, self.bounds.candidates);
        }
        self.confident += other.confident;
        self.uncertain += other.uncertain;
        for (own, other) in self.histogram.iter_mut().zip(other.histogram) {
            *own += other;
        }
        self.windows.0 += other.windows.0;
        self.windows.1 += other.windows.1;
        self.vocabulary.merge(other.vocabulary, self.bounds.vocabulary);
        self.words.merge(other.words, self.bounds.word_counts);
        self.doubtful.merge(other.doubtful, self.bounds.doubtful);
        Ok(())
    }

    /// The figures so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut lengths = LengthCounts::default();
        for class in &self.classes {
            lengths.merge(&class.lengths);
        }
        // One scale for all, so that charts of classes compare.
        let bins = lengths.bins();
        let telling = distinctive(&self.words, self.classes.len());
        let confidence: u64 = self.classes.iter().map(|class| class.confidence).sum();
        Summary {
            texts: lengths.texts,
            classes: (0..self.classes.len())
                .map(|class| self.class_summary(class, lengths.texts, &bins, &telling))
                .collect(),
            confidence: Confidence {
                mean: mean_confidence(confidence, lengths.texts),
                confident: self.confident,
                uncertain: self.uncertain,
                histogram: self.histogram,
            },
            lengths: lengths.summary(&bins),
            vocabulary: self.vocabulary.count(),
            type_token_ratio: (self.windows.0 > 0).then(|| ratio(self.windows.1, self.windows.0) / WINDOW as f64),
            uncertain: self.uncertain_examples(&telling),
        }
    }

    fn class_summary(&self, index: usize, all: u64, bins: &[u64], telling: &Telling<'_>) -> ClassSummary {
        let class = &self.classes[index];
        let texts = class.lengths.texts;
        let exemplars = class.candidates.choose(EXEMPLARS, telling, |candidate, sentence| {
            sentence.worth_of(index, telling) + as_f64(candidate.confidence) * CONFIDENCE_UNIT
        });
        ClassSummary {
            label: self.labels[index].clone(),
            texts,
            share: ratio(texts, all),
            interval: wilson(texts, all),
            mean_confidence: mean_confidence(class.confidence, texts),
            lengths: class.lengths.summary(bins),
            distinctive: telling.classes[index]
                .words
                .iter()
                .map(|&word| word.to_owned())
                .collect(),
            exemplars: exemplars.iter().map(|choice| choice.exemplar(&self.labels)).collect(),
        }
    }

    fn uncertain_examples(&self, telling: &Telling<'_>) -> Vec<Exemplar> {
        let mut chosen = self
            .doubtful
            .choose(EXEMPLARS, telling, |_, sentence| sentence.worth_of_two(telling));
        chosen.sort_by_key(|choice| choice.candidate.confidence);
        chosen.iter().map(|choice| choice.exemplar(&self.labels)).collect()
    }
}

/// Wilson's score interval for a share (Wilson 1927), 95%.
#[must_use]
pub fn wilson(part: u64, whole: u64) -> Interval {
    if whole == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (share, n, z2) = (ratio(part, whole), as_f64(whole), Z_95 * Z_95);
    let middle = share + z2 / (2.0 * n);
    let half = Z_95 * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    Interval {
        low: if part == 0 {
            0.0
        } else {
            ((middle - half) / scale).max(0.0)
        },
        high: if part == whole {
            1.0
        } else {
            ((middle + half) / scale).min(1.0)
        },
    }
}

fn mean_confidence(units: u64, texts: u64) -> Option<f64> {
    (texts > 0).then(|| ratio(units, texts) * CONFIDENCE_UNIT)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 1 in units of 2^-24"
)]
fn confidence_units(confidence: f64) -> u64 {
    (confidence / CONFIDENCE_UNIT).round() as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
fn hundredths_missing(confidence: f64) -> u64 {
    100 - (confidence * 100.0).round() as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to the number of bins"
)]
fn confidence_bin(confidence: f64) -> usize {
    ((confidence * CONFIDENCE_BINS as f64) as usize).min(CONFIDENCE_BINS - 1)
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { as_f64(part) / as_f64(whole) }
}

#[expect(clippy::cast_precision_loss, reason = "no corpus has 2^53 texts or words")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
