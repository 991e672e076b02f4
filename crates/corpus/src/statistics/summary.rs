//! The finished numbers.

use serde::Serialize;

/// Equal bins of the confidence histogram over [0, 1].
pub const CONFIDENCE_BINS: usize = 20;
/// A classification of at least this confidence counts as confident.
pub const CONFIDENT: f64 = 0.9;
/// A classification below this confidence counts as uncertain.
pub const UNCERTAIN: f64 = 0.6;

/// What a classified corpus looks like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Texts that were classified.
    pub texts: u64,
    /// In the order of the classifier's labels.
    pub classes: Vec<ClassSummary>,
    /// Of the class that was chosen, over all texts.
    pub confidence: Confidence,
    /// In words, over all texts.
    pub lengths: Lengths,
    /// Distinct words, whatever their case. Exact up to 2^18, an estimate beyond, with a standard error of 0.2%.
    pub vocabulary: u64,
    /// Moving-average type–token ratio with a window of 20 words (Covington and McFall 2010); `None` if no text is that
    /// long.
    pub type_token_ratio: Option<f64>,
    /// Texts below [`UNCERTAIN`], least confident first.
    pub uncertain: Vec<Exemplar>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassSummary {
    /// As the classifier names it.
    pub label: String,
    /// Texts of this class.
    pub texts: u64,
    /// 0 to 1.
    pub share: f64,
    /// Of the share, 95%, by Wilson's score.
    pub interval: Interval,
    /// 0 to 1; `None` without texts.
    pub mean_confidence: Option<f64>,
    /// Of this class' texts.
    pub lengths: Lengths,
    /// Words that this class uses more than the others do, most distinctive first: by log-odds ratio with an informative
    /// Dirichlet prior (Monroe, Colaresi and Quinn 2008).
    pub distinctive: Vec<String>,
    /// Confident and unlike each other, best first.
    pub exemplars: Vec<Exemplar>,
}

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How sure the classifier was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confidence {
    /// 0 to 1; `None` without texts.
    pub mean: Option<f64>,
    /// Texts of at least [`CONFIDENT`].
    pub confident: u64,
    /// Texts below [`UNCERTAIN`].
    pub uncertain: u64,
    /// Counts in equal bins of [0, 1].
    pub histogram: [u64; CONFIDENCE_BINS],
}

/// Lengths in words. All `None` without texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Half of the texts are at most that long; 10,000 stands for that and more.
    pub median: Option<u64>,
    /// Nine of ten texts are at most that long; 10,000 stands for that and more.
    pub p90: Option<u64>,
    /// For a chart: the bins' lower bounds in words, ascending, and their counts. The last bin has no end. The classes have
    /// the bins of the whole.
    pub histogram: Vec<(u64, u64)>,
}

/// A text that shows something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exemplar {
    /// Its class.
    pub label: String,
    /// 0 to 1.
    pub confidence: f64,
    /// A sentence of it, verbatim but for white space: 5 to 30 words where the text has such a sentence.
    pub quotation: String,
}
