//! The figures of a sentence, in digits and in words.

use std::ops::Range;

use super::hedge::{Hedge, hedge};
use super::token::{Kind, Token, is_one_of};

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
    let times = match token.lower.as_str() {
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
    if tokens.get(end).is_some_and(|next| next.is("times")) {
        return Some(figure(end + 1, value, decimals, Form::Times));
    }
    let lone_one = form == Form::Words && end == at + 1 && token.is("one");
    let percent = tokens.get(end).is_some_and(|next| next.among("% percent per"));
    if lone_one && !percent {
        return None;
    }
    Some(figure(end, value, decimals, form))
}

fn parse(text: &str) -> Option<(f64, usize)> {
    let plain: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let decimals = plain.find('.').map_or(0, |point| plain.len() - point - 1);
    let value: f64 = plain.parse().ok()?;
    value.is_finite().then_some((value, decimals))
}

fn scale(word: &str) -> Option<f64> {
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
fn simple(word: &str) -> Option<f64> {
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
fn spelled(tokens: &[Token<'_>], at: usize) -> Option<(usize, f64, usize)> {
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
fn fraction(tokens: &[Token<'_>], at: usize, nouns: &dyn Fn(&str) -> Noun) -> Option<(usize, f64)> {
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    let before = at.checked_sub(1).map_or("", word);
    match word(at) {
        "half" if !matches!(before, "first" | "second" | "latter" | "better" | "-") => return Some((at + 1, 50.0)),
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
    let article = token.is("a") || token.is("an");
    let part = if article { Some(1.0) } else { small(at) }?;
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
        ("in", "every") | ("out", "of") | ("of", "every") => 2,
        ("in", _) | ("/", _) => 1,
        _ => return None,
    };
    let (end, whole) = match tokens.get(at + 1 + joint)?.kind {
        Kind::Word => spelled(tokens, at + 1 + joint).map(|(end, value, _)| (end, value))?,
        _ => (at + 2 + joint, small(at + 1 + joint)?),
    };
    let customary = noun > 0 || whole <= 12.0 || whole == 20.0 || whole == 25.0 || whole == 100.0;
    let unit_follows = matches!(word(end), "%" | "percent" | "per");
    (part < whole && part >= 1.0 && customary && !unit_follows).then(|| (end, part / whole * 100.0))
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

/// Between a figure and its noun stand adjectives, and none of these.
const STOPPERS: &str = "of are is were was and to in on with or for against than at by from that which versus as the \
    a an but while whereas run per under";

fn attach_unit(tokens: &[Token<'_>], figure: &mut Figure, nouns: &dyn Fn(&str) -> Noun) {
    let end = figure.tokens.end;
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    let hyphen = usize::from(word(end) == "-");
    let points = |at: usize| match (word(at), word(at + 1), word(at + 2)) {
        ("percentage", "-", "points" | "point") | ("%", "-", "points" | "point") => Some(3),
        ("percentage", "points" | "point", _) | ("%", "points" | "point", _) => Some(2),
        ("points" | "point" | "pp", _, _) => Some(1),
        _ => None,
    };
    let percent = |at: usize| match (word(at), word(at + 1), word(at + 2)) {
        ("per", "-", "cent") => Some(3),
        ("per", "cent", _) => Some(2),
        ("%" | "percent" | "pct", _, _) => Some(1),
        _ => None,
    };
    if let Some(length) = points(end + hyphen) {
        figure.unit = Spoken::Points;
        figure.tokens.end = end + hyphen + length;
    } else if let Some(length) = percent(end + hyphen) {
        figure.unit = Spoken::Percent;
        figure.tokens.end = end + hyphen + length;
        let after = figure.tokens.end;
        // "95% interval", "95% confidence interval", "95% Wilson interval", "with 95% confidence".
        let interval = (after..after + 3).find(|at| word(*at).starts_with("interval"));
        let bands = interval.is_some_and(|interval| {
            (after..interval).all(|at| matches!(word(at), "confidence" | "credible" | "wilson" | "score" | "-"))
        });
        if bands || matches!(word(after), "confidence" | "certainty" | "level" | "credible") {
            figure.form = Form::Level;
        }
    } else if matches!(figure.form, Form::Digits | Form::Words) {
        for at in (end + hyphen)..(end + hyphen + 4) {
            let Some(token) = tokens.get(at) else { break };
            if token.kind != Kind::Word && !token.is("-") || is_one_of(&token.lower, STOPPERS) {
                break;
            }
            let noun = token.lower.as_str();
            if matches!(noun, "words" | "word") {
                figure.unit = Spoken::Words;
            } else if nouns(noun) == Noun::Item {
                figure.unit = Spoken::Items;
            } else if matches!(noun, "classes" | "categories" | "labels" | "sides" | "camps" | "groups") {
                figure.unit = Spoken::Classes;
            } else {
                continue;
            }
            return;
        }
        if hyphen == 0 && tokens.get(end).is_some_and(|next| is_foreign(next, nouns)) {
            figure.unit = Spoken::Foreign;
        }
    }
}

/// A plural that the sheet does not know: "4 seasons".
fn is_foreign(noun: &Token<'_>, nouns: &dyn Fn(&str) -> Noun) -> bool {
    const NOT_NOUNS: &str = "is was has does runs leads stands makes remains belongs goes versus as plus less thus \
        its his perhaps contains needs covers sits lies rests falls reads shows ones others points always across this \
        us vs counts amounts means leaves cases";
    noun.kind == Kind::Word
        && noun.lower.len() > 3
        && noun.lower.ends_with('s')
        && !noun.lower.ends_with("ss")
        && !noun.among(NOT_NOUNS)
        && nouns(&noun.lower) == Noun::Unknown
}

/// "Twelve of these for every one of those", "for every 100 of these there are 118 of those".
fn for_every(tokens: &[Token<'_>], figure: &mut Figure) {
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    let every = |at: usize| word(at) == "for" && matches!(word(at + 1), "every" | "each");
    let after = (figure.tokens.end..figure.tokens.end + 5).find(|at| every(*at));
    let before = (figure.tokens.start.saturating_sub(10)..figure.tokens.start).find(|at| every(*at));
    let counted =
        matches!(figure.form, Form::Digits | Form::Words) && matches!(figure.unit, Spoken::Items | Spoken::Bare);
    let Some(at) = after.or(before).filter(|_| counted) else {
        return;
    };
    let base = tokens.get(at + 2).and_then(|token| match token.kind {
        Kind::Number => parse(token.text).map(|(value, _)| value),
        Kind::Word => simple(&token.lower),
        Kind::Sign | Kind::Quote => None,
    });
    let base = base.filter(|base| *base > 0.0).unwrap_or(1.0);
    if figure.tokens.start == at + 2 {
        // The base itself.
        figure.form = Form::Base;
        return;
    }
    figure.decimals = if base >= 100.0 { 2 } else { usize::from(base >= 10.0) };
    figure.value = (figure.value / base).max(base / figure.value.max(f64::MIN_POSITIVE));
    figure.form = Form::Times;
    figure.unit = Spoken::Bare;
}
