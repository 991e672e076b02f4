//! The verdict on a figure.

mod complaint;
mod cues;
mod named;
mod operands;

use crate::sheet::Unit;

use super::Verdict;
use super::clause::{Context, Hold, Reading};
use super::hedge::{self, Hedge};
use super::knowledge::{About, Knowledge, Known, Origin, Stat, Topic};
use super::labels::Measured;
use super::number::{Figure, Form, Spoken};
use super::tail;

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
            Spoken::Classes => !small && figure.form != Form::Digits,
            Spoken::Foreign => small,
            Spoken::Percent | Spoken::Points => false,
        }
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
            fraction: figure.form == Form::Fraction,
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
        known.topic != Topic::Classes && !(self.measure_allows(known) && self.class_allows(known))
    }

    fn class_allows(&self, known: &Known) -> bool {
        let context = self.context;
        let has = |about: About| context.classes.iter().any(|own| self.same(*own, about));
        match known.about {
            About::Whole => {
                if context.whole || context.hold == Hold::Free || context.whole_near {
                    return true;
                }
                let strict = context.classes.iter().any(|about| self.sibling(known, *about));
                !strict
            }
            About::Class(_) | About::Others(_) => {
                if context.whole && self.knowledge.known.iter().any(|other| other.topic == Topic::Total) {
                    return false;
                }
                match context.hold {
                    Hold::Free => !self.sibling(known, About::Whole) || self.figure().unit == Spoken::Percent,
                    Hold::Weak | Hold::Strict => has(known.about),
                }
            }
            About::Pair(a, b) => {
                let named = |class: usize| {
                    has(About::Class(class)) || self.reading.classes.iter().any(|l| l.what == About::Class(class))
                };
                match self.knowledge.classes.len() {
                    2 => true,
                    _ => named(a) && named(b) || context.classes.is_empty(),
                }
            }
            About::Quotation(index) => {
                let quotes = self
                    .reading
                    .tokens
                    .iter()
                    .any(|token| token.kind == super::token::Kind::Quote);
                if !quotes
                    && !self
                        .reading
                        .has_word("quotation quotations quoted example examples excerpt")
                {
                    return false;
                }
                let subject = self
                    .knowledge
                    .sheet
                    .quotations
                    .get(index)
                    .and_then(|quotation| quotation.subject.as_deref());
                match subject.and_then(|subject| self.knowledge.class(subject)) {
                    Some(class) => context.hold == Hold::Free || has(About::Class(class)),
                    None => true,
                }
            }
        }
    }

    fn same(&self, own: About, about: About) -> bool {
        match (own, about) {
            (About::Others(class), About::Class(other)) => class != other,
            (own, about) => own == about,
        }
    }

    /// Whether the sheet has the same figure about another subject.
    fn sibling(&self, known: &Known, about: About) -> bool {
        let topic = match (known.topic, about) {
            (Topic::Total, _) => Topic::Frequency,
            (Topic::Frequency, About::Whole) if known.unit == Unit::Items => Topic::Total,
            (topic, _) => topic,
        };
        self.knowledge.known.iter().any(|other| {
            let topic_matches = match (topic, other.topic) {
                (Topic::Other(a), Topic::Other(b)) => self.fact_name(a) == self.fact_name(b),
                (a, b) => a == b,
            };
            topic_matches && other.stat == known.stat && other.unit == known.unit && self.same(about, other.about)
        })
    }

    fn fact_name(&self, index: usize) -> Option<&str> {
        self.knowledge.sheet.facts.get(index).map(|fact| fact.name.as_str())
    }

    fn measure_allows(&self, known: &Known) -> bool {
        let context = self.context;
        let difference = matches!(
            known.kind,
            Origin::Difference | Origin::Ratio | Origin::Width | Origin::Gap
        );
        if let Some(measured) = &context.measured {
            let lead = measured.topics.contains(&Topic::Lead);
            let own = measured.topics.iter().any(|topic| match (topic, known.topic) {
                (Topic::Other(a), Topic::Other(b)) => self.fact_name(*a) == self.fact_name(b),
                (a, b) => *a == b,
            });
            if !(own || lead && difference || known.topic == Topic::Lead && known.unit == Unit::PercentagePoints) {
                return false;
            }
            if own
                && known.topic == Topic::Confident
                && known.unit != Unit::None
                && (measured.negated && known.kind != Origin::Complement
                    || known.kind == Origin::Complement && !measured.negated && !self.is_remainder())
            {
                return false;
            }
        }
        let stats = &context.stats;
        let counted = known.unit == Unit::Items && self.figure().unit == Spoken::Items;
        let derived = matches!(known.kind, Origin::Difference | Origin::Ratio);
        let start = self.figure().tokens.start;
        let by = start > 0 && self.reading.tokens[start - 1].is("by");
        let derived = derived && (by || self.comparative_follows(2));
        let own = known.stat != Stat::None || !(counted || derived);
        if !stats.is_empty() && own && !stats.contains(&known.stat) {
            return false;
        }
        // A class' share between two figures is its interval, the lower end first.
        if self.in_range() {
            let first = self.figure().starts_range;
            let percent = self.figure().unit == Spoken::Percent && context.hold == Hold::Strict;
            let turned = known.kind == if first { Origin::High } else { Origin::Low };
            let share = matches!(known.topic, Topic::Frequency | Topic::Confident | Topic::Uncertain);
            if turned || percent && share && known.unit == Unit::Percent {
                return false;
            }
        }
        self.cued(known)
    }
}

/// The figure in the unit of the fact with its decimals, if the text's unit lets it be.
fn in_unit(figure: &Figure, known: &Known) -> Option<(f64, usize)> {
    let own = (figure.value, figure.decimals);
    let times = figure.form == Form::Times;
    let is = match known.unit {
        _ if times => known.kind == Origin::Ratio && known.unit == Unit::None,
        _ if known.kind == Origin::Ratio && known.unit == Unit::None => false,
        _ if figure.unit == Spoken::Foreign => matches!(known.topic, Topic::Other(_)) && known.unit != Unit::Words,
        Unit::Percent => figure.unit == Spoken::Percent,
        Unit::PercentagePoints => {
            figure.unit == Spoken::Points
                || figure.form != Form::Fraction && matches!(figure.unit, Spoken::Percent | Spoken::Bare)
        }
        Unit::Items => matches!(figure.unit, Spoken::Items | Spoken::Bare),
        Unit::Words => matches!(figure.unit, Spoken::Words | Spoken::Bare),
        Unit::None if known.topic == Topic::Classes => figure.unit == Spoken::Classes,
        // A score of 0.93 is also "93%".
        Unit::None if figure.unit == Spoken::Percent && known.topic == Topic::Confidence => {
            return (figure.form != Form::Fraction).then_some((figure.value / 100.0, figure.decimals + 2));
        }
        // No score is as much as two.
        Unit::None if matches!(known.topic, Topic::Confidence | Topic::Ratio) && figure.value >= 2.0 => false,
        Unit::None => figure.unit == Spoken::Bare,
    };
    is.then_some(own)
}

/// "Twice as many" for 1.95 to 2.05; "1.2 times" as it rounds.
fn ratio_fits(figure: &Figure, known: &Known) -> bool {
    let spoken = hedge::Spoken {
        value: figure.value,
        decimals: figure.decimals,
        hedge: figure.hedge,
        fraction: false,
    };
    if figure.decimals > 0 {
        return spoken.fits(known.value, known.decimals);
    }
    let relative = known.value / figure.value.max(f64::MIN_POSITIVE) - 1.0;
    match figure.hedge {
        Hedge::None => relative.abs() <= 0.03,
        Hedge::About => relative.abs() <= 0.12,
        Hedge::Nearly => (-0.12..0.0).contains(&relative),
        Hedge::JustOver => relative > 0.0 && relative <= 0.12,
        Hedge::Over | Hedge::AtLeast => relative > 0.0 && relative < 1.0,
        Hedge::Under | Hedge::AtMost => relative < 0.0 && relative > -0.5,
    }
}
