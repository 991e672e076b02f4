//! What the service asks of a loaded version, and how its raw outputs become an answer.
//!
//! [`Model`] is the one seam of this crate: the real network behind it needs libtorch, tests put a fake in its place.

/// A version in memory: its tokenizer and its network. Shared by all engines, read-only.
pub trait Model: Send + Sync + 'static {
    /// What it can answer.
    fn info(&self) -> &Info;

    /// Splits a text into tokens; called on a tokenizer thread.
    ///
    /// # Errors
    /// If the tokenizer fails, which is the server's fault: the text was checked before.
    fn encode(&self, text: &str) -> Result<Tokens, String>;

    /// Raw outputs of the network, one row for each text; called on an engine thread.
    ///
    /// # Errors
    /// If the computation fails.
    fn logits(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, String>;

    /// Tokens that the network computes for a batch: more than the texts have, if it pads them to equal length.
    fn computed_tokens(&self, batch: &[&[u32]]) -> usize {
        batch.iter().map(|ids| ids.len()).sum()
    }
}

/// What a version can answer, and how it is computed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Classes in the order of the network's outputs.
    pub labels: Vec<String>,
    /// Longest input in tokens, with the special ones.
    pub tokens_max: usize,
    /// `fp32`, `bf16` or `int8`.
    pub precision: String,
    /// `cpu` or `cuda:0`.
    pub device: String,
}

/// A text as the network sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids with the special ones.
    pub ids: Vec<u32>,
    /// The text had more tokens than the network takes.
    pub truncated: bool,
}

/// Probabilities of one row of outputs; `None` if the network gave something that is no number, which must never become
/// a label.
#[must_use]
pub fn probabilities(logits: &[f32]) -> Option<Vec<f32>> {
    if logits.is_empty() || !logits.iter().all(|logit| logit.is_finite()) {
        return None;
    }
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f64> = logits
        .iter()
        .map(|logit| (f64::from(*logit) - f64::from(top)).exp())
        .collect();
    let sum: f64 = shares.iter().sum();
    #[expect(clippy::cast_possible_truncation, reason = "a probability needs no more digits")]
    Some(shares.into_iter().map(|share| (share / sum) as f32).collect())
}

/// Index of the highest value; the first of equals.
#[must_use]
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_even_for_extreme_outputs() {
        for row in [&[0.0_f32, 0.0][..], &[1000.0, -1000.0], &[-3.0e38, 3.0e38], &[1.0]] {
            let shares = probabilities(row).unwrap();
            assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?} {shares:?}");
        }
        let shares = probabilities(&[1.0, 2.0]).unwrap();
        assert!((shares[1] - 0.731_058_6).abs() < 1e-6);
        assert_eq!(argmax(&shares), 1);
        assert_eq!(argmax(&[0.5, 0.5]), 0);
    }

    #[test]
    fn what_is_no_number_gives_no_answer() {
        for row in [
            &[f32::NAN, 0.0][..],
            &[f32::INFINITY, 0.0],
            &[f32::NEG_INFINITY, 0.0],
            &[],
        ] {
            assert_eq!(probabilities(row), None, "{row:?}");
        }
    }
}
