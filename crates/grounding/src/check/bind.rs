//! Which class, topic and statistic each figure of a segment belongs to.

use std::ops::Range;

use crate::sheet::Unit;

use super::align::{Distances, Mark, align, marks};
use super::clause::{Context, Hold, Kind, Reading, kind};
use super::knowledge::{About, Knowledge, Origin, Topic};
use super::labels::{Label, Measured, others};
use super::number::{Figure, Spoken};
use super::token;

impl Reading<'_> {
    pub(super) fn bind_classes(
        &self,
        segment: usize,
        groups: &[Vec<usize>],
        distances: &Distances,
        contexts: &mut [Context],
        knowledge: &Knowledge<'_>,
    ) {
        let labels = self.in_segment(&self.classes, segment);
        let inherited = if labels.is_empty() {
            self.inherited(segment, contexts)
        } else {
            (Vec::new(), Hold::Free)
        };
        let mut all: Vec<About> = Vec::new();
        for label in &labels {
            if !all.contains(&label.what) {
                all.push(label.what);
            }
        }
        let identity = |about: About| all.iter().position(|other| *other == about).unwrap_or_default();
        let marks: Vec<Mark> = labels
            .iter()
            .map(|label| Mark {
                tokens: label.tokens.clone(),
                identity: identity(label.what),
            })
            .collect();
        // A figure in brackets belongs to what stands before them, and a difference to no class.
        let fixed: Vec<Option<usize>> = groups
            .iter()
            .map(|group| self.bracketed(group, &labels).or_else(|| self.apposed(group, &labels)))
            .collect();
        let in_brackets: Vec<bool> = groups
            .iter()
            .map(|group| self.bracketed(group, &labels).is_some())
            .collect();
        let of_none = |group: &[usize]| group.iter().any(|index| self.is_difference(&self.figures[*index]));
        let partner: Vec<bool> = (0..groups.len())
            .map(|index| all.len() == 1 && index > 0 && self.is_partner(&groups[index - 1], &groups[index]))
            .collect();
        let open: Vec<usize> = (0..groups.len())
            .filter(|index| fixed[*index].is_none() && !of_none(&groups[*index]) && !partner[*index])
            .collect();
        let ranges = self.ranges(&open.iter().map(|index| groups[*index].clone()).collect::<Vec<_>>());
        let mut aligned = fixed;
        // What has its figure in brackets has no other of that sort.
        let sorts = |index: usize| groups[index].iter().map(|figure| kind(&self.figures[*figure]));
        let bracketed: Vec<Kind> = (0..groups.len())
            .filter(|index| aligned[*index].is_some())
            .flat_map(sorts)
            .collect();
        let again = open.iter().copied().flat_map(sorts).any(|own| bracketed.contains(&own));
        let left: Vec<usize> = (0..labels.len())
            .filter(|label| {
                let has = |other: &Option<usize>| other.is_some_and(|other| labels[other].what == labels[*label].what);
                !(again && aligned.iter().any(has))
            })
            .collect();
        let marks: Vec<Mark> = left.iter().map(|label| marks[*label].clone()).collect();
        for (index, label) in open.iter().zip(align(&marks, &ranges, distances)) {
            aligned[*index] = label.map(|label| left[label]);
        }
        let taken = |label: usize, but: usize| {
            let same = |index: usize| aligned[index].is_some_and(|other| labels[other].what == labels[label].what);
            let sort = |index: usize| {
                groups[index]
                    .iter()
                    .map(|figure| kind(&self.figures[*figure]))
                    .collect::<Vec<_>>()
            };
            (0..groups.len())
                .any(|index| index != but && same(index) && sort(index).iter().any(|own| sort(but).contains(own)))
        };
        for (position, (group, label)) in groups.iter().zip(&aligned).enumerate() {
            let label = *label;
            // Where every class has its own figure, one more is of all.
            let spare = label.is_none() && !labels.is_empty() && (0..labels.len()).all(|label| taken(label, position));
            for &index in group {
                let context = &mut contexts[index];
                let whole_subject = self.whole_subject(segment, &self.figures[index], &labels, knowledge);
                // "1,340 reviews or 65.5%" is as much of a class as the share is.
                let paired = group.len() > 1 && self.is_paired(group);
                context.whole_near &= !(label.is_some() && (paired || in_brackets[position]));
                context.whole_near |= whole_subject;
                context.whole |= spare && all.len() > 1;
                (context.classes, context.hold) = match label {
                    _ if self.is_pronouns(segment, &self.figures[index], &labels) => {
                        let (mut classes, hold) = self.earlier(segment);
                        classes.retain(|about| !all.contains(about));
                        (classes, hold)
                    }
                    _ if partner[position] => (vec![other_than(all[0], knowledge)], Hold::Strict),
                    Some(label) => (vec![labels[label].what], Hold::Strict),
                    None if labels.is_empty() => inherited.clone(),
                    None if self.owned(segment, &self.figures[index], &labels) => self.earlier(segment),
                    None if all.len() == 1 && !whole_subject => (all.clone(), Hold::Strict),
                    None => (all.clone(), Hold::Weak),
                };
                let start = self.figures[index].tokens.start;
                if start >= 2 && self.tokens[start - 2].is("all") && self.tokens[start - 1].is("but") {
                    let flipped = context.classes.iter().map(|about| other_than(*about, knowledge));
                    context.classes = flipped.collect();
                }
            }
        }
    }

    /// The label right before the brackets that the figures stand in.
    fn bracketed(&self, group: &[usize], labels: &[Label<About>]) -> Option<usize> {
        let start = self.figures[*group.first()?].tokens.start;
        let bracket = (start.saturating_sub(2)..start).find(|at| self.tokens[*at].is("("))?;
        let label = labels.iter().rposition(|label| label.tokens.end <= bracket)?;
        let between = &self.tokens[labels[label].tokens.end..bracket];
        let nouns = between.len() <= 1 && between.iter().all(|token| token.kind == super::token::Kind::Word);
        nouns.then_some(label)
    }

    /// "119 (54.1%)", "119 or 54.1%".
    fn is_paired(&self, group: &[usize]) -> bool {
        group.windows(2).any(|pair| {
            let between = self.figures[pair[0]].tokens.end..self.figures[pair[1]].tokens.start;
            self.tokens[between].iter().any(|token| token.among("( or"))
        })
    }

    /// "X is longer than Y, 238 against 226": the figure after the comma is the subject's.
    fn apposed(&self, group: &[usize], labels: &[Label<About>]) -> Option<usize> {
        let start = self.figures[*group.first()?].tokens.start;
        let object = labels.iter().rposition(|label| label.tokens.end <= start)?;
        let subject = object.checked_sub(1)?;
        let end = labels[object].tokens.end;
        let comma = self.tokens[end..start].iter().any(|token| token.is(","));
        let near = start - end <= 6;
        let between = &self.tokens[labels[subject].tokens.end..labels[object].tokens.start];
        let compares = between.iter().any(|token| token.is("than"));
        let last = labels.len() == object + 1;
        (comma && near && compares && last && labels[subject].what != labels[object].what).then_some(subject)
    }

    /// "12 words longer", "a lead of 4.4 percentage points".
    fn is_difference(&self, figure: &Figure) -> bool {
        let after = &self.tokens[figure.tokens.end..(figure.tokens.end + 3).min(self.tokens.len())];
        let comparing = "longer shorter more fewer higher lower ahead larger smaller apart";
        kind(figure) == Kind::Points
            || kind(figure) == Kind::Times
            || after
                .iter()
                .take_while(|token| token.kind == token::Kind::Word && !token.among("or and"))
                .any(|token| token.among(comparing))
    }

    /// "52.2% to 47.8%": the second is of the other class.
    fn is_partner(&self, group: &[usize], next: &[usize]) -> bool {
        let (Some(one), Some(other)) = (group.last(), next.first()) else {
            return false;
        };
        let (one, other) = (&self.figures[*one], &self.figures[*other]);
        let between = &self.tokens[one.tokens.end..other.tokens.start];
        kind(one) == kind(other) && !one.starts_range && matches!(between, [word] if word.among("to – -"))
    }

    /// Whether all reviews are what the clause says something about: "Reviews run to 231 words, longer for ...".
    fn whole_subject(
        &self,
        segment: usize,
        figure: &Figure,
        labels: &[Label<About>],
        knowledge: &Knowledge<'_>,
    ) -> bool {
        let first = labels.first().map_or(usize::MAX, |label| label.tokens.start);
        let start = self.segment.iter().position(|own| *own == segment).unwrap_or_default();
        let until = figure.tokens.start.min(first);
        if start >= until {
            return false;
        }
        let comma = first == usize::MAX
            || first > figure.tokens.start
                && self.tokens[figure.tokens.end.min(first)..first]
                    .iter()
                    .any(|token| token.among(", ( and"));
        // "The overall mean confidence of 0.94".
        if self.tokens[until.saturating_sub(5).max(start)..until]
            .iter()
            .any(|token| token.is("overall"))
        {
            return true;
        }
        let subject = self.tokens[start..until].iter().any(|token| {
            knowledge.is_item(&token.lower) || token.among("corpus collection overall whole all sample altogether")
        });
        comma && subject
    }

    fn classes_of(&self, segment: usize) -> Vec<About> {
        let mut classes: Vec<About> = Vec::new();
        for label in self.in_segment(&self.classes, segment) {
            if !classes.contains(&label.what) {
                classes.push(label.what);
            }
        }
        classes
    }

    /// The classes of the nearest segment before that names some.
    fn earlier(&self, segment: usize) -> (Vec<About>, Hold) {
        let named = (0..segment).rev().map(|earlier| self.classes_of(earlier));
        let mut named = named.filter(|classes| !classes.is_empty());
        named
            .next()
            .map_or((Vec::new(), Hold::Free), |classes| (classes, Hold::Weak))
    }

    /// "Even the lower end of its interval, 51.5%, lies above that of the positive ones": of what was named before.
    fn owned(&self, segment: usize, figure: &Figure, labels: &[Label<About>]) -> bool {
        let start = self.segment.iter().position(|own| *own == segment).unwrap_or_default();
        let before = start.min(figure.tokens.start)..figure.tokens.start;
        labels.iter().all(|label| label.tokens.start >= figure.tokens.end)
            && self.tokens[before].iter().any(|token| token.among("its their"))
            && !self.earlier(segment).0.is_empty()
    }

    /// "Yet at 318 words they are longer than the others": of what was named before, not of what follows "than".
    fn is_pronouns(&self, segment: usize, figure: &Figure, labels: &[Label<About>]) -> bool {
        let start = self.segment.iter().position(|own| *own == segment).unwrap_or_default();
        let Some(first) = labels.first().map(|label| label.tokens.start) else {
            return false;
        };
        let than = (figure.tokens.end..first).find(|at| self.tokens[*at].is("than"));
        let subject = |than: usize| {
            self.tokens[start.min(than)..than]
                .iter()
                .any(|token| token.among("they it"))
        };
        let named = self.earlier(segment).0;
        than.is_some_and(subject)
            && !self.is_difference(figure)
            && named
                .iter()
                .any(|about| labels.iter().all(|label| label.what != *about))
    }

    /// The classes of a segment that names none.
    fn inherited(&self, segment: usize, contexts: &[Context]) -> (Vec<About>, Hold) {
        let classes_of = |segment: usize| self.classes_of(segment);
        if let Some(Some(outer)) = self.against.get(segment) {
            // Against the figure before; or against the class, where there is one.
            let start = self.segment.iter().position(|own| *own == segment).unwrap_or_default();
            let before = self
                .figures
                .iter()
                .zip(contexts)
                .rev()
                .find(|(figure, _)| figure.tokens.end <= start);
            let bound = before
                .map(|(_, context)| context.classes.clone())
                .filter(|classes| classes.len() == 1);
            // Of two that the clause may be about, the one or the other.
            let either = before
                .map(|(_, context)| context.classes.clone())
                .filter(|classes| classes.len() == 2);
            let outer = classes_of(*outer);
            if let (Some(either), true) = (either, outer.is_empty()) {
                return (either, Hold::Weak);
            }
            let bound = bound.unwrap_or_else(|| outer.clone());
            let [About::Class(class)] = bound.as_slice() else {
                return (Vec::new(), Hold::Free);
            };
            let rest: Vec<About> = outer
                .into_iter()
                .filter(|about| *about != About::Class(*class))
                .collect();
            return match rest.as_slice() {
                [one] => (vec![*one], Hold::Strict),
                _ => (vec![About::Others(*class)], Hold::Strict),
            };
        }
        let earlier = self.earlier(segment);
        if !earlier.0.is_empty() {
            return earlier;
        }
        const PRONOUNS: &str = "they their these those them it its this that";
        let refers =
            (0..self.tokens.len()).any(|at| self.segment.get(at) == Some(&segment) && self.tokens[at].among(PRONOUNS));
        if refers && self.classes.is_empty() && !self.before.is_empty() {
            return (self.before.clone(), Hold::Weak);
        }
        (Vec::new(), Hold::Free)
    }

    pub(super) fn bind_topics(
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
    pub(super) fn stated_of(&self, index: usize) -> Option<Measured> {
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

    pub(super) fn bind_stats(
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

    fn ranges(&self, groups: &[Vec<usize>]) -> Vec<Range<usize>> {
        let range = |group: &Vec<usize>| {
            let first = group.first().map_or(0, |index| self.figures[*index].tokens.start);
            let last = group.last().map_or(0, |index| self.figures[*index].tokens.end);
            first..last + usize::from(self.tokens.get(last).is_some_and(|token| token.is(")")))
        };
        groups.iter().map(range).collect()
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

fn other_than(about: About, knowledge: &Knowledge<'_>) -> About {
    match about {
        About::Class(class) => others(class, knowledge),
        other => other,
    }
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
