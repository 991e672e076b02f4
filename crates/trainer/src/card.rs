//! `understudy.json` beside a checkpoint: what publication tells about a version besides its files.
//!
//! Its content is the protobuf JSON of a manifest with labels, metrics, golden examples, reference profile and lineage only.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Context;
use understudy_corpus::Metrics;
use understudy_protocol::{json, v1};

use crate::files;
use crate::model::{Model, softmax};

/// The card's file name.
pub(crate) const FILE: &str = "understudy.json";

/// Upper ends of the bins of token counts, but the last, which has none.
const TOKEN_BINS: [usize; 5] = [32, 64, 128, 256, 512];
const CONFIDENCE_BINS: usize = 20;

/// Texts whose answers a worker must reproduce: clear and mixed ones, one word, odd characters.
const GOLDEN: [&str; 8] = [
    "A warm, funny and beautifully acted film. I would gladly see it again tomorrow.",
    "Two hours of my life that I will never get back: dull, noisy and badly written.",
    "The first half is slow, but the ending is worth the wait.",
    "Fine.",
    "I wanted to like it. The cast is superb and the music is lovely, yet nothing in the story makes any sense at all.",
    "Not bad, not bad at all!!!",
    "Crème brûlée 🍮 – naïve café scenes, “quoted” dialogue… 10/10",
    "the the the the the the the the the the the the the the the the the the the the the the the the the the the the the the",
];

/// Answers on known data, by example: probabilities and the number of tokens.
pub(crate) struct Answers {
    pub(crate) probabilities: Vec<Vec<f32>>,
    pub(crate) tokens: Vec<usize>,
}

/// Where the version comes from.
#[derive(Default)]
pub(crate) struct Origin {
    pub(crate) parent: String,
    pub(crate) recipe: String,
    pub(crate) data_sha256: BTreeMap<String, String>,
}

/// The card of a model that was not measured.
pub(crate) fn new(model: &Model, origin: Origin) -> anyhow::Result<v1::Manifest> {
    let mut golden_examples = Vec::with_capacity(GOLDEN.len());
    for text in GOLDEN {
        let ids = model.tokenizer.encode(text)?.ids;
        let logits = model.logits(&[&ids])?;
        let probabilities = logits.first().map(|row| softmax(row)).unwrap_or_default();
        golden_examples.push(v1::GoldenExample {
            text: text.to_owned(),
            probabilities,
        });
    }
    Ok(v1::Manifest {
        labels: model.network.config().labels.clone(),
        golden_examples,
        lineage: Some(v1::Lineage {
            parent: origin.parent,
            recipe: origin.recipe,
            data_sha256: origin.data_sha256.into_iter().collect(),
            software: concat!("understudy-trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
        }),
        ..v1::Manifest::default()
    })
}

/// Adds what was measured.
pub(crate) fn measured(card: &mut v1::Manifest, metrics: &Metrics, answers: &Answers) {
    let examples = metrics.examples as f64;
    card.metrics = HashMap::from([
        ("examples".to_owned(), examples),
        ("accuracy".to_owned(), metrics.accuracy),
        ("precision".to_owned(), metrics.averages.precision),
        ("recall".to_owned(), metrics.averages.recall),
        ("f1".to_owned(), metrics.averages.f1),
        ("log_loss".to_owned(), metrics.log_loss),
    ]);
    card.metrics
        .extend(metrics.roc_auc.map(|area| ("roc_auc".to_owned(), area)));
    card.reference_profile = Some(profile(card.labels.len(), answers));
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "counts are small, confidences lie in [0, 1]"
)]
fn profile(classes: usize, answers: &Answers) -> v1::ReferenceProfile {
    let mut by_label = vec![0_u64; classes];
    let mut confidence_histogram = vec![0; CONFIDENCE_BINS];
    let mut token_count_histogram = vec![0; TOKEN_BINS.len() + 1];
    for (row, &tokens) in answers.probabilities.iter().zip(&answers.tokens) {
        let best = (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        by_label[best] += 1;
        confidence_histogram[((row[best] * CONFIDENCE_BINS as f32) as usize).min(CONFIDENCE_BINS - 1)] += 1;
        token_count_histogram[TOKEN_BINS.iter().take_while(|&&end| tokens >= end).count()] += 1;
    }
    let examples = answers.probabilities.len() as u64;
    v1::ReferenceProfile {
        examples,
        label_shares: by_label
            .iter()
            .map(|&count| count as f64 / examples.max(1) as f64)
            .collect(),
        confidence_histogram,
        token_count_histogram,
    }
}

/// Writes the card into a checkpoint's folder.
pub(crate) fn write(folder: &Path, card: &v1::Manifest) -> anyhow::Result<()> {
    files::write_whole(
        &folder.join(FILE),
        format!("{}\n", sorted(&json::to_string(card)?)?).as_bytes(),
    )
}

/// Maps have no order in protobuf; a committed file should not change without cause.
fn sorted(json: &str) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(
        &serde_json::from_str::<serde_json::Value>(json)?,
    )?)
}

/// Reads the card of a checkpoint's folder, if it has one.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<v1::Manifest>> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        Ok(bytes) => Ok(Some(
            json::from_slice(&bytes).with_context(|| path.display().to_string())?,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_counts_labels_confidence_and_tokens() {
        let answers = Answers {
            probabilities: vec![vec![0.96, 0.04], vec![0.5, 0.5], vec![0.0, 1.0]],
            tokens: vec![3, 32, 600],
        };
        let profile = profile(2, &answers);
        assert_eq!(profile.examples, 3);
        assert!((profile.label_shares[0] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(
            (profile.confidence_histogram[10], profile.confidence_histogram[19]),
            (1, 2)
        );
        assert_eq!(profile.token_count_histogram, [1, 1, 0, 0, 0, 1]);
    }
}
