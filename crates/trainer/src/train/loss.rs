//! What a step minimises.
//!
//! Per review `w · c · CE(z, label) + (1 - w) · T² · CE(z / T, softmax(teacher / T))` (Hinton et al. 2015), where w is 1 without a
//! teacher and 0 without a label, and c is the weight of the label's class. The label may be smoothed, and the first term's
//! summands weighted with (1 - p)^γ (the focal loss of Lin et al. 2017). The mean is over the reviews of the step: not over
//! the sum of their weights, as in `torch.nn.CrossEntropyLoss`, so that parts of a step add up to the whole.

use anyhow::Context;
use tch::{Kind, Tensor};

use super::inputs::Examples;
use crate::batches;
use crate::model::softmax;
use crate::recipe::{ClassWeights, Recipe};

/// Keeps the derivative of (1 - p)^γ finite where p is 1.
const FOCAL_MIN: f64 = 1e-6;
/// Keeps the cosine finite for a vector of zeros.
const COSINE_EPSILON: f64 = 1e-8;

/// The loss of a run.
pub(super) struct Loss<'a> {
    examples: &'a Examples,
    class_weights: Vec<f32>,
    label_smoothing: f32,
    focal_gamma: f64,
    temperature: f32,
    label_weight: f32,
    hidden_weight: f64,
}

impl<'a> Loss<'a> {
    /// `labels` are the classes in the order of the logits.
    #[expect(clippy::cast_possible_truncation, reason = "weights need no more than f32")]
    pub(super) fn new(examples: &'a Examples, labels: &[String], recipe: &Recipe) -> anyhow::Result<Self> {
        let weights = weights(&recipe.class_weights, labels, &examples.labels)?;
        Ok(Self {
            examples,
            class_weights: weights.into_iter().map(|weight| weight as f32).collect(),
            label_smoothing: recipe.label_smoothing as f32,
            focal_gamma: recipe.focal_gamma,
            temperature: recipe.temperature as f32,
            label_weight: recipe.label_weight as f32,
            hidden_weight: recipe.hidden_weight,
        })
    }

    /// The share of the examples `batch` in the mean over the `texts` of a step. `logits` are theirs, `[batch, classes]` in fp32.
    pub(super) fn of(&self, logits: &Tensor, batch: &[usize], texts: usize) -> anyhow::Result<Tensor> {
        let (hard, soft) = self.targets(batch);
        let mean = -1.0 / f64::from(u32::try_from(texts)?);
        let hard = batches::matrix(&hard, logits.device())?;
        let likelihood = logits.f_log_softmax(-1, Kind::Float)?;
        let mut terms = likelihood.f_mul(&hard)?;
        if self.focal_gamma > 0.0 {
            let missing = likelihood.f_expm1()?.f_neg()?.f_clamp_min(FOCAL_MIN)?;
            terms = terms.f_mul(&missing.f_pow_tensor_scalar(self.focal_gamma)?)?;
        }
        let loss = terms.f_sum(Kind::Float)?.f_mul_scalar(mean)?;
        if self.examples.teacher.is_empty() {
            return Ok(loss);
        }
        let softened = logits
            .f_div_scalar(f64::from(self.temperature))?
            .f_log_softmax(-1, Kind::Float)?;
        let soft = batches::matrix(&soft, logits.device())?;
        Ok(loss.f_add(&softened.f_mul(&soft)?.f_sum(Kind::Float)?.f_mul_scalar(mean)?)?)
    }

    /// The same for the distance of the vectors by which the student judges, `[batch, dim]`, from the teacher's: `1 - cos`, times
    /// the recipe's weight (Sanh et al. 2019, of the vector that the classifier sees). `None` where nothing is to be imitated.
    pub(super) fn imitation(&self, hidden: &Tensor, batch: &[usize], texts: usize) -> anyhow::Result<Option<Tensor>> {
        if self.examples.hidden.is_empty() {
            return Ok(None);
        }
        let theirs: Vec<Vec<f32>> = batch.iter().map(|&index| self.examples.hidden[index].clone()).collect();
        let theirs = batches::matrix(&theirs, hidden.device())?;
        let likeness = Tensor::f_cosine_similarity(&hidden.f_to_kind(Kind::Float)?, &theirs, 1, COSINE_EPSILON)?;
        let distance = likeness.f_neg()?.f_add_scalar(1.0)?.f_sum(Kind::Float)?;
        Ok(Some(
            distance.f_mul_scalar(self.hidden_weight / f64::from(u32::try_from(texts)?))?,
        ))
    }

    /// The weighted targets of the labels and of the teacher.
    fn targets(&self, batch: &[usize]) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let classes = self.class_weights.len();
        let (mut hard, mut soft) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for &index in batch {
            let teacher = self.examples.teacher.get(index);
            let label = self.examples.labels[index];
            let weight = match (label, teacher) {
                (Some(_), None) => 1.0,
                (Some(_), Some(_)) => self.label_weight,
                (None, _) => 0.0,
            };
            hard.push(match label {
                None => vec![0.0; classes],
                Some(label) => {
                    let spread = self.label_smoothing / classes as f32;
                    let target = |class| {
                        if class == label {
                            1.0 - self.label_smoothing + spread
                        } else {
                            spread
                        }
                    };
                    (0..classes)
                        .map(|class| weight * self.class_weights[label] * target(class))
                        .collect()
                }
            });
            soft.push(match teacher {
                None => vec![0.0; classes],
                Some(logits) => {
                    let softened: Vec<f32> = logits.iter().map(|logit| logit / self.temperature).collect();
                    softmax(&softened)
                        .iter()
                        .map(|p| p * (1.0 - weight) * self.temperature * self.temperature)
                        .collect()
                }
            });
        }
        (hard, soft)
    }
}

fn weights(wish: &ClassWeights, labels: &[String], of_examples: &[Option<usize>]) -> anyhow::Result<Vec<f64>> {
    let classes = labels.len();
    match wish {
        ClassWeights::None => Ok(vec![1.0; classes]),
        ClassWeights::Balanced => {
            let mut counts = vec![0_u32; classes];
            for &label in of_examples.iter().flatten() {
                counts[label] += 1;
            }
            let all = f64::from(counts.iter().sum::<u32>());
            let weight = |&count: &u32| all / (classes as f64 * f64::from(count.max(1)));
            Ok(counts.iter().map(weight).collect())
        }
        ClassWeights::Given(given) => {
            let mut weights = vec![1.0; classes];
            for (label, weight) in given {
                let class = labels
                    .iter()
                    .position(|name| name.eq_ignore_ascii_case(label))
                    .with_context(|| format!("class-weights names {label}; the classes are {}", labels.join(", ")))?;
                weights[class] = *weight;
            }
            Ok(weights)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Beginning, RecipeOptions};

    fn examples(labels: &[usize]) -> Examples {
        Examples {
            rows: Vec::new(),
            labels: labels.iter().copied().map(Some).collect(),
            teacher: Vec::new(),
            hidden: Vec::new(),
        }
    }

    fn loss(options: RecipeOptions, labels: &[usize], logits: &[[f32; 2]]) -> f64 {
        let recipe = Recipe::resolve(None, options, Beginning::New).unwrap();
        let names = ["no".to_owned(), "yes".to_owned()];
        let examples = examples(labels);
        let loss = Loss::new(&examples, &names, &recipe).unwrap();
        let logits = Tensor::from_slice(logits.as_flattened()).view([-1, 2]);
        let all: Vec<usize> = (0..labels.len()).collect();
        let whole = loss.of(&logits, &all, all.len()).unwrap().double_value(&[]);
        let parts: f64 = all
            .iter()
            .map(|&index| {
                let row = logits.narrow(0, i64::try_from(index).unwrap(), 1);
                loss.of(&row, &[index], all.len()).unwrap().double_value(&[])
            })
            .sum();
        assert!((whole - parts).abs() < 1e-6, "parts add up: {whole} {parts}");
        whole
    }

    /// Values by hand: softmax of (0, ln 3) is (1/4, 3/4).
    #[test]
    fn each_variant_by_its_formula() {
        let logits = [[0.0, 3.0_f32.ln()], [0.0, 3.0_f32.ln()], [0.0, 0.0], [0.0, 0.0]];
        let labels = [1, 0, 1, 1];
        let (a, b, c) = (-(0.75_f64.ln()), -(0.25_f64.ln()), -(0.5_f64.ln()));
        let options = |change: fn(&mut RecipeOptions)| {
            let mut options = RecipeOptions::default();
            change(&mut options);
            options
        };
        let check = |change, expected: f64| {
            let got = loss(options(change), &labels, &logits);
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        };
        check(|_| {}, (a + b + 2.0 * c) / 4.0);
        // Three of class 1, one of class 0: 4 / (2 · 3) and 4 / (2 · 1).
        check(
            |o| o.class_weights = Some(ClassWeights::Balanced),
            ((a + 2.0 * c) * 2.0 / 3.0 + b * 2.0) / 4.0,
        );
        check(
            |o| o.class_weights = Some("YES=3".parse().unwrap()),
            (3.0 * (a + 2.0 * c) + b) / 4.0,
        );
        check(
            |o| o.label_smoothing = Some(0.2),
            (0.9 * a + 0.1 * b + 0.9 * b + 0.1 * a + 2.0 * c) / 4.0,
        );
        check(
            |o| o.focal_gamma = Some(2.0),
            (a / 16.0 + b * 9.0 / 16.0 + 2.0 * c / 4.0) / 4.0,
        );
    }

    #[test]
    fn weights_of_unknown_classes_are_refused() {
        let labels = ["no".to_owned(), "yes".to_owned()];
        let error = weights(&"maybe=2".parse().unwrap(), &labels, &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("the classes are no, yes"), "{error}");
    }
}
