//! Gradient-boosted trees for two classes that count the same, however rare one is.
//!
//! As scikit-learn's `HistGradientBoostingClassifier(class_weight="balanced", max_depth=depth, max_leaf_nodes=None,
//! early_stopping=False)`: Newton steps on the log loss, splits between at most [`BINS_MAX`] bins of a column, missing values
//! (NaN) on whichever side they fit better. Nothing is drawn at random, so the same data give the same trees.
//!
//! Written here because the crates that do it would cost more than they save: `perpetual` is for nightly Rust up to 2.3, and
//! like `forust-ml` it changes how `serde_json` reads numbers in the whole workspace.

use crate::Error;

/// How to boost.
#[derive(Debug)]
pub(crate) struct BoostingOptions {
    /// Trees.
    pub(crate) rounds: usize,
    /// Share of each Newton step that is taken.
    pub(crate) rate: f64,
    /// Splits between a tree's root and a leaf.
    pub(crate) depth: usize,
    /// Fewest rows of a leaf.
    pub(crate) leaf_rows_min: u32,
    /// L2 penalty of a leaf's value.
    pub(crate) penalty: f64,
}

/// Values of a column are put into at most so many bins.
const BINS_MAX: usize = 255;
/// The bin of values that are missing.
const MISSING: u8 = 255;
/// Least sum of second derivatives of a leaf.
const CURVATURE_MIN: f64 = 1e-3;

/// Fitted trees.
#[derive(Debug)]
pub(crate) struct Boosting {
    trees: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Leaf(f64),
    Split(Box<Split>),
}

#[derive(Debug)]
struct Split {
    column: usize,
    /// Values up to it go left.
    threshold: f32,
    missing_left: bool,
    left: Node,
    right: Node,
}

impl Boosting {
    /// Learns from rows of equal width, NaN where a value is missing.
    pub(crate) fn fit(rows: &[Vec<f32>], positive: &[bool], options: &BoostingOptions) -> Result<Self, Error> {
        let width = rows.first().map_or(0, Vec::len);
        if rows.len() != positive.len() || rows.iter().any(|row| row.len() != width) {
            return Err(Error::Invalid(format!(
                "boosting needs rows of equal width and a class for each: {} rows, {} classes",
                rows.len(),
                positive.len()
            )));
        }
        let positives = positive.iter().filter(|&&positive| positive).count();
        if positives == 0 || positives == rows.len() {
            return Err(Error::Invalid("boosting needs rows of both classes".to_owned()));
        }
        let weight = |of: usize| rows.len() as f64 / (2.0 * of as f64);
        let weights = [weight(rows.len() - positives), weight(positives)];
        let columns = (0..width)
            .map(|column| Column::new(rows.iter().map(|row| row[column])))
            .collect();
        let mut problem = Problem {
            columns,
            steps: vec![Sums::default(); rows.len()],
            options,
        };
        let mut scores = vec![0.0; rows.len()];
        let mut trees = Vec::with_capacity(options.rounds);
        for _ in 0..options.rounds {
            for ((step, score), &positive) in problem.steps.iter_mut().zip(&scores).zip(positive) {
                let (weight, probability) = (weights[usize::from(positive)], sigmoid(*score));
                *step = Sums {
                    slope: weight * (probability - f64::from(u8::from(positive))),
                    curvature: weight * probability * (1.0 - probability),
                    rows: 1,
                };
            }
            let tree = problem.grow((0..rows.len()).collect(), options.depth);
            for (score, row) in scores.iter_mut().zip(rows) {
                *score += tree.value(row);
            }
            trees.push(tree);
        }
        Ok(Self { trees })
    }

    /// The log-odds of the positive class, were both classes as frequent.
    pub(crate) fn score(&self, row: &[f32]) -> f64 {
        self.trees.iter().map(|tree| tree.value(row)).sum()
    }
}

fn sigmoid(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

impl Node {
    fn value(&self, row: &[f32]) -> f64 {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(value) => return *value,
                Self::Split(split) => {
                    let value = row[split.column];
                    let left = if value.is_nan() {
                        split.missing_left
                    } else {
                        value <= split.threshold
                    };
                    node = if left { &split.left } else { &split.right };
                }
            }
        }
    }
}

/// A column's values as numbers of bins.
struct Column {
    bins: Vec<u8>,
    /// Between the bins.
    thresholds: Vec<f32>,
}

impl Column {
    #[expect(clippy::cast_possible_truncation, reason = "there are at most BINS_MAX bins")]
    fn new(values: impl Iterator<Item = f32> + Clone) -> Self {
        let mut sorted: Vec<f32> = values.clone().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let mut distinct = sorted.clone();
        distinct.dedup();
        let mut thresholds: Vec<f32> = if distinct.len() <= BINS_MAX {
            distinct
                .windows(2)
                .map(|pair| f32::midpoint(pair[0], pair[1]))
                .collect()
        } else {
            (1..BINS_MAX).map(|bin| sorted[bin * sorted.len() / BINS_MAX]).collect()
        };
        thresholds.dedup();
        let bin = |value: f32| {
            if value.is_nan() {
                MISSING
            } else {
                thresholds.partition_point(|&threshold| threshold < value) as u8
            }
        };
        let bins = values.map(bin).collect();
        Self { bins, thresholds }
    }
}

/// Of the loss's derivatives at some rows.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    slope: f64,
    curvature: f64,
    rows: u32,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.slope += other.slope;
        self.curvature += other.curvature;
        self.rows += other.rows;
    }

    fn less(self, other: Self) -> Self {
        Self {
            slope: self.slope - other.slope,
            curvature: self.curvature - other.curvature,
            rows: self.rows - other.rows,
        }
    }
}

struct Problem<'a> {
    columns: Vec<Column>,
    steps: Vec<Sums>,
    options: &'a BoostingOptions,
}

/// A way to part rows.
struct Cut {
    column: usize,
    /// The last bin that goes left.
    bin: usize,
    missing_left: bool,
    /// Twice the loss that it takes away.
    gain: f64,
}

impl Problem<'_> {
    fn grow(&self, rows: Vec<usize>, depth: usize) -> Node {
        let mut all = Sums::default();
        rows.iter().for_each(|&row| all.add(self.steps[row]));
        let leaf = Node::Leaf(-self.options.rate * all.slope / (all.curvature + self.options.penalty));
        if depth == 0 {
            return leaf;
        }
        let mut best: Option<Cut> = None;
        for column in 0..self.columns.len() {
            self.cut(column, &rows, all, &mut best);
        }
        let Some(Cut {
            column,
            bin,
            missing_left,
            ..
        }) = best
        else {
            return leaf;
        };
        let Column { bins, thresholds } = &self.columns[column];
        let is_left = |row: &usize| match bins[*row] {
            MISSING => missing_left,
            of => usize::from(of) <= bin,
        };
        let (left, right): (Vec<usize>, Vec<usize>) = rows.into_iter().partition(is_left);
        Node::Split(Box::new(Split {
            column,
            // The last bin has no end: all values go left, what is missing goes right.
            threshold: thresholds.get(bin).copied().unwrap_or(f32::INFINITY),
            missing_left,
            left: self.grow(left, depth - 1),
            right: self.grow(right, depth - 1),
        }))
    }

    /// Keeps the best cut of a column if it is better than the best so far.
    fn cut(&self, column: usize, rows: &[usize], all: Sums, best: &mut Option<Cut>) {
        let Column { bins, thresholds } = &self.columns[column];
        let mut sums = [Sums::default(); BINS_MAX + 1];
        for &row in rows {
            sums[usize::from(bins[row])].add(self.steps[row]);
        }
        let missing = sums[usize::from(MISSING)];
        let has_missing = missing.rows > 0;
        let (least, penalty) = (self.options.leaf_rows_min.max(1), self.options.penalty);
        let worth = |of: Sums| of.slope * of.slope / (of.curvature + penalty);
        for missing_goes_left in [false, true] {
            if missing_goes_left && !has_missing {
                continue;
            }
            let mut left = if missing_goes_left { missing } else { Sums::default() };
            for (bin, &more) in sums[..=thresholds.len()].iter().enumerate() {
                left.add(more);
                let right = all.less(left);
                if right.rows < least || right.curvature < CURVATURE_MIN {
                    break;
                }
                if left.rows < least || left.curvature < CURVATURE_MIN {
                    continue;
                }
                let gain = worth(left) + worth(right) - worth(all);
                if gain > best.as_ref().map_or(0.0, |best| best.gain) {
                    *best = Some(Cut {
                        column,
                        bin,
                        // Where nothing is missing, what will be goes with the most.
                        missing_left: if has_missing {
                            missing_goes_left
                        } else {
                            left.rows > right.rows
                        },
                        gain,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: BoostingOptions = BoostingOptions {
        rounds: 100,
        rate: 0.1,
        depth: 3,
        leaf_rows_min: 20,
        penalty: 0.0,
    };

    #[derive(serde::Deserialize)]
    struct Expected {
        rows: Vec<Vec<Option<f32>>>,
        positive: Vec<bool>,
        rounds: usize,
        rate: f64,
        depth: usize,
        leaf_rows_min: u32,
        penalty: f64,
        scores: Vec<f64>,
    }

    /// Values from scikit-learn: `fixtures/generate.py`.
    #[test]
    fn scores_as_scikit_learn() {
        let expected: Expected = serde_json::from_str(include_str!("../fixtures/boosting.json")).unwrap();
        let filled = |row: &Vec<Option<f32>>| row.iter().map(|value| value.unwrap_or(f32::NAN)).collect();
        let rows: Vec<Vec<f32>> = expected.rows.iter().map(filled).collect();
        let options = BoostingOptions {
            rounds: expected.rounds,
            rate: expected.rate,
            depth: expected.depth,
            leaf_rows_min: expected.leaf_rows_min,
            penalty: expected.penalty,
        };
        let boosting = Boosting::fit(&rows, &expected.positive, &options).unwrap();
        for (row, expected) in rows.iter().zip(&expected.scores) {
            let score = boosting.score(row);
            assert!((score - expected).abs() < 1e-4, "{row:?}: {score} for {expected}");
        }
    }

    /// More distinct values than bins; one in four of the positive class says nothing.
    #[test]
    fn a_step_in_many_values_and_what_is_missing_are_found() {
        let rows: Vec<Vec<f32>> = (0..2000_u16)
            .map(|n| vec![if n % 8 == 7 { f32::NAN } else { f32::from(n) }])
            .collect();
        let positive: Vec<bool> = (0..2000).map(|n| n % 8 == 7 || n >= 1500).collect();
        let boosting = Boosting::fit(&rows, &positive, &OPTIONS).unwrap();
        let score = |value| boosting.score(&[value]);
        assert!(score(f32::NAN) > 2.0 && score(1600.0) > 2.0 && score(1400.0) < -2.0 && score(-1e9) < -2.0);
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let fit = |rows: &[Vec<f32>], positive: &[bool]| Boosting::fit(rows, positive, &OPTIONS);
        assert!(fit(&[vec![1.0], vec![]], &[true, false]).is_err());
        assert!(fit(&[vec![1.0]], &[true, false]).is_err());
        assert!(fit(&[vec![1.0], vec![2.0]], &[true, true]).is_err());
        assert!(fit(&[], &[]).is_err());
    }
}
