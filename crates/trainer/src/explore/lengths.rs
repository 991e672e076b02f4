//! Counts of lengths, and the figures that follow from them.

use std::collections::BTreeMap;

use serde::Serialize;

/// Bins of a histogram.
const BINS: usize = 40;
/// A histogram ends at this share of the texts; its last bin has the rest, too.
const SHOWN: f64 = 0.99;

/// How often each length occurs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lengths {
    counts: BTreeMap<usize, u64>,
    texts: u64,
}

/// Figures of lengths. Quantiles are lengths that occur.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct LengthFigures {
    pub(super) mean: f64,
    pub(super) shortest: usize,
    pub(super) p5: usize,
    pub(super) median: usize,
    pub(super) p95: usize,
    pub(super) p99: usize,
    pub(super) longest: usize,
}

impl Lengths {
    pub(super) fn add(&mut self, length: usize) {
        *self.counts.entry(length).or_default() += 1;
        self.texts += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (&length, &count) in &other.counts {
            *self.counts.entry(length).or_default() += count;
        }
        self.texts += other.texts;
    }

    pub(super) fn texts(&self) -> u64 {
        self.texts
    }

    fn total(&self) -> f64 {
        self.counts
            .iter()
            .map(|(&length, &count)| length as f64 * count as f64)
            .sum()
    }

    /// The shortest length that at least this share of the texts does not exceed.
    fn quantile(&self, share: f64) -> usize {
        let wanted = share * self.texts as f64;
        let mut below = 0;
        for (&length, &count) in &self.counts {
            below += count;
            if below as f64 >= wanted {
                return length;
            }
        }
        0
    }

    pub(super) fn figures(&self) -> LengthFigures {
        LengthFigures {
            mean: self.total() / self.texts.max(1) as f64,
            shortest: self.counts.keys().next().copied().unwrap_or(0),
            p5: self.quantile(0.05),
            median: self.quantile(0.5),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            longest: self.counts.keys().next_back().copied().unwrap_or(0),
        }
    }

    /// Share of the texts that are not longer, and share of all tokens that are left when the others are cut to it.
    pub(super) fn coverage(&self, limit: usize) -> (f64, f64) {
        let whole: u64 = self.counts.range(..=limit).map(|(_, count)| count).sum();
        let kept: f64 = self
            .counts
            .iter()
            .map(|(&length, &count)| length.min(limit) as f64 * count as f64)
            .sum();
        (whole as f64 / self.texts.max(1) as f64, kept / self.total().max(1.0))
    }

    /// Ends of bins of equal width from 0, for several counts together.
    pub(super) fn edges(all: &[&Self]) -> Vec<f64> {
        let mut together = Self::default();
        for lengths in all {
            together.merge(lengths);
        }
        let width = together.quantile(SHOWN).div_ceil(BINS).max(1);
        (0..=BINS).map(|bin| (bin * width) as f64).collect()
    }

    /// Share of the texts in each bin. The last has those beyond, too.
    pub(super) fn histogram(&self, edges: &[f64]) -> Vec<f64> {
        let bins = edges.len().saturating_sub(1);
        let mut heights = vec![0.0; bins];
        for (&length, &count) in &self.counts {
            let bin = edges.iter().skip(1).take_while(|&&end| length as f64 >= end).count();
            if let Some(height) = heights.get_mut(bin.min(bins.saturating_sub(1))) {
                *height += count as f64 / self.texts.max(1) as f64;
            }
        }
        heights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_lengths() {
        let mut lengths = Lengths::default();
        (1..=100).for_each(|length| lengths.add(length));
        let figures = lengths.figures();
        assert_eq!((figures.shortest, figures.p5, figures.median), (1, 5, 50));
        assert_eq!((figures.p95, figures.p99, figures.longest), (95, 99, 100));
        let (whole, kept) = lengths.coverage(50);
        assert!((whole - 0.5).abs() < 1e-12);
        assert!((kept - (1275.0 + 2500.0) / 5050.0).abs() < 1e-12);
        let edges = Lengths::edges(&[&lengths]);
        let histogram = lengths.histogram(&edges);
        assert!((histogram.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((histogram[0] - 0.02).abs() < 1e-12, "1 and 2 of bins of 3");
        assert!(Lengths::default().figures() == LengthFigures::default());
    }
}
