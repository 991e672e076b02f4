//! Phrases that say something else about the class than their words do: "not bad", "waste of", "7/10".

use std::collections::HashMap;
use std::ops::Range;

/// Words of the longest phrase.
const WORDS_MAX: usize = 3;
/// Most bytes between two words of a phrase.
const GAP_MAX: usize = 2;
/// Fewest texts that a phrase must occur in.
const TEXTS_MIN: u32 = 3;

/// In how many texts of each class a phrase occurs.
type Counts = Vec<u32>;

/// At most `count` phrases of two or three words, in lower case, as they stand in the texts, the most telling first. `labels` are
/// the texts' classes, 0 to `classes` - 1.
///
/// A phrase tells by how far its log-count ratio (how much more frequent it is in the texts of a class than in others) is from
/// the sum of its words', times the root of the number of texts that have it.
#[must_use]
pub fn phrases(texts: &[&str], labels: &[usize], classes: usize, count: usize) -> Vec<String> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    let mut sizes = vec![0; classes];
    for &label in labels {
        sizes[label] += 1;
    }
    let mut known: Vec<HashMap<&str, Counts>> = Vec::new();
    for length in 1..=WORDS_MAX {
        let mut counts: HashMap<&str, Counts> = HashMap::new();
        let mut seen = Vec::new();
        for (text, &label) in texts.iter().zip(labels) {
            seen.clear();
            // A run is frequent only if what it begins and ends with is.
            let frequent = |run: &[Range<usize>]| match known.last() {
                Some(shorter) => {
                    shorter.contains_key(slice(text, &run[1..]))
                        && shorter.contains_key(slice(text, &run[..length - 1]))
                }
                None => true,
            };
            let words = words(text);
            let close = |run: &&[Range<usize>]| run.windows(2).all(|pair| pair[1].start - pair[0].end <= GAP_MAX);
            let runs = words.windows(length).filter(close).filter(|run| frequent(run));
            seen.extend(runs.map(|run| slice(text, run)));
            seen.sort_unstable();
            seen.dedup();
            for &run in &seen {
                counts.entry(run).or_insert_with(|| vec![0; classes])[label] += 1;
            }
        }
        counts.retain(|_, counts| counts.iter().sum::<u32>() >= TEXTS_MIN);
        known.push(counts);
    }
    let words_known = known.remove(0);
    let tells = |phrase: &str, counts: &Counts| -> f64 {
        let texts = f64::from(counts.iter().sum::<u32>());
        let beyond = |class| {
            let words = words(phrase);
            let words = words.iter().filter_map(|word| words_known.get(&phrase[word.clone()]));
            ratio(counts, &sizes, class) - words.map(|counts| ratio(counts, &sizes, class)).sum::<f64>()
        };
        (0..classes).map(|class| beyond(class).abs()).fold(0.0, f64::max) * texts.sqrt()
    };
    let mut ranked: Vec<(f64, &str)> = known
        .iter()
        .flatten()
        .map(|(phrase, counts)| (tells(phrase, counts), *phrase))
        .collect();
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.truncate(count);
    ranked.into_iter().map(|(_, phrase)| phrase.to_owned()).collect()
}

/// The logarithm of how much more frequent a phrase is in the texts of a class than in the others, counted once more in both.
fn ratio(counts: &Counts, sizes: &Counts, class: usize) -> f64 {
    let share = |texts: u32, of: u32| f64::from(texts + 1) / f64::from(of + 1);
    let (inside, outside) = (counts[class], counts.iter().sum::<u32>() - counts[class]);
    let others = sizes.iter().sum::<u32>() - sizes[class];
    (share(inside, sizes[class]) / share(outside, others)).ln()
}

fn slice<'t>(text: &'t str, run: &[Range<usize>]) -> &'t str {
    match run {
        [first, .., last] => &text[first.start..last.end],
        [word] => &text[word.clone()],
        [] => "",
    }
}

/// Where the words of a text are: letters, digits and inner apostrophes.
fn words(text: &str) -> Vec<Range<usize>> {
    let parts = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let words = parts
        .map(|part| part.trim_matches('\''))
        .filter(|word| !word.is_empty());
    words
        .map(|word| {
            let start = word.as_ptr() as usize - text.as_ptr() as usize;
            start..start + word.len()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `times` texts of each of the two classes: what the first and what the second says.
    fn texts(pairs: &[(usize, &'static str, &'static str)]) -> (Vec<&'static str>, Vec<usize>) {
        let texts = pairs
            .iter()
            .flat_map(|&(times, first, second)| std::iter::repeat_n([(first, 0), (second, 1)], times).flatten());
        texts.unzip()
    }

    #[test]
    fn what_words_tell_already_is_no_phrase() {
        // "bad" speaks for the first class, so "bad film" tells little more, however often it is said; "not bad" tells the contrary.
        let (texts, labels) = texts(&[
            (40, "a bad film", "a good film"),
            (20, "It's bad", "NOT bad"),
            (20, "not here", "it's late"),
            (5, "2/10", "a rather fine 9/10!"),
        ]);
        let all = phrases(&texts, &labels, 2, 100);
        let place = |phrase: &str| all.iter().position(|known| known == phrase);
        assert_eq!(place("not bad"), Some(0), "{all:?}");
        assert!(place("bad film") > Some(0), "{all:?}");
        assert!(place("2/10").is_some() && place("fine 9/10").is_some(), "{all:?}");
        assert!(place("bad").is_none(), "a word is no phrase");
        assert_eq!(phrases(&texts, &labels, 2, 3), all[..3]);
    }

    #[test]
    fn rare_phrases_and_wide_gaps_do_not_count() {
        let (texts, labels) = texts(&[(2, "a rare pair", "nothing"), (9, "one ... two", "one -two")]);
        assert_eq!(phrases(&texts, &labels, 2, 100), ["one -two"]);
    }
}
