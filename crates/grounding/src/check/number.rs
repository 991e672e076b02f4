//! The figures of a sentence, in digits and in words.

mod spelled;
mod unit;

use std::ops::Range;

use super::hedge::{Hedge, hedge};
use super::token::{Kind, Token};

use spelled::{fraction, parse, scale, spelled};
pub(super) use unit::is_class_noun;
use unit::{attach_unit, for_every};

/// One figure.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// Tokens of the sentence, the unit among them where it follows directly.
    pub(super) tokens: Range<usize>,
    pub(super) value: f64,
    /// Digits after the point.
    pub(super) decimals: usize,
    pub(super) form: Form,
    pub(super) unit: Spoken,
    pub(super) hedge: Hedge,
    /// Whether the next figure is the other end of a range that starts here.
    pub(super) starts_range: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Digits,
    /// "two hundred and twenty".
    Words,
    /// "half", "nine in ten"; the value is in percent.
    Fraction,
    /// "twice", "1.2 times".
    Times,
    /// The 100 of "for every 100".
    Base,
    /// "90th percentile".
    Percentile,
    /// The 95 of "95% interval".
    Level,
}

/// The unit that the text gives a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Bare,
    Percent,
    Points,
    Items,
    Words,
    /// "two classes".
    Classes,
    /// Something that the sheet does not count.
    Foreign,
}

/// What the sheet knows of a noun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    /// What the corpus is made of.
    Item,
    /// What it is also called.
    Counted,
    /// A class, or a word of a fact's name.
    Known,
    Unknown,
}

/// All figures of a sentence.
pub(super) fn figures(tokens: &[Token<'_>], nouns: &dyn Fn(&str) -> Noun) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Some(mut figure) = figure_at(tokens, at, nouns) else {
            at += 1;
            continue;
        };
        attach_unit(tokens, &mut figure, nouns);
        for_every(tokens, &mut figure);
        figure.hedge = hedge(tokens, &figure.tokens);
        at = figure.tokens.end.max(at + 1);
        figures.push(figure);
    }
    for index in 1..figures.len() {
        let between = &tokens[figures[index - 1].tokens.end..figures[index].tokens.start];
        let unit = figures[index].unit;
        if figures[index - 1].unit == Spoken::Bare
            && matches!(unit, Spoken::Percent | Spoken::Words)
            && matches!(between, [word] if word.among("to against and or versus - –"))
            && figures[index].form != Form::Level
        {
            figures[index - 1].unit = unit;
        }
        let (first, second) = (&figures[index - 1], &figures[index]);
        if is_range(tokens, first, second) {
            let unit = second.unit;
            let first = &mut figures[index - 1];
            first.starts_range = true;
            if first.unit == Spoken::Bare {
                first.unit = unit;
            }
        }
    }
    for index in 1..figures.len() {
        let between = &tokens[figures[index - 1].tokens.end..figures[index].tokens.start];
        let twice =
            matches!(between, [word] if word.is("(")) || matches!(between, [comma, or] if comma.is(",") && or.is("or"));
        let (one, other) = (figures[index - 1].unit, figures[index].unit);
        // "119 (54.1%)", "54.1% (119)": a count and its share.
        for (own, share) in [(index - 1, other), (index, one)] {
            let figure = &mut figures[own];
            if twice && share == Spoken::Percent && figure.unit == Spoken::Bare && figure.decimals == 0 {
                figure.unit = Spoken::Items;
            }
        }
        if is_elliptic(tokens, &figures[index - 1], &figures[index]) {
            figures[index].unit = Spoken::Words;
        }
    }
    figures
}

/// "142 words and spoiler ones 318": the second figure counts words too.
fn is_elliptic(tokens: &[Token<'_>], first: &Figure, second: &Figure) -> bool {
    let bare = second.unit == Spoken::Bare && second.decimals == 0 && second.form == Form::Digits;
    let between = &tokens[first.tokens.end..second.tokens.start];
    let ends = tokens
        .get(second.tokens.end)
        .is_none_or(|next| next.kind == Kind::Sign && !next.is("(") || next.among("and for on in against"));
    let apart = |token: &Token<'_>| token.among("; ( ) which who are were is of number reviews vocabulary corpus");
    first.unit == Spoken::Words && bare && ends && !between.iter().any(apart)
}

fn is_range(tokens: &[Token<'_>], first: &Figure, second: &Figure) -> bool {
    let between = &tokens[first.tokens.end..second.tokens.start];
    let [word] = between else { return false };
    let before = &tokens[first.tokens.start.saturating_sub(3)..first.tokens.start];
    let joined = word.among("to - – — through") || word.is("and") && before.iter().any(|token| token.is("between"));
    let given = before.iter().any(|token| token.among("from between"))
        || tokens[..first.tokens.start]
            .iter()
            .any(|token| token.among("interval intervals"));
    joined && (first.value < second.value || given) && (first.unit == Spoken::Bare || first.unit == second.unit)
}

fn figure_at(tokens: &[Token<'_>], at: usize, nouns: &dyn Fn(&str) -> Noun) -> Option<Figure> {
    let figure = |end: usize, value: f64, decimals: usize, form: Form| Figure {
        tokens: at..end,
        value,
        decimals,
        form,
        unit: if form == Form::Fraction {
            Spoken::Percent
        } else {
            Spoken::Bare
        },
        hedge: Hedge::None,
        starts_range: false,
    };
    if let Some((end, percent)) = fraction(tokens, at, nouns) {
        return Some(figure(end, percent, 0, Form::Fraction));
    }
    let token = tokens.get(at)?;
    let next = tokens.get(at + 1);
    // "Not twice in a lifetime" compares nothing.
    let compares = next.is_some_and(|next| next.among("as the that those what this its their more over longer"));
    let times = match token.lower.as_str() {
        "twice" | "thrice" if !compares => None,
        "twice" | "double" | "doubled" | "doubles" => Some(2.0),
        "thrice" | "triple" | "triples" | "threefold" => Some(3.0),
        _ => None,
    };
    if let Some(times) = times {
        return Some(figure(at + 1, times, 0, Form::Times));
    }
    let (mut end, mut value, decimals, form) = match token.kind {
        Kind::Number => {
            let (value, decimals) = parse(token.text)?;
            (at + 1, value, decimals, Form::Digits)
        }
        Kind::Word => {
            let (end, value, decimals) = spelled(tokens, at)?;
            (end, value, decimals, Form::Words)
        }
        Kind::Sign | Kind::Quote => return None,
    };
    let glued = |end: usize| {
        let next = tokens.get(end)?;
        (next.range.start == tokens[end - 1].range.end).then_some(next)
    };
    if let Some(suffix) = glued(end) {
        if suffix.among("st nd rd th") {
            let percentile = tokens
                .get(end + 1)
                .is_some_and(|next| next.lower.starts_with("percentile"));
            return percentile.then(|| figure(end + 2, value, decimals, Form::Percentile));
        }
        if suffix.is("k") {
            return Some(figure(end + 1, value * 1000.0, decimals, form));
        }
        if suffix.is("x") {
            return Some(figure(end + 1, value, decimals, Form::Times));
        }
    }
    if form == Form::Digits
        && let Some(scale) = tokens.get(end).and_then(|next| scale(&next.lower))
    {
        value *= scale;
        end += 1;
    }
    // "Six and a half times", "six and a half thousand".
    let is = |index: usize, words: &str| tokens.get(index).is_some_and(|token| token.among(words));
    let (mut value, mut decimals) = (value, decimals);
    if decimals == 0 && value < 100.0 && is(end, "and") && is(end + 1, "a") && is(end + 2, "half") {
        value += 0.5;
        decimals = 1;
        end += 3;
        if let Some(scale) = tokens.get(end).and_then(|next| scale(&next.lower)) {
            value *= scale;
            decimals = 0;
            end += 1;
        }
    }
    // "Nine times out of ten" counts nothing of the sheet.
    if is(end, "times") && is(end + 1, "out") && is(end + 2, "of") {
        return Some(figure((end + 4).min(tokens.len()), value, decimals, Form::Base));
    }
    if tokens.get(end).is_some_and(|next| next.is("times")) {
        return Some(figure(end + 1, value, decimals, Form::Times));
    }
    // "Outnumber them by 12 to 1".
    let to_one = is(end, "to :") && is(end + 1, "1 one") && !is(end + 2, "% percent per words point");
    if value > 1.0 && to_one {
        return Some(figure(end + 2, value, decimals, Form::Times));
    }
    let lone_one = form == Form::Words && end == at + 1 && token.is("one");
    let percent = tokens.get(end).is_some_and(|next| next.among("% percent per"));
    if lone_one && !percent {
        return None;
    }
    Some(figure(end, value, decimals, form))
}

#[cfg(test)]
mod tests {
    use super::super::token::sentences;
    use super::*;

    fn read(text: &str) -> Vec<(f64, Spoken, Form)> {
        let nouns = |word: &str| {
            if word.starts_with("review") {
                Noun::Item
            } else {
                Noun::Unknown
            }
        };
        let sentences = sentences(text, &[], &[]);
        let figures = sentences.iter().flat_map(|sentence| figures(&sentence.tokens, &nouns));
        figures.map(|figure| (figure.value, figure.unit, figure.form)).collect()
    }

    #[test]
    fn figures_are_read_in_digits_and_in_words() {
        for (text, value, unit) in [
            ("19,949 reviews", 19_949.0, Spoken::Items),
            ("54.1 per cent", 54.1, Spoken::Percent),
            ("a lead of 8.2 percentage points", 8.2, Spoken::Points),
            ("two hundred and twenty-one words", 221.0, Spoken::Words),
            ("nineteen thousand nine hundred and forty-nine", 19_949.0, Spoken::Bare),
            ("fifty-four point one percent", 54.1, Spoken::Percent),
            ("a dozen", 12.0, Spoken::Bare),
            ("20k", 20_000.0, Spoken::Bare),
            ("three-quarters", 75.0, Spoken::Percent),
            ("one review in twenty-five", 4.0, Spoken::Percent),
            ("9 out of 10", 90.0, Spoken::Percent),
            ("3/4", 75.0, Spoken::Percent),
            ("4 seasons", 4.0, Spoken::Foreign),
        ] {
            let found = read(text);
            let [(own, own_unit, _)] = found[..] else {
                panic!("{text}: {found:?}");
            };
            assert!((own - value).abs() < 1e-6 && own_unit == unit, "{text}: {found:?}");
        }
    }

    #[test]
    fn ordinals_and_a_lone_one_are_no_figures() {
        assert_eq!(
            read("one reviewer of the 20th century, a third voice, v1.2 and GPT4"),
            []
        );
        assert_eq!(read("the 90th percentile"), [(90.0, Spoken::Bare, Form::Percentile)]);
        assert_eq!(read("the 95% interval"), [(95.0, Spoken::Percent, Form::Level)]);
        assert_eq!(read("twice as long"), [(2.0, Spoken::Bare, Form::Times)]);
        assert_eq!(read("six and a half times as many"), [(6.5, Spoken::Bare, Form::Times)]);
    }
}
