//! Which class, topic and statistic each figure of a segment belongs to.

mod inherited;
mod topics;

use std::ops::Range;

use super::align::{Distances, Mark, align};
use super::clause::{Context, Hold, Kind, Reading, kind};
use super::hedge::round;
use super::knowledge::{About, Knowledge};
use super::labels::{Label, others};
use super::number::Figure;
use super::token;

/// Sentences of more figures are not searched for differences.
const OPERANDS_MAX: usize = 12;

/// What a difference is called.
pub(super) const DIFFERENCE: &str =
    "difference gap drop distance rise fall falls drops rises step surplus margin apart lie lies";

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
        let whose = match (all.as_slice(), inherited.0.as_slice()) {
            ([one], _) | ([], [one]) => Some(*one),
            _ => None,
        };
        let partner: Vec<bool> = (0..groups.len())
            .map(|index| whose.is_some() && index > 0 && self.is_partner(&groups[index - 1], &groups[index]))
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
                    _ if partner[position] => {
                        let other = whose.map(|whose| other_than(whose, knowledge));
                        (other.into_iter().collect(), Hold::Strict)
                    }
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

    /// "X is longer than Y, 238 against 226", "as many X as Y: 878 against 135": the figure after the comma is the subject's.
    fn apposed(&self, group: &[usize], labels: &[Label<About>]) -> Option<usize> {
        let start = self.figures[*group.first()?].tokens.start;
        let object = labels.iter().rposition(|label| label.tokens.end <= start)?;
        let subject = object.checked_sub(1)?;
        let end = labels[object].tokens.end;
        let comma = self.tokens[end..start].iter().any(|token| token.among(", :"));
        let near = start - end <= 6;
        let between = &self.tokens[labels[subject].tokens.end..labels[object].tokens.start];
        let compares = between.iter().any(|token| token.among("than as"));
        let last = labels.len() == object + 1;
        (comma && near && compares && last && labels[subject].what != labels[object].what).then_some(subject)
    }

    /// "12 words longer", "a lead of 4.4 percentage points".
    pub(super) fn is_difference(&self, figure: &Figure) -> bool {
        // "From 0.95 to 0.72, a drop of 0.23".
        let same = |other: &&Figure| kind(other) == kind(figure) && other.tokens != figure.tokens;
        let others: Vec<&Figure> = self.figures.iter().filter(same).take(OPERANDS_MAX).collect();
        let between = || {
            others.iter().enumerate().any(|(index, one)| {
                others[index + 1..].iter().any(|other| {
                    let difference = round((one.value - other.value).abs(), figure.decimals);
                    difference > 0.0 && (difference - figure.value).abs() < 1e-9
                })
            })
        };
        if self.has_word(DIFFERENCE) && between() {
            return true;
        }
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
        kind(one) == kind(other) && !one.starts_range && matches!(between, [word] | [_, word] if word.among("to – -"))
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

    pub(super) fn ranges(&self, groups: &[Vec<usize>]) -> Vec<Range<usize>> {
        let range = |group: &Vec<usize>| {
            let first = group.first().map_or(0, |index| self.figures[*index].tokens.start);
            let last = group.last().map_or(0, |index| self.figures[*index].tokens.end);
            first..last + usize::from(self.tokens.get(last).is_some_and(|token| token.is(")")))
        };
        groups.iter().map(range).collect()
    }
}

fn other_than(about: About, knowledge: &Knowledge<'_>) -> About {
    match about {
        About::Class(class) => others(class, knowledge),
        other => other,
    }
}
