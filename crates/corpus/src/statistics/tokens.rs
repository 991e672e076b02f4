//! The words of a text.

use std::collections::HashMap;

/// Lower-cased, with one kind of apostrophe: what [`words`] expects.
pub(super) fn lower(text: &str) -> String {
    let lower = text.to_lowercase();
    if lower.contains('’') {
        lower.replace('’', "'")
    } else {
        lower
    }
}

/// Runs of letters, digits and inner apostrophes. A hyphen parts two words.
pub(super) fn words(lower: &str) -> impl Iterator<Item = &str> {
    lower
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
}

/// A text as numbers.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    /// The distinct words with their counts, in the order of their first occurrence.
    pub(super) distinct: Vec<(&'a str, u64)>,
    /// The text, each word by its place in `distinct`.
    pub(super) sequence: Vec<usize>,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(lower: &'a str) -> Self {
        let mut places = HashMap::new();
        let (mut distinct, mut sequence) = (Vec::new(), Vec::new());
        for word in words(lower) {
            let place = *places.entry(word).or_insert(distinct.len());
            match distinct.get_mut(place) {
                Some((_, count)) => *count += 1,
                None => distinct.push((word, 1)),
            }
            sequence.push(place);
        }
        Self { distinct, sequence }
    }

    /// How many runs of `window` successive words there are, and the sum of their distinct words.
    pub(super) fn windows(&self, window: usize) -> (u64, u64) {
        let mut inside = vec![0_u32; self.distinct.len()];
        let (mut types, mut windows, mut sum) = (0_u64, 0_u64, 0_u64);
        for (end, &entering) in self.sequence.iter().enumerate() {
            inside[entering] += 1;
            types += u64::from(inside[entering] == 1);
            if let Some(start) = end.checked_sub(window) {
                let leaving = self.sequence[start];
                inside[leaving] -= 1;
                types -= u64::from(inside[leaving] == 0);
            }
            if end + 1 >= window {
                windows += 1;
                sum += types;
            }
        }
        (windows, sum)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_letters_digits_and_inner_apostrophes() {
        let text = lower("Don’t 'QUOTE' it: a well-made Café_9, rock'n'roll -- '' a.");
        let expected = [
            "don't",
            "quote",
            "it",
            "a",
            "well",
            "made",
            "café",
            "9",
            "rock'n'roll",
            "a",
        ];
        assert_eq!(words(&text).collect::<Vec<_>>(), expected);
        let tokens = Tokens::of("to be or not to be");
        assert_eq!(tokens.distinct, [("to", 2), ("be", 2), ("or", 1), ("not", 1)]);
        assert_eq!(tokens.sequence, [0, 1, 2, 3, 0, 1]);
    }

    /// By hand: a b a | b a c | a c c have 2, 3 and 2 distinct words.
    #[test]
    fn windows_of_three() {
        assert_eq!(Tokens::of("a b a c c").windows(3), (3, 7));
        assert_eq!(Tokens::of("a b").windows(3), (0, 0));
        assert_eq!(Tokens::of("").windows(3), (0, 0));
    }

    proptest! {
        #[test]
        fn windows_as_counted_one_by_one(letters in prop::collection::vec("[a-d]", 0..40), window in 1_usize..9) {
            let expected = letters.windows(window).map(|part| part.iter().collect::<HashSet<_>>().len() as u64);
            let expected = (expected.clone().count() as u64, expected.sum());
            prop_assert_eq!(Tokens::of(&letters.join(" ")).windows(window), expected);
        }
    }
}
