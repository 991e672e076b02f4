//! An aggregate as it is written, and what must hold when it is read: a file may be old, damaged or somebody else's.

use serde::Deserialize;

use super::candidates::Candidates;
use super::lengths::LENGTH_MAX;
use super::vocabulary::Vocabulary;
use super::word_counts::WordCounts;
use super::{Bounds, CONFIDENCE_BINS, Class, Statistics};

/// Goes up when the fields or the bounds change.
pub(super) const VERSION: u32 = 1;
/// Most texts, words and occurrences: sums of many such cannot overflow.
const COUNT_MAX: u128 = 1 << 40;

/// [`Statistics`] not yet checked.
#[derive(Deserialize)]
pub(super) struct Saved {
    version: u32,
    labels: Vec<String>,
    classes: Vec<Class>,
    confident: u64,
    uncertain: u64,
    histogram: [u64; CONFIDENCE_BINS],
    windows: (u64, u64),
    vocabulary: Vocabulary,
    words: WordCounts,
    doubtful: Candidates,
}

impl TryFrom<Saved> for Statistics {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        if saved.version != VERSION {
            return Err(format!(
                "statistics of version {}, this program reads {VERSION}: make them again from the texts",
                saved.version
            ));
        }
        let mut statistics = Self {
            version: saved.version,
            labels: saved.labels,
            classes: saved.classes,
            confident: saved.confident,
            uncertain: saved.uncertain,
            histogram: saved.histogram,
            windows: saved.windows,
            vocabulary: saved.vocabulary,
            words: saved.words,
            doubtful: saved.doubtful,
            bounds: Bounds::default(),
        };
        statistics.words.recount();
        match statistics.fault() {
            None => Ok(statistics),
            Some(fault) => Err(format!("damaged statistics ({fault}): make them again from the texts")),
        }
    }
}

impl Statistics {
    /// What cannot be so.
    fn fault(&self) -> Option<&'static str> {
        let (classes, bounds) = (self.classes.len(), &self.bounds);
        let texts: u128 = self.classes.iter().map(|class| u128::from(class.lengths.texts)).sum();
        let words: u128 = self.classes.iter().map(|class| u128::from(class.lengths.words)).sum();
        let sum = |counts: &[u64]| counts.iter().map(|&count| u128::from(count)).sum::<u128>();
        let checks = [
            (classes == self.labels.len(), "as many classes as labels"),
            (texts <= COUNT_MAX && words <= COUNT_MAX, "too many texts or words"),
            (sum(&self.histogram) == texts, "the histogram of confidence"),
            (
                u128::from(self.confident) + u128::from(self.uncertain) <= texts,
                "confident and uncertain texts",
            ),
            (
                u128::from(self.windows.0) <= words && self.windows.1 / super::WINDOW as u64 <= self.windows.0,
                "windows",
            ),
            (self.vocabulary.fits(bounds.vocabulary), "the vocabulary"),
            (
                self.words.fits(classes, bounds.word_counts) && self.words_fit(),
                "the word counts",
            ),
            (self.classes.iter().all(Class::is_sound), "the lengths of texts"),
            (self.candidates_fit(), "the quotations"),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what)
    }

    fn words_fit(&self) -> bool {
        self.classes.iter().enumerate().all(|(index, class)| {
            let (mut texts, mut occurrences) = (0, 0);
            for part in self.words.class(index) {
                texts += u128::from(part.texts);
                occurrences += part
                    .words
                    .values()
                    .map(|count| u128::from(count.occurrences))
                    .sum::<u128>();
                if part.words.values().any(|count| count.texts > part.texts) {
                    return false;
                }
            }
            texts <= u128::from(class.lengths.texts) && occurrences <= u128::from(class.lengths.words)
        })
    }

    fn candidates_fit(&self) -> bool {
        let of_classes = self
            .classes
            .iter()
            .map(|class| (&class.candidates, self.bounds.candidates));
        of_classes
            .chain([(&self.doubtful, self.bounds.doubtful)])
            .all(|(candidates, limit)| {
                candidates.first.len() <= limit
                    && candidates.first.iter().all(|candidate| {
                        candidate.label < self.labels.len()
                            && candidate.confidence <= super::confidence_units(1.0)
                            && !candidate.sentences.is_empty()
                    })
            })
    }
}

impl Class {
    fn is_sound(&self) -> bool {
        let lengths = &self.lengths;
        let texts: u128 = lengths.counts.values().map(|&count| u128::from(count)).sum();
        let confidence_max = u128::from(lengths.texts) * u128::from(super::confidence_units(1.0));
        texts == u128::from(lengths.texts)
            && lengths.counts.keys().all(|&length| length <= LENGTH_MAX)
            && u128::from(self.confidence) <= confidence_max
    }
}
