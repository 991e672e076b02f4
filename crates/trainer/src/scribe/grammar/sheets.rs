//! Fact sheets of corpora that never were, with figures that could have been.

use rand::{Rng, seq::IndexedRandom as _};
use understudy_corpus::statistics::{CONFIDENCE_BINS, ClassSummary, Confidence, Exemplar, Interval, Lengths, Summary};
use understudy_grounding::FactSheet;

use super::Material;

/// Two or three classes that a classifier of reviews could have.
const CLASSES: &[&[&str]] = &[
    &["NEGATIVE", "POSITIVE"],
    &["spoiler-free", "spoiler"],
    &["mixed", "warm"],
    &["cold", "warm"],
    &["unfavourable", "favourable"],
    &["NEGATIVE", "NEUTRAL", "POSITIVE"],
    &["unhappy", "mixed", "happy"],
];
/// How often the first of them is taken.
const SENTIMENT_SHARE: f64 = 0.7;
const NORMAL_95: f64 = 1.959_964;
const TITLES: &[&str] = &[
    "reviews",
    "imdb_test",
    "film-reviews",
    "survey",
    "autumn",
    "feedback",
    "comments",
    "cinema",
    "festival",
    "letters",
    "demo",
    "hotel-reviews",
    "books",
    "products",
    "audience",
    "critics",
    "week_12",
    "2026-10",
    "batch7",
    "export",
];

pub(super) fn sheet(material: &Material, rng: &mut impl Rng) -> FactSheet {
    let labels = if rng.random_bool(SENTIMENT_SHARE) {
        CLASSES[0]
    } else {
        CLASSES.choose(rng).copied().unwrap_or(CLASSES[0])
    };
    let title = format!("{}.csv", TITLES.choose(rng).copied().unwrap_or("reviews"));
    FactSheet::of_reviews(&title, &summary(labels, material, rng))
}

fn summary(labels: &[&str], material: &Material, rng: &mut impl Rng) -> Summary {
    let texts = log_uniform(20.0, 60_000.0, rng);
    let mut counts = counts(texts, labels.len(), rng);
    if labels.len() > 2 || !rng.random_bool(0.02) {
        while ties(&counts) {
            counts = self::counts(texts, labels.len(), rng);
        }
    }
    let texts = counts.iter().sum();
    let mean_length = rng.random_range(12.0..420.0);
    let mean_confidence = rng.random_range(0.62..0.99);
    let classes = labels.iter().zip(&counts).map(|(label, &count)| {
        let length = mean_length * rng.random_range(0.85..1.15);
        ClassSummary {
            label: (*label).to_owned(),
            texts: count,
            share: count as f64 / texts as f64,
            interval: wilson(count as f64, texts as f64),
            mean_confidence: Some((mean_confidence + rng.random_range(-0.03..0.03_f64)).min(0.999)),
            lengths: lengths(length, rng),
            distinctive: material.words(5, rng),
            exemplars: exemplars(label, 0.9..1.0, material, rng),
        }
    });
    let classes: Vec<_> = classes.collect();
    let uncertain = (texts as f64 * rng.random_range(0.0..0.2)) as u64;
    let confident = ((texts - uncertain) as f64 * rng.random_range(0.2..0.98)) as u64;
    let long_enough = mean_length > 20.0;
    Summary {
        texts,
        classes,
        confidence: Confidence {
            mean: Some(mean_confidence),
            confident,
            uncertain,
            histogram: [0; CONFIDENCE_BINS],
        },
        lengths: lengths(mean_length, rng),
        vocabulary: log_uniform(200.0, 120_000.0, rng),
        type_token_ratio: long_enough.then(|| rng.random_range(0.6..0.95)),
        uncertain: if rng.random_bool(0.9) {
            exemplars(labels[0], 0.5..0.6, material, rng)
        } else {
            Vec::new()
        },
    }
}

fn ties(counts: &[u64]) -> bool {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

fn counts(texts: u64, classes: usize, rng: &mut impl Rng) -> Vec<u64> {
    let weights: Vec<f64> = (0..classes).map(|_| rng.random_range(0.05..1.0)).collect();
    let all: f64 = weights.iter().sum();
    weights
        .iter()
        .map(|weight| (texts as f64 * weight / all) as u64 + 1)
        .collect()
}

fn wilson(count: f64, all: f64) -> Interval {
    let (share, square) = (count / all, NORMAL_95 * NORMAL_95);
    let centre = (share + square / (2.0 * all)) / (1.0 + square / all);
    let half = NORMAL_95 / (1.0 + square / all) * (share * (1.0 - share) / all + square / (4.0 * all * all)).sqrt();
    Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
}

fn lengths(mean: f64, rng: &mut impl Rng) -> Lengths {
    Lengths {
        mean: Some(mean),
        median: Some((mean * rng.random_range(0.6..1.05)) as u64),
        p90: Some((mean * rng.random_range(1.5..2.4)) as u64),
        histogram: Vec::new(),
    }
}

fn exemplars(label: &str, confidence: std::ops::Range<f64>, material: &Material, rng: &mut impl Rng) -> Vec<Exemplar> {
    let mut one = || Exemplar {
        label: label.to_owned(),
        confidence: rng.random_range(confidence.clone()),
        quotation: material.sentence(rng),
    };
    vec![one(), one()]
}

fn log_uniform(low: f64, high: f64, rng: &mut impl Rng) -> u64 {
    rng.random_range(low.ln()..high.ln()).exp() as u64
}
