//! Figures in digits, number words and fractions.

use crate::check::token::{Kind, Token};

use super::Noun;

pub(super) fn parse(text: &str) -> Option<(f64, usize)> {
    let plain: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let decimals = plain.find('.').map_or(0, |point| plain.len() - point - 1);
    let value: f64 = plain.parse().ok()?;
    value.is_finite().then_some((value, decimals))
}

pub(super) fn scale(word: &str) -> Option<f64> {
    match word {
        "hundred" => Some(100.0),
        "thousand" => Some(1000.0),
        "million" => Some(1_000_000.0),
        _ => None,
    }
}

const UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// A number word below a hundred.
pub(super) fn simple(word: &str) -> Option<f64> {
    let mut units = (0_u32..).zip(UNITS);
    let mut tens = (2_u32..).zip(TENS);
    units
        .find(|(_, unit)| *unit == word)
        .map(|(value, _)| f64::from(value))
        .or_else(|| {
            tens.find(|(_, ten)| *ten == word)
                .map(|(value, _)| f64::from(value * 10))
        })
}

/// "two hundred and twenty", "fifty-four point one", "a dozen".
pub(super) fn spelled(tokens: &[Token<'_>], at: usize) -> Option<(usize, f64, usize)> {
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    if word(at) == "a" {
        return match word(at + 1) {
            "dozen" => Some((at + 2, 12.0, 0)),
            "hundred" | "thousand" | "million" => compound(tokens, at + 1, 1.0),
            _ => None,
        };
    }
    simple(word(at))?;
    compound(tokens, at, 0.0)
}

fn compound(tokens: &[Token<'_>], at: usize, start: f64) -> Option<(usize, f64, usize)> {
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    let (mut total, mut current, mut end) = (0.0, start, at);
    let mut last_simple: Option<f64> = None;
    loop {
        // "and" and a hyphen join only what goes on as a number: "ninety-nine", "hundred and one", not "one and two".
        let joint = match word(end) {
            "-" if last_simple.is_some() => 1,
            "and" if current >= 100.0 || (total > 0.0 && current == 0.0) => 1,
            _ => 0,
        };
        let next = word(end + joint);
        if let Some(value) = simple(next) {
            let joins = match last_simple {
                None => true,
                Some(last) => (20.0..100.0).contains(&last) && value < 10.0,
            };
            if !joins {
                break;
            }
            current += value;
            last_simple = Some(value);
        } else if let (Some(scale), 0) = (scale(next), joint) {
            if scale < 1000.0 {
                current *= scale;
            } else {
                total += current * scale;
                current = 0.0;
            }
            last_simple = None;
        } else {
            break;
        }
        end += joint + 1;
    }
    let mut value = total + current;
    let mut decimals = 0;
    if word(end) == "point" && simple(word(end + 1)).is_some_and(|digit| digit < 10.0) {
        end += 1;
        let mut place = 0.1;
        while let Some(digit) = simple(word(end)).filter(|digit| *digit < 10.0) {
            value += digit * place;
            place /= 10.0;
            decimals += 1;
            end += 1;
        }
    }
    Some((end, value, decimals))
}

/// A part of a whole in words, in percent: "half", "two thirds", "nine in ten", "3/4".
pub(super) fn fraction(tokens: &[Token<'_>], at: usize, nouns: &dyn Fn(&str) -> Noun) -> Option<(usize, f64)> {
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    let before = at.checked_sub(1).map_or("", word);
    match word(at) {
        "half"
            if !matches!(
                before,
                "first" | "second" | "latter" | "better" | "which" | "either" | "each" | "-"
            ) =>
        {
            return Some((at + 1, 50.0));
        }
        "½" => return Some((at + 1, 50.0)),
        "¼" => return Some((at + 1, 25.0)),
        "¾" => return Some((at + 1, 75.0)),
        "⅓" => return Some((at + 1, 100.0 / 3.0)),
        "⅔" => return Some((at + 1, 200.0 / 3.0)),
        _ => {}
    }
    let token = tokens.get(at)?;
    let small = |index: usize| {
        let token = tokens.get(index)?;
        match token.kind {
            Kind::Number => parse(token.text).filter(|(value, decimals)| *decimals == 0 && *value <= 100.0),
            Kind::Word => simple(&token.lower).map(|value| (value, 0)),
            Kind::Sign | Kind::Quote => None,
        }
        .map(|(value, _)| value)
    };
    if let Some(percent) = of_a_hundred(tokens, at, nouns) {
        return Some(percent);
    }
    let article = token.is("a") || token.is("an");
    let part = if article { Some(1.0) } else { small(at) }?;
    // "A mere fifth".
    let at = at + usize::from(article && matches!(word(at + 1), "mere" | "full" | "bare"));
    // "a third of", "two-thirds", "one quarter"; "a third reviewer" is none.
    let hyphen = usize::from(word(at + 1) == "-");
    if let Some(whole) = denominator(word(at + 1 + hyphen)) {
        let end = at + 2 + hyphen;
        let noun_follows = tokens.get(end).is_some_and(|next| next.kind == Kind::Word)
            && !matches!(
                word(end),
                "of" | "are" | "is" | "were" | "was" | "the" | "as" | "more" | "in" | "go" | "have"
            );
        return (part < whole && !(article && noun_follows)).then(|| (end, part / whole * 100.0));
    }
    if article {
        return None;
    }
    // "One review in ten".
    let noun = usize::from(nouns(word(at + 1)) == Noun::Item);
    let at = at + noun;
    let joint = match (word(at + 1), word(at + 2)) {
        ("out", "of") if matches!(word(at + 3), "every" | "each") => 3,
        ("in", "every") | ("out", "of") | ("of", "every") => 2,
        ("in", _) | ("/", _) => 1,
        _ => return None,
    };
    let (end, whole) = match tokens.get(at + 1 + joint)?.kind {
        Kind::Word => spelled(tokens, at + 1 + joint).map(|(end, value, _)| (end, value))?,
        _ => (at + 2 + joint, small(at + 1 + joint)?),
    };
    let customary = noun > 0 || whole <= 12.0 || whole % 10.0 == 0.0 || whole == 25.0;
    let unit_follows = matches!(word(end), "%" | "percent" | "per");
    (part < whole && part >= 1.0 && customary && !unit_follows).then(|| (end, part / whole * 100.0))
}

/// "Four reviews in every hundred", "fifty-two out of 100".
fn of_a_hundred(tokens: &[Token<'_>], at: usize, nouns: &dyn Fn(&str) -> Noun) -> Option<(usize, f64)> {
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    let token = tokens.get(at)?;
    let (mut end, part) = match token.kind {
        Kind::Number => parse(token.text).map(|(value, _)| (at + 1, value))?,
        Kind::Word => spelled(tokens, at).map(|(end, value, _)| (end, value))?,
        Kind::Sign | Kind::Quote => return None,
    };
    end += usize::from(nouns(word(end)) == Noun::Item);
    end += match (word(end), word(end + 1)) {
        ("out", "of") => 2,
        ("in" | "of", _) => 1,
        _ => return None,
    };
    let every = matches!(word(end), "every" | "each" | "a" | "one");
    end += usize::from(every);
    let hundred = every && word(end) == "hundred" || word(end) == "100";
    let ends = !matches!(word(end + 1), "and" | "%" | "percent" | "per" | "thousand") && part < 100.0;
    (hundred && ends).then_some((end + 1, part))
}

fn denominator(word: &str) -> Option<f64> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    const ORDINALS: [(&str, f64); 9] = [
        ("hal", 2.0),
        ("third", 3.0),
        ("quarter", 4.0),
        ("fourth", 4.0),
        ("fifth", 5.0),
        ("sixth", 6.0),
        ("eighth", 8.0),
        ("tenth", 10.0),
        ("half", 2.0),
    ];
    ORDINALS
        .iter()
        .find(|(name, _)| *name == singular)
        .map(|(_, whole)| *whole)
}
