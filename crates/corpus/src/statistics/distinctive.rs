//! Words that tell a class from the others.
//!
//! The log-odds ratio of a word with an informative Dirichlet prior, and its z-score (Monroe, Colaresi and Quinn,
//! "Fightin' Words", 2008, equations 16, 20 and 22). The prior is the corpus itself: a word's share of it times
//! [`PRIOR_WORDS`], so that what both sides say equally is drawn to no difference and rare words need more evidence. A
//! word is distinctive if its z-score and its odds ratio are large, it is a word, and it occurs in enough texts:
//! otherwise the names of single films would stand here.

use std::collections::HashMap;

use super::word_counts::{Count, Part, WordCounts};

/// Most words of a class.
const WORDS_MAX: usize = 20;
/// The weight of the prior in words.
const PRIOR_WORDS: f64 = 1_000.0;
/// Least z-score: chance alone brings about this in one word of 20. A large corpus has many words far above it.
const Z_MIN: f64 = 1.645;
/// Least odds ratio. Function words differ significantly, but little.
const ODDS_RATIO_MIN: f64 = 2.0;
/// Fewest texts of its class that a distinctive word occurs in …
const TEXTS_MIN: u64 = 3;
/// … and fewest of a thousand of them.
const PER_MILLE_MIN: u64 = 5;
/// A word that no larger share of the texts has is as rare as can be.
const RAREST_SHARE: f64 = 0.001;
/// English function words: in a small corpus they too differ by chance, and they tell nothing by themselves.
const FUNCTION_WORDS: &[&str] = &[
    "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because", "been", "before",
    "being", "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her",
    "here", "hers", "him", "his", "how", "i'm", "i've", "if", "in", "into", "is", "it", "it's", "its", "just", "me",
    "more", "my", "no", "not", "of", "off", "on", "or", "our", "out", "over", "she", "so", "some", "such", "than",
    "that", "that's", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to",
    "too", "up", "us", "very", "was", "way", "we", "were", "what", "when", "where", "which", "while", "who", "why",
    "will", "with", "would", "you", "your",
];
/// Leftovers of markup, addresses and tokenizers.
const NO_WORDS: [&str; 11] = [
    "amp", "br", "com", "href", "html", "http", "https", "n't", "nbsp", "quot", "www",
];

/// What the words of a corpus tell.
#[derive(Debug)]
pub(super) struct Telling<'a> {
    pub(super) classes: Vec<Distinctive<'a>>,
    rarity: HashMap<&'a str, f64>,
}

impl Telling<'_> {
    /// 0 for a word that all texts have, 1 for one that hardly any has.
    pub(super) fn rarity(&self, word: &str) -> f64 {
        self.rarity.get(word).copied().unwrap_or(1.0)
    }
}

/// What one class says more than the others do.
#[derive(Debug)]
pub(super) struct Distinctive<'a> {
    /// Most distinctive first.
    pub(super) words: Vec<&'a str>,
    /// All distinctive words, and how much each tells: 1 for the first, less for the others as the root of the z-score.
    pub(super) weights: HashMap<&'a str, f64>,
}

/// Each class against all others.
pub(super) fn distinctive<'a>(counts: &'a WordCounts, classes: usize) -> Telling<'a> {
    let by_class: Vec<HashMap<&'a str, Count>> = (0..classes).map(|class| words_of(counts, class)).collect();
    let mut everywhere: HashMap<&str, Count> = HashMap::new();
    for (&word, &count) in by_class.iter().flatten() {
        *everywhere.entry(word).or_default() += count;
    }
    let total = occurrences(&everywhere);
    let of_class = |(class, own): (usize, &HashMap<&'a str, Count>)| {
        let own_total = occurrences(own);
        let texts_min = TEXTS_MIN.max((texts(counts.class(class)) * PER_MILLE_MIN).div_ceil(1000));
        let mut found: Vec<(&'a str, LogOdds)> = own
            .iter()
            .filter(|(word, count)| count.texts >= texts_min && is_telling(word))
            .map(|(&word, count)| {
                let all = as_f64(everywhere[word].occurrences);
                let here = as_f64(count.occurrences);
                (
                    word,
                    log_odds([here, own_total], [all - here, total - own_total], PRIOR_WORDS),
                )
            })
            .filter(|(_, odds)| odds.z >= Z_MIN && odds.ratio >= ODDS_RATIO_MIN.ln())
            .collect();
        found.sort_unstable_by(|(a, x), (b, y)| y.z.total_cmp(&x.z).then_with(|| a.cmp(b)));
        let z_max = found.first().map_or(1.0, |(_, odds)| odds.z);
        Distinctive {
            words: found.iter().take(WORDS_MAX).map(|&(word, _)| word).collect(),
            weights: found
                .iter()
                .map(|(word, odds)| (*word, (odds.z / z_max).sqrt()))
                .collect(),
        }
    };
    let texts = texts((0..classes).flat_map(|class| counts.class(class)));
    let rarity = |count: &Count| ((as_f64(count.texts) / as_f64(texts)).ln() / RAREST_SHARE.ln()).min(1.0);
    Telling {
        classes: by_class.iter().enumerate().map(of_class).collect(),
        rarity: everywhere.iter().map(|(&word, count)| (word, rarity(count))).collect(),
    }
}

fn texts<'a>(parts: impl Iterator<Item = &'a Part>) -> u64 {
    parts.map(|part| part.texts).sum()
}

#[derive(Debug, Clone, Copy)]
struct LogOdds {
    /// Natural logarithm of the odds ratio.
    ratio: f64,
    /// That, in standard deviations.
    z: f64,
}

/// Here and elsewhere: a word's occurrences and all words'.
fn log_odds([here, here_total]: [f64; 2], [there, there_total]: [f64; 2], prior_words: f64) -> LogOdds {
    let prior = prior_words * (here + there) / (here_total + there_total);
    let log = |word: f64, total: f64| ((word + prior) / (total + prior_words - word - prior)).ln();
    let ratio = log(here, here_total) - log(there, there_total);
    let variance = 1.0 / (here + prior) + 1.0 / (there + prior);
    LogOdds {
        ratio,
        z: ratio / variance.sqrt(),
    }
}

fn words_of(counts: &WordCounts, class: usize) -> HashMap<&str, Count> {
    let mut words: HashMap<&str, Count> = HashMap::new();
    for (word, &count) in counts.class(class).flat_map(|part| &part.words) {
        *words.entry(word).or_default() += count;
    }
    words
}

fn occurrences(words: &HashMap<&str, Count>) -> f64 {
    as_f64(words.values().map(|count| count.occurrences).sum())
}

fn is_telling(word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    letters >= 2
        && word.chars().all(|c| c.is_alphabetic() || c == '\'')
        && !NO_WORDS.contains(&word)
        && !FUNCTION_WORDS.contains(&word)
}

#[expect(clippy::cast_precision_loss, reason = "no corpus has 2^53 words")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::word_counts::Placed;

    /// By hand with a prior of 10 words: the word's share is 10/100, so its prior is 1.
    /// Here (8 + 1) / (40 + 10 - 9) = 9/41, there (2 + 1) / (60 + 10 - 3) = 3/67: ln(9/41 · 67/3) = ln(201/41) = 1.58973;
    /// variance 1/9 + 1/3 = 4/9, z = 1.58973 / (2/3) = 2.38460.
    #[test]
    fn log_odds_by_hand() {
        let odds = log_odds([8.0, 40.0], [2.0, 60.0], 10.0);
        assert!((odds.ratio - 1.589_733).abs() < 1e-5, "{odds:?}");
        assert!((odds.z - 2.384_599).abs() < 1e-5, "{odds:?}");
        let even = log_odds([20.0, 40.0], [30.0, 60.0], 10.0);
        assert!(even.ratio.abs() < 1e-12);
    }

    #[test]
    fn only_frequent_large_differences_of_words() {
        let mut counts = WordCounts::default();
        for text in 0..400_u64 {
            let class = usize::from(text % 2 == 0);
            let mut words = vec![("the", 10), ("film", 30), ("br", 1 + 8 * class as u64)];
            words.push(if class == 1 { ("great", 1) } else { ("awful", 1) });
            if class == 1 {
                words.extend([("10", 1), ("x", 1), ("the", 1)]);
            }
            if text == 0 {
                words.push(("casablanca", 100));
            }
            let place = Placed {
                hash: text << 50 | 1 << 62,
                class,
                classes: 2,
            };
            counts.add(place, words.into_iter(), 1000, |_| ());
        }
        let telling = distinctive(&counts, 2);
        let classes = &telling.classes;
        assert_eq!(classes[0].words, ["awful"]);
        assert_eq!(classes[1].words, ["great"]);
        assert!(classes[1].weights["great"] == 1.0 && !classes[1].weights.contains_key("awful"));
        assert_eq!((telling.rarity("film"), telling.rarity("unknown")), (0.0, 1.0));
        assert!(
            (telling.rarity("great") - 2.0_f64.ln() / 1000.0_f64.ln()).abs() < 1e-12,
            "in half of the texts"
        );
    }

    #[test]
    fn nothing_without_texts() {
        let counts = WordCounts::default();
        let found = distinctive(&counts, 2);
        assert!(
            found
                .classes
                .iter()
                .all(|class| class.words.is_empty() && class.weights.is_empty())
        );
    }
}
