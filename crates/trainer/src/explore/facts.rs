//! What `explore` tells.

use serde::Serialize;
use understudy_corpus::statistics::Interval;

use super::lengths::{LengthFigures, Lengths};

/// What `explore` tells; this is its JSON.
#[derive(Debug, Serialize)]
pub(super) struct Survey {
    pub(super) files: Vec<FileFacts>,
    /// What deserves a thought before training.
    pub(super) remarks: Vec<String>,
    pub(super) classes: Vec<ClassFacts>,
    pub(super) splits: Vec<SplitFacts>,
    pub(super) duplicates: Duplicates,
    pub(super) leakage: Vec<Leak>,
    pub(super) tokens: Option<TokenFacts>,
    /// By class, for plots.
    #[serde(skip)]
    pub(super) words: Vec<(String, Lengths)>,
    #[serde(skip)]
    pub(super) characters: Vec<(String, Lengths)>,
}

/// One file: what was read and what `train` would leave out, and why.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileFacts {
    pub(super) file: String,
    pub(super) sha256: String,
    pub(super) labelled: bool,
    pub(super) rows: u64,
    pub(super) kept: u64,
    pub(super) too_short: u64,
    pub(super) too_long: u64,
    pub(super) without_label: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ClassFacts {
    pub(super) label: String,
    pub(super) examples: u64,
    pub(super) share: f64,
    /// Wilson's 95% interval of the share.
    pub(super) interval: Interval,
    pub(super) words: LengthFigures,
    pub(super) characters: LengthFigures,
    pub(super) tokens: Option<LengthFigures>,
}

#[derive(Debug, Serialize)]
pub(super) struct SplitFacts {
    pub(super) split: String,
    pub(super) examples: u64,
    /// In the order of the classes.
    pub(super) by_class: Vec<u64>,
}

/// Texts that occur more than once in the labelled file.
#[derive(Debug, Default, Serialize)]
pub(super) struct Duplicates {
    /// Texts that occur more than once, but for case, punctuation and white space.
    pub(super) groups: u64,
    /// Rows beyond the first of each.
    pub(super) rows: u64,
    /// Of the groups, those with more than one label; `train` leaves them out.
    pub(super) contradictory_groups: u64,
    pub(super) contradictory_rows: u64,
    /// Groups of texts that are alike but not equal.
    pub(super) near_groups: u64,
    /// Distinct texts beyond the first of each.
    pub(super) near_texts: u64,
    pub(super) near_contradictory_groups: u64,
    pub(super) near_threshold: f64,
    pub(super) quoted: Vec<Quoted>,
}

#[derive(Debug, Serialize)]
pub(super) struct Quoted {
    pub(super) kind: &'static str,
    pub(super) copies: usize,
    pub(super) labels: Vec<String>,
    /// Some of the places.
    pub(super) lines: Vec<u64>,
    pub(super) text: String,
}

/// Rows of one part whose text is in a later one.
#[derive(Debug, Serialize)]
pub(super) struct Leak {
    pub(super) from: &'static str,
    pub(super) into: &'static str,
    /// Equal texts.
    pub(super) exact: u64,
    /// Equal or alike ones.
    pub(super) near: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct TokenFacts {
    pub(super) tokenizer: String,
    pub(super) vocabulary: usize,
    /// With `[CLS]` and `[SEP]`.
    pub(super) lengths: LengthFigures,
    pub(super) coverage: Vec<Coverage>,
    /// Share of tokens that the vocabulary does not spell.
    pub(super) unknown: f64,
    #[serde(skip)]
    pub(super) by_class: Vec<(String, Lengths)>,
}

#[derive(Debug, Serialize)]
pub(super) struct Coverage {
    pub(super) limit: usize,
    /// Share of texts that fit.
    pub(super) texts: f64,
    /// Share of tokens that are left when the others are cut.
    pub(super) tokens: f64,
}
