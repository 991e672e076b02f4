//! The verdict on a figure.

use crate::sheet::Unit;

use super::Verdict;
use super::clause::{Context, Hold, Reading};
use super::hedge::{self, Hedge};
use super::knowledge::{About, Knowledge, Known, Named, Origin, Stat, Topic};
use super::labels::Measured;
use super::number::{Figure, Form, Spoken};
use super::tail;
use super::token::is_one_of;

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
    let mut wrong: Option<(&Known, Wrong)> = None;
    let mut right: Option<&Known> = None;
    for known in fitting {
        match asked.contradicts(known) {
            None => {
                let better = right.is_none_or(|best| best.kind != Origin::Given && known.kind == Origin::Given);
                if better {
                    right = Some(known);
                }
            }
            Some(why) => {
                if wrong.is_none_or(|(best, _)| best.kind != Origin::Given && known.kind == Origin::Given) {
                    wrong = Some((known, why));
                }
            }
        }
    }
    if let Some(known) = right {
        return Some(Verdict::Supported {
            fact: known.title.clone(),
        });
    }
    Some(asked.complain(wrong.map(|(known, _)| known)))
}

/// Why a figure that has the value of a fact is not about that fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Class,
    Measure,
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

    /// The 95 of "95% interval" and the 90 of "90th percentile".
    fn name(&self) -> Option<Verdict> {
        let figure = self.figure();
        let named = match figure.form {
            Form::Level => Named::Level,
            Form::Percentile => Named::Percentile,
            _ => return None,
        };
        let known: Vec<_> = self.knowledge.names.iter().filter(|(_, kind)| *kind == named).collect();
        if known.iter().any(|(value, _)| (*value - figure.value).abs() < 1e-9) {
            let what = if named == Named::Level {
                "level of the interval"
            } else {
                "percentile"
            };
            return Some(Verdict::Supported { fact: what.to_owned() });
        }
        let reason = match (named, known.first()) {
            (Named::Level, Some((value, _))) => {
                format!("the sheet's intervals are {value}% intervals, not {}", self.quote())
            }
            (Named::Percentile, Some((value, _))) => {
                format!("the sheet has the {value}th percentile, not the {}", self.quote())
            }
            (_, None) => format!("the sheet has nothing on \"{}\"", self.quote()),
        };
        Some(Verdict::Unsupported { fact: None, reason })
    }

    /// Whether an interval leaves one half open: "the interval includes 50%".
    fn half_mark(&self) -> Option<Verdict> {
        let figure = self.figure();
        let interval = self
            .reading
            .topics
            .iter()
            .any(|label| label.what.topics.contains(&Topic::Interval));
        if !interval || (figure.value - 50.0).abs() > 1e-9 || figure.unit != Spoken::Percent {
            return None;
        }
        let class = self.context.classes.iter().find_map(|about| match about {
            About::Class(class) => Some(*class),
            _ => None,
        });
        let class = class.or(self.knowledge.leader)?;
        let end = |kind: Origin| {
            let of = |known: &&Known| {
                known.kind == kind && known.topic == Topic::Interval && known.about == About::Class(class)
            };
            self.knowledge.known.iter().find(of)
        };
        let (low, high) = (end(Origin::Low)?, end(Origin::High)?);
        let negated = self.reading.has_word("not never doesn't without");
        let (claimed, says) = if self.reading.has_word(
            "include includes including contain contains containing cross \
            crosses straddle straddles span spans cover covers reach reaches sides",
        ) {
            (low.value <= 50.0 && high.value >= 50.0, "include")
        } else if self.reading.has_word("exclude excludes excluding") {
            (low.value > 50.0 || high.value < 50.0, "exclude")
        } else if self.reading.has_word("above over exceeds exceed") {
            (low.value > 50.0, "lie above")
        } else if self.reading.has_word("below under") {
            (
                if self.reading.has_word("entirely wholly whole lies stays") {
                    high.value < 50.0
                } else {
                    low.value < 50.0
                },
                "lie below",
            )
        } else {
            return None;
        };
        Some(if claimed == negated {
            Verdict::Unsupported {
                fact: Some(low.title.clone()),
                reason: format!(
                    "the sheet's {} is {} to {}: \"{says} 50%\" is said wrongly",
                    low.title,
                    low.shown(),
                    high.shown()
                ),
            }
        } else {
            Verdict::Supported {
                fact: low.title.clone(),
            }
        })
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

    fn contradicts(&self, known: &Known) -> Option<Wrong> {
        if !self.measure_allows(known) {
            return Some(Wrong::Measure);
        }
        if !self.class_allows(known) {
            return Some(Wrong::Class);
        }
        None
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
        let difference = matches!(known.kind, Origin::Difference | Origin::Ratio | Origin::Width);
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

    /// "The other 20% fall short of that".
    fn is_remainder(&self) -> bool {
        self.reading
            .has_word("remaining rest other others remainder short neither fail without")
    }

    /// What a sentence does not mention it does not speak of.
    fn cued(&self, known: &Known) -> bool {
        let reading = self.reading;
        let topic = |topic: Topic| {
            reading.topics.iter().any(|label| label.what.topics.contains(&topic))
                || reading.topics.is_empty() && reading.topics_before.contains(&topic)
        };
        let stat = |stat: Stat| reading.stats.iter().any(|label| label.what.contains(&stat));
        match known.kind {
            Origin::Difference | Origin::Ratio => return self.compares(),
            Origin::Width => {
                return reading.has_word("± minus wide width spans span half-width margin error");
            }
            Origin::Sum => return reading.has_word("together combined jointly or sum"),
            Origin::Complement if !matches!(known.topic, Topic::Frequency) => {
                let words = "remaining rest other others not neither between middle remainder";
                return reading.has_word(words) && (topic(known.topic) || topic(Topic::Uncertain));
            }
            _ => {}
        }
        match (known.topic, known.stat) {
            (Topic::Confidence, _) => self.figure().unit != Spoken::Percent || topic(Topic::Confidence),
            (Topic::Interval, _) => {
                topic(Topic::Interval) || self.in_range() || reading.has_word("low lower high upper")
            }
            (Topic::Confident | Topic::Uncertain | Topic::Vocabulary | Topic::Ratio, _) => topic(known.topic),
            (Topic::Lead, _) => self.compares() || reading.has_word("lead margin points"),
            (Topic::Length, _) if self.figure().unit == Spoken::Bare && !self.speaks_of_length() => false,
            (Topic::Classes, _) => self.figure().unit == Spoken::Classes,
            (Topic::Length, Stat::Median) => stat(Stat::Median) || self.half_before(),
            (Topic::Length, Stat::Percentile) => stat(Stat::Percentile) || self.tail_before(),
            _ => true,
        }
    }

    fn speaks_of_length(&self) -> bool {
        let words = "words word run runs";
        let topics = if self.reading.topics.is_empty() {
            self.reading.topics_before.as_slice()
        } else {
            &[]
        };
        let own = self.reading.topics.iter().flat_map(|label| &label.what.topics);
        !self.reading.stats.is_empty()
            || self.reading.has_word(words)
            || own.chain(topics).any(|topic| *topic == Topic::Length)
    }

    fn in_range(&self) -> bool {
        let before = self
            .index
            .checked_sub(1)
            .and_then(|index| self.reading.figures.get(index));
        self.figure().starts_range || before.is_some_and(|before| before.starts_range)
    }

    fn half_before(&self) -> bool {
        let is_half = |figure: &Figure| (figure.value - 50.0).abs() < 1e-9 && figure.unit == Spoken::Percent;
        self.reading.figures[..self.index].iter().any(is_half)
    }

    fn tail_before(&self) -> bool {
        let tail = |figure: &Figure| {
            figure.unit == Spoken::Percent
                && self.knowledge.names.iter().any(|(value, named)| {
                    *named == Named::Percentile
                        && ((figure.value - value).abs() < 1e-9 || (figure.value - 100.0 + value).abs() < 1e-9)
                })
        };
        self.reading
            .figures
            .iter()
            .any(|figure| tail(figure) || figure.form == Form::Percentile)
    }

    /// Whether the words around the figure compare; the "more" of "more than half" does not.
    fn compares(&self) -> bool {
        const BEFORE: &str = "by difference gap margin lead leads leading advantage edge extra surplus another \
            separate separates separating differ differs apart ahead exceed exceeds outnumber outnumbers trail trails \
            behind spread further longer shorter higher lower larger smaller";
        let figure = self.figure();
        let start = figure.tokens.start;
        let mut before = start.saturating_sub(6)..if figure.hedge == Hedge::None {
            start
        } else {
            start.saturating_sub(2)
        };
        figure.form == Form::Times
            || before.any(|at| is_one_of(&self.reading.tokens[at].lower, BEFORE))
            || self.comparative_follows(6)
    }

    fn comparative_follows(&self, ahead: usize) -> bool {
        const AFTER: &str = "more fewer less longer shorter higher lower larger smaller greater apart ahead \
            difference gap separate separates separating further behind extra surplus lead margin above below points \
            advantage";
        let end = self.figure().tokens.end;
        (end..end + ahead).any(|at| is_one_of(self.text(at), AFTER))
    }

    /// The figure as the text writes it.
    fn quote(&self) -> String {
        let tokens = &self.reading.tokens[self.figure().tokens.clone()];
        let mut quote = String::new();
        let mut end = None;
        for token in tokens {
            if end.is_some_and(|end| end < token.range.start) {
                quote.push(' ');
            }
            quote.push_str(token.text);
            end = Some(token.range.end);
        }
        quote
    }

    fn complain(&self, other: Option<&Known>) -> Verdict {
        let expected = self.expected();
        let figure = self.quote();
        let is = other.map(|known| format!(" ({} is the {})", known.shown(), known.title));
        let reason = match &expected {
            Some(known) => format!(
                "the sheet says {} for the {}, not {figure}{}",
                known.shown(),
                known.title,
                is.unwrap_or_default()
            ),
            None => match other {
                Some(known) => format!("{figure} is the sheet's figure for the {}, not for this", known.title),
                None => format!("no fact of the sheet says {figure}"),
            },
        };
        Verdict::Unsupported {
            fact: expected.map(|known| known.title.clone()),
            reason,
        }
    }

    /// The fact that the text seems to be about.
    fn expected(&self) -> Option<&Known> {
        let figure = self.figure();
        let mut best: Option<(u32, f64, &Known)> = None;
        for known in &self.knowledge.known {
            let given = matches!(known.kind, Origin::Given | Origin::Low | Origin::High);
            let Some((value, _)) = in_unit(figure, known) else {
                continue;
            };
            if !given || self.contradicts(known).is_some() || matches!(known.about, About::Quotation(_)) {
                continue;
            }
            let named = match known.about {
                About::Class(_) => self.context.hold == Hold::Strict,
                _ => self.context.hold == Hold::Free || self.context.whole,
            };
            let measured = self
                .context
                .measured
                .as_ref()
                .is_some_and(|measured| measured.topics.contains(&known.topic));
            let stat = self.context.stats.contains(&known.stat);
            let score = 2 * u32::from(named) + 2 * u32::from(measured) + 2 * u32::from(stat);
            let distance = (known.value - value).abs();
            let better = best.is_none_or(|(most, least, _)| score > most || score == most && distance < least);
            if better {
                best = Some((score, distance, known));
            }
        }
        best.map(|(_, _, known)| known)
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
