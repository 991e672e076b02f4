//! TF-IDF over words and runs of neighbouring words.
//!
//! As scikit-learn's `TfidfVectorizer(ngram_range=(1, n), sublinear_tf=True, token_pattern=r"\b\w[\w']*\b|[!?]")`: weight
//! `(1 + ln tf) · (1 + ln((1 + n) / (1 + df)))`, rows of length 1.

use std::collections::HashMap;

/// What becomes a feature.
#[derive(Debug, Clone, PartialEq)]
pub struct TfIdfOptions {
    /// Words of the longest run of neighbouring words that is a feature, 1 to 3.
    pub run: usize,
    /// Fewest documents that a feature must occur in.
    pub documents_min: u32,
    /// Largest share of the documents that a feature may occur in.
    pub documents_max_share: f64,
    /// Most features; the most frequent are kept.
    pub features_max: usize,
}

impl Default for TfIdfOptions {
    fn default() -> Self {
        Self {
            run: 2,
            documents_min: 3,
            documents_max_share: 0.9,
            features_max: 300_000,
        }
    }
}

/// Fitted features.
#[derive(Debug)]
pub struct TfIdf {
    words: HashMap<String, u32>,
    columns: HashMap<Run, u32>,
    idf: Vec<f32>,
    run: usize,
}

/// The most words that a feature can have.
const RUN_MAX: usize = 3;

/// Numbers of neighbouring words, filled up with [`NONE`].
type Run = [u32; RUN_MAX];

/// Rows of a sparse matrix.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    ends: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl Sparse {
    pub(crate) fn push(&mut self, row: &[(u32, f32)]) {
        self.entries.extend_from_slice(row);
        self.ends.push(self.entries.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// With each column multiplied by a number.
    pub(crate) fn scaled(&self, scales: &[f32]) -> Self {
        let scale = |&(column, value): &(u32, f32)| (column, value * scales[column as usize]);
        Self {
            ends: self.ends.clone(),
            entries: self.entries.iter().map(scale).collect(),
        }
    }

    pub(crate) fn row(&self, index: usize) -> &[(u32, f32)] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.entries[start..self.ends[index]]
    }
}

/// No word has this number: it stands after the last word of a run.
const NONE: u32 = u32::MAX;

/// Calls `visit` with each token of the lower-cased text: a word with its inner apostrophes, `!` or `?`.
fn tokens(text: &str, mut visit: impl FnMut(&str)) {
    let text = text.to_lowercase();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| word(c) || c == '!' || c == '?') {
        rest = &rest[start..];
        let end = if rest.starts_with(['!', '?']) {
            1
        } else {
            let end = rest.find(|c: char| !word(c) && c != '\'').unwrap_or(rest.len());
            rest[..end].trim_end_matches('\'').len()
        };
        visit(&rest[..end]);
        rest = &rest[end..];
    }
}

/// Sorted features of a document, one for each time it occurs.
fn runs(numbers: &[u32], longest: usize, keys: &mut Vec<Run>) {
    keys.clear();
    for length in 1..=longest.min(RUN_MAX) {
        let known = numbers.windows(length).filter(|run| !run.contains(&NONE));
        keys.extend(known.map(|run| {
            let mut key = [NONE; RUN_MAX];
            key[..length].copy_from_slice(run);
            key
        }));
    }
    keys.sort_unstable();
}

impl TfIdf {
    /// Finds the features of documents.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the number of tokens in memory"
    )]
    pub fn fit<'a>(documents: impl IntoIterator<Item = &'a str>, options: &TfIdfOptions) -> Self {
        let mut words = HashMap::new();
        let mut frequency: HashMap<Run, u32> = HashMap::new();
        let (mut numbers, mut keys, mut total) = (Vec::new(), Vec::new(), 0_u32);
        for document in documents {
            numbers.clear();
            tokens(document, |token| {
                let next = words.len() as u32;
                numbers.push(match words.get(token) {
                    Some(&number) => number,
                    None => *words.entry(token.to_owned()).or_insert(next),
                });
            });
            runs(&numbers, options.run, &mut keys);
            keys.dedup();
            for &key in &keys {
                *frequency.entry(key).or_default() += 1;
            }
            total += 1;
        }
        let most = f64::from(total) * options.documents_max_share;
        let mut kept: Vec<(Run, u32)> = frequency.into_iter().collect();
        kept.retain(|&(_, documents)| documents >= options.documents_min && f64::from(documents) <= most);
        kept.sort_unstable_by_key(|&(key, documents)| (std::cmp::Reverse(documents), key));
        kept.truncate(options.features_max);
        let idf = |documents: u32| (f64::from(total + 1) / f64::from(documents + 1)).ln() + 1.0;
        Self {
            words,
            idf: kept.iter().map(|&(_, documents)| idf(documents) as f32).collect(),
            columns: kept.iter().zip(0..).map(|(&(key, _), column)| (key, column)).collect(),
            run: options.run,
        }
    }

    /// How many features there are.
    #[must_use]
    pub fn features(&self) -> usize {
        self.idf.len()
    }

    /// A document's features, sorted, with weights whose squares sum to 1 (empty if it has none).
    #[must_use]
    pub fn transform(&self, document: &str) -> Vec<(u32, f32)> {
        let (mut numbers, mut keys) = (Vec::new(), Vec::new());
        tokens(document, |token| {
            numbers.push(self.words.get(token).copied().unwrap_or(NONE))
        });
        runs(&numbers, self.run, &mut keys);
        let mut row: Vec<(u32, f32)> = keys
            .chunk_by(|a, b| a == b)
            .filter_map(|same| self.columns.get(&same[0]).map(|&column| (column, same.len())))
            .map(|(column, count)| (column, (1.0 + (count as f32).ln()) * self.idf[column as usize]))
            .collect();
        row.sort_unstable_by_key(|&(column, _)| column);
        let length = row.iter().map(|&(_, weight)| weight * weight).sum::<f32>().sqrt();
        for (_, weight) in &mut row {
            *weight /= length;
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_words_and_marks() {
        let mut seen = Vec::new();
        tokens("Don't 'quote' it!? Café_9 -- a''", |token| seen.push(token.to_owned()));
        assert_eq!(seen, ["don't", "quote", "it", "!", "?", "café_9", "a"]);
    }

    #[test]
    fn runs_of_three_words_are_features_too() {
        let options = TfIdfOptions {
            run: 3,
            documents_min: 1,
            documents_max_share: 1.0,
            ..TfIdfOptions::default()
        };
        let fitted = TfIdf::fit(["not a good film"], &options);
        assert_eq!(fitted.features(), 4 + 3 + 2);
        assert_eq!(fitted.transform("a good film").len(), 3 + 2 + 1);
        assert_eq!(fitted.transform("not unknown film").len(), 2);
    }

    #[test]
    fn limits_on_documents_and_features() {
        let documents = ["good film", "good plot", "bad film", "good"];
        let options = TfIdfOptions {
            documents_min: 2,
            documents_max_share: 0.5,
            ..TfIdfOptions::default()
        };
        assert_eq!(
            TfIdf::fit(documents, &options).features(),
            1,
            "film; good is too frequent, the rest too rare"
        );
        let options = TfIdfOptions {
            documents_min: 1,
            features_max: 2,
            ..TfIdfOptions::default()
        };
        let fitted = TfIdf::fit(documents, &options);
        assert_eq!(fitted.features(), 2);
        assert!(fitted.transform("unknown words").is_empty());
        let row = fitted.transform("Good, good film");
        assert!((row.iter().map(|(_, weight)| weight * weight).sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(row[0].1 > row[1].1 * 0.9, "{row:?}");
    }
}
