//! Fact sheets and the critiques that a good critic would write of them: what the starter scribe learns from.
//!
//! `grammar/critique.txt` holds the sentences. A critique says only what its sheet says: a test asks the same check that
//! judges the model's own texts.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "invented figures are small"
)]

mod rules;
mod sheets;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use rand::{Rng, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use understudy_grounding::{
    FactSheet, check,
    prompt::{self, Message},
};

use rules::Rules;

/// How often an example is the second try, with a draft and what is wrong with it before it.
const REVISIONS: f64 = 0.06;
/// Figures of such a draft that are wrong.
const WRONG_FIGURES: f64 = 0.15;
/// Words of a sentence that may be quoted.
const QUOTATION_WORDS: std::ops::RangeInclusive<usize> = 5..=24;
/// How often a word stands in the reviews if it may be called distinctive.
const WORD_COUNT_MIN: usize = 15;
const WORD_LETTERS: std::ops::RangeInclusive<usize> = 4..=12;
/// In a list of words these would read as a figure, a comparison or a class.
const AMBIGUOUS: &[&str] = &[
    "more",
    "most",
    "less",
    "least",
    "fewer",
    "half",
    "third",
    "quarter",
    "dozen",
    "hundred",
    "thousand",
    "million",
    "zero",
    "three",
    "four",
    "five",
    "seven",
    "eight",
    "nine",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "once",
    "twice",
    "both",
    "many",
    "majority",
    "minority",
    "longer",
    "shorter",
    "higher",
    "lower",
    "larger",
    "smaller",
    "positive",
    "negative",
    "neutral",
    "spoiler",
    "mixed",
    "happy",
    "unhappy",
    "cold",
    "warm",
    "favourable",
    "unfavourable",
];

/// The rules, and sentences and words taken from real reviews.
pub(crate) struct Material {
    rules: Rules,
    sentences: Vec<String>,
    words: Vec<String>,
}

/// What a model learns from: the conversation so far, and the answer.
pub(crate) struct Example {
    pub(crate) sheet: FactSheet,
    pub(crate) messages: Vec<Message>,
    pub(crate) answer: String,
}

impl Material {
    pub(crate) fn from_reviews(reviews: &[String]) -> anyhow::Result<Self> {
        let rules = Rules::parse(include_str!("grammar/critique.txt")).context("in critique.txt")?;
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut sentences = Vec::new();
        for review in reviews {
            for word in review.split_whitespace() {
                if WORD_LETTERS.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
                    *counts.entry(word).or_default() += 1;
                }
            }
            sentences.extend(review.split_inclusive(['.', '!', '?']).filter_map(quotable));
        }
        let mut words: Vec<String> = counts
            .into_iter()
            .filter(|(word, count)| *count >= WORD_COUNT_MIN && !AMBIGUOUS.contains(word))
            .map(|(word, _)| word.to_owned())
            .collect();
        words.sort_unstable();
        ensure!(
            words.len() >= 100 && sentences.len() >= 100,
            "the reviews hold too few words and sentences to quote: give more of them"
        );
        Ok(Self {
            rules,
            sentences,
            words,
        })
    }

    fn sentence(&self, rng: &mut impl Rng) -> String {
        self.sentences.choose(rng).cloned().unwrap_or_default()
    }

    fn words(&self, count: usize, rng: &mut impl Rng) -> Vec<String> {
        self.words.choose_multiple(rng, count).cloned().collect()
    }
}

/// A sentence, tidied, if a critique could quote it.
fn quotable(sentence: &str) -> Option<String> {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let text = words.join(" ");
    let plain = |c: char| c.is_ascii_alphanumeric() || " ,.;:!?'-".contains(c);
    (QUOTATION_WORDS.contains(&words.len())
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.ends_with(['.', '!', '?'])
        && text.chars().all(plain))
    .then_some(text)
}

/// One example, never the same twice.
pub(crate) fn example(material: &Material, rng: &mut ChaCha8Rng) -> anyhow::Result<Example> {
    let sheet = sheets::sheet(material, rng);
    let slots = slots::slots(&sheet);
    let answer = material.rules.expand("critique", &slots, rng)?;
    let mut messages = prompt::critique(&sheet);
    if rng.random_bool(REVISIONS) {
        let draft = spoil(&material.rules.expand("critique", &slots, rng)?, rng);
        let complaints = check(&draft, &sheet).complaints();
        if !complaints.is_empty() {
            messages = prompt::revision(&sheet, &draft, &complaints);
        }
    }
    Ok(Example {
        sheet,
        messages,
        answer,
    })
}

/// The same text with some digits changed.
fn spoil(text: &str, rng: &mut impl Rng) -> String {
    text.chars()
        .map(|c| match c {
            '0'..='9' if rng.random_bool(WRONG_FIGURES / 2.0) => rng.random_range('1'..='9'),
            other => other,
        })
        .collect()
}
