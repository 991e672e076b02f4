//! What a sentence speaks of, by the words around a figure.

use crate::check::clause::is_near_all;
use crate::check::hedge::Hedge;
use crate::check::knowledge::{About, Known, Named, Origin, Stat, Topic};
use crate::check::labels::{Label, MODEL_WORDS};
use crate::check::number::{Figure, Form, Spoken};
use crate::check::token::{Token, is_one_of};

use super::Asked;

/// What speaks of those that are not in a group.
const REMAINDER: &str = "remaining remain remains remained rest other others remainder short neither nor not never \
    cannot couldn't didn't wasn't weren't aren't isn't doesn't don't fail fails failed failing without leave leaves \
    leaving left miss misses missed missing below under subtract subtracting away aside except excluding exclude \
    exclude beyond lack lacks lacked lacking outside elude eludes eluded escape escaped another";

impl Asked<'_, '_> {
    /// "The other 20% fall short of that", "44 missed the bar", "take these away and 1,718 are left".
    pub(super) fn is_remainder(&self) -> bool {
        self.reading.has_word(REMAINDER)
    }

    /// "Between the confident and the uncertain", "neither the one nor the other".
    fn is_middle(&self) -> bool {
        self.reading.has_word("between neither nor middle")
    }

    /// What a sentence does not mention it does not speak of.
    pub(super) fn cued(&self, known: &Known) -> bool {
        let reading = self.reading;
        let topic = |topic: Topic| {
            reading.topics.iter().any(|label| label.what.topics.contains(&topic))
                || reading.topics.is_empty() && reading.topics_before.contains(&topic)
        };
        let stat = |stat: Stat| reading.stats.iter().any(|label| label.what.contains(&stat));
        match known.kind {
            Origin::Difference | Origin::Ratio => return self.compares(),
            Origin::FromAll => return self.compares() && self.against_average(),
            Origin::Width => {
                return reading
                    .has_word("± minus wide width spans span half-width margin error within either broad breadth");
            }
            Origin::Gap => {
                return reading.has_word("interval intervals end ends bound bounds limit limits")
                    && reading.has_word("apart gap between separate separates separated distance distant below above");
            }
            Origin::Sum => {
                return reading.has_word("together combined jointly or sum total altogether both add adds")
                    || self.ends_between_them();
            }
            Origin::Middle => {
                return (self.is_middle() || self.is_remainder())
                    && (topic(Topic::Confident) || topic(Topic::Uncertain));
            }
            Origin::Complement if known.topic == Topic::Frequency && self.knowledge.classes.len() > 2 => {
                return self.is_remainder() || !reading.classes.is_empty();
            }
            Origin::Complement if !matches!(known.topic, Topic::Frequency) => {
                let middle = self.is_middle() && topic(Topic::Confident) && topic(Topic::Uncertain);
                return self.is_remainder() && !middle && (topic(known.topic) || topic(Topic::Uncertain));
            }
            _ => {}
        }
        match (known.topic, known.stat) {
            (Topic::Confidence, _) => self.figure().unit != Spoken::Percent || topic(Topic::Confidence),
            (Topic::Interval, _) => {
                topic(Topic::Interval) || self.in_range() || reading.has_word("low lower high upper")
            }
            (Topic::Confident | Topic::Uncertain, _) => {
                topic(known.topic) || reading.topics.is_empty() && reading.has_word(MODEL_WORDS)
            }
            (Topic::Vocabulary | Topic::Ratio, _) => topic(known.topic),
            (Topic::Lead, _) => self.compares() || reading.has_word("lead margin points"),
            (Topic::Length, _) if self.figure().unit == Spoken::Bare && !self.speaks_of_length() => false,
            (Topic::Classes, _) => self.figure().unit == Spoken::Classes,
            (Topic::Length, Stat::Median) => stat(Stat::Median) || self.half_before(),
            (Topic::Length, Stat::Percentile) => stat(Stat::Percentile) || self.tail_before(),
            _ => true,
        }
    }

    /// "Negative and positive reviews add up to 19,949".
    pub(super) fn names_all(&self) -> bool {
        let named = |class: usize| {
            self.reading
                .classes
                .iter()
                .any(|label| label.what == About::Class(class))
        };
        let sums = "together combined add adds sum total altogether";
        (0..self.knowledge.classes.len()).all(named) && self.reading.has_word(sums)
    }

    /// "Longer than the average review", "above the overall mean".
    fn against_average(&self) -> bool {
        let tokens = self.reading.tokens;
        let after = |at: usize| &tokens[at + 1..(at + 4).min(tokens.len())];
        let against = |token: &Token<'_>| token.among("than above below");
        (0..tokens.len())
            .any(|at| against(&tokens[at]) && after(at).iter().any(|token| token.among("average mean overall")))
    }

    /// Whether the figure is one of all, not of "a reviewer who likes the film".
    pub(super) fn speaks_of_all(&self) -> bool {
        let reading = self.reading;
        let start = self.figure().tokens.start;
        let restricts = reading.has_word("who whoever whose");
        let counted = reading.tokens.iter().any(|token| self.knowledge.counts(&token.lower));
        // "The mean", not "on average".
        let noun = |label: &Label<Vec<Stat>>| label.tokens.start == 0 || !self.text(label.tokens.start - 1).eq("on");
        let length = reading.topics.iter().any(|label| label.what.topics == [Topic::Length]);
        let all = is_near_all(reading.tokens, start) || counted || length || reading.stats.iter().any(noun);
        all && !restricts
    }

    /// "They make up 89.9% between them".
    fn ends_between_them(&self) -> bool {
        let pairs = self.reading.tokens.windows(2);
        pairs
            .into_iter()
            .any(|pair| pair[0].is("between") && pair[1].among("them the"))
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

    pub(super) fn in_range(&self) -> bool {
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
    pub(super) fn compares(&self) -> bool {
        const BEFORE: &str = "by difference gap margin lead leads leading advantage edge extra surplus another \
            separate separates separating differ differs apart ahead exceed exceeds outnumber outnumbers trail trails \
            behind spread drop drops fall falls rise rises step add adds further longer shorter higher lower larger smaller";
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
            || self.difference_of()
    }

    /// "The difference between the two classes amounts to 875 reviews": nothing else is counted in between.
    pub(super) fn difference_of(&self) -> bool {
        const APART_TOKENS_MAX: usize = 16;
        let start = self.figure().tokens.start;
        let mut before = self.reading.figures[..self.index].iter().rev();
        let from = before
            .find(|figure| figure.unit != Spoken::Classes)
            .map_or(0, |figure| figure.tokens.end)
            .max(start.saturating_sub(APART_TOKENS_MAX));
        let segment = &self.reading.segment;
        (from..start).any(|at| {
            segment.get(at) == segment.get(start)
                && is_one_of(self.text(at), "difference gap distance margin")
                && is_one_of(self.text(at + 1), "between in of from")
        })
    }

    pub(super) fn comparative_follows(&self, ahead: usize) -> bool {
        const AFTER: &str = "more fewer less longer shorter higher lower larger smaller greater apart ahead \
            difference gap separate separates separating further behind extra surplus lead margin above below past points \
            advantage";
        let end = self.figure().tokens.end;
        (end..end + ahead).any(|at| is_one_of(self.text(at), AFTER))
    }
}
