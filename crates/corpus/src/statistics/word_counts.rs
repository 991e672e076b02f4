//! How many texts of each class each word occurs in, and how often, in bounded memory.
//!
//! Frequent words must never be lost, so it is not words that are given up when memory is full, but texts. A text's hash
//! puts it on a level: half of the texts are on level 0, a quarter on level 1, and so on. Counts are kept level by level,
//! and when there are too many, the lowest level goes, and with it half of the texts; what is left are exact counts over
//! a sample of the texts that only their hashes chose. The lowest level kept is the least for which the counts of it and
//! of all above fit the limit. Those of a part of the corpus never exceed those of the whole, so no part gives up what
//! the whole would keep, and merging is exact.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize, Serializer};

/// How often a word occurs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) texts: u64,
    pub(super) occurrences: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.texts += other.texts;
        self.occurrences += other.occurrences;
    }
}

/// The texts of one class on one level.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) texts: u64,
    #[serde(serialize_with = "in_order")]
    pub(super) words: HashMap<Box<str>, Count>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct WordCounts {
    /// Levels below were given up.
    lowest: u32,
    /// By level, then by class.
    levels: BTreeMap<u32, Vec<Part>>,
    /// Counts in `levels`.
    #[serde(skip)]
    entries: usize,
}

/// So that equal counts make equal files.
fn in_order<S: Serializer>(words: &HashMap<Box<str>, Count>, serializer: S) -> Result<S::Ok, S::Error> {
    words.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
}

impl WordCounts {
    /// Takes a text into account and calls `new` with each word that its level did not have.
    pub(super) fn add<'a>(
        &mut self,
        text: Placed,
        words: impl Iterator<Item = (&'a str, u64)>,
        limit: usize,
        mut new: impl FnMut(&'a str),
    ) {
        let level = text.hash.leading_zeros();
        if level < self.lowest {
            words.for_each(|(word, _)| new(word));
            return;
        }
        let parts = self
            .levels
            .entry(level)
            .or_insert_with(|| vec![Part::default(); text.classes]);
        let Some(part) = parts.get_mut(text.class) else {
            return;
        };
        part.texts += 1;
        for (word, occurrences) in words {
            let once = Count { texts: 1, occurrences };
            if let Some(count) = part.words.get_mut(word) {
                *count += once;
            } else {
                part.words.insert(word.into(), once);
                self.entries += 1;
                new(word);
            }
        }
        self.trim(limit);
    }

    pub(super) fn merge(&mut self, other: Self, limit: usize) {
        self.lowest = self.lowest.max(other.lowest);
        for (level, parts) in other.levels {
            let own = self
                .levels
                .entry(level)
                .or_insert_with(|| vec![Part::default(); parts.len()]);
            for (own, part) in own.iter_mut().zip(parts) {
                own.texts += part.texts;
                for (word, count) in part.words {
                    *own.words.entry(word).or_default() += count;
                }
            }
        }
        self.levels = self.levels.split_off(&self.lowest);
        self.recount();
        self.trim(limit);
    }

    fn trim(&mut self, limit: usize) {
        while self.entries > limit
            && let Some((level, parts)) = self.levels.pop_first()
        {
            self.entries -= entries(&parts);
            self.lowest = level + 1;
        }
    }

    /// After reading: `entries` is not written.
    pub(super) fn recount(&mut self) {
        self.entries = self.levels.values().map(|parts| entries(parts)).sum();
    }

    pub(super) fn fits(&self, classes: usize, limit: usize) -> bool {
        self.entries <= limit
            && self
                .levels
                .iter()
                .all(|(&level, parts)| (self.lowest..=u64::BITS).contains(&level) && parts.len() == classes)
    }

    /// One class on each level.
    pub(super) fn class(&self, class: usize) -> impl Iterator<Item = &Part> {
        self.levels.values().filter_map(move |parts| parts.get(class))
    }
}

/// Where a text belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) hash: u64,
    pub(super) class: usize,
    pub(super) classes: usize,
}

fn entries(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.words.len()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn add(counts: &mut WordCounts, level: u32, words: &[&'static str], limit: usize) {
        let hash = if level == 64 { 0 } else { 1 << (63 - level) };
        let text = Placed {
            hash,
            class: 0,
            classes: 1,
        };
        counts.add(text, words.iter().map(|&word| (word, 1)), limit, |_| ());
    }

    #[test]
    fn the_lowest_level_goes_first_and_stays_away() {
        let mut counts = WordCounts::default();
        add(&mut counts, 0, &["a", "b"], 3);
        add(&mut counts, 2, &["a"], 3);
        assert_eq!((counts.lowest, counts.entries), (0, 3));
        add(&mut counts, 3, &["a"], 3);
        assert_eq!((counts.lowest, counts.entries), (1, 2), "a on levels 2 and 3");
        add(&mut counts, 0, &["c"], 3);
        assert_eq!(counts.entries, 2);
        add(&mut counts, 64, &["a", "b", "c", "d"], 3);
        assert_eq!((counts.lowest, counts.entries), (65, 0), "one text with too many words");
    }

    #[test]
    fn words_that_are_new_on_a_level_are_told() {
        let mut counts = WordCounts::default();
        add(&mut counts, 1, &["a"], 9);
        let mut new = Vec::new();
        let text = Placed {
            hash: 1 << 62,
            class: 0,
            classes: 1,
        };
        counts.add(text, [("a", 1), ("b", 2)].into_iter(), 9, |word| new.push(word));
        assert_eq!(new, ["b"]);
    }

    proptest! {
        #[test]
        fn merged_parts_are_the_whole(
            texts in prop::collection::vec((0_u32..6, prop::collection::vec(0_usize..9, 0..5), 0_usize..3), 0..40),
            limit in 1_usize..30,
        ) {
            const WORDS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
            let mut whole = WordCounts::default();
            let mut parts = vec![WordCounts::default(); 3];
            for (level, words, part) in &texts {
                let mut words: Vec<&str> = words.iter().map(|&word| WORDS[word]).collect();
                words.sort_unstable();
                words.dedup();
                add(&mut whole, *level, &words, limit);
                add(&mut parts[*part], *level, &words, limit);
            }
            let mut merged = WordCounts::default();
            while let Some(part) = parts.pop() {
                merged.merge(part, limit);
            }
            prop_assert!(whole.fits(1, limit));
            prop_assert_eq!(merged, whole);
        }
    }
}
