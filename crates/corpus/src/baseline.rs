//! The baseline: TF-IDF and logistic regression. It is what a trained network must beat, and a teacher for small ones.

use crate::logistic::Logistic;
use crate::tfidf::Sparse;
use crate::{Error, LogisticOptions, TfIdf, TfIdfOptions};

/// Settings of both stages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BaselineOptions {
    /// Features.
    pub features: TfIdfOptions,
    /// Whether each feature counts as much as it speaks for a class: its log-count ratio, by which naive Bayes would judge
    /// (Wang and Manning, Baselines and Bigrams, ACL 2012). The penalty then falls on features that say nothing.
    pub log_count_ratios: bool,
    /// Fit.
    pub fit: LogisticOptions,
}

impl BaselineOptions {
    /// The default with another `C`, the inverse of the penalty's strength.
    #[must_use]
    pub fn with_strength(strength: f64) -> Self {
        Self {
            fit: LogisticOptions {
                strength,
                ..LogisticOptions::default()
            },
            ..Self::default()
        }
    }

    /// The strongest of these baselines on reviews: words, pairs and triples, weighted by log-count ratios.
    #[must_use]
    pub fn naive_bayes() -> Self {
        Self {
            features: TfIdfOptions {
                run: 3,
                documents_min: 2,
                features_max: 1_000_000,
                ..TfIdfOptions::default()
            },
            log_count_ratios: true,
            fit: LogisticOptions {
                strength: 100.0,
                ..LogisticOptions::default()
            },
        }
    }
}

/// A fitted baseline. With more than two classes it fits one against the rest for each.
#[derive(Debug)]
pub struct Baseline {
    pub(crate) features: TfIdf,
    models: Vec<Logistic>,
}

impl Baseline {
    /// Learns from texts and their classes (0 to `classes` - 1).
    ///
    /// # Errors
    /// If there are fewer than two classes, a class is out of range, or a class has no example.
    pub fn fit(texts: &[&str], labels: &[usize], classes: usize, options: &BaselineOptions) -> Result<Self, Error> {
        if classes < 2 || texts.len() != labels.len() || labels.iter().any(|&label| label >= classes) {
            return Err(Error::Invalid(format!(
                "the baseline needs two or more classes and one of them for each text: {} texts, {} labels, {classes} classes",
                texts.len(),
                labels.len(),
            )));
        }
        if let Some(missing) = (0..classes).find(|class| !labels.contains(class)) {
            return Err(Error::Invalid(format!("no example of class {missing} to learn from")));
        }
        let features = TfIdf::fit(texts.iter().copied(), &options.features);
        let mut rows = Sparse::default();
        for text in texts {
            rows.push(&features.transform(text));
        }
        let against_rest = if classes == 2 { 1..2 } else { 0..classes };
        let models = against_rest
            .map(|class| {
                let positive: Vec<bool> = labels.iter().map(|&label| label == class).collect();
                if !options.log_count_ratios {
                    return Logistic::fit(&rows, features.features(), &positive, &options.fit);
                }
                let ratios = log_count_ratios(&rows, features.features(), &positive);
                let mut model = Logistic::fit(&rows.scaled(&ratios), features.features(), &positive, &options.fit);
                model.scale(&ratios);
                model
            })
            .collect();
        Ok(Self { features, models })
    }

    /// One score per class; their softmax is the probability of each of two classes.
    #[must_use]
    pub fn logits(&self, text: &str) -> Vec<f32> {
        let row = self.features.transform(text);
        let odds: Vec<f64> = self.models.iter().map(|model| model.score(&row)).collect();
        logits(&odds)
    }
}

/// One score per class, from the log-odds of the second of two classes or of each class against the rest.
#[expect(clippy::cast_possible_truncation, reason = "scores need no more than f32")]
pub(crate) fn logits(odds: &[f64]) -> Vec<f32> {
    match odds {
        [odds] => vec![(-odds / 2.0) as f32, (odds / 2.0) as f32],
        // The logarithm of one-against-rest odds' probability, so that the softmax is the normalised probabilities.
        odds => odds.iter().map(|odds| -(-odds).exp().ln_1p() as f32).collect(),
    }
}

/// For each feature the logarithm of how much larger its share of the positive rows' weights is than of the others', each
/// feature counted once more than it occurs.
#[expect(clippy::cast_possible_truncation, reason = "ratios need no more than f32")]
fn log_count_ratios(rows: &Sparse, columns: usize, positive: &[bool]) -> Vec<f32> {
    let (mut inside, mut outside) = (vec![1.0_f64; columns], vec![1.0_f64; columns]);
    for (index, &positive) in positive.iter().enumerate() {
        let sums = if positive { &mut inside } else { &mut outside };
        for &(column, weight) in rows.row(index) {
            sums[column as usize] += f64::from(weight);
        }
    }
    let shift = (outside.iter().sum::<f64>() / inside.iter().sum::<f64>()).ln();
    let ratio = |(inside, outside): (&f64, &f64)| ((inside / outside).ln() + shift) as f32;
    inside.iter().zip(&outside).map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Expected {
        texts: Vec<String>,
        labels: Vec<usize>,
        held_out: Vec<String>,
        features: usize,
        strength: f64,
        documents_min: u32,
        scores: Vec<f64>,
    }

    /// Values from scikit-learn: `fixtures/generate.py`.
    #[test]
    fn scores_as_scikit_learn() {
        let expected: Expected = serde_json::from_str(include_str!("../fixtures/baseline.json")).unwrap();
        let options = BaselineOptions {
            features: TfIdfOptions {
                documents_min: expected.documents_min,
                documents_max_share: 1.0,
                ..TfIdfOptions::default()
            },
            fit: LogisticOptions {
                strength: expected.strength,
                tolerance: 1e-10,
                ..LogisticOptions::default()
            },
            ..BaselineOptions::default()
        };
        let texts: Vec<&str> = expected.texts.iter().map(String::as_str).collect();
        let baseline = Baseline::fit(&texts, &expected.labels, 2, &options).unwrap();
        assert_eq!(baseline.features.features(), expected.features);
        for (text, expected) in expected.held_out.iter().zip(&expected.scores) {
            let logits = baseline.logits(text);
            let score = f64::from(logits[1] - logits[0]);
            assert!((score - expected).abs() < 1e-4, "{text}: {score} for {expected}");
        }
    }

    #[test]
    fn three_classes() {
        let texts = ["red rose", "red", "green leaf", "green", "blue sky", "blue"];
        let options = BaselineOptions {
            features: TfIdfOptions {
                documents_min: 1,
                ..TfIdfOptions::default()
            },
            ..BaselineOptions::default()
        };
        let baseline = Baseline::fit(&texts, &[0, 0, 1, 1, 2, 2], 3, &options).unwrap();
        let logits = baseline.logits("a green sea");
        assert!(logits[1] > logits[0] && logits[1] > logits[2], "{logits:?}");
    }

    /// Where a rare word tells the class as surely as frequent ones, and noise is as rare, ratios tell them apart before the fit.
    #[test]
    fn log_count_ratios_favour_features_that_speak_for_a_class() {
        let mut rows = Sparse::default();
        for row in [
            [(0, 1.0), (2, 1.0)],
            [(0, 1.0), (2, 1.0)],
            [(1, 1.0), (2, 1.0)],
            [(1, 1.0), (2, 1.0)],
        ] {
            rows.push(&row);
        }
        let ratios = log_count_ratios(&rows, 3, &[true, true, false, false]);
        assert!((ratios[0] - 3.0_f32.ln()).abs() < 1e-6 && (ratios[1] + 3.0_f32.ln()).abs() < 1e-6);
        assert!(ratios[2].abs() < 1e-6);

        let texts = ["a fine film", "fine indeed", "a poor film", "poor indeed"];
        let options = BaselineOptions {
            features: TfIdfOptions {
                documents_min: 1,
                ..BaselineOptions::naive_bayes().features
            },
            ..BaselineOptions::naive_bayes()
        };
        let baseline = Baseline::fit(&texts, &[1, 1, 0, 0], 2, &options).unwrap();
        let score = |text: &str| baseline.logits(text)[1] - baseline.logits(text)[0];
        assert!(score("fine") > 0.1 && score("poor") < -0.1 && score("film").abs() < 0.05);
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let fit = |labels: &[usize], classes| Baseline::fit(&["a", "b"], labels, classes, &BaselineOptions::default());
        assert!(fit(&[0, 1], 1).is_err());
        assert!(fit(&[0, 2], 2).is_err());
        assert!(fit(&[0], 2).is_err());
        assert!(
            fit(&[1, 1], 2)
                .unwrap_err()
                .to_string()
                .contains("no example of class 0")
        );
    }
}
