//! Figures of a classifier, defined as scikit-learn defines them.

use serde::Serialize;

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
    /// Mean of -ln(probability of the true class).
    pub log_loss: f64,
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
    /// True examples of it.
    pub support: usize,
}

impl Metrics {
    /// Compares each example's probabilities (in the order of `labels`) with its class. The highest wins, the first of equals.
    ///
    /// # Errors
    /// If there is no example, or rows do not fit the labels, or a probability is not a number.
    pub fn measure(labels: &[String], truth: &[usize], probabilities: &[Vec<f32>]) -> Result<Self, Error> {
        let classes = labels.len();
        let fits = |(row, &label): (&Vec<f32>, &usize)| {
            row.len() == classes && label < classes && row.iter().all(|p| !p.is_nan())
        };
        if truth.is_empty() || truth.len() != probabilities.len() || !probabilities.iter().zip(truth).all(fits) {
            return Err(Error::Invalid(format!(
                "cannot measure: {} labels for {} predictions over {classes} classes, or a prediction that is no distribution",
                truth.len(),
                probabilities.len()
            )));
        }
        let mut confusion = vec![vec![0; classes]; classes];
        let mut loss = 0.0;
        for (row, &label) in probabilities.iter().zip(truth) {
            let best = (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            confusion[label][best] += 1;
            loss -= f64::from(row[label]).max(f64::from(f32::EPSILON)).ln();
        }
        let by_class: Vec<ClassMetrics> = labels
            .iter()
            .enumerate()
            .map(|(class, label)| {
                let right = confusion[class][class];
                let support = confusion[class].iter().sum();
                let predicted = confusion.iter().map(|row| row[class]).sum();
                let (precision, recall) = (ratio(right, predicted), ratio(right, support));
                let f1 = ratio(2 * right, predicted + support);
                ClassMetrics {
                    label: label.clone(),
                    scores: Averages { precision, recall, f1 },
                    support,
                }
            })
            .collect();
        let mean =
            |pick: fn(&Averages) -> f64| by_class.iter().map(|class| pick(&class.scores)).sum::<f64>() / count(classes);
        Ok(Self {
            examples: truth.len(),
            accuracy: ratio((0..classes).map(|class| confusion[class][class]).sum(), truth.len()),
            averages: Averages {
                precision: mean(|a| a.precision),
                recall: mean(|a| a.recall),
                f1: mean(|a| a.f1),
            },
            roc_auc: roc_auc(classes, truth, probabilities),
            log_loss: loss / count(truth.len()),
            classes: by_class,
            confusion,
        })
    }
}

fn count(number: usize) -> f64 {
    number as f64
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { count(part) / count(whole) }
}

fn roc_auc(classes: usize, truth: &[usize], probabilities: &[Vec<f32>]) -> Option<f64> {
    if classes == 2 {
        return area(1, truth, probabilities);
    }
    let areas = (0..classes).map(|class| area(class, truth, probabilities));
    Some(areas.sum::<Option<f64>>()? / count(classes))
}

/// The probability that a random example of the class scores above a random other one, ties counting half (Mann-Whitney).
fn area(class: usize, truth: &[usize], probabilities: &[Vec<f32>]) -> Option<f64> {
    let mut scored: Vec<(f32, bool)> = probabilities
        .iter()
        .zip(truth)
        .map(|(row, &label)| (row[class], label == class))
        .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut positives, mut pairs) = (0, 0, 0.0);
    for same in scored.chunk_by(|a, b| a.0 == b.0) {
        let hits = same.iter().filter(|(_, hit)| *hit).count();
        let misses = same.len() - hits;
        pairs += count(hits) * (count(below) + count(misses) / 2.0);
        below += misses;
        positives += hits;
    }
    (below > 0 && positives > 0).then(|| pairs / (count(positives) * count(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        labels: Vec<String>,
        truth: Vec<usize>,
        probabilities: Vec<Vec<f32>>,
        accuracy: f64,
        precision: Vec<f64>,
        recall: Vec<f64>,
        f1: Vec<f64>,
        macro_f1: f64,
        macro_precision: f64,
        macro_recall: f64,
        roc_auc: f64,
        log_loss: f64,
        confusion: Vec<Vec<usize>>,
    }

    /// Values from scikit-learn: `fixtures/generate.py`.
    #[test]
    fn figures_as_scikit_learn() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../fixtures/metrics.json")).unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let metrics = Metrics::measure(&case.labels, &case.truth, &case.probabilities).unwrap();
            let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
            assert_eq!(metrics.confusion, case.confusion);
            assert!(close(metrics.accuracy, case.accuracy));
            assert!(
                close(metrics.roc_auc.unwrap(), case.roc_auc),
                "{:?} {}",
                metrics.roc_auc,
                case.roc_auc
            );
            assert!(
                close(metrics.log_loss, case.log_loss),
                "{} {}",
                metrics.log_loss,
                case.log_loss
            );
            assert!(close(metrics.averages.f1, case.macro_f1));
            assert!(close(metrics.averages.precision, case.macro_precision));
            assert!(close(metrics.averages.recall, case.macro_recall));
            for (index, class) in metrics.classes.iter().enumerate() {
                assert!(close(class.scores.precision, case.precision[index]));
                assert!(close(class.scores.recall, case.recall[index]));
                assert!(close(class.scores.f1, case.f1[index]));
            }
        }
    }

    #[test]
    fn one_class_has_no_area_and_nonsense_is_refused() {
        let labels = ["a".to_owned(), "b".to_owned()];
        let metrics = Metrics::measure(&labels, &[1], &[vec![0.4, 0.6]]).unwrap();
        assert_eq!((metrics.roc_auc, metrics.accuracy), (None, 1.0));
        assert!(Metrics::measure(&labels, &[], &[]).is_err());
        assert!(Metrics::measure(&labels, &[2], &[vec![0.4, 0.6]]).is_err());
        assert!(Metrics::measure(&labels, &[0], &[vec![0.4]]).is_err());
        assert!(Metrics::measure(&labels, &[0], &[vec![f32::NAN, 0.6]]).is_err());
    }
}
