//! Answers beside the truth, in the form from which every figure follows quickly, also when examples count several times.

use serde::Serialize;

use super::count;
use crate::Error;

/// Probabilities of known examples, scored.
#[derive(Debug, Clone)]
pub struct Scored {
    classes: usize,
    truth: Vec<usize>,
    said: Vec<usize>,
    loss: Vec<f64>,
    brier: Vec<f64>,
    rankings: Vec<Ranking>,
}

/// The main figures of [`super::Metrics`]; a figure that is not defined is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean F1 of the classes.
    pub f1: f64,
    /// As [`super::Metrics::roc_auc`].
    pub roc_auc: Option<f64>,
    /// As [`super::Metrics::pr_auc`].
    pub pr_auc: Option<f64>,
    /// As [`super::Metrics::log_loss`].
    pub log_loss: f64,
    /// As [`super::Metrics::brier`].
    pub brier: f64,
}

impl Figures {
    /// Names and values, in a fixed order; what is not defined is NaN.
    #[must_use]
    pub fn entries(&self) -> [(&'static str, f64); 6] {
        [
            ("accuracy", self.accuracy),
            ("f1", self.f1),
            ("roc_auc", self.roc_auc.unwrap_or(f64::NAN)),
            ("pr_auc", self.pr_auc.unwrap_or(f64::NAN)),
            ("log_loss", self.log_loss),
            ("brier", self.brier),
        ]
    }
}

/// The curves of one class against the rest. Equal scores are one point.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// (false positive rate, true positive rate), from (0, 0) to (1, 1).
    pub roc: Vec<(f64, f64)>,
    /// (recall, precision) by falling threshold.
    pub precision_recall: Vec<(f64, f64)>,
}

/// Examples by their score for one class, the highest first.
#[derive(Debug, Clone)]
struct Ranking {
    order: Vec<usize>,
    /// Where each run of equal scores ends.
    ends: Vec<usize>,
}

impl Scored {
    /// Takes each example's probabilities, one for each class, and its class. The highest wins, the first of equals.
    ///
    /// # Errors
    /// If there is no example, or rows do not fit the classes, or a probability is not a number.
    pub fn new(classes: usize, truth: &[usize], probabilities: &[Vec<f32>]) -> Result<Self, Error> {
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
        let pairs = || probabilities.iter().zip(truth);
        Ok(Self {
            classes,
            truth: truth.to_vec(),
            said: probabilities.iter().map(|row| highest(row)).collect(),
            loss: pairs()
                .map(|(row, &label)| -f64::from(row[label]).max(f64::from(f32::EPSILON)).ln())
                .collect(),
            brier: pairs().map(|(row, &label)| brier(row, label)).collect(),
            rankings: (0..classes).map(|class| Ranking::new(class, probabilities)).collect(),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn examples(&self) -> usize {
        self.truth.len()
    }

    /// Whether the answer to an example is right.
    #[must_use]
    pub fn is_right(&self, example: usize) -> bool {
        self.said.get(example) == self.truth.get(example)
    }

    /// `confusion[truth][said]`.
    #[must_use]
    pub fn confusion(&self) -> Vec<Vec<usize>> {
        let mut confusion = vec![vec![0; self.classes]; self.classes];
        for (&truth, &said) in self.truth.iter().zip(&self.said) {
            confusion[truth][said] += 1;
        }
        confusion
    }

    /// The main figures. With `weights`, each example counts as often as its weight says.
    #[must_use]
    pub fn figures(&self, weights: Option<&[u32]>) -> Figures {
        let weight = |example: usize| weights.map_or(1.0, |weights| f64::from(weights[example]));
        let mut total = 0.0;
        let (mut loss, mut brier) = (0.0, 0.0);
        let mut confusion = vec![0.0; self.classes * self.classes];
        for example in 0..self.truth.len() {
            let weight = weight(example);
            total += weight;
            loss += weight * self.loss[example];
            brier += weight * self.brier[example];
            confusion[self.truth[example] * self.classes + self.said[example]] += weight;
        }
        let at = |truth: usize, said: usize| confusion[truth * self.classes + said];
        let (mut right, mut f1) = (0.0, 0.0);
        for class in 0..self.classes {
            right += at(class, class);
            let both: f64 = (0..self.classes).map(|other| at(class, other) + at(other, class)).sum();
            f1 += if both > 0.0 { 2.0 * at(class, class) / both } else { 0.0 };
        }
        let (roc, pr): (Vec<_>, Vec<_>) = (0..self.classes).map(|class| self.areas(class, weights)).unzip();
        let mean = |areas: &[Option<f64>]| Some(areas.iter().copied().sum::<Option<f64>>()? / count(self.classes));
        Figures {
            accuracy: right / total,
            f1: f1 / count(self.classes),
            roc_auc: match roc.as_slice() {
                [_, second] => *second,
                all => mean(all),
            },
            pr_auc: mean(&pr),
            log_loss: loss / total,
            brier: brier / total,
        }
    }

    /// One class against the rest: the area under its ROC (the probability that a random example of it scores above a random
    /// other one, equal scores counting half) and its average precision, `Σ (Rₙ − Rₙ₋₁) Pₙ`.
    #[must_use]
    pub fn areas(&self, class: usize, weights: Option<&[u32]>) -> (Option<f64>, Option<f64>) {
        let (mut roc, mut pr) = (0.0, 0.0);
        let (mut hits, mut misses) = (0.0, 0.0);
        self.walk(class, weights, |more_hits, more_misses| {
            roc += more_misses * (hits + more_hits / 2.0);
            hits += more_hits;
            misses += more_misses;
            if more_hits > 0.0 {
                pr += more_hits * hits / (hits + misses);
            }
        });
        (
            (hits > 0.0 && misses > 0.0).then(|| roc / (hits * misses)),
            (hits > 0.0).then(|| pr / hits),
        )
    }

    /// The curves of one class; empty where they are not defined.
    #[must_use]
    pub fn curves(&self, class: usize) -> Curves {
        let mut points = vec![(0.0, 0.0)];
        let (mut hits, mut misses) = (0.0, 0.0);
        self.walk(class, None, |more_hits, more_misses| {
            hits += more_hits;
            misses += more_misses;
            points.push((misses, hits));
        });
        if hits == 0.0 || misses == 0.0 {
            return Curves {
                roc: Vec::new(),
                precision_recall: Vec::new(),
            };
        }
        Curves {
            roc: points.iter().map(|&(m, h)| (m / misses, h / hits)).collect(),
            precision_recall: points[1..].iter().map(|&(m, h)| (h / hits, h / (h + m))).collect(),
        }
    }

    /// Tells the examples of the class and the others, weighted, of each run of equal scores, the highest score first.
    fn walk(&self, class: usize, weights: Option<&[u32]>, mut visit: impl FnMut(f64, f64)) {
        let ranking = &self.rankings[class];
        let mut start = 0;
        for &end in &ranking.ends {
            let (mut hits, mut misses) = (0.0, 0.0);
            for &example in &ranking.order[start..end] {
                let weight = weights.map_or(1.0, |weights| f64::from(weights[example]));
                if self.truth[example] == class {
                    hits += weight;
                } else {
                    misses += weight;
                }
            }
            if hits + misses > 0.0 {
                visit(hits, misses);
            }
            start = end;
        }
    }
}

impl Ranking {
    fn new(class: usize, probabilities: &[Vec<f32>]) -> Self {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b][class].total_cmp(&probabilities[a][class]));
        let same = order.chunk_by(|&a, &b| probabilities[a][class] == probabilities[b][class]);
        let ends = same.scan(0, |end, same| {
            *end += same.len();
            Some(*end)
        });
        Self {
            ends: ends.collect(),
            order,
        }
    }
}

/// The class with the highest probability, the first of equals.
fn highest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

/// Brier 1950. Of two classes the two squares are equal, and scikit-learn counts one.
fn brier(row: &[f32], label: usize) -> f64 {
    let squares = row.iter().enumerate().map(|(class, &p)| {
        let wanted = if class == label { 1.0 } else { 0.0 };
        (f64::from(p) - wanted).powi(2)
    });
    let sum: f64 = squares.sum();
    if row.len() == 2 { sum / 2.0 } else { sum }
}
