//! Near duplicates by sketches of their word sequences.
//!
//! A text's sketch is a MinHash of its sequences of five words (Broder 1997), by one permutation in 64 bins (Li, Owen & Zhang
//! 2012) whose empty bins borrow from the next (Shrivastava & Li 2014): the share of equal bins estimates the share of sequences
//! that two texts have in common (Jaccard), with a standard error of 0.05 at 0.8. Candidates are texts that agree in one of 16
//! bands of four bins; of two that are alike by 0.8 or more, at least 99.9% become candidates. Texts of fewer than ten such
//! sequences are not compared: only exact duplicates are told of them.

use understudy_corpus::fingerprint;

const BINS: usize = 64;
const BAND: usize = 4;
const WORDS: usize = 5;
const SEQUENCES_MIN: usize = 10;
/// Texts of one band that a text is compared with; more are as good as never needed, since they join the first one's group.
const COMPARED_MAX: usize = 8;

/// What is kept of a text: 16 bits of each bin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sketch([u16; BINS]);

impl Sketch {
    /// `None` for a text that is too short.
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are wanted")]
    pub(super) fn of(text: &str) -> Option<Self> {
        let words: Vec<u64> = text.split(' ').filter_map(word).collect();
        if words.len() < WORDS + SEQUENCES_MIN - 1 {
            return None;
        }
        let mut least = [u64::MAX; BINS];
        for sequence in words.windows(WORDS) {
            let hash = sequence.iter().fold(0, |hash, word| mixed(hash ^ word));
            let bin = usize::try_from(hash >> 58).unwrap_or(0);
            least[bin] = least[bin].min(hash & (u64::MAX >> 6));
        }
        let filled = least;
        for (bin, value) in least.iter_mut().enumerate() {
            if *value == u64::MAX {
                let next = (1..BINS).find(|step| filled[(bin + step) % BINS] != u64::MAX);
                let step = next.unwrap_or(0);
                // Told apart by the distance, or runs of empty bins would agree by themselves.
                *value = mixed(filled[(bin + step) % BINS].wrapping_add(step as u64));
            }
        }
        // The low bits: the high ones of a least value are small.
        Some(Self(least.map(|value| value as u16)))
    }

    /// Share of bins that agree.
    fn likeness(&self, other: &Self) -> f64 {
        let equal = self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count();
        equal as f64 / BINS as f64
    }

    fn band(&self, number: usize) -> u64 {
        let bins = &self.0[number * BAND..(number + 1) * BAND];
        bins.iter().fold(0, |key, &bin| (key << 16) | u64::from(bin))
    }
}

/// Equal for words that differ in case and punctuation only; `None` if no letter or digit is left.
fn word(word: &str) -> Option<u64> {
    word.chars().any(char::is_alphanumeric).then(|| fingerprint(word))
}

/// The finaliser of MurmurHash3.
fn mixed(mut hash: u64) -> u64 {
    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Groups of two or more texts (by index) that are alike by `least`, each text by another of its group.
pub(super) fn groups(sketches: &[Option<Sketch>], least: f64) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..sketches.len()).collect();
    let mut keyed = Vec::with_capacity(sketches.len());
    for band in 0..BINS / BAND {
        keyed.clear();
        keyed.extend(
            sketches
                .iter()
                .enumerate()
                .filter_map(|(index, sketch)| Some((sketch.as_ref()?.band(band), index))),
        );
        keyed.sort_unstable();
        for same in keyed.chunk_by(|a, b| a.0 == b.0) {
            for (place, &(_, index)) in same.iter().enumerate() {
                for &(_, other) in &same[place.saturating_sub(COMPARED_MAX)..place] {
                    let (a, b) = (root(&mut parent, index), root(&mut parent, other));
                    if a != b
                        && let (Some(first), Some(second)) = (&sketches[index], &sketches[other])
                        && first.likeness(second) >= least
                    {
                        parent[a.max(b)] = a.min(b);
                    }
                }
            }
        }
    }
    let mut members: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
    for index in 0..sketches.len() {
        members.entry(root(&mut parent, index)).or_default().push(index);
    }
    members.into_values().filter(|group| group.len() > 1).collect()
}

fn root(parent: &mut [usize], mut index: usize) -> usize {
    while parent[index] != index {
        parent[index] = parent[parent[index]];
        index = parent[index];
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: usize, words: usize) -> Vec<String> {
        (0..words)
            .map(|i| format!("w{}", (i * i * 31 + i * seed * 7919 + seed) % 5003))
            .collect()
    }

    /// Estimates against the exact share of common sequences.
    #[test]
    fn likeness_estimates_the_share_of_common_sequences() {
        let mut errors = Vec::new();
        for seed in 1..60 {
            let whole = text(seed, 200);
            let mut changed = whole.clone();
            for place in (0..seed % 12).map(|k| k * 16) {
                changed[place] = "other".to_owned();
            }
            let sequences = |words: &[String]| -> std::collections::HashSet<String> {
                words.windows(WORDS).map(|sequence| sequence.join(" ")).collect()
            };
            let (a, b) = (sequences(&whole), sequences(&changed));
            let exact = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
            let (a, b) = (
                Sketch::of(&whole.join(" ")).unwrap(),
                Sketch::of(&changed.join(" ")).unwrap(),
            );
            errors.push(a.likeness(&b) - exact);
        }
        let n = errors.len() as f64;
        let mean = errors.iter().sum::<f64>() / n;
        let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 0.025, "biased by {mean}");
        assert!(deviation < 0.08, "off by {deviation}");
    }

    #[test]
    fn alike_texts_are_grouped_and_others_are_not() {
        let mut texts: Vec<String> = (1..40).map(|seed| text(seed, 120).join(" ")).collect();
        let mut changed = text(7, 120);
        changed[60] = "different".to_owned();
        texts.push(changed.join(", ").to_uppercase());
        texts.push("too short to tell".to_owned());
        texts.push("too short to tell".to_owned());
        let sketches: Vec<Option<Sketch>> = texts.iter().map(|text| Sketch::of(text)).collect();
        assert_eq!(groups(&sketches, 0.8), [[6, 39]]);
    }
}
