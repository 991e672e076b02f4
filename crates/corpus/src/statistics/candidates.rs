//! Texts that may be shown: so many of the first in a fixed order, and, at the end, the choice among them.
//!
//! A text's place in the order follows from the text alone, so the first of a union are among the first of its parts, and
//! merging is exact. What is telling and what is alike is known only when all texts are; that is for the choice
//! (maximal marginal relevance, Carbonell and Goldstein 1998).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Exemplar;
use super::distinctive::{Distinctive, Telling};
use super::sentences::{Quotable, quotable};
use super::tokens;

// In what follows, the worth of the class' most distinctive word is 1.

/// What likeness to a sentence already chosen costs, if it were the same.
const LIKENESS_COST: f64 = 1.5;
/// Lengths that read best, in words, and what the others cost.
const WORDS_PREFERRED: std::ops::RangeInclusive<usize> = 8..=22;
const LENGTH_COST: f64 = 0.5;
/// What each capitalised word inside costs, and each that is not in ASCII: mostly names that the reader may not know.
const NAME_COST: f64 = 0.3;
/// What each word costs that turns the sense of others: "not the worst film" praises with an unkind word.
const NEGATION_COST: f64 = 0.3;
const NEGATIONS: [&str; 7] = ["not", "never", "isn't", "wasn't", "aren't", "weren't", "without"];
/// The weight, in the likeness of sentences, of a word that tells of no class.
const PLAIN_WORD_WEIGHT: f64 = 0.1;
/// What words that are rare in this corpus cost, if all were: what everybody says reads best without its context.
const RARITY_COST: f64 = 3.0;

/// Its order is that of its fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Candidate {
    pub(super) rank: Rank,
    /// In units of [`super::CONFIDENCE_UNIT`].
    pub(super) confidence: u64,
    pub(super) label: usize,
    /// Those that can be quoted.
    pub(super) sentences: Vec<String>,
}

/// The least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Rank {
    /// Whether it has no sentence to quote: such texts come last.
    pub(super) mute: bool,
    /// Less is wanted more.
    pub(super) order: u64,
    /// Of the text: among equals, chance chooses.
    pub(super) hash: u64,
}

/// The first few.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Candidates {
    pub(super) first: BTreeSet<Candidate>,
}

impl Candidates {
    /// `rank` as if the text had a sentence to quote.
    pub(super) fn add(&mut self, rank: Rank, confidence: u64, label: usize, text: &str, limit: usize) {
        let full = self.first.len() >= limit;
        if full && self.first.last().is_none_or(|last| last.rank < rank) {
            return;
        }
        let (mute, sentences) = match quotable(text) {
            Quotable::Sentences(sentences) => (false, sentences),
            Quotable::Opening("") => return,
            Quotable::Opening(opening) => (true, vec![opening]),
        };
        self.first.insert(Candidate {
            rank: Rank { mute, ..rank },
            confidence,
            label,
            sentences: sentences.into_iter().map(str::to_owned).collect(),
        });
        self.trim(limit);
    }

    pub(super) fn merge(&mut self, other: Self, limit: usize) {
        self.first.extend(other.first);
        self.trim(limit);
    }

    fn trim(&mut self, limit: usize) {
        while self.first.len() > limit {
            self.first.pop_last();
        }
    }

    /// The best sentences by `worth` that are unlike each other, at most `count`, each of another text; best first. None is shown twice.
    pub(super) fn choose(
        &self,
        count: usize,
        telling: &Telling<'_>,
        worth: impl Fn(&Candidate, &Sentence<'_>) -> f64,
    ) -> Vec<Choice<'_>> {
        // Those without a sentence come last, and only for want of others.
        let quotable = self.first.iter().filter(|candidate| !candidate.rank.mute).count();
        let mut open: Vec<Choice<'_>> = self
            .first
            .iter()
            .take(if quotable < count { usize::MAX } else { quotable })
            .flat_map(|candidate| {
                candidate
                    .sentences
                    .iter()
                    .map(move |text| (candidate, Sentence::of(text, telling)))
            })
            .map(|(candidate, sentence)| Choice {
                candidate,
                worth: worth(candidate, &sentence),
                sentence,
                likeness: 0.0,
            })
            .collect();
        let value = |open: &Choice<'_>| open.worth - LIKENESS_COST * open.likeness;
        let mut chosen = Vec::new();
        while chosen.len() < count {
            // The first of equals: the order of the candidates.
            let better = |best: usize, at: usize| {
                if value(&open[at]) > value(&open[best]) {
                    at
                } else {
                    best
                }
            };
            let Some(best) = (0..open.len()).reduce(better) else {
                break;
            };
            let best = open.remove(best);
            open.retain(|other| other.candidate != best.candidate);
            open.retain_mut(|other| {
                other.likeness = other.likeness.max(best.sentence.likeness(&other.sentence));
                other.likeness < 1.0
            });
            chosen.push(best);
        }
        chosen
    }
}

/// A sentence that is, or may be, chosen.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) candidate: &'a Candidate,
    sentence: Sentence<'a>,
    worth: f64,
    /// To the one most like it among those already chosen.
    likeness: f64,
}

impl Choice<'_> {
    pub(super) fn exemplar(&self, labels: &[String]) -> Exemplar {
        Exemplar {
            label: labels.get(self.candidate.label).cloned().unwrap_or_default(),
            confidence: super::as_f64(self.candidate.confidence) * super::CONFIDENCE_UNIT,
            quotation: self.sentence.text.to_owned(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Sentence<'a> {
    text: &'a str,
    /// With their weights in the likeness.
    words: BTreeMap<String, f64>,
}

impl<'a> Sentence<'a> {
    fn of(text: &'a str, telling: &Telling<'_>) -> Self {
        let weight = |word: &str| {
            let of_classes = telling
                .classes
                .iter()
                .filter_map(|class| class.weights.get(word).copied());
            of_classes.fold(PLAIN_WORD_WEIGHT, f64::max)
        };
        let lower = tokens::lower(text);
        let words = tokens::words(&lower)
            .map(|word| (word.to_owned(), weight(word)))
            .collect();
        Self { text, words }
    }

    /// How much it speaks for each class. The best word counts in full, the second by half, the third by a third: one who
    /// heaps words says no more.
    fn tells(&self, telling: &Telling<'_>) -> Vec<f64> {
        let of_class = |class: &Distinctive<'_>| {
            let mut weights: Vec<f64> = self
                .words
                .keys()
                .filter_map(|word| class.weights.get(word.as_str()).copied())
                .collect();
            weights.sort_unstable_by(|a, b| b.total_cmp(a));
            weights
                .iter()
                .zip(1..)
                .map(|(weight, place)| weight / f64::from(place))
                .sum()
        };
        telling.classes.iter().map(of_class).collect()
    }

    /// How much it speaks for one class rather than another, and how well it reads.
    pub(super) fn worth_of(&self, class: usize, telling: &Telling<'_>) -> f64 {
        let tells = self.tells(telling);
        let others = tells
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != class)
            .map(|(_, tell)| *tell);
        tells.get(class).copied().unwrap_or_default() - others.fold(0.0, f64::max) + self.reads(telling)
    }

    /// How much it speaks for two classes at once, and how well it reads.
    pub(super) fn worth_of_two(&self, telling: &Telling<'_>) -> f64 {
        let mut tells = self.tells(telling);
        tells.sort_unstable_by(|a, b| b.total_cmp(a));
        tells.get(1).copied().unwrap_or_default() + self.reads(telling)
    }

    /// How well it reads, at most [`LENGTH_COST`].
    fn reads(&self, telling: &Telling<'_>) -> f64 {
        let words = self.text.split(' ').count();
        let names = self.text.split(' ').skip(1).filter(|word| is_name(word)).count();
        let rarity: f64 = self.words.keys().map(|word| telling.rarity(word)).sum();
        let negations = self
            .words
            .keys()
            .filter(|word| NEGATIONS.contains(&word.as_str()))
            .count();
        let length = if WORDS_PREFERRED.contains(&words) {
            LENGTH_COST
        } else {
            0.0
        };
        length
            - NAME_COST * count(names)
            - NEGATION_COST * count(negations)
            - RARITY_COST * rarity / count(self.words.len().max(1))
    }

    /// The weight of the words in common, as a share of that of those in either.
    fn likeness(&self, other: &Sentence<'_>) -> f64 {
        let weight = |words: &BTreeMap<String, f64>| words.values().sum::<f64>();
        let common: f64 = self
            .words
            .iter()
            .filter(|(word, _)| other.words.contains_key(*word))
            .map(|(_, weight)| weight)
            .sum();
        let either = weight(&self.words) + weight(&other.words) - common;
        if either > 0.0 { common / either } else { 1.0 }
    }
}

fn is_name(word: &str) -> bool {
    let is_first_person = word == "I" || word.starts_with("I'") || word.starts_with("I’") || word.starts_with("I,");
    !is_first_person && (word.starts_with(char::is_uppercase) || !word.replace('’', "'").is_ascii())
}

#[expect(clippy::cast_precision_loss, reason = "words of a sentence")]
fn count(number: usize) -> f64 {
    number as f64
}
