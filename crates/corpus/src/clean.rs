//! From a scraped review to plain text, and the fingerprint by which duplicates are known.

use std::hash::Hasher;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;
use twox_hash::XxHash64;

#[expect(clippy::unwrap_used, reason = "the pattern is fixed and tested")]
static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)<!--.*?-->|</?[a-zA-Z][^<>]*>").unwrap());

/// Takes out HTML tags, decodes entities, and makes each run of white space or control characters one blank.
///
/// A tag counts as a blank: `good.<br />Bad` is two words. `a < b` is no tag.
#[must_use]
pub fn clean(text: &str) -> String {
    let text = TAG.replace_all(text, " ");
    let text = html_escape::decode_html_entities(&text);
    let mut plain = String::with_capacity(text.len());
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !plain.is_empty() {
            plain.push(' ');
        }
        plain.push_str(word);
    }
    plain
}

/// The same for texts that differ only in case, punctuation and white space.
#[must_use]
pub fn fingerprint(text: &str) -> u64 {
    let mut hasher = XxHash64::with_seed(0);
    let mut buffer = [0; 4];
    for c in text
        .chars()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric())
    {
        hasher.write(c.encode_utf8(&mut buffer).as_bytes());
    }
    hasher.finish()
}

/// How long a clean text may be, in characters (Unicode scalar values).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the fewest to the most.
    pub characters: RangeInclusive<usize>,
}

impl Limits {
    /// What is worth learning from: 20 to 5,000 characters.
    #[must_use]
    pub const fn training() -> Self {
        Self { characters: 20..=5_000 }
    }

    /// All but empty texts: a figure measured on them is comparable with others on the same data.
    #[must_use]
    pub const fn evaluation() -> Self {
        Self {
            characters: 1..=usize::MAX,
        }
    }

    /// Cleans a text and says whether it is to be used.
    ///
    /// # Errors
    /// If it is too short or too long.
    pub fn apply(&self, text: &str) -> Result<String, Unfit> {
        let plain = clean(text);
        let characters = plain.chars().count();
        if characters < *self.characters.start() {
            Err(Unfit::TooShort)
        } else if characters > *self.characters.end() {
            Err(Unfit::TooLong)
        } else {
            Ok(plain)
        }
    }
}

/// Why a text is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Fewer characters than the limit.
    TooShort,
    /// More characters than the limit.
    TooLong,
}

/// What cleaning left and what it left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CleanCounts {
    /// Records in the file.
    pub read: usize,
    /// Records left.
    pub kept: usize,
    /// Records left out as too short.
    pub too_short: usize,
    /// Records left out as too long.
    pub too_long: usize,
}

impl CleanCounts {
    pub(crate) fn note(&mut self, outcome: Result<(), Unfit>) {
        self.read += 1;
        match outcome {
            Ok(()) => self.kept += 1,
            Err(Unfit::TooShort) => self.too_short += 1,
            Err(Unfit::TooLong) => self.too_long += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_entities_and_white_space() {
        let cases = [
            ("Good.<br /><br />Bad", "Good. Bad"),
            ("<p class=\"x\">One</P>\n\n two<!-- not\nthis --> ", "One two"),
            (
                "Tom &amp; Jerry &#39;90&#x2019; caf&eacute;&nbsp;!",
                "Tom & Jerry '90\u{2019} café !",
            ),
            ("I <3 it, 2 < 3 > 1", "I <3 it, 2 < 3 > 1"),
            ("&unknown; &", "&unknown; &"),
            ("a\u{0}b\tc\u{a0}d", "a b c d"),
        ];
        for (raw, plain) in cases {
            assert_eq!(clean(raw), plain);
        }
    }

    #[test]
    fn limits_count_characters() {
        let limits = Limits::training();
        assert_eq!(limits.apply(&"é".repeat(19)), Err(Unfit::TooShort));
        assert!(limits.apply(&"é".repeat(20)).is_ok());
        assert!(limits.apply(&"é".repeat(5_000)).is_ok());
        assert_eq!(limits.apply(&"é".repeat(5_001)), Err(Unfit::TooLong));
        assert_eq!(Limits::evaluation().apply(" <br/> "), Err(Unfit::TooShort));
    }

    #[test]
    fn fingerprints_ignore_case_and_punctuation_only() {
        assert_eq!(fingerprint("It's GOOD!"), fingerprint("its good"));
        assert_ne!(fingerprint("good"), fingerprint("goods"));
    }

    proptest! {
        #[test]
        fn clean_text_has_single_blanks_and_nothing_else_white(text in ".{0,200}") {
            let plain = clean(&text);
            prop_assert!(!plain.starts_with(' ') && !plain.ends_with(' ') && !plain.contains("  "));
            prop_assert!(!plain.chars().any(|c| c != ' ' && (c.is_whitespace() || c.is_control())));
        }
    }
}
