//! What each figure of a sentence is about.

use std::ops::Range;

use super::align::Distances;
use super::hedge;
use super::knowledge::{About, Knowledge, Stat, Topic};
use super::labels::{Label, Measured};
use super::number::{Figure, Form, Spoken};
use super::token::{self, Token, is_one_of};
use crate::sheet::Unit;

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
    /// Another figure of the sentence gives all of them: "of the 1,862 reviews, 143 ...".
    pub(super) partitive: bool,
    /// Empty: anything.
    pub(super) measured: Option<Measured>,
    /// Empty: anything.
    pub(super) stats: Vec<Stat>,
}

/// Cuts a sentence into segments. What follows "against" up to the next comma is a segment of its own, and so is what
/// stands between commas and names no class; the segment before goes on after it.
pub(super) fn segments(tokens: &[Token<'_>], classes: &[Label<About>]) -> (Vec<usize>, Vec<Option<usize>>) {
    let mut of = Vec::with_capacity(tokens.len());
    let mut against = vec![None];
    let mut current = 0;
    let mut outer: Option<usize> = None;
    let subordinate = subordinate_end(tokens);
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        let is_next = |words: &str| next.is_some_and(|next| next.among(words));
        let contrasts = token.among("while whereas but although though however yet");
        let breaks = subordinate == Some(at)
            || contrasts && !(at > 0 && tokens[at - 1].is("all"))
            || token.among("; —")
            || token.is(":") && is_next_clause(tokens, at)
            || token.is(",") && is_next("and so which with these they those")
            || token.is("–") && at > 0 && tokens[at - 1].range.end < token.range.start;
        let compares = token.among("against versus vs") || token.among("compared opposed") && is_next("with to");
        let aside = breaks
            && outer.is_none()
            && !token.is(";")
            && (token.is(",") || at > 0 && tokens[at - 1].is(","))
            && is_aside(tokens, classes, at);
        if aside {
            against.push(None);
            outer = Some(current);
            current = against.len() - 1;
        } else if breaks {
            against.push(None);
            current = against.len() - 1;
            outer = None;
        } else if compares && outer.is_none() && at > 0 {
            against.push(Some(current));
            outer = Some(current);
            current = against.len() - 1;
        } else if let Some(segment) = outer
            && token.among(", )")
        {
            current = segment;
            outer = None;
        }
        of.push(current);
    }
    (of, against)
}

/// "The mean of 48 words hides a difference: 61 for X, 44 for Y": what is on both sides of the colon has its own figures.
fn is_next_clause(tokens: &[Token<'_>], at: usize) -> bool {
    let counts = |tokens: &[Token<'_>]| tokens.iter().any(|token| token.kind == token::Kind::Number);
    let followed = tokens
        .get(at + 2)
        .is_some_and(|token| token.among("for % percent words"));
    counts(&tokens[..at]) && followed && tokens[at + 1..].iter().any(|token| token.is("for"))
}

/// Where a clause that the sentence starts with ends: "While 10.1% are neutral, ...".
fn subordinate_end(tokens: &[Token<'_>]) -> Option<usize> {
    let first = tokens.first()?;
    let comma = tokens.iter().position(|token| token.is(","))?;
    let verb = tokens[..comma]
        .iter()
        .any(|token| token.among("is are was were has have"));
    (first.among("while although though whereas") && verb).then_some(comma)
}

/// Whether what starts here ends with a comma before it names a class, and a class was named before.
fn is_aside(tokens: &[Token<'_>], classes: &[Label<About>], at: usize) -> bool {
    const ASIDE_TOKENS_MAX: usize = 16;
    let end = (at + 2..(at + ASIDE_TOKENS_MAX).min(tokens.len())).find(|index| tokens[*index].is(","));
    // ", which is 73.5% of the total,"
    if end.is_some_and(|end| end <= at + 9) && (equates(tokens, at) || equates(tokens, at + 1)) {
        return true;
    }
    end.is_some_and(|end| {
        let named = |range: Range<usize>| classes.iter().any(|label| range.contains(&label.tokens.start));
        named(0..at) && !named(at..end) && named(end..tokens.len())
    })
}

/// "Which is 73.5% of the total".
fn equates(tokens: &[Token<'_>], at: usize) -> bool {
    let is = |at: usize, words: &str| tokens.get(at).is_some_and(|token| token.among(words));
    is(at, "which") && is(at + 1, "is are was were makes make equals means")
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

    pub(super) fn has_word(&self, words: &str) -> bool {
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
                let named = matches!(self.figures[*index].form, Form::Percentile | Form::Level | Form::Base);
                !named && !contexts[*index].whole
            });
            let grouped: Vec<usize> = grouped.collect();
            let groups = self.groups(&grouped);
            self.bind_classes(segment, &groups, &distances, &mut contexts, knowledge);
            self.bind_topics(segment, &groups, &distances, &mut contexts, knowledge);
            self.bind_stats(segment, &groups, &distances, &mut contexts);
        }
        let partitive = contexts.iter().any(|context| context.whole);
        for (index, context) in contexts.iter_mut().enumerate() {
            context.partitive = partitive && !context.whole;
            if let Some(measured) = self.stated_of(index) {
                context.measured = Some(measured);
            }
        }
        for index in 1..self.figures.len() {
            if contexts[index].measured.is_none() && self.restates(index) {
                let measured = contexts[index - 1].measured.clone();
                contexts[index].measured = measured;
            }
        }
        contexts
    }

    /// "985 reviews, which is 73.5%": whether the figure says again, in another unit, what the one before it says.
    fn restates(&self, index: usize) -> bool {
        let (before, figure) = (&self.figures[index - 1], &self.figures[index]);
        let between = before.tokens.end..figure.tokens.start;
        let start = figure.tokens.start;
        let which = between.rev().take(6).find(|at| equates(self.tokens, *at));
        let parts = |figure: &Figure| matches!(kind(figure), Kind::Percent | Kind::Items | Kind::Count);
        let named = |which: usize| {
            let own = which..start;
            self.topics.iter().any(|label| own.contains(&label.tokens.start))
        };
        kind(before) != kind(figure) && parts(before) && parts(figure) && which.is_some_and(|which| !named(which))
    }

    /// "A collection that runs to 19,949": the total, by its value and by a word for all of them.
    fn is_total(&self, figure: &Figure, knowledge: &Knowledge<'_>) -> bool {
        let total = knowledge.given(Topic::Total, Stat::None, About::Whole, Unit::Items);
        let spoken = hedge::Spoken::of(figure);
        total.is_some_and(|total| spoken.fits(total.value, total.decimals))
            && is_near_all(self.tokens, figure.tokens.start)
    }

    fn whole(&self, figure: &Figure, knowledge: &Knowledge<'_>) -> Context {
        let start = figure.tokens.start;
        let word = |back: usize| {
            start
                .checked_sub(back)
                .map_or("", |index| self.tokens[index].lower.as_str())
        };
        let skipped = if matches!(
            word(1),
            "the"
                | "all"
                | "these"
                | "its"
                | "some"
                | "about"
                | "our"
                | "nearly"
                | "almost"
                | "roughly"
                | "around"
                | "approximately"
                | "over"
        ) {
            1
        } else if word(1) == "than" && matches!(word(2), "more" | "fewer" | "less") {
            2
        } else {
            0
        };
        let before = word(1 + skipped);
        let after = word(2 + skipped);
        let follows = &self.tokens[figure.tokens.end..(figure.tokens.end + 4).min(self.tokens.len())];
        let noun = follows
            .iter()
            .position(|token| knowledge.counts(&token.lower) && figure.unit == Spoken::Items);
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
            whole: counts
                && !adjective
                && figure.form != Form::Times
                && (of && !bare || self.is_total(figure, knowledge)),
            whole_near: noun.is_some() && !adjective && figure.unit == Spoken::Items,
            partitive: false,
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
            let counts = |kind: Kind| matches!(kind, Kind::Words | Kind::Count | Kind::Items);
            own != other && own != Kind::Times && other != Kind::Times && !(counts(own) && counts(other))
        });
        let near = between.len() <= 7
            && self.tokens[between]
                .iter()
                .all(|token| !token.among(") and with while against to at from for longer lead interval"));
        kinds && near && !labelled
    }
}

/// Whether a word for all of them stands shortly before: "a file of", "the collection comprises".
pub(super) fn is_near_all(tokens: &[Token<'_>], start: usize) -> bool {
    const ALL: &str = "corpus collection file files sample set body pool batch dataset archive total altogether";
    const APART_TOKENS_MAX: usize = 5;
    let before = tokens[start.saturating_sub(APART_TOKENS_MAX)..start].iter().rev();
    let mut before = before.take_while(|token| token.kind != token::Kind::Number && !token.among(", ; and"));
    before.any(|token| is_one_of(token.lower.trim_end_matches("'s"), ALL))
}

/// Sorts of figures that can stand for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Percent,
    Points,
    Items,
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
        Spoken::Items | Spoken::Classes => Kind::Items,
        Spoken::Foreign => Kind::Count,
        Spoken::Bare if figure.decimals > 0 => Kind::Decimal,
        Spoken::Bare => Kind::Count,
    }
}
