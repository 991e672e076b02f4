//! "One in ten is longer than 447 words", "half of them run to 174 words or fewer": a percentile by another name.

use crate::sheet::Unit;

use super::Verdict;
use super::clause::Reading;
use super::hedge::Hedge;
use super::knowledge::{About, Knowledge, Known, Named, Stat, Topic};
use super::number::{Figure, Form, Spoken};
use super::token::{Token, is_one_of};

/// Tokens between the share and the length.
const APART_TOKENS_MAX: usize = 14;

/// A percentile that a share names.
pub(super) struct Tail<'k> {
    fact: &'k Known,
    pub(super) stat: Stat,
    longer: bool,
}

/// What percentile the figure names, if it does.
pub(super) fn named<'k>(reading: &Reading<'_>, index: usize, knowledge: &'k Knowledge<'_>) -> Option<Tail<'k>> {
    let (figure, after) = (reading.figures.get(index)?, reading.figures.get(index + 1)?);
    let is_length =
        matches!(after.unit, Spoken::Words | Spoken::Bare) && after.decimals == 0 && after.form != Form::Fraction;
    let near = after.tokens.start.saturating_sub(figure.tokens.end) <= APART_TOKENS_MAX;
    if figure.unit != Spoken::Percent || !matches!(figure.hedge, Hedge::None | Hedge::About) || !is_length || !near {
        return None;
    }
    let stat = if is(figure, 50.0) {
        Stat::Median
    } else {
        let mut names = knowledge.names.iter().filter(|(_, named)| *named == Named::Percentile);
        names.find(|(value, _)| is(figure, *value) || is(figure, 100.0 - *value))?;
        Stat::Percentile
    };
    // "Or fewer" may follow the length.
    let end = (after.tokens.end + 3).min(reading.tokens.len());
    Some(Tail {
        fact: knowledge.given(Topic::Length, stat, About::Whole, Unit::Words)?,
        stat,
        longer: direction(reading.tokens, figure.tokens.end, end)?,
    })
}

fn is(figure: &Figure, value: f64) -> bool {
    (figure.value - value).abs() < 1e-9
}

fn direction(tokens: &[Token<'_>], start: usize, end: usize) -> Option<bool> {
    const LONGER: &str = "longer exceed exceeds exceeding beyond over above more least surpass surpasses top";
    const SHORTER: &str = "shorter most under below fewer less within up stay stays";
    (start..end).find_map(|at| {
        let negated = at > 0 && tokens[at - 1].among("no not");
        let word = tokens[at].lower.as_str();
        let longer = is_one_of(word, LONGER);
        (longer || is_one_of(word, SHORTER)).then_some(longer != negated)
    })
}

/// Whether the share is on the right side of the percentile.
pub(super) fn judge(figure: &Figure, tail: &Tail<'_>) -> Verdict {
    let fact = tail.fact.title.clone();
    if tail.stat == Stat::Median || tail.longer == (figure.value < 50.0) {
        return Verdict::Supported { fact };
    }
    let side = if tail.longer { "longer" } else { "shorter" };
    Verdict::Unsupported {
        reason: format!(
            "the sheet says {} for the {fact}: it is not {:.0}% that are {side}",
            tail.fact.shown(),
            figure.value
        ),
        fact: Some(fact),
    }
}
