//! Which topic and statistic each figure of a segment belongs to.

use crate::check::align::{Distances, align, marks};
use crate::check::clause::{Context, Kind, Reading, kind};
use crate::check::knowledge::{Knowledge, Origin, Topic};
use crate::check::labels::{Label, Measured};
use crate::check::number::{Figure, Spoken};
use crate::check::token;
use crate::sheet::Unit;

impl Reading<'_> {
    pub(in crate::check) fn bind_topics(
        &self,
        segment: usize,
        groups: &[Vec<usize>],
        distances: &Distances,
        contexts: &mut [Context],
        knowledge: &Knowledge<'_>,
    ) {
        let labels = self.in_segment(&self.topics, segment);
        let ranged = groups
            .iter()
            .any(|group| group.len() > 1 && self.figures[group[0]].starts_range);
        for (kind_of, members) in by_kind(groups, &self.figures) {
            let useful: Vec<&Label<Measured>> = labels
                .iter()
                .filter(|label| {
                    label
                        .what
                        .topics
                        .iter()
                        .any(|topic| measures(knowledge, *topic, kind_of))
                })
                .collect();
            let marks = marks(useful.iter().copied());
            let ranges = self.ranges(&members);
            for (group, label) in members.iter().zip(align(&marks, &ranges, distances)) {
                let Some(label) = label else { continue };
                for &index in group {
                    // "A share of 10.1% and a mean confidence of 0.72".
                    let later = useful[label].tokens.start >= self.figures[index].tokens.end;
                    if later && self.counted_before(index, useful[label].tokens.start) {
                        continue;
                    }
                    let is_range = group.len() > 1 && self.figures[group[0]].starts_range;
                    // The ends of the interval are the range.
                    let interval = useful[label].what.topics.contains(&Topic::Interval);
                    if !(interval && ranged && !is_range) {
                        contexts[index].measured = Some(useful[label].what.clone());
                    }
                }
            }
        }
    }

    /// Whether the figure is a share or a number by the noun directly before it, and what follows "and" is another's.
    fn counted_before(&self, index: usize, label: usize) -> bool {
        let figure = &self.figures[index].tokens;
        let before = &self.tokens[figure.start.saturating_sub(2)..figure.start];
        let noun = matches!(before, [noun, of]
            if noun.among("share proportion percentage number count total") && of.is("of"));
        noun && self.tokens[figure.end..label].iter().any(|token| token.is("and"))
    }

    /// What the figure is stated of: "the type-token ratio of the corpus is 0.12".
    pub(in crate::check) fn stated_of(&self, index: usize) -> Option<Measured> {
        const APART_TOKENS_MAX: usize = 8;
        let start = self.figures[index].tokens.start;
        let from = start.saturating_sub(APART_TOKENS_MAX);
        let hedged = |at: &usize| self.tokens[*at].among("about around roughly approximately nearly almost only just");
        let verb = (from..start).rev().find(|at| !hedged(at))?;
        if !self.tokens[verb].among("is was of at equals reaches = :") || self.figures[index].unit == Spoken::Items {
            return None;
        }
        let label = self.topics.iter().rev().find(|label| label.tokens.start < verb)?;
        let plain = |token: &token::Token<'_>| token.kind == token::Kind::Word && !token.among("and while whereas but");
        let scored = self.tokens[label.tokens.start].among("ratio ttr confidence score");
        if label.tokens.start < from || !scored || !self.tokens[label.tokens.end..verb].iter().all(plain) {
            return None;
        }
        let own = self.topics.iter().filter(|other| other.tokens == label.tokens);
        Some(Measured {
            topics: own.flat_map(|label| label.what.topics.iter().copied()).collect(),
            negated: label.what.negated,
        })
    }

    pub(in crate::check) fn bind_stats(
        &self,
        segment: usize,
        groups: &[Vec<usize>],
        distances: &Distances,
        contexts: &mut [Context],
    ) {
        let labels = self.in_segment(&self.stats, segment);
        let counts = |index: &usize| matches!(kind(&self.figures[*index]), Kind::Count | Kind::Words);
        let members: Vec<Vec<usize>> = groups
            .iter()
            .map(|group| group.iter().copied().filter(counts).collect::<Vec<_>>())
            .filter(|group| !group.is_empty())
            .collect();
        let marks = marks(labels.iter());
        let ranges = self.ranges(&members);
        for (group, label) in members.iter().zip(align(&marks, &ranges, distances)) {
            if let Some(label) = label {
                for &index in group {
                    contexts[index].stats.clone_from(&labels[label].what);
                }
            }
        }
    }
}

fn by_kind(groups: &[Vec<usize>], figures: &[Figure]) -> Vec<(Kind, Vec<Vec<usize>>)> {
    let mut kinds: Vec<(Kind, Vec<Vec<usize>>)> = Vec::new();
    for group in groups {
        for &index in group {
            let own = kind(&figures[index]);
            let place = match kinds.iter().position(|(kind, _)| *kind == own) {
                Some(place) => place,
                None => {
                    kinds.push((own, Vec::new()));
                    kinds.len() - 1
                }
            };
            match kinds[place].1.last_mut() {
                Some(last) if last.last().is_some_and(|last| group.contains(last)) => last.push(index),
                _ => kinds[place].1.push(vec![index]),
            }
        }
    }
    kinds
}

/// Whether the sheet has figures of this sort on the topic.
fn measures(knowledge: &Knowledge<'_>, topic: Topic, kind: Kind) -> bool {
    knowledge
        .known
        .iter()
        .filter(|known| known.topic == topic && !matches!(known.kind, Origin::Ratio | Origin::Difference))
        .any(|known| match kind {
            Kind::Percent => known.unit == Unit::Percent,
            Kind::Points => known.unit == Unit::PercentagePoints,
            Kind::Items => known.unit == Unit::Items,
            Kind::Count => {
                matches!(known.unit, Unit::Items | Unit::Words | Unit::None) && known.topic != Topic::Confidence
            }
            Kind::Words => known.unit == Unit::Words,
            Kind::Decimal => known.unit == Unit::None,
            Kind::Times => false,
        })
}
