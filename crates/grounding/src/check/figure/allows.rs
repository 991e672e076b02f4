//! Whether what the sentence says around a figure contradicts a fact: another class, another quantity.

use crate::check::clause::Hold;
use crate::check::knowledge::{About, Known, Origin, Stat, Topic};
use crate::check::number::Spoken;
use crate::check::token;
use crate::sheet::Unit;

use super::Asked;

impl Asked<'_, '_> {
    pub(super) fn class_allows(&self, known: &Known) -> bool {
        let context = self.context;
        let has = |about: About| context.classes.iter().any(|own| self.same(*own, about));
        match known.about {
            About::Whole => {
                if context.whole || context.hold == Hold::Free || context.whole_near {
                    return true;
                }
                if known.topic == Topic::Total && self.names_all() {
                    return true;
                }
                // What is measured of all only is not of a class.
                let of_all = matches!(known.topic, Topic::Vocabulary | Topic::Ratio)
                    || matches!(known.stat, Stat::Median | Stat::Percentile);
                if of_all && known.kind == Origin::Given && context.hold == Hold::Strict {
                    return false;
                }
                let strict = context.classes.iter().any(|about| self.sibling(known, *about));
                !strict
            }
            About::Class(_) | About::Others(_) => {
                if context.whole && self.knowledge.known.iter().any(|other| other.topic == Topic::Total) {
                    return false;
                }
                match context.hold {
                    Hold::Free => {
                        let part = context.partitive && self.is_telling(known) && self.reading.topics.is_empty();
                        let other = self.is_telling(known) && !self.speaks_of_all();
                        part || other || !self.sibling(known, About::Whole) || self.figure().unit == Spoken::Percent
                    }
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
                let quotes = self.reading.tokens.iter().any(|token| token.kind == token::Kind::Quote);
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

    pub(super) fn measure_allows(&self, known: &Known) -> bool {
        let context = self.context;
        let difference = matches!(
            known.kind,
            Origin::Difference | Origin::FromAll | Origin::Ratio | Origin::Width | Origin::Gap
        );
        if let Some(measured) = &context.measured {
            let lead = measured.topics.contains(&Topic::Lead);
            let own = measured.topics.iter().any(|topic| match (topic, known.topic) {
                (Topic::Other(a), Topic::Other(b)) => self.fact_name(*a) == self.fact_name(b),
                // What is between the two, and the one held against the other, is of both.
                (Topic::Uncertain, Topic::Confident) => {
                    matches!(known.kind, Origin::Middle | Origin::Sum | Origin::Ratio)
                }
                (a, b) => *a == b,
            });
            if !(own || lead && difference || known.topic == Topic::Lead && known.unit == Unit::PercentagePoints) {
                return false;
            }
            if own
                && known.topic == Topic::Confident
                && known.unit != Unit::None
                && (measured.negated && !matches!(known.kind, Origin::Complement | Origin::Middle)
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
        let derived = derived && (by || self.comparative_follows(2) || self.difference_of());
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
            || self.is_telling(known)
                && !matches!(known.topic, Topic::Confident | Topic::Uncertain)
                && known.kind == Origin::Given
                && context.classes.is_empty()
                && !context.whole
    }
}
