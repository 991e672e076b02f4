//! A text as sentences of tokens, with its quotations set apart.

use std::ops::Range;

/// A word, a figure in digits, or a sign.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// In small letters, with a plain apostrophe.
    pub(super) lower: String,
    pub(super) kind: Kind,
    /// Bytes of the text.
    pub(super) range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Number,
    Sign,
    /// A whole quotation with its marks.
    Quote,
}

/// One sentence.
#[derive(Debug)]
pub(super) struct Sentence<'a> {
    pub(super) range: Range<usize>,
    pub(super) tokens: Vec<Token<'a>>,
}

impl Token<'_> {
    pub(super) fn is(&self, word: &str) -> bool {
        self.lower == word
    }

    pub(super) fn among(&self, words: &str) -> bool {
        is_one_of(&self.lower, words)
    }

    /// What stands between the marks of a quotation.
    pub(super) fn quoted(&self) -> &str {
        self.text
            .trim_start_matches(is_quotation_mark)
            .trim_end_matches(is_quotation_mark)
    }
}

/// Whether the word is in the list, whose words stand between spaces.
pub(super) fn is_one_of(word: &str, list: &str) -> bool {
    !word.is_empty() && list.split(' ').any(|own| own == word)
}

fn is_quotation_mark(c: char) -> bool {
    matches!(c, '"' | '“' | '”' | '„' | '«' | '»' | '\'' | '‘' | '’')
}

/// Cuts the text up. `verbatim` are quotations that hold quotation marks themselves; `names` are words that stay words
/// in quotation marks too.
pub(super) fn sentences<'a>(text: &'a str, verbatim: &[&str], names: &[&str]) -> Vec<Sentence<'a>> {
    let quotes = quotes(text, verbatim, names);
    let tokens = tokens(text, &quotes);
    split(text, tokens)
}

/// The quotations of a text, marks included.
fn quotes(text: &str, verbatim: &[&str], names: &[&str]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut paragraph = 0;
    while let Some(c) = text[at..].chars().next() {
        let next = at + c.len_utf8();
        if next > paragraph {
            paragraph = text[next..].find("\n\n").map_or(text.len(), |end| next + end);
        }
        let Some(closing) = closing_marks(text, at, c) else {
            at = next;
            continue;
        };
        let known = verbatim.iter().find(|quotation| text[next..].starts_with(**quotation));
        let from = known.map_or(next, |quotation| next + quotation.len());
        let end = find_closing(text, from..paragraph.max(from), closing);
        // A mark that nothing closes: a quotation to the end of the paragraph, except where it is only an apostrophe.
        let end = match end {
            Some(end) => end,
            None if matches!(c, '\'' | '‘') => {
                at = next;
                continue;
            }
            None => paragraph.max(next),
        };
        let inner = text[next..end].trim_end_matches(is_quotation_mark).trim();
        if inner.is_empty() || names.iter().any(|name| inner.eq_ignore_ascii_case(name)) {
            at = end.max(next);
            continue;
        }
        found.push(at..end);
        at = end;
    }
    found
}

fn closing_marks(text: &str, at: usize, c: char) -> Option<&'static [char]> {
    let before = text[..at].chars().next_back();
    let after = text[at + c.len_utf8()..].chars().next();
    let opens = after.is_some_and(|a| !a.is_whitespace()) && !before.is_some_and(char::is_alphanumeric);
    match c {
        '"' if opens => Some(&['"', '”', '“']),
        '“' | '„' | '”' if opens => Some(&['”', '"', '“']),
        '«' => Some(&['»']),
        '\'' if opens && after.is_some_and(char::is_alphanumeric) => Some(&['\'', '’']),
        '‘' if opens => Some(&['’', '\'']),
        _ => None,
    }
}

/// Longest quotation in single marks.
const SINGLE_BYTES_MAX: usize = 400;

/// The end of the closing mark.
fn find_closing(text: &str, range: Range<usize>, marks: &[char]) -> Option<usize> {
    let single = marks.contains(&'\'');
    let within = &text[range.clone()];
    for (offset, c) in within.char_indices() {
        // A quotation in single marks ends with its line, and an apostrophe does not close it.
        if single && (c == '\n' || c == '"' || offset > SINGLE_BYTES_MAX) {
            return None;
        }
        if marks.contains(&c) {
            let end = range.start + offset + c.len_utf8();
            let after = text[end..].chars().next();
            let closes = !single
                || (!after.is_some_and(char::is_alphanumeric) && !within[..offset].ends_with(char::is_whitespace));
            if closes {
                return Some(end);
            }
        }
    }
    None
}

fn tokens<'a>(text: &'a str, quotes: &[Range<usize>]) -> Vec<Token<'a>> {
    let mut tokens = Vec::new();
    let mut quotes = quotes.iter().peekable();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if let Some(quote) = quotes.next_if(|quote| quote.start == at) {
            tokens.push(token(text, quote.clone(), Kind::Quote));
            at = quote.end;
            continue;
        }
        let until = quotes.peek().map_or(text.len(), |quote| quote.start);
        let rest = &text[at..until.max(at)];
        let (length, kind) = if c.is_ascii_digit() {
            number_length(rest)
        } else if c.is_alphanumeric() {
            (word_length(rest), Kind::Word)
        } else {
            (c.len_utf8(), Kind::Sign)
        };
        let length = length.max(c.len_utf8());
        if !c.is_whitespace() {
            tokens.push(token(text, at..at + length, kind));
        }
        at += length;
    }
    tokens
}

fn token(text: &str, range: Range<usize>, kind: Kind) -> Token<'_> {
    let text = &text[range.clone()];
    let lower = match kind {
        Kind::Quote => String::new(),
        _ => text.to_lowercase().replace('’', "'"),
    };
    Token {
        text,
        lower,
        kind,
        range,
    }
}

fn word_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().peekable();
    let mut digit = false;
    while let Some((offset, c)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let apostrophe = matches!(c, '\'' | '’') && next.is_some_and(char::is_alphabetic);
        // "v1.2".
        let point = c == '.' && digit && next.is_some_and(|next| next.is_ascii_digit());
        if !c.is_alphanumeric() && !apostrophe && !point {
            return offset;
        }
        digit = c.is_ascii_digit();
    }
    rest.len()
}

/// Digits with grouped thousands and a decimal part. What letters follow directly makes a name of it, except for the
/// endings of an ordinal.
fn number_length(rest: &str) -> (usize, Kind) {
    let bytes = rest.as_bytes();
    let digits = |from: usize| {
        bytes
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut length = digits(0);
    while let Some(separator) = rest[length..].chars().next() {
        let from = length + separator.len_utf8();
        let groups = matches!(separator, ',' | '\u{a0}' | '\u{202f}' | '\u{2009}') && digits(from) == 3;
        if !groups {
            break;
        }
        length = from + 3;
    }
    if rest[length..].starts_with('.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    let letters = word_length(&rest[length..]);
    let ending = &rest[length..length + letters];
    let numeric = letters == 0 || ["st", "nd", "rd", "th", "k", "K", "pp", "x"].contains(&ending);
    if numeric {
        (length, Kind::Number)
    } else {
        (length + letters, Kind::Word)
    }
}

/// A longer sentence is cut, so that what is compared within a sentence stays linear in the text.
const SENTENCE_TOKENS_MAX: usize = 300;

const ABBREVIATIONS: &str = "e.g i.e vs approx mr mrs ms dr st cf ca no prof incl";

fn split<'a>(text: &str, tokens: Vec<Token<'a>>) -> Vec<Sentence<'a>> {
    let mut sentences = Vec::new();
    let mut current: Vec<Token<'a>> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        current.push(token);
        let ends = match tokens.peek() {
            None => true,
            Some(_) if current.len() >= SENTENCE_TOKENS_MAX => true,
            Some(next) => ends_before(text, &current, next),
        };
        if ends {
            let tokens = std::mem::take(&mut current);
            if let (Some(first), Some(last)) = (tokens.first(), tokens.last()) {
                let range = first.range.start..last.range.end;
                sentences.push(Sentence { range, tokens });
            }
        }
    }
    sentences
}

fn ends_before(text: &str, tokens: &[Token<'_>], next: &Token<'_>) -> bool {
    let Some(last) = tokens.last() else { return false };
    let gap = &text[last.range.end..next.range.start];
    if gap.is_empty() {
        return false;
    }
    let starts_small = next.text.starts_with(char::is_lowercase);
    if gap.contains('\n') {
        // A wrapped line goes on with a small letter or a figure.
        let blank = gap.matches('\n').count() > 1;
        let goes_on = starts_small || next.text.starts_with(|c: char| c.is_ascii_digit());
        return blank || !goes_on || ends_sentence(tokens) || last.is(":");
    }
    ends_sentence(tokens) && !starts_small
}

fn ends_sentence(tokens: &[Token<'_>]) -> bool {
    let closing = |token: &&Token<'_>| token.among(") ] * _");
    let skipped = tokens.iter().rev().take_while(closing).count();
    let Some(index) = tokens.len().checked_sub(skipped + 1) else {
        return false;
    };
    let last = &tokens[index];
    match last.kind {
        Kind::Quote => last
            .text
            .trim_end_matches(is_quotation_mark)
            .ends_with(['.', '!', '?', '…']),
        _ if last.is(".") => !index
            .checked_sub(1)
            .and_then(|before| tokens.get(before))
            .is_some_and(|before| is_abbreviation(before, &tokens[..index])),
        _ => last.among("! ? …"),
    }
}

fn is_abbreviation(word: &Token<'_>, tokens: &[Token<'_>]) -> bool {
    if word.kind != Kind::Word {
        return false;
    }
    // "e.g." is four tokens.
    let single = word.lower.chars().count() == 1;
    single && tokens.len() > 1 && word.lower != "a" || is_one_of(&word.lower, ABBREVIATIONS) && !word.is("no")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        let sentences = sentences(text, &["The \"view\" is a wall."], &["positive"]);
        sentences.into_iter().map(|sentence| &text[sentence.range]).collect()
    }

    fn quoted(text: &str) -> Vec<String> {
        let sentences = sentences(text, &["The \"view\" is a wall."], &["positive"]);
        let tokens = sentences.iter().flat_map(|sentence| &sentence.tokens);
        tokens
            .filter(|token| token.kind == Kind::Quote)
            .map(|token| token.quoted().to_owned())
            .collect()
    }

    #[test]
    fn a_text_is_cut_into_sentences() {
        assert_eq!(
            cut("It is 54.1%, e.g. here. He said \"No. Never.\" Then\nit went on!\n- a list: 5\n- another"),
            [
                "It is 54.1%, e.g. here.",
                "He said \"No. Never.\"",
                "Then\nit went on!",
                "- a list: 5",
                "- another"
            ]
        );
        assert_eq!(cut(""), Vec::<&str>::new());
        assert_eq!(cut(&"word ".repeat(1000)).len(), 4);
    }

    #[test]
    fn quotations_are_set_apart() {
        assert_eq!(quoted("“great” and 'bad' don't \"end"), ["great", "bad", "end"]);
        assert_eq!(
            quoted("The class \"positive\" leads the reviewers' list"),
            Vec::<String>::new()
        );
        assert_eq!(quoted("One: \"The \"view\" is a wall.\""), ["The \"view\" is a wall."]);
    }
}
