//! Figures of a classifier, defined as scikit-learn defines them.

mod bootstrap;
mod calibration;
mod paired;
mod scored;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use bootstrap::{Bootstrap, Clusters, percentile_interval};
pub use calibration::{CALIBRATION_BINS, Calibration, CalibrationBin, Temperature};
pub use paired::{Discordant, holm};
pub use scored::{Curves, Figures, Scored};

use crate::Error;

/// How well predictions fit the truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Examples measured on.
    pub examples: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// Unweighted means over the classes.
    #[serde(rename = "macro")]
    pub averages: Averages,
    /// Area under the receiver operating characteristic: of the second class where there are two, else the mean of each class against
    /// the rest. `None` if a class has no example or nothing but.
    pub roc_auc: Option<f64>,
    /// Mean of the classes' `pr_auc`. `None` if a class has no example.
    pub pr_auc: Option<f64>,
    /// Mean of -ln(probability of the true class).
    pub log_loss: f64,
    /// Brier's score: mean square of what the probability of the second class lacks or has too much where there are two; else
    /// the sum over all classes, as scikit-learn has it.
    pub brier: f64,
    /// By class.
    pub classes: Vec<ClassMetrics>,
    /// `confusion[truth][prediction]`, in the order of `classes`.
    pub confusion: Vec<Vec<usize>>,
}

/// Precision, recall and F1; 0 where the denominator is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Averages {
    /// Share of right ones among those predicted.
    pub precision: f64,
    /// Share of those found among the true ones.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// One class's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// Its name.
    pub label: String,
    /// Its figures.
    #[serde(flatten)]
    pub scores: Averages,
    /// Area under its receiver operating characteristic against the rest.
    pub roc_auc: Option<f64>,
    /// Average precision against the rest: the area under its curve of precision by recall, without interpolation.
    pub pr_auc: Option<f64>,
    /// True examples of it.
    pub support: usize,
}

impl Metrics {
    /// Compares each example's probabilities (in the order of `labels`) with its class. The highest wins, the first of equals.
    ///
    /// # Errors
    /// If there is no example, or rows do not fit the labels, or a probability is not a number.
    pub fn measure(labels: &[String], truth: &[usize], probabilities: &[Vec<f32>]) -> Result<Self, Error> {
        Ok(Self::of(labels, &Scored::new(labels.len(), truth, probabilities)?))
    }

    /// The same of answers that are scored already.
    #[must_use]
    pub fn of(labels: &[String], scored: &Scored) -> Self {
        let classes = labels.len();
        let confusion = scored.confusion();
        let figures = scored.figures(None);
        let by_class: Vec<ClassMetrics> = labels
            .iter()
            .enumerate()
            .map(|(class, label)| {
                let right = confusion[class][class];
                let support = confusion[class].iter().sum();
                let predicted = confusion.iter().map(|row| row[class]).sum();
                let (precision, recall) = (ratio(right, predicted), ratio(right, support));
                let f1 = ratio(2 * right, predicted + support);
                let (roc_auc, pr_auc) = scored.areas(class, None);
                ClassMetrics {
                    label: label.clone(),
                    scores: Averages { precision, recall, f1 },
                    roc_auc,
                    pr_auc,
                    support,
                }
            })
            .collect();
        let mean =
            |pick: fn(&Averages) -> f64| by_class.iter().map(|class| pick(&class.scores)).sum::<f64>() / count(classes);
        Self {
            examples: scored.examples(),
            accuracy: figures.accuracy,
            averages: Averages {
                precision: mean(|a| a.precision),
                recall: mean(|a| a.recall),
                f1: mean(|a| a.f1),
            },
            roc_auc: figures.roc_auc,
            pr_auc: figures.pr_auc,
            log_loss: figures.log_loss,
            brier: figures.brier,
            classes: by_class,
            confusion,
        }
    }
}

fn count(number: usize) -> f64 {
    number as f64
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { count(part) / count(whole) }
}
