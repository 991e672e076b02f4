//! Lengths of texts in words: counts by length, so that percentiles are exact and merge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Lengths;

/// Longer texts count as this long in percentiles and histograms; in the mean they have their length.
pub(super) const LENGTH_MAX: u64 = 10_000;
/// Most bins of a histogram.
const BINS_MAX: u64 = 20;
/// Texts of a thousand that the bins but the last shall hold at least: the few longest would stretch the chart.
const PER_MILLE_IN_BINS: u64 = 980;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LengthCounts {
    pub(super) texts: u64,
    pub(super) words: u64,
    pub(super) counts: BTreeMap<u64, u64>,
}

impl LengthCounts {
    pub(super) fn add(&mut self, words: u64) {
        self.texts += 1;
        self.words += words;
        *self.counts.entry(words.min(LENGTH_MAX)).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.texts += other.texts;
        self.words += other.words;
        for (&length, &count) in &other.counts {
            *self.counts.entry(length).or_default() += count;
        }
    }

    /// The least length that at least so many of a thousand texts do not exceed.
    fn percentile(&self, per_mille: u64) -> Option<u64> {
        let mut seen = 0;
        self.counts
            .iter()
            .find(|&(_, count)| {
                seen += count;
                u128::from(seen) * 1000 >= u128::from(self.texts) * u128::from(per_mille)
            })
            .map(|(&length, _)| length)
    }

    /// Lower bounds of bins of a round width that suit these lengths. The last bin has no end.
    pub(super) fn bins(&self) -> Vec<u64> {
        let Some(most) = self.percentile(PER_MILLE_IN_BINS) else {
            return Vec::new();
        };
        let mut widths = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
        let width = widths.find(|width| most / width < BINS_MAX).unwrap_or(LENGTH_MAX);
        let last = most / width;
        (0..=last).map(|bin| bin * width).collect()
    }

    pub(super) fn summary(&self, bins: &[u64]) -> Lengths {
        let mut histogram: Vec<(u64, u64)> = bins.iter().map(|&from| (from, 0)).collect();
        for (&length, &count) in &self.counts {
            let bin = bins.partition_point(|&from| from <= length).saturating_sub(1);
            if let Some((_, texts)) = histogram.get_mut(bin) {
                *texts += count;
            }
        }
        Lengths {
            mean: (self.texts > 0).then(|| super::ratio(self.words, self.texts)),
            median: self.percentile(500),
            p90: self.percentile(900),
            histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lengths: &[u64]) -> LengthCounts {
        let mut counts = LengthCounts::default();
        for &length in lengths {
            counts.add(length);
        }
        counts
    }

    /// Values from numpy 2: `percentile(…, method="inverted_cdf")` and `mean`.
    #[test]
    fn mean_and_percentiles() {
        let counts = of(&[5, 1, 9, 3, 3, 12, 7, 200, 4, 8]);
        let lengths = counts.summary(&counts.bins());
        assert_eq!(
            (lengths.mean, lengths.median, lengths.p90),
            (Some(25.2), Some(5), Some(12))
        );
        let lengths = of(&[7]).summary(&[]);
        assert_eq!(
            (lengths.mean, lengths.median, lengths.p90),
            (Some(7.0), Some(7), Some(7))
        );
        let lengths = of(&[]).summary(&of(&[]).bins());
        assert_eq!((lengths.mean, lengths.median, lengths.p90), (None, None, None));
        assert!(lengths.histogram.is_empty());
        let lengths = of(&[30_000, 10_000]).summary(&[]);
        assert_eq!((lengths.mean, lengths.median), (Some(20_000.0), Some(LENGTH_MAX)));
    }

    #[test]
    fn bins_are_round_and_the_last_is_open() {
        let mut lengths: Vec<u64> = (0..990).map(|text| text % 200).collect();
        lengths.extend([5_000; 10]);
        let counts = of(&lengths);
        let bins = counts.bins();
        assert_eq!((bins[1], bins.len()), (10, 20));
        let histogram = counts.summary(&bins).histogram;
        assert_eq!(histogram[0], (0, 50), "0 to 9, five times");
        assert_eq!(
            histogram[19],
            (190, 50),
            "the tenth of 190 to 199 and the ten long ones: 4 times 10 and 10"
        );
        assert_eq!(histogram.iter().map(|(_, texts)| texts).sum::<u64>(), 1000);
        assert_eq!(of(&[0, 3]).bins(), [0, 1, 2, 3]);
    }
}
