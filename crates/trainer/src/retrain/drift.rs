//! Whether feedback is like the data that it joins.
//!
//! Each check warns from one threshold on and refuses from another. The population stability index (Siddiqi 2006) is read
//! against what chance alone gives a sample of that size, `(bins − 1)(1/n + 1/m)`, as a few rows of feedback differ from any data.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use understudy_corpus::{Example, Splits};

use super::feedback::Merged;

/// Lengths are compared by the tenths of the training split.
const LENGTH_BINS: usize = 10;
/// What an empty bin counts as, so that the index stays finite.
const SHARE_MIN: f64 = 1e-4;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Check {
    /// Enough rows can be used.
    Rows,
    /// Few texts have two labels.
    Contradictions,
    /// Few rows say what others said.
    Duplicates,
    /// Few labels of the training split are corrected.
    Corrections,
    /// Labels are as frequent as in training.
    LabelRates,
    /// Texts are as long as in training.
    Lengths,
    /// Words are known from training.
    Vocabulary,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Warn,
    Refuse,
}

/// A check that found something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) level: Level,
    pub(super) value: f64,
    what: &'static str,
    warn: f64,
    refuse: f64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            value,
            warn,
            refuse,
            ..
        } = self;
        write!(f, "{what}: {value:.3} (warns from {warn}, refuses from {refuse})")
    }
}

/// Runs every check.
pub(super) fn judge(merged: &Merged, splits: &Splits) -> Vec<Finding> {
    let counts = &merged.counts;
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let clean = counts.rows - counts.unfit;
    let mut findings = Vec::new();
    let mut check = |check, what, value: f64, warn: f64, refuse: f64| {
        if value >= warn {
            let level = if value >= refuse { Level::Refuse } else { Level::Warn };
            findings.push(Finding {
                check,
                level,
                value,
                what,
                warn,
                refuse,
            });
        }
    };
    let unusable = share(counts.rows - counts.used, counts.rows);
    check(Check::Rows, "share of rows that cannot be used", unusable, 0.5, 1.0);
    let contradictory = share(counts.contradictory, clean);
    check(
        Check::Contradictions,
        "share of rows whose text has two labels",
        contradictory,
        0.05,
        0.2,
    );
    let repeated = share(counts.duplicates, clean);
    check(
        Check::Duplicates,
        "share of rows that repeat others",
        repeated,
        0.1,
        0.5,
    );
    let corrected = share(counts.corrected, splits.train.len());
    check(
        Check::Corrections,
        "share of the training split that feedback corrects",
        corrected,
        0.02,
        0.2,
    );
    if merged.feedback.is_empty() {
        return findings;
    }
    let labels = drift(&merged.feedback, &splits.train, counts.labels.len(), |example| {
        example.label
    });
    check(
        Check::LabelRates,
        "label rates differ from training's by a stability index of",
        labels,
        0.1,
        0.25,
    );
    let ends = tenths(&splits.train);
    let lengths = drift(&merged.feedback, &splits.train, LENGTH_BINS, |example| {
        let length = words(&example.text).count();
        ends.iter().take_while(|&&end| length > end).count()
    });
    check(
        Check::Lengths,
        "lengths differ from training's by a stability index of",
        lengths,
        0.1,
        0.5,
    );
    let known: HashSet<String> = splits.train.iter().flat_map(|example| words(&example.text)).collect();
    let ordinary = unknown(&splits.validation, &known);
    check(
        Check::Vocabulary,
        "share of words unknown from training, less that of the validation split",
        unknown(&merged.feedback, &known) - ordinary,
        0.05,
        0.25,
    );
    findings
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Upper ends of the bins but the last.
fn tenths(examples: &[Example]) -> Vec<usize> {
    let mut lengths: Vec<usize> = examples.iter().map(|example| words(&example.text).count()).collect();
    lengths.sort_unstable();
    (1..LENGTH_BINS)
        .map(|tenth| lengths[(lengths.len() * tenth / LENGTH_BINS).min(lengths.len() - 1)])
        .collect()
}

fn unknown(examples: &[Example], known: &HashSet<String>) -> f64 {
    let (mut all, mut new) = (0_usize, 0_usize);
    for word in examples.iter().flat_map(|example| words(&example.text)) {
        all += 1;
        new += usize::from(!known.contains(&word));
    }
    new as f64 / all.max(1) as f64
}

/// The stability index of two samples over bins, less what chance gives; not below 0.
fn drift(observed: &[Example], expected: &[Example], bins: usize, bin: impl Fn(&Example) -> usize) -> f64 {
    let shares = |examples: &[Example]| {
        let mut counts = vec![0.0; bins];
        for example in examples {
            counts[bin(example)] += 1.0 / examples.len() as f64;
        }
        counts
    };
    let index: f64 = shares(observed)
        .iter()
        .zip(shares(expected))
        .map(|(&a, b)| (a.max(SHARE_MIN), b.max(SHARE_MIN)))
        .map(|(a, b)| (a - b) * (a / b).ln())
        .sum();
    let chance = (bins as f64 - 1.0) * (1.0 / observed.len() as f64 + 1.0 / expected.len() as f64);
    (index - chance).max(0.0)
}
