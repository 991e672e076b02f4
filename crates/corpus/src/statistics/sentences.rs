//! Sentences of a clean text that can stand alone as quotations.
//!
//! The rules are strict, for a review has many sentences and one good one is enough: a sentence that was cut wrongly,
//! shouts, quotes somebody or carries a figure (which a reader would take for a measured one) is passed over. That so many
//! rules name English words does no harm elsewhere.

use super::tokens;

/// A quotation's words, fewest and most.
pub(super) const WORDS: std::ops::RangeInclusive<usize> = 5..=30;
/// Longer ones have words that are none.
const BYTES_MAX: usize = 300;
/// Longest text that is searched, in bytes.
const TEXT_BYTES_MAX: usize = 20_000;
/// Most sentences of a text.
const SENTENCES_MAX: usize = 32;
/// Capitals in a row that are shouting; fewer are an abbreviation such as DVD.
const CAPITALS_MAX: usize = 3;
/// A full stop behind these, or behind a single letter, ends no sentence.
const ABBREVIATIONS: [&str; 11] = ["mr", "mrs", "ms", "dr", "st", "vs", "jr", "sr", "prof", "etc", "vol"];
/// A sentence that begins so leans on the one before.
const LEANING: [&str; 30] = [
    "also", "and", "another", "as", "because", "but", "he", "her", "him", "his", "its", "nor", "or", "other", "she",
    "so", "such", "that", "that's", "their", "them", "then", "these", "they", "those", "though", "thus", "which",
    "who", "yet",
];

/// What is said so stands in front of everybody who reads a report.
const COARSE: [&str; 15] = [
    "ass", "asses", "bitch", "bullshit", "crap", "crappy", "damn", "fuck", "fucking", "piss", "shit", "shitty", "suck",
    "sucked", "sucks",
];

/// The quotable sentences, in order, or, if there is none, the text's first words.
pub(super) fn quotable(text: &str) -> Quotable<'_> {
    let text = head(text, TEXT_BYTES_MAX);
    // Who writes without capitals can still be quoted.
    let cased = text.contains(char::is_uppercase);
    let sentences: Vec<&str> = sentences(text, cased)
        .filter(|sentence| is_quotable(sentence, cased))
        .take(SENTENCES_MAX)
        .collect();
    if sentences.is_empty() {
        Quotable::Opening(opening(text))
    } else {
        Quotable::Sentences(sentences)
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Quotable<'a> {
    Sentences(Vec<&'a str>),
    /// Empty if the text is.
    Opening(&'a str),
}

/// Whole sentences: what follows the last end mark is left out.
fn sentences(text: &str, cased: bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut from = 0;
        loop {
            let mark = from + rest.get(from..)?.find(is_end)?;
            let end = mark
                + rest[mark..]
                    .find(|c| !is_end(c) && !matches!(c, '"' | '\'' | ')' | '”' | '’'))
                    .unwrap_or(rest.len() - mark);
            from = end;
            let next = &rest[end..];
            let ends = match next.strip_prefix(' ') {
                None => next.is_empty(),
                Some(next) => {
                    let goes_on = cased && next.starts_with(char::is_lowercase);
                    !goes_on && !is_abbreviation(&rest[..mark], &rest[mark..])
                }
            };
            if ends {
                let sentence = &rest[..end];
                rest = next.trim_start();
                return Some(sentence);
            }
        }
    })
}

fn is_end(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…')
}

/// Whether what stands before an end mark is an abbreviation, and the mark its full stop.
fn is_abbreviation(text: &str, mark: &str) -> bool {
    if !mark.starts_with('.') {
        return false;
    }
    let word = text.rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    word.chars().count() == 1 || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

fn is_quotable(sentence: &str, cased: bool) -> bool {
    let lower = tokens::lower(sentence);
    let words = tokens::words(&lower).take(*WORDS.end() + 1).count();
    let Some(body) = sentence.strip_suffix(['.', '!', '?']) else {
        return false;
    };
    sentence.len() <= BYTES_MAX
        && WORDS.contains(&words)
        && body.starts_with(|c: char| c.is_alphabetic() && (!cased || c.is_uppercase()))
        && !tokens::words(&lower)
            .next()
            .is_some_and(|first| LEANING.contains(&first))
        && !tokens::words(&lower).any(|word| COARSE.contains(&word))
        && is_plain(body)
        && !(cased && is_careless(body))
        && !body
            .split(|c: char| !c.is_uppercase())
            .any(|run| run.chars().count() > CAPITALS_MAX)
}

/// Whether "I" is written small.
fn is_careless(text: &str) -> bool {
    text.split(|c: char| !c.is_alphabetic()).any(|word| word == "i")
}

/// Nothing but letters, commas, colons, semicolons, and apostrophes and hyphens between letters.
fn is_plain(text: &str) -> bool {
    let mut before = ' ';
    let mut after = text.chars().skip(1).chain([' ']);
    text.chars().all(|c| {
        let next = after.next().unwrap_or(' ');
        let plain = match c {
            ' ' => before != ' ',
            ',' | ';' | ':' => next == ' ',
            '\'' | '’' | '-' => before.is_alphabetic() && next.is_alphabetic(),
            c => c.is_alphabetic(),
        };
        before = c;
        plain
    })
}

fn opening(text: &str) -> &str {
    let end = text
        .match_indices(' ')
        .nth(*WORDS.end() - 1)
        .map_or(text.len(), |(end, _)| end);
    head(text, end.min(BYTES_MAX))
}

/// At most so many bytes of it, in whole characters.
fn head(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rfind(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_end_where_they_should() {
        let text = "I saw Mr. Smith... twice. He said \"No!\" Why? It cost approx. nothing at J. Doe's";
        let expected = ["I saw Mr. Smith... twice.", "He said \"No!\"", "Why?"];
        assert_eq!(sentences(text, true).collect::<Vec<_>>(), expected);
        assert_eq!(sentences("one. two", false).collect::<Vec<_>>(), ["one."]);
        assert_eq!(sentences("", true).count(), 0);
    }

    #[test]
    fn what_can_be_quoted() {
        let good = [
            "The acting is good, the plot isn't.",
            "A well-made film; go and see it!",
            "Why didn’t anybody stop them?",
            "I bought it on DVD last year.",
        ];
        for text in good {
            assert_eq!(quotable(text), Quotable::Sentences(vec![text]));
        }
        let bad = [
            "Far too short.",
            "It has no end mark at all",
            "This is THE WORST film ever.",
            "See www.example.com for more of it.",
            "He called it \"a fine film\" and left.",
            "I give it 3 out of 10 points.",
            "But the acting is not good enough.",
            "The acting is good , the plot 'is' not.",
            "The film (and the book) are good enough.",
            "What were they thinking of?!",
            "This was a load of crap from the start.",
            "The film that i saw was good.",
            "The acting is good.The plot is not good.",
        ];
        for text in bad {
            assert_eq!(quotable(text), Quotable::Opening(text));
        }
        let lower = "a fine, quiet and moving film. and so on.";
        assert_eq!(
            quotable(lower),
            Quotable::Sentences(vec!["a fine, quiet and moving film."])
        );
    }

    #[test]
    fn without_a_sentence_the_text_opens() {
        let text = "word ".repeat(40);
        assert_eq!(quotable(text.trim()), Quotable::Opening("word ".repeat(30).trim()));
        assert_eq!(quotable(""), Quotable::Opening(""));
        assert_eq!(
            quotable(&"é".repeat(20_000)),
            Quotable::Opening("é".repeat(150).as_str())
        );
    }

    proptest! {
        #[test]
        fn quotations_are_verbatim_and_within_bounds(text in "[A-Ca-c \"'.!?,é’0]{0,200}") {
            let text = crate::clean(&text);
            match quotable(&text) {
                Quotable::Opening(opening) => prop_assert!(text.starts_with(opening)),
                Quotable::Sentences(sentences) => for sentence in sentences {
                    prop_assert!(text.contains(sentence));
                    prop_assert!(WORDS.contains(&tokens::words(sentence).count()));
                    prop_assert!(sentence.ends_with(['.', '!', '?']) && !sentence.contains('"'));
                },
            }
        }
    }
}
