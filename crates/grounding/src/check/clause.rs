//! What each figure of a sentence is about.

use std::ops::Range;

use super::align::{Distances, Mark, align};
use super::knowledge::{About, Knowledge, Stat, Topic};
use super::labels::{Label, Measured};
use super::number::{Figure, Form, Spoken};
use super::token::Token;

/// A sentence with all that is read out of it.
pub(super) struct Reading<'t> {
    pub(super) tokens: &'t [Token<'t>],
    pub(super) figures: Vec<Figure>,
    pub(super) classes: Vec<Label<About>>,
    pub(super) topics: Vec<Label<Measured>>,
    pub(super) stats: Vec<Label<Vec<Stat>>>,
    /// The segment of each token.
    pub(super) segment: Vec<usize>,
    /// The segment that a segment is held against: "238 words *against 225*".
    pub(super) against: Vec<Option<usize>>,
    /// What the sentence before was about.
    pub(super) before: Vec<About>,
    pub(super) topics_before: Vec<Topic>,
}

/// How firmly a figure belongs to its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Free,
    /// From an earlier clause, or from several classes.
    Weak,
    Strict,
}

/// What one figure is about.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) classes: Vec<About>,
    pub(super) hold: Hold,
    /// Of all reviews: "of the 220 reviews".
    pub(super) whole: bool,
    /// The clause speaks of all reviews.
    pub(super) whole_near: bool,
    /// Empty: anything.
    pub(super) measured: Option<Measured>,
    /// Empty: anything.
    pub(super) stats: Vec<Stat>,
}

/// Cuts a sentence into segments. What follows "against" up to the next comma is a segment of its own, and the segment
/// before goes on after it.
pub(super) fn segments(tokens: &[Token<'_>]) -> (Vec<usize>, Vec<Option<usize>>) {
    let mut of = Vec::with_capacity(tokens.len());
    let mut against = vec![None];
    let mut current = 0;
    let mut outer: Option<usize> = None;
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        let is_next = |words: &[&str]| next.is_some_and(|next| next.among(words));
        let breaks = token.among(&[
            ";", "—", "while", "whereas", "but", "although", "though", "however", "yet",
        ]) || token.is(",") && is_next(&["and", "so", "which", "with"])
            || token.is("–") && at > 0 && tokens[at - 1].range.end < token.range.start;
        let compares = token.among(&["against", "versus", "vs"])
            || token.among(&["compared", "opposed"]) && is_next(&["with", "to"]);
        if breaks {
            against.push(None);
            current = against.len() - 1;
            outer = None;
        } else if compares && outer.is_none() && at > 0 {
            against.push(Some(current));
            outer = Some(current);
            current = against.len() - 1;
        } else if let Some(segment) = outer
            && token.among(&[",", ")"])
        {
            current = segment;
            outer = None;
        }
        of.push(current);
    }
    (of, against)
}

impl<'t> Reading<'t> {
    pub(super) fn in_segment<T: Clone>(&self, labels: &[Label<T>], segment: usize) -> Vec<Label<T>> {
        let inside = |label: &&Label<T>| self.segment.get(label.tokens.start) == Some(&segment);
        labels.iter().filter(inside).cloned().collect()
    }

    /// The classes that the sentence is about, for one that follows.
    pub(super) fn subjects(&self) -> Vec<About> {
        let mut subjects: Vec<About> = Vec::new();
        for label in &self.classes {
            if !subjects.contains(&label.what) {
                subjects.push(label.what);
            }
        }
        if subjects.is_empty() {
            self.before.clone()
        } else {
            subjects
        }
    }

    pub(super) fn has_word(&self, words: &[&str]) -> bool {
        self.tokens.iter().any(|token| token.among(words))
    }

    /// What each figure is about.
    pub(super) fn contexts(&self, knowledge: &Knowledge<'_>) -> Vec<Context> {
        let distances = Distances::new(self.tokens);
        let mut contexts: Vec<Context> = self
            .figures
            .iter()
            .map(|figure| self.whole(figure, knowledge))
            .collect();
        for segment in 0..self.against.len() {
            let own: Vec<usize> = (0..self.figures.len())
                .filter(|index| self.segment.get(self.figures[*index].tokens.start) == Some(&segment))
                .collect();
            if own.is_empty() {
                continue;
            }
            let grouped = own.iter().copied().filter(|index| {
                let named = matches!(self.figures[*index].form, Form::Percentile | Form::Level);
                !named && !contexts[*index].whole
            });
            let grouped: Vec<usize> = grouped.collect();
            let groups = self.groups(&grouped);
            self.bind_classes(segment, &groups, &distances, &mut contexts);
            self.bind_topics(segment, &groups, &distances, &mut contexts, knowledge);
            self.bind_stats(segment, &groups, &distances, &mut contexts);
        }
        contexts
    }

    fn whole(&self, figure: &Figure, knowledge: &Knowledge<'_>) -> Context {
        let start = figure.tokens.start;
        let word = |back: usize| {
            start
                .checked_sub(back)
                .map_or("", |index| self.tokens[index].lower.as_str())
        };
        let skipped = if matches!(word(1), "the" | "all" | "these" | "its" | "some" | "about" | "our") {
            1
        } else {
            0
        };
        let before = word(1 + skipped);
        let after = word(2 + skipped);
        let follows = &self.tokens[figure.tokens.end..(figure.tokens.end + 4).min(self.tokens.len())];
        let noun = follows.iter().position(|token| knowledge.is_item(&token.lower));
        let labelled = |range: Range<usize>| {
            self.classes.iter().any(|label| range.contains(&label.tokens.start))
                || self.topics.iter().any(|label| range.contains(&label.tokens.start))
        };
        let adjective = labelled(figure.tokens.end..figure.tokens.end + noun.unwrap_or(1) + 1);
        let counts = matches!(figure.unit, Spoken::Bare | Spoken::Items) && figure.decimals == 0;
        let of = matches!(before, "of" | "among" | "across")
            && !matches!(after, "total" | "count" | "number" | "lead" | "sum")
            || before == "all"
            || matches!(before, "in" | "over" | "from" | "on") && figure.unit == Spoken::Items;
        let bare = before == "of" && skipped == 0 && figure.unit == Spoken::Bare && after != "out";
        Context {
            classes: Vec::new(),
            hold: Hold::Free,
            whole: counts && of && !adjective && !bare && figure.form != Form::Times,
            whole_near: noun.is_some() && !adjective && figure.unit == Spoken::Items,
            measured: None,
            stats: Vec::new(),
        }
    }

    /// Figures that say the same thing twice: "119 (54.1%)"; and the two ends of a range.
    fn groups(&self, figures: &[usize]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for &index in figures {
            if let Some(group) = groups.last_mut()
                && self.joins(group, index)
            {
                group.push(index);
            } else {
                groups.push(vec![index]);
            }
        }
        groups
    }

    fn joins(&self, group: &[usize], index: usize) -> bool {
        let Some(&last) = group.last() else { return false };
        let (before, figure) = (&self.figures[last], &self.figures[index]);
        if before.starts_range && last + 1 == index {
            return true;
        }
        let between = before.tokens.end..figure.tokens.start;
        let labelled = self.classes.iter().any(|label| between.contains(&label.tokens.start))
            || self.topics.iter().any(|label| between.contains(&label.tokens.start))
            || self.stats.iter().any(|label| between.contains(&label.tokens.start));
        let kinds = group.iter().all(|index| {
            let (own, other) = (kind(&self.figures[*index]), kind(figure));
            own != other && !matches!((own, other), (Kind::Words, Kind::Count) | (Kind::Count, Kind::Words))
        });
        let near = between.len() <= 7
            && self.tokens[between].iter().all(|token| {
                !token.among(&[
                    ")", "and", "with", "while", "against", "to", "at", "from", "for", "longer", "lead", "interval",
                ])
            });
        kinds && near && !labelled
    }

    fn bind_classes(&self, segment: usize, groups: &[Vec<usize>], distances: &Distances, contexts: &mut [Context]) {
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
        // A figure in brackets belongs to what stands before them, and a lead to no class.
        let bracketed: Vec<Option<usize>> = groups.iter().map(|group| self.bracketed(group, &labels)).collect();
        let of_lead = |group: &[usize]| group.iter().any(|index| kind(&self.figures[*index]) == Kind::Points);
        let open: Vec<usize> = (0..groups.len())
            .filter(|index| bracketed[*index].is_none() && !of_lead(&groups[*index]))
            .collect();
        let ranges = self.ranges(&open.iter().map(|index| groups[*index].clone()).collect::<Vec<_>>());
        let mut aligned = bracketed;
        for (index, label) in open.iter().zip(align(&marks, &ranges, distances)) {
            aligned[*index] = label;
        }
        let taken = |label: usize, but: usize| {
            let same = |index: usize| aligned[index].is_some_and(|other| labels[other].what == labels[label].what);
            (0..groups.len()).any(|index| index != but && same(index))
        };
        for (position, (group, label)) in groups.iter().zip(&aligned).enumerate() {
            let label = *label;
            // Where every class has its own figure, one more is of all.
            let spare = label.is_none() && !labels.is_empty() && (0..labels.len()).all(|label| taken(label, position));
            for &index in group {
                let context = &mut contexts[index];
                let whole_subject = self.whole_subject(segment, &self.figures[index], &labels);
                context.whole_near |= whole_subject || spare && all.len() > 1;
                (context.classes, context.hold) = match label {
                    Some(label) => (vec![labels[label].what], Hold::Strict),
                    None if labels.is_empty() => inherited.clone(),
                    None if all.len() == 1 && !whole_subject => (all.clone(), Hold::Strict),
                    None => (all.clone(), Hold::Weak),
                };
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

    /// Whether all reviews are what the clause says something about: "Reviews run to 231 words, longer for ...".
    fn whole_subject(&self, segment: usize, figure: &Figure, labels: &[Label<About>]) -> bool {
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
                    .any(|token| token.among(&[",", "(", "and"]));
        let subject = self.tokens[start..until].iter().any(|token| {
            token.among(&[
                "reviews",
                "texts",
                "corpus",
                "collection",
                "overall",
                "whole",
                "all",
                "sample",
                "altogether",
            ])
        });
        comma && subject
    }

    /// The classes of a segment that names none.
    fn inherited(&self, segment: usize, contexts: &[Context]) -> (Vec<About>, Hold) {
        let classes_of = |segment: usize| {
            let mut classes: Vec<About> = Vec::new();
            for label in self.in_segment(&self.classes, segment) {
                if !classes.contains(&label.what) {
                    classes.push(label.what);
                }
            }
            classes
        };
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
            return match bound.unwrap_or_else(|| classes_of(*outer)).as_slice() {
                [About::Class(class)] => (vec![About::Others(*class)], Hold::Strict),
                _ => (Vec::new(), Hold::Free),
            };
        }
        for earlier in (0..segment).rev() {
            let classes = classes_of(earlier);
            if !classes.is_empty() {
                return (classes, Hold::Weak);
            }
        }
        const PRONOUNS: [&str; 9] = ["they", "their", "these", "those", "them", "it", "its", "this", "that"];
        let refers =
            (0..self.tokens.len()).any(|at| self.segment.get(at) == Some(&segment) && self.tokens[at].among(&PRONOUNS));
        if refers && self.classes.is_empty() && !self.before.is_empty() {
            return (self.before.clone(), Hold::Weak);
        }
        (Vec::new(), Hold::Free)
    }

    fn bind_topics(
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
            let marks: Vec<Mark> = useful
                .iter()
                .enumerate()
                .map(|(index, label)| Mark {
                    tokens: label.tokens.clone(),
                    identity: useful
                        .iter()
                        .position(|other| other.what == label.what)
                        .unwrap_or(index),
                })
                .collect();
            let ranges = self.ranges(&members);
            for (group, label) in members.iter().zip(align(&marks, &ranges, distances)) {
                let Some(label) = label else { continue };
                for &index in group {
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

    fn bind_stats(&self, segment: usize, groups: &[Vec<usize>], distances: &Distances, contexts: &mut [Context]) {
        let labels = self.in_segment(&self.stats, segment);
        let members: Vec<Vec<usize>> = groups
            .iter()
            .filter(|group| {
                group
                    .iter()
                    .all(|index| matches!(kind(&self.figures[*index]), Kind::Count | Kind::Words))
            })
            .cloned()
            .collect();
        let marks: Vec<Mark> = labels
            .iter()
            .enumerate()
            .map(|(index, label)| Mark {
                tokens: label.tokens.clone(),
                identity: labels
                    .iter()
                    .position(|other| other.what == label.what)
                    .unwrap_or(index),
            })
            .collect();
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

/// Sorts of figures that can stand for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Percent,
    Points,
    Count,
    Words,
    Decimal,
    Times,
}

pub(super) fn kind(figure: &Figure) -> Kind {
    match figure.unit {
        _ if figure.form == Form::Times => Kind::Times,
        Spoken::Percent => Kind::Percent,
        Spoken::Points => Kind::Points,
        Spoken::Words => Kind::Words,
        Spoken::Items | Spoken::Classes => Kind::Count,
        Spoken::Bare if figure.decimals > 0 => Kind::Decimal,
        Spoken::Bare => Kind::Count,
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
    use crate::sheet::Unit;
    knowledge
        .known
        .iter()
        .filter(|known| known.topic == topic)
        .any(|known| match kind {
            Kind::Percent => known.unit == Unit::Percent,
            Kind::Points => known.unit == Unit::PercentagePoints,
            Kind::Count => {
                matches!(known.unit, Unit::Items | Unit::Words | Unit::None) && known.topic != Topic::Confidence
            }
            Kind::Words => known.unit == Unit::Words,
            Kind::Decimal => known.unit == Unit::None,
            Kind::Times => false,
        })
}
