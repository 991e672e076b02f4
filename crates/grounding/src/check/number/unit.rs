//! The unit that follows a figure.

use crate::check::token::{Kind, Token, is_one_of};

use super::spelled::{parse, simple};
use super::{Figure, Form, Noun, Spoken};

/// Between a figure and its noun stand adjectives, and none of these.
const STOPPERS: &str = "of are is were was and to in on with or for against than at by from that which versus as the \
    a an but while whereas run per under";

pub(in crate::check) fn is_class_noun(word: &str) -> bool {
    is_one_of(word, "classes categories labels sides camps groups")
}

/// "Two cases" can be anything.
const SMALL_TALK_MAX: f64 = 12.0;

pub(super) fn attach_unit(tokens: &[Token<'_>], figure: &mut Figure, nouns: &dyn Fn(&str) -> Noun) {
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
            } else if nouns(noun) == Noun::Item || nouns(noun) == Noun::Counted && figure.value > SMALL_TALK_MAX {
                figure.unit = Spoken::Items;
            } else if is_class_noun(noun) {
                figure.unit = Spoken::Classes;
            } else {
                continue;
            }
            return;
        }
        // "0.94 hides a difference": a verb.
        let object = matches!(word(end + 1), "a" | "an" | "the");
        if hyphen == 0 && !object && tokens.get(end).is_some_and(|next| is_foreign(next, nouns)) {
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
pub(super) fn for_every(tokens: &[Token<'_>], figure: &mut Figure) {
    let word = |index: usize| tokens.get(index).map_or("", |token| token.lower.as_str());
    let every = |at: usize| matches!(word(at), "for" | "to" | "against") && matches!(word(at + 1), "every" | "each");
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
