//! The hybrid baseline: boosted trees over what the text's words say, how the text is built, and metadata beside it.
//!
//! ```text
//! text ── TF-IDF ─┬─ logistic regression ── log-odds (out of fold where it learns) ─┐
//!                 └─ latent semantic analysis ── directions ────────────────────────┤
//! text ── length, marks, pronouns ──────────────────────────────────────────────────┼─▶ boosted trees ─▶ log-odds
//! metadata ── numbers as they are; other values' length and mentions in the text ───┘
//! ```
//!
//! Classes count the same however rare they are. With more than two classes there is one ensemble against the rest for each, as in
//! the baseline.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::boosting::{Boosting, BoostingOptions};
use crate::latent::Latent;
use crate::tfidf::Sparse;
use crate::{Baseline, BaselineOptions, Error, baseline};

/// Parts of which each is judged by a logistic regression that was fitted on the others.
const FOLDS: usize = 5;
const SEED: u64 = 1;
const DIRECTIONS: usize = 30;
/// Inverse strength of the logistic regression's penalty.
const STRENGTH: f64 = 0.5;
const TREES: BoostingOptions = BoostingOptions {
    rounds: 150,
    rate: 0.05,
    depth: 2,
    leaf_rows_min: 60,
    penalty: 0.0,
};

/// A text and what is known beside it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The text.
    pub text: &'a str,
    /// Values of the columns of metadata, empty where nothing is known.
    pub metadata: &'a [String],
}

/// How a column of metadata is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Number,
    Text,
}

/// A fitted hybrid.
#[derive(Debug)]
pub struct Hybrid {
    words: Baseline,
    latent: Latent,
    columns: Vec<Column>,
    boosted: Vec<Boosting>,
}

impl Hybrid {
    /// Learns from entries with the same columns of metadata and their classes (0 to `classes` - 1).
    ///
    /// # Errors
    /// As [`Baseline::fit`], also where one of the folds lacks a class.
    pub fn fit(entries: &[Entry], labels: &[usize], classes: usize) -> Result<Self, Error> {
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text).collect();
        let words = words(&texts, labels, classes)?;
        let mut rows = Sparse::default();
        texts.iter().for_each(|text| rows.push(&words.features.transform(text)));
        let columns = entries.first().map_or(0, |entry| entry.metadata.len());
        let mut hybrid = Self {
            latent: Latent::fit(&rows, words.features.features(), DIRECTIONS),
            words,
            columns: (0..columns)
                .map(|at| Column::of(entries.iter().map(|entry| entry.metadata[at].as_str())))
                .collect(),
            boosted: Vec::new(),
        };
        let features: Vec<Vec<f32>> = out_of_fold(&texts, labels, classes)?
            .iter()
            .zip(entries)
            .map(|(scores, entry)| hybrid.features(entry, scores))
            .collect();
        let against_rest = if classes == 2 { 1..2 } else { 0..classes };
        for class in against_rest {
            let positive: Vec<bool> = labels.iter().map(|&label| label == class).collect();
            hybrid.boosted.push(Boosting::fit(&features, &positive, &TREES)?);
        }
        Ok(hybrid)
    }

    /// One score per class; their softmax is the probability of each of two classes, were they equally frequent.
    #[must_use]
    pub fn logits(&self, entry: &Entry) -> Vec<f32> {
        let features = self.features(entry, &self.words.logits(entry.text));
        let odds: Vec<f64> = self.boosted.iter().map(|boosted| boosted.score(&features)).collect();
        baseline::logits(&odds)
    }

    fn features(&self, entry: &Entry, scores: &[f32]) -> Vec<f32> {
        // The first class's score follows from the others'.
        let mut features = scores[1..].to_vec();
        features.extend(self.latent.project(&self.words.features.transform(entry.text)));
        features.extend(build(entry.text));
        for (column, value) in self.columns.iter().zip(entry.metadata) {
            column.push(value, entry.text, &mut features);
        }
        features
    }
}

impl Column {
    /// One of numbers if each value that is there is one.
    fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut given = values.filter(|value| !value.is_empty()).peekable();
        if given.peek().is_some() && given.all(|value| value.parse::<f32>().is_ok()) {
            Self::Number
        } else {
            Self::Text
        }
    }

    fn push(self, value: &str, text: &str, features: &mut Vec<f32>) {
        match self {
            Self::Number => features.push(value.parse().unwrap_or(f32::NAN)),
            Self::Text if value.is_empty() => features.extend([f32::NAN; 2]),
            Self::Text => {
                let mentions = text.to_lowercase().matches(&value.to_lowercase()).count();
                features.extend([value.chars().count() as f32, mentions as f32]);
            }
        }
    }
}

/// How a text is built: its length, and marks and pronouns by word.
fn build(text: &str) -> [f32; 9] {
    let words: Vec<&str> = text.split_whitespace().collect();
    let count = words.len().max(1) as f32;
    let share = |is: &dyn Fn(&str) -> bool| words.iter().filter(|word| is(word)).count() as f32 / count;
    let among = |list: &[&str]| share(&|word: &str| list.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)));
    let marks = |wanted: &[char]| text.matches(wanted).count() as f32 / count;
    [
        count.ln(),
        text.chars().count() as f32 / count,
        marks(&['.', ';', ':']),
        marks(&['!']),
        marks(&['?']),
        marks(&['"', '(', '“']),
        share(&|word| word.starts_with(char::is_uppercase)),
        among(&["i", "me", "my", "you", "your"]),
        among(&["he", "she", "his", "her", "him", "they", "them", "their"]),
    ]
}

fn words(texts: &[&str], labels: &[usize], classes: usize) -> Result<Baseline, Error> {
    Baseline::fit(texts, labels, classes, &BaselineOptions::with_strength(STRENGTH))
}

/// Each text's scores by a logistic regression that has not learnt it.
fn out_of_fold(texts: &[&str], labels: &[usize], classes: usize) -> Result<Vec<Vec<f32>>, Error> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let fold_of: Vec<usize> = texts.iter().map(|_| random.random_range(0..FOLDS)).collect();
    let mut scores = vec![Vec::new(); texts.len()];
    for fold in 0..FOLDS {
        let others = (0..texts.len()).filter(|&index| fold_of[index] != fold);
        let (others, known): (Vec<&str>, Vec<usize>) = others.map(|index| (texts[index], labels[index])).unzip();
        let fitted = words(&others, &known, classes)?;
        for index in (0..texts.len()).filter(|&index| fold_of[index] == fold) {
            scores[index] = fitted.logits(texts[index]);
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(rating: &str) -> Vec<String> {
        vec![rating.to_owned(), "Heat".to_owned()]
    }

    /// The words decide nothing, the rating everything; one class is rare, and some ratings are missing.
    #[test]
    fn metadata_decides_where_words_do_not() {
        let ratings = |n: usize| {
            metadata(if n.is_multiple_of(11) {
                ""
            } else if n.is_multiple_of(5) {
                "2"
            } else {
                "8"
            })
        };
        let texts: Vec<String> = (0..600)
            .map(|n| format!("A film about item {} of Heat", n % 7))
            .collect();
        let metadata: Vec<Vec<String>> = (0..600).map(ratings).collect();
        let entries: Vec<Entry> = texts
            .iter()
            .zip(&metadata)
            .map(|(text, metadata)| Entry { text, metadata })
            .collect();
        let labels: Vec<usize> = (0..600).map(|n| usize::from(n % 5 == 0)).collect();
        let hybrid = Hybrid::fit(&entries, &labels, 2).unwrap();
        assert_eq!(hybrid.columns, [Column::Number, Column::Text]);
        let says = |rating: &str| {
            let logits = hybrid.logits(&Entry {
                text: "A film about item 3 of Heat",
                metadata: &super::tests::metadata(rating),
            });
            logits[1] - logits[0]
        };
        assert!(says("8") < -1.0 && says("2") > 1.0, "{} {}", says("8"), says("2"));
        assert!(
            says("").abs() < 1.0,
            "a missing rating says nothing, and both classes count the same: {}",
            says("")
        );
    }

    #[test]
    fn words_decide_without_metadata() {
        let texts: Vec<String> = (0..600)
            .map(|n| format!("The {} scene number {}", ["calm", "loud", "slow"][n % 3], n % 7))
            .collect();
        let entries: Vec<Entry> = texts.iter().map(|text| Entry { text, metadata: &[] }).collect();
        let labels: Vec<usize> = (0..600).map(|n| n % 3).collect();
        let hybrid = Hybrid::fit(&entries, &labels, 3).unwrap();
        for (class, text) in ["a calm scene", "a loud scene", "a slow scene"].into_iter().enumerate() {
            let logits = hybrid.logits(&Entry { text, metadata: &[] });
            assert!(logits.iter().all(|&logit| logit <= logits[class]), "{text}: {logits:?}");
        }
    }

    #[test]
    fn what_is_seen_of_a_text_and_its_metadata() {
        assert_eq!(Column::of(["", "7", "1.5"].into_iter()), Column::Number);
        assert_eq!(Column::of(["", ""].into_iter()), Column::Text);
        assert_eq!(Column::of(["7", "x"].into_iter()), Column::Text);
        let seen = |column: Column, value, text| {
            let mut features = Vec::new();
            column.push(value, text, &mut features);
            features
        };
        assert!(seen(Column::Number, "", "")[0].is_nan());
        assert_eq!(seen(Column::Text, "Heat", "HEAT! I love heat."), [4.0, 2.0]);
        let built = build("He asked: why? They ran.");
        assert!((built[0] - 5.0_f32.ln()).abs() < 1e-6);
        assert_eq!(built[2..], [0.4, 0.0, 0.2, 0.0, 0.4, 0.0, 0.4]);
    }
}
