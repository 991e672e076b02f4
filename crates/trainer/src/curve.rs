//! The loss of each step, as a curve of bounded size.
//!
//! A point is the mean over a number of steps. When there are too many points, two become one and the number doubles, so a
//! curve follows from the losses alone, however often the run was interrupted.

use serde::{Deserialize, Serialize};

/// Points kept at most.
const POINTS_MAX: usize = 512;

/// The mean loss of some steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// The last of them, counted from 1.
    pub(crate) step: u64,
    /// Their mean loss.
    pub(crate) loss: f64,
    /// The learning rate of the last.
    pub(crate) learning_rate: f64,
}

/// Losses from the first step on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    points: Vec<Point>,
    /// Steps of a point.
    every: u64,
    /// What is not yet a point: the sum of the losses and their number.
    sum: f64,
    count: u64,
    last: Point,
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            every: 1,
            sum: 0.0,
            count: 0,
            last: Point {
                step: 0,
                loss: 0.0,
                learning_rate: 0.0,
            },
        }
    }
}

impl Curve {
    /// Adds a step's loss.
    pub(crate) fn push(&mut self, step: Point) {
        self.sum += step.loss;
        self.count += 1;
        self.last = step;
        if self.count < self.every {
            return;
        }
        self.points.extend(self.open());
        (self.sum, self.count) = (0.0, 0);
        if self.points.len() >= POINTS_MAX {
            self.points = self
                .points
                .chunks_exact(2)
                .map(|pair| Point {
                    loss: f64::midpoint(pair[0].loss, pair[1].loss),
                    ..pair[1]
                })
                .collect();
            self.every *= 2;
        }
    }

    /// All points, the unfinished one as it stands.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.points.iter().copied().chain(self.open()).collect()
    }

    fn open(&self) -> Option<Point> {
        (self.count > 0).then(|| Point {
            loss: self.sum / self.count as f64,
            ..self.last
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_means_in_bounded_size() {
        let mut curve = Curve::default();
        let total = 10_000;
        for step in 1..=total {
            curve.push(Point {
                step,
                loss: step as f64,
                learning_rate: 0.5,
            });
            assert!(curve.points().len() <= POINTS_MAX);
        }
        let points = curve.points();
        assert!(points.len() > POINTS_MAX / 2 - 2, "{}", points.len());
        assert_eq!(points.last().unwrap().step, total);
        let mut before = 0;
        for point in points {
            let middle = f64::midpoint((before + 1) as f64, point.step as f64);
            assert!((point.loss - middle).abs() < 1e-9, "{point:?}");
            before = point.step;
        }
    }
}
