//! What a sentence speaks of, by the words around a figure.

use crate::check::hedge::Hedge;
use crate::check::knowledge::{Known, Named, Origin, Stat, Topic};
use crate::check::number::{Figure, Form, Spoken};
use crate::check::token::is_one_of;

use super::Asked;

impl Asked<'_, '_> {
    /// "The other 20% fall short of that".
    pub(super) fn is_remainder(&self) -> bool {
        self.reading
            .has_word("remaining rest other others remainder short neither fail without leave leaves leaving")
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
            Origin::Width => {
                return reading.has_word("± minus wide width spans span half-width margin error");
            }
            Origin::Gap => {
                return reading.has_word("interval intervals end ends bound bounds limit limits")
                    && reading.has_word("apart gap between separate separates separated distance distant");
            }
            Origin::Sum => return reading.has_word("together combined jointly or sum"),
            Origin::Complement if !matches!(known.topic, Topic::Frequency) => {
                let words = "remaining rest other others not neither between middle remainder leave leaves leaving";
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
            || self.difference_of()
    }

    /// "The difference between the two classes amounts to 875 reviews": nothing else is counted in between.
    fn difference_of(&self) -> bool {
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
                && is_one_of(self.text(at + 1), "between in of")
        })
    }

    pub(super) fn comparative_follows(&self, ahead: usize) -> bool {
        const AFTER: &str = "more fewer less longer shorter higher lower larger smaller greater apart ahead \
            difference gap separate separates separating further behind extra surplus lead margin above below points \
            advantage";
        let end = self.figure().tokens.end;
        (end..end + ahead).any(|at| is_one_of(self.text(at), AFTER))
    }
}
