//! How two versions' labels of the same requests compare.

use super::{ClassPairs, merge::add};

/// Labels a confusion table is kept for (K·K counts).
pub const CLASSES_MAX: usize = 256;

impl ClassPairs {
    /// Counts a pair of labels, each below `classes`. More than [`CLASSES_MAX`] classes are not counted.
    pub fn insert(&mut self, stable: usize, candidate: usize, classes: usize) {
        if classes > CLASSES_MAX || stable >= classes || candidate >= classes {
            return;
        }
        if self.confusion.is_empty() {
            self.confusion.resize(classes * classes, 0);
        }
        if self.confusion.len() == classes * classes {
            add(&mut self.confusion[stable * classes + candidate], 1);
        }
    }

    /// K; 0 without a pair, or if the counts are no square.
    #[must_use]
    pub fn classes(&self) -> usize {
        let classes = self.confusion.len().isqrt();
        if classes * classes == self.confusion.len() {
            classes
        } else {
            0
        }
    }

    /// The pairs where the stable version named class `row`: how many, and how many of them agree.
    #[must_use]
    pub fn row(&self, row: usize) -> (u64, u64) {
        let classes = self.classes();
        if row >= classes {
            return (0, 0);
        }
        let cells = &self.confusion[row * classes..(row + 1) * classes];
        (sum(cells.iter().copied()), cells[row])
    }

    /// All pairs.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        sum((0..self.classes()).map(|row| self.row(row).0))
    }

    /// Pairs with equal labels.
    #[must_use]
    pub fn agreements(&self) -> u64 {
        sum((0..self.classes()).map(|row| self.row(row).1))
    }

    /// Cohen's kappa, (p_o − p_e)/(1 − p_e): agreement beyond what the two versions' shares of labels give by chance
    /// (Cohen 1960). `None` without pairs, or if both always name one class.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shares")]
    pub fn kappa(&self) -> Option<f64> {
        let (stable, candidate) = self.shares()?;
        let observed = self.agreements() as f64 / self.pairs() as f64;
        let chance: f64 = stable.iter().zip(&candidate).map(|(s, c)| s * c).sum();
        (chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
    }

    /// Between the two versions' shares of labels: the square root of the Jensen–Shannon divergence in bits, in [0, 1]
    /// (Endres & Schindelin 2003). `None` without pairs.
    #[must_use]
    pub fn jensen_shannon_distance(&self) -> Option<f64> {
        let (stable, candidate) = self.shares()?;
        let divergence: f64 = stable
            .iter()
            .zip(&candidate)
            .map(|(&s, &c)| {
                let middle = s.midpoint(c);
                let part = |p: f64| if p > 0.0 { p * (p / middle).log2() } else { 0.0 };
                part(s).midpoint(part(c))
            })
            .sum();
        Some(divergence.clamp(0.0, 1.0).sqrt())
    }

    /// Pairs with different labels, by (stable label, candidate's label), most frequent first.
    #[must_use]
    pub fn flips(&self) -> Vec<((usize, usize), u64)> {
        let classes = self.classes();
        let mut flips: Vec<_> = self
            .confusion
            .iter()
            .enumerate()
            .filter(|_| classes > 0)
            .map(|(cell, &count)| ((cell / classes, cell % classes), count))
            .filter(|&((stable, candidate), count)| stable != candidate && count > 0)
            .collect();
        flips.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        flips
    }

    /// Each version's shares of labels.
    #[expect(clippy::cast_precision_loss, reason = "shares")]
    fn shares(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let (classes, pairs) = (self.classes(), self.pairs());
        if pairs == 0 {
            return None;
        }
        let share = |count: u64| count as f64 / pairs as f64;
        let stable = (0..classes).map(|row| share(self.row(row).0)).collect();
        let candidate = (0..classes)
            .map(|column| share(sum((0..classes).map(|row| self.confusion[row * classes + column]))))
            .collect();
        Some((stable, candidate))
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
