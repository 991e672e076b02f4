//! Who is ranked, and over whom.

use crate::check::clause::Reading;
use crate::check::knowledge::{About, Topic};
use crate::check::labels::Label;

use super::words::{Grammar, Rank};
use super::{Ranking, other};

/// What stands on a side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Class(usize),
    /// All together: "longer than average".
    Whole,
}

#[derive(Debug)]
pub(super) struct Operands {
    pub(super) subject: Side,
    /// `None`: all others.
    pub(super) object: Option<Side>,
    /// Of which topic a majority is, where it is not of a class.
    pub(super) topic: Option<Topic>,
}

/// Words that stand for a class only where nothing else does; as ranking words they name none.
const STAND_INS: &str = "majority minority leading larger bigger largest frequent common";

impl Operands {
    pub(super) fn find(ranking: &Ranking<'_, '_>, rank: &Rank) -> Option<Self> {
        let reading = ranking.reading;
        let named: Vec<Label<usize>> = reading
            .classes
            .iter()
            .filter(|label| !reading.tokens[label.tokens.start].among(STAND_INS))
            .filter_map(|label| {
                let class = match label.what {
                    About::Class(class) => Some(class),
                    About::Others(class) => other(class, ranking.knowledge),
                    _ => None,
                };
                Some(Label {
                    tokens: label.tokens.clone(),
                    what: class?,
                })
            })
            .collect();
        if rank.majority {
            return majority(ranking, &named);
        }
        let (at, end) = (ranking.at, ranking.at + rank.length);
        let segment = |token: usize| reading.segment.get(token).copied();
        let own = |label: &&Label<usize>| segment(label.tokens.start) == Some(ranking.segment());
        let before = || {
            nearest_subject(
                reading,
                named.iter().filter(own).filter(|label| label.tokens.start < at),
            )
        };
        let after = || named.iter().filter(own).find(|label| label.tokens.start >= end);
        let ahead = reading.tokens[at].is("ahead") && ranking.after(1) == "of";
        let than = (end..(end + 16).min(reading.tokens.len())).find(|index| {
            reading.tokens[*index].among("than against versus over")
                || ahead && *index == end && (rank.form != Grammar::Superlative)
        });
        let than = than.filter(|index| {
            let compares = reading.tokens[*index].among("than over against versus") || ahead && *index == end;
            compares && segment(*index).is_none_or(|own| own == ranking.segment() || reading.against[own].is_some())
        });
        let between = than.and_then(|than| {
            named
                .iter()
                .find(|label| label.tokens.start >= end && label.tokens.start < than)
        });
        let beyond = than.and_then(|than| named.iter().find(|label| label.tokens.start > than));
        let inherited = || {
            let earlier = nearest_subject(reading, named.iter().filter(|label| label.tokens.start < at));
            let pronoun = reading.tokens[..at]
                .iter()
                .any(|token| token.among("they their these those it its"));
            let focus = match reading.before.as_slice() {
                [About::Class(class)] if pronoun => Some(*class),
                _ => None,
            };
            earlier.map(|label| label.what).or(focus)
        };
        let directly_after = || {
            named
                .iter()
                .find(|label| label.tokens.start == end)
                .filter(|_| ranking.before(1) != "is")
        };
        let predicate = || {
            let verb = (end..(end + 6).min(reading.tokens.len()))
                .find(|index| reading.tokens[*index].among("is are were was"))?;
            named
                .iter()
                .find(|label| (verb + 1..verb + 5).contains(&label.tokens.start))
        };
        // "The negative class is smaller but longer than the positive class": the subject is that of the clause before.
        let elided = || {
            let compared = beyond?;
            let only = after().is_none_or(|label| label.tokens == compared.tokens);
            let earlier = |label: &&Label<usize>| label.tokens.start < at && label.what != compared.what;
            named.iter().rev().find(earlier).filter(|_| only)
        };
        // "X, though more numerous, are shorter than Y".
        let aside = || {
            let ends = reading.tokens.get(end).is_some_and(|token| token.is(","));
            let earlier = named.iter().filter(|label| label.tokens.start < at);
            nearest_subject(reading, earlier).filter(|_| ends && !named.iter().any(|label| own(&label)))
        };
        let subject = match rank.form {
            Grammar::Quantified => between.or_else(after)?.what,
            Grammar::Verb => before().map(|label| label.what).or_else(inherited)?,
            Grammar::Superlative => predicate()
                .or_else(directly_after)
                .or_else(before)
                .or_else(after)
                .map(|label| label.what)
                .or_else(inherited)?,
            Grammar::Comparative => {
                let held = || between.filter(|_| ranking.after(0) != "ahead" && ranking.after(0) != "behind");
                let attributive = || directly_after().filter(|_| than.is_none() || beyond.is_some());
                held()
                    .filter(|_| before().is_none())
                    .or_else(attributive)
                    .or_else(before)
                    .or_else(aside)
                    .or_else(predicate)
                    .or_else(elided)
                    .or_else(after)
                    .map(|label| label.what)
                    .or_else(inherited)?
            }
        };
        // "Those that keep quiet are longer than X": where two classes are, what X is compared with is the other.
        let unnamed = rank.form == Grammar::Comparative
            && beyond.is_some_and(|label| label.what == subject)
            && !named.iter().any(|label| label.tokens.start < at);
        let subject = if unnamed && ranking.reading.before.is_empty() {
            other(subject, ranking.knowledge)?
        } else {
            subject
        };
        let object = match rank.form {
            Grammar::Verb => named
                .iter()
                .find(|label| label.tokens.start >= end && segment(label.tokens.start) == Some(ranking.segment()))
                .map(|label| label.what),
            Grammar::Superlative => None,
            _ => beyond.map(|label| label.what),
        };
        let average = than.is_some_and(|than| {
            let next = &reading.tokens[than + 1..(than + 4).min(reading.tokens.len())];
            object.is_none() && next.iter().any(|token| token.among("average mean overall"))
        });
        Some(Self {
            subject: Side::Class(subject),
            object: if average {
                Some(Side::Whole)
            } else {
                object.filter(|object| *object != subject).map(Side::Class)
            },
            topic: None,
        })
    }
}

/// The nearest label before; but a subject is not what something else was just compared with.
fn nearest_subject<'l>(
    reading: &Reading<'_>,
    before: impl DoubleEndedIterator<Item = &'l Label<usize>>,
) -> Option<&'l Label<usize>> {
    let compared = |label: &&Label<usize>| {
        let start = label.tokens.start;
        let near = &reading.tokens[start.saturating_sub(2)..start];
        near.iter().any(|token| token.is("than"))
    };
    let mut labels = before.rev();
    let last = labels.next()?;
    Some(
        Some(last)
            .filter(|last| !compared(last))
            .or(labels.next())
            .unwrap_or(last),
    )
}

/// Whose majority it is: "most reviews are positive", "a majority of positive reviews", "most are confident".
fn majority(ranking: &Ranking<'_, '_>, named: &[Label<usize>]) -> Option<Operands> {
    let reading = ranking.reading;
    // "Of the remaining 35%, most are negative".
    let of_part = (1..=6).any(|back| matches!(ranking.before(back), "remaining" | "rest" | "others"));
    if of_part {
        return None;
    }
    let own = |start: usize| reading.segment.get(start).copied() == Some(ranking.segment());
    let after = named
        .iter()
        .find(|label| label.tokens.start > ranking.at && own(label.tokens.start));
    let before = named
        .iter()
        .rev()
        .find(|label| label.tokens.start < ranking.at && own(label.tokens.start));
    let topic = reading
        .topics
        .iter()
        .filter(|label| label.tokens.start > ranking.at && own(label.tokens.start))
        .find(|label| label.what.topics.contains(&Topic::Confident) || label.what.topics == [Topic::Uncertain]);
    let nearer = |topic_at: usize| after.is_none_or(|label| label.tokens.start > topic_at);
    if let Some(label) = topic
        && before.is_none()
        && nearer(label.tokens.start)
    {
        let topic = if label.what.topics == [Topic::Uncertain] {
            Topic::Uncertain
        } else {
            Topic::Confident
        };
        return Some(Operands {
            subject: Side::Whole,
            object: None,
            topic: Some(topic),
        });
    }
    let most = matches!(
        ranking.after(0),
        "most" | "mostly" | "mainly" | "largely" | "predominantly" | "overwhelmingly"
    );
    let label = if most { after.or(before) } else { before.or(after) }?;
    Some(Operands {
        subject: Side::Class(label.what),
        object: None,
        topic: None,
    })
}
