//! The verdict on a figure.

mod allows;
mod complaint;
mod cues;
mod named;
mod operands;
mod unit;

use crate::sheet::Unit;

use super::Verdict;
use super::clause::{Context, Reading};
use super::hedge::{self, Hedge};
use super::knowledge::{Knowledge, Known, Origin, Stat, Topic};
use super::labels::Measured;
use super::number::{Figure, Form, Spoken};
use super::tail;
use unit::{in_unit, ratio_fits};

/// One figure in its sentence.
pub(super) struct Asked<'r, 't> {
    pub(super) reading: &'r Reading<'t>,
    pub(super) index: usize,
    pub(super) context: &'r Context,
    pub(super) knowledge: &'r Knowledge<'r>,
}

/// `None`: not a claim.
pub(super) fn judge(asked: &Asked<'_, '_>) -> Option<Verdict> {
    let figure = asked.figure();
    if figure.form == Form::Base || asked.is_small_talk() {
        return None;
    }
    if let Some(named) = asked.name() {
        return Some(named);
    }
    if let Some(tail) = tail::named(asked.reading, asked.index, asked.knowledge) {
        return Some(tail::judge(figure, &tail));
    }
    if let Some(mark) = asked.half_mark() {
        return Some(mark);
    }
    let fitting: Vec<&Known> = asked
        .knowledge
        .known
        .iter()
        .filter(|known| asked.fits(figure, known))
        .collect();
    let (wrong, right): (Vec<&Known>, Vec<&Known>) = fitting.into_iter().partition(|known| asked.contradicts(known));
    // What the sheet says outright goes before what follows from it.
    let first = |known: &[&Known]| {
        known
            .iter()
            .position(|known| known.kind == Origin::Given)
            .unwrap_or_default()
    };
    Some(match right.get(first(&right)) {
        Some(known) => Verdict::Supported {
            fact: known.title.clone(),
        },
        None => asked
            .of_operands()
            .unwrap_or_else(|| asked.complain(wrong.get(first(&wrong)).copied())),
    })
}

impl Asked<'_, '_> {
    fn figure(&self) -> &Figure {
        &self.reading.figures[self.index]
    }

    fn text(&self, at: usize) -> &str {
        self.reading.tokens.get(at).map_or("", |token| token.lower.as_str())
    }

    /// "Two reviewers write", "on two counts": small number words that count nothing that the sheet counts.
    fn is_small_talk(&self) -> bool {
        let figure = self.figure();
        let small = figure.form == Form::Words && figure.value <= 12.0;
        match figure.unit {
            Spoken::Bare => small,
            Spoken::Items | Spoken::Words => {
                let quotes = self
                    .reading
                    .tokens
                    .iter()
                    .any(|token| token.kind == super::token::Kind::Quote);
                small && (quotes || figure.unit == Spoken::Words && self.reading.topics.is_empty())
            }
            // "The other two classes", "the two smaller classes".
            Spoken::Classes if !super::number::is_class_noun(self.text(figure.tokens.end)) => true,
            Spoken::Classes if figure.tokens.start > 0 && self.text(figure.tokens.start - 1) == "other" => true,
            Spoken::Classes => !small && figure.form != Form::Digits,
            Spoken::Foreign => small && !self.narrates(),
            Spoken::Percent | Spoken::Points => false,
        }
    }

    /// "The series ran for seven seasons": said of what happened, not of how things go.
    fn narrates(&self) -> bool {
        const PAST: &str = "was were had ran took came went lasted won cost made wrote gave got";
        let figure = self.figure();
        let before = &self.reading.tokens[..figure.tokens.start];
        let past = |token: &super::token::Token<'_>| {
            token.among(PAST) || token.kind == super::token::Kind::Word && token.lower.ends_with("ed")
        };
        let classes = self.knowledge.classes.len();
        let one_each = u32::try_from(classes).is_ok_and(|classes| (f64::from(classes) - figure.value).abs() < 1e-9);
        let imagined = self
            .reading
            .has_word("can could may might would will should must if who whoever anyone");
        figure.value >= 3.0 && !one_each && !imagined && before.iter().any(past)
    }

    fn fits(&self, figure: &Figure, known: &Known) -> bool {
        let lead = |measured: &Measured| measured.topics.contains(&Topic::Lead);
        let led = || {
            let start = figure.tokens.start;
            let before = &self.reading.tokens[start.saturating_sub(5)..start];
            before
                .iter()
                .any(|token| token.among("lead leads margin gap difference by ahead advantage minus ±"))
        };
        let of_lead = self.context.measured.as_ref().is_some_and(lead);
        if known.unit == Unit::PercentagePoints && figure.unit != Spoken::Points && !of_lead && !led() {
            return false;
        }
        let Some(value) = in_unit(figure, known) else {
            return false;
        };
        let spoken = |hedge: Hedge| hedge::Spoken {
            value: value.0,
            decimals: value.1,
            hedge,
            ..hedge::Spoken::of(figure)
        };
        // "One in ten runs over 447 words" says what the percentile is.
        let bound = matches!(known.stat, Stat::Median | Stat::Percentile);
        if known.kind == Origin::Ratio && known.unit == Unit::None {
            return ratio_fits(figure, known);
        }
        spoken(figure.hedge).fits(known.value, known.decimals)
            || bound && figure.form != Form::Fraction && spoken(Hedge::None).fits(known.value, known.decimals)
    }

    fn contradicts(&self, known: &Known) -> bool {
        // "Of the three classes" is about nothing else.
        // As are "220 films".
        let films = known.topic == Topic::Total && self.figure().unit == Spoken::Foreign;
        known.topic != Topic::Classes && !films && !(self.measure_allows(known) && self.class_allows(known))
    }

    /// Whether a figure is so exact that hardly anything else can be meant.
    pub(super) fn is_telling(&self, known: &Known) -> bool {
        const DIGITS_MIN: usize = 3;
        let figure = self.figure();
        let digits = crate::sheet::figure(figure.value, figure.decimals);
        let digits = digits.chars().filter(char::is_ascii_digit).count();
        let exact = hedge::round(known.value, known.decimals) - figure.value;
        digits >= DIGITS_MIN && figure.form != Form::Fraction && exact.abs() < 1e-9
    }
}
