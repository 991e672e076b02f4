//! Logistic regression with an L2 penalty, by L-BFGS.
//!
//! Minimises `½|w|² + C · Σ ln(1 + exp(-y z))` over weights `w` and an unpenalised intercept, as scikit-learn does. The order of
//! all sums is fixed, so the same data give the same weights.

use std::collections::VecDeque;

use crate::tfidf::Sparse;

/// How strongly to fit and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticOptions {
    /// `C`, the inverse of the penalty's strength.
    pub strength: f64,
    /// Most steps.
    pub iterations_max: usize,
    /// Stops when no component of the gradient, divided by `C` times the number of rows, is larger.
    pub tolerance: f64,
}

impl Default for LogisticOptions {
    fn default() -> Self {
        Self {
            strength: 30.0,
            iterations_max: 300,
            tolerance: 1e-6,
        }
    }
}

/// Steps whose curvature is remembered.
const MEMORY: usize = 10;

/// Weights, the intercept last.
#[derive(Debug, Clone)]
pub(crate) struct Logistic {
    weights: Vec<f64>,
}

impl Logistic {
    /// Fits `positive[i]` to row i of `rows`, which has `columns` columns.
    pub(crate) fn fit(rows: &Sparse, columns: usize, positive: &[bool], options: &LogisticOptions) -> Self {
        let problem = Problem {
            rows,
            columns,
            positive,
            strength: options.strength,
        };
        let mut weights = vec![0.0; columns + 1];
        let (mut value, mut gradient) = problem.evaluate(&weights);
        let mut memory: VecDeque<Step> = VecDeque::new();
        let scale = options.strength * f64::from(u32::try_from(rows.len().max(1)).unwrap_or(u32::MAX));
        for _ in 0..options.iterations_max {
            if gradient.iter().all(|g| g.abs() <= options.tolerance * scale) {
                break;
            }
            let direction = descend(&gradient, &memory);
            let slope = dot(&direction, &gradient);
            let mut length = if memory.is_empty() {
                1.0 / dot(&gradient, &gradient).sqrt().max(1.0)
            } else {
                1.0
            };
            // Halves the step until it descends enough; the problem is convex and smooth, so a short one does.
            let (moved, next) = loop {
                let moved: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + length * d).collect();
                let next = problem.evaluate(&moved);
                if next.0 <= value + 1e-4 * length * slope {
                    break (moved, next);
                }
                length *= 0.5;
                if length < 1e-12 {
                    return Self { weights };
                }
            };
            let change: Vec<f64> = moved.iter().zip(&weights).map(|(new, old)| new - old).collect();
            let bend: Vec<f64> = next.1.iter().zip(&gradient).map(|(new, old)| new - old).collect();
            let curvature = dot(&change, &bend);
            if curvature > 0.0 {
                if memory.len() == MEMORY {
                    memory.pop_front();
                }
                memory.push_back(Step {
                    change,
                    bend,
                    curvature,
                });
            }
            (weights, (value, gradient)) = (moved, next);
        }
        Self { weights }
    }

    /// Takes the scales of the rows' columns, with which it was fitted, into the weights.
    pub(crate) fn scale(&mut self, scales: &[f32]) {
        for (weight, &scale) in self.weights.iter_mut().zip(scales) {
            *weight *= f64::from(scale);
        }
    }

    /// The log-odds of the positive class.
    pub(crate) fn score(&self, row: &[(u32, f32)]) -> f64 {
        score(&self.weights, row)
    }
}

struct Step {
    change: Vec<f64>,
    bend: Vec<f64>,
    curvature: f64,
}

struct Problem<'a> {
    rows: &'a Sparse,
    columns: usize,
    positive: &'a [bool],
    strength: f64,
}

impl Problem<'_> {
    /// Value and gradient.
    fn evaluate(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let mut gradient = weights.to_vec();
        gradient[self.columns] = 0.0;
        let mut value = 0.5 * dot(&weights[..self.columns], &weights[..self.columns]);
        for (index, &positive) in self.positive.iter().enumerate() {
            let row = self.rows.row(index);
            let z = score(weights, row);
            let margin = if positive { z } else { -z };
            // ln(1 + exp(-margin)) without overflow.
            value += self.strength * ((-margin.abs()).exp().ln_1p() - margin.min(0.0));
            let pull = self.strength / (1.0 + margin.exp());
            let pull = if positive { -pull } else { pull };
            for &(column, weight) in row {
                gradient[column as usize] += pull * f64::from(weight);
            }
            gradient[self.columns] += pull;
        }
        (value, gradient)
    }
}

/// The two-loop recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4).
fn descend(gradient: &[f64], memory: &VecDeque<Step>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for step in memory.iter().rev() {
        let share = dot(&step.change, &direction) / step.curvature;
        add(&mut direction, -share, &step.bend);
        shares.push(share);
    }
    if let Some(last) = memory.back() {
        let scale = last.curvature / dot(&last.bend, &last.bend);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (step, share) in memory.iter().zip(shares.iter().rev()) {
        let correction = share - dot(&step.bend, &direction) / step.curvature;
        add(&mut direction, correction, &step.change);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(target: &mut [f64], factor: f64, values: &[f64]) {
    target
        .iter_mut()
        .zip(values)
        .for_each(|(target, value)| *target += factor * value);
}

fn score(weights: &[f64], row: &[(u32, f32)]) -> f64 {
    let intercept = weights.last().copied().unwrap_or_default();
    row.iter()
        .map(|&(column, weight)| weights[column as usize] * f64::from(weight))
        .sum::<f64>()
        + intercept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the optimum each weight equals C times the sum of its pulls; checked without the solver's own gradient.
    #[test]
    fn optimum_satisfies_its_condition() {
        let mut rows = Sparse::default();
        let mut positive = Vec::new();
        for index in 0_u16..200 {
            let x = f32::from(index % 20) / 10.0 - 1.0;
            rows.push(&[(0, x), (1, 1.0 - x * x)]);
            positive.push((x > 0.2) != (index % 7 == 0));
        }
        let options = LogisticOptions {
            strength: 3.0,
            ..LogisticOptions::default()
        };
        let model = Logistic::fit(&rows, 2, &positive, &options);
        let mut condition = [model.weights[0], model.weights[1], 0.0];
        for (index, &positive) in positive.iter().enumerate() {
            let probability = 1.0 / (1.0 + (-model.score(rows.row(index))).exp());
            let error = 3.0 * (probability - f64::from(u8::from(positive)));
            for &(column, value) in rows.row(index) {
                condition[column as usize] += error * f64::from(value);
            }
            condition[2] += error;
        }
        assert!(condition.iter().all(|c| c.abs() < 2e-3), "{condition:?}");
        assert!(model.weights[0] > 1.0);
    }
}
