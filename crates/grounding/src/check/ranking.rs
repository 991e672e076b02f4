//! The verdict on who is more frequent, longer or surer, and on how certain that is.

mod lead;
mod operands;
mod place;
mod words;

use std::ops::Range;

use super::Verdict;
use super::clause::Reading;
use super::knowledge::{About, Knowledge, Stat, Topic};
use super::labels;
use super::token::Kind;

use operands::{Operands, Side};
use words::Rank;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Frequency,
    Length,
    Confidence,
    /// A fact of another kind, by its index.
    Other(usize),
    /// Something that the sheet does not measure by class.
    Unmeasured,
}

/// Every ranking word of the sentence that says something, with its verdict.
pub(super) fn judge(reading: &Reading<'_>, knowledge: &Knowledge<'_>) -> Vec<(Range<usize>, Verdict)> {
    let mut found: Vec<(Range<usize>, Verdict)> = Vec::new();
    for at in 0..reading.tokens.len() {
        if reading.tokens[at].kind != Kind::Word || found.last().is_some_and(|(range, _)| range.contains(&at)) {
            continue;
        }
        let ranking = Ranking { reading, knowledge, at };
        let verdict = ranking
            .compared()
            .or_else(|| lead::judge(&ranking))
            .or_else(|| place::judge(&ranking));
        found.extend(verdict);
    }
    found
}

/// A word of a sentence that may rank.
pub(super) struct Ranking<'r, 't> {
    pub(super) reading: &'r Reading<'t>,
    pub(super) knowledge: &'r Knowledge<'r>,
    pub(super) at: usize,
}

impl Ranking<'_, '_> {
    /// The word so many places after this one.
    pub(super) fn after(&self, ahead: usize) -> &str {
        self.reading
            .tokens
            .get(self.at + ahead)
            .map_or("", |token| token.lower.as_str())
    }

    /// The word so many places before this one.
    pub(super) fn before(&self, back: usize) -> &str {
        let index = self.at.checked_sub(back);
        index.map_or("", |index| self.reading.tokens[index].lower.as_str())
    }

    pub(super) fn segment(&self) -> usize {
        self.reading.segment.get(self.at).copied().unwrap_or_default()
    }

    /// "Not longer", "neither side leads".
    pub(super) fn negated(&self) -> bool {
        (1..=4).any(|back| {
            let same = self
                .at
                .checked_sub(back)
                .is_some_and(|at| self.reading.segment[at] == self.segment());
            let word = self.before(back);
            let only = word == "not" && matches!(self.before(back - 1), "only" | "just");
            // "Anything but evenly split", "far from certain".
            let but = word == "but" && self.before(back + 1) == "anything";
            let no = matches!(word, "not" | "neither" | "never" | "nor" | "hardly" | "cannot") || word.ends_with("n't");
            same && !only && (but || no)
        })
    }

    /// "It is possible that", "whether": not said of the corpus.
    pub(super) fn imagined(&self) -> bool {
        let same = |at: &usize| self.reading.segment[*at] == self.segment();
        (0..self.at)
            .filter(same)
            .any(|at| self.reading.tokens[at].among("could may might would possible possibly perhaps if whether"))
    }

    fn compared(&self) -> Option<(Range<usize>, Verdict)> {
        let rank = words::rank(self).filter(|_| !self.imagined())?;
        let range = self.at..self.at + rank.length;
        let verdict = match rank.dimension {
            None => self
                .of_statistics(&rank)
                .or_else(|| self.of_classes(&rank, self.dimension())),
            Some(Dimension::Length) => self
                .of_statistics(&rank)
                .or_else(|| self.of_classes(&rank, Dimension::Length)),
            Some(dimension) => self.of_classes(&rank, dimension),
        };
        Some((range, verdict?))
    }

    /// What "higher" and "more" compare here.
    fn dimension(&self) -> Dimension {
        let distance = |start: usize| start.abs_diff(self.at);
        let own = self.reading.in_segment(&self.reading.topics, self.segment());
        let nearest = own.iter().min_by_key(|label| distance(label.tokens.start));
        let topic = nearest.and_then(|label| label.what.topics.first().copied());
        match topic {
            _ if matches!(
                self.after(1),
                "share" | "shares" | "number" | "proportion" | "percentage" | "count"
            ) =>
            {
                Dimension::Frequency
            }
            Some(Topic::Length) => Dimension::Length,
            Some(Topic::Confidence | Topic::Confident | Topic::Uncertain) => Dimension::Confidence,
            Some(Topic::Other(fact)) => Dimension::Other(fact),
            Some(Topic::Vocabulary | Topic::Ratio) => Dimension::Unmeasured,
            _ => {
                let words = self
                    .reading
                    .figures
                    .iter()
                    .any(|figure| figure.unit == super::number::Spoken::Words);
                // A class is smaller in number, not in words.
                let size = matches!(
                    self.after(0),
                    "smaller" | "larger" | "bigger" | "smallest" | "largest" | "biggest"
                );
                let score = self.reading.figures.iter().any(|figure| {
                    self.reading.segment.get(figure.tokens.start) == Some(&self.segment())
                        && super::clause::kind(figure) == super::clause::Kind::Decimal
                });
                if score && !size {
                    Dimension::Confidence
                } else if words && !size {
                    Dimension::Length
                } else {
                    Dimension::Frequency
                }
            }
        }
    }

    /// "The mean is higher than the median."
    fn of_statistics(&self, rank: &Rank) -> Option<Verdict> {
        let own = self.reading.in_segment(&self.reading.stats, self.segment());
        let before = own.iter().rev().find(|label| label.tokens.start < self.at)?;
        let after = own.iter().find(|label| label.tokens.start > self.at)?;
        let ([one], [other]) = (before.what.as_slice(), after.what.as_slice()) else {
            return None;
        };
        let value = |stat: Stat| {
            let known = self.knowledge.known.iter();
            let mut known = known.filter(|known| known.topic == Topic::Length && known.about == About::Whole);
            known
                .find(|known| known.stat == stat)
                .map(|known| (known.value, known.title.clone()))
        };
        if one == other {
            return None;
        }
        let ((first, name), (second, other_name)) = (value(*one)?, value(*other)?);
        let greater = if rank.more { first > second } else { first < second };
        Some(if greater != self.negated() {
            Verdict::Supported { fact: name }
        } else {
            let more = if first > second { "more" } else { "not more" };
            Verdict::Unsupported {
                reason: format!("by the sheet the {name} is {more} than the {other_name}"),
                fact: Some(name),
            }
        })
    }

    fn of_classes(&self, rank: &Rank, dimension: Dimension) -> Option<Verdict> {
        let operands = Operands::find(self, rank)?;
        let negated = self.negated();
        if rank.majority && !negated {
            return self.majority(&operands);
        }
        let Side::Class(subject) = operands.subject else {
            return None;
        };
        let title = title(dimension, self.knowledge);
        let Some(own) = self.value(dimension, subject) else {
            return self.by_name(dimension, subject, rank, negated).or_else(|| {
                Some(Verdict::Unsupported {
                    fact: None,
                    reason: format!(
                        "the sheet does not compare the classes by {}",
                        if dimension == Dimension::Unmeasured {
                            "that"
                        } else {
                            &title
                        }
                    ),
                })
            });
        };
        let others: Vec<(f64, &str)> = match operands.object {
            Some(Side::Whole) => {
                let whole = self.whole(dimension)?;
                vec![(whole, "all")]
            }
            Some(Side::Class(object)) => vec![(
                self.value(dimension, object)?,
                self.knowledge.classes[object].name.as_str(),
            )],
            None => (0..self.knowledge.classes.len())
                .filter(|class| *class != subject)
                .filter_map(|class| {
                    Some((
                        self.value(dimension, class)?,
                        self.knowledge.classes[class].name.as_str(),
                    ))
                })
                .collect(),
        };
        if others.is_empty() {
            return None;
        }
        let holds = |other: f64| if rank.more { own > other } else { own < other };
        // In "neither side is longer" no side is.
        let every = others.iter().all(|(other, _)| holds(*other));
        if every != negated {
            return Some(Verdict::Supported { fact: title });
        }
        let shown = |value: f64| crate::sheet::figure(value, if dimension == Dimension::Confidence { 2 } else { 0 });
        let mut sides = vec![format!("{} for {}", shown(own), self.knowledge.classes[subject].name)];
        sides.extend(
            others
                .iter()
                .map(|(value, name)| format!("{} for {name}", shown(*value))),
        );
        Some(Verdict::Unsupported {
            reason: format!("the sheet says otherwise on the {title}: {}", sides.join(", ")),
            fact: Some(title),
        })
    }

    /// A sheet that has no figures by class may still name the class.
    fn by_name(&self, dimension: Dimension, subject: usize, rank: &Rank, negated: bool) -> Option<Verdict> {
        let (named, fact) = match dimension {
            Dimension::Frequency => (self.knowledge.leader?, "most frequent class"),
            Dimension::Length => (self.knowledge.longest?, "class with the longest reviews"),
            _ => return None,
        };
        let is = (named == subject) == rank.more;
        Some(if is != negated {
            Verdict::Supported { fact: fact.to_owned() }
        } else {
            Verdict::Unsupported {
                fact: Some(fact.to_owned()),
                reason: format!("the sheet's {fact} is {}", self.knowledge.classes[named].name),
            }
        })
    }

    /// The figure of a class in what is compared.
    pub(super) fn value(&self, dimension: Dimension, class: usize) -> Option<f64> {
        match dimension {
            Dimension::Frequency => self.knowledge.of_class(Topic::Frequency, Stat::None, class),
            Dimension::Length => self.knowledge.of_class(Topic::Length, Stat::Mean, class),
            Dimension::Confidence => self.knowledge.of_class(Topic::Confidence, Stat::Mean, class),
            Dimension::Other(fact) => {
                let facts = &self.knowledge.sheet.facts;
                let name = &facts.get(fact)?.name;
                let own = |known: &&super::knowledge::Known| match known.topic {
                    Topic::Other(other) => {
                        known.about == About::Class(class) && facts.get(other).is_some_and(|f| f.name == *name)
                    }
                    _ => false,
                };
                self.knowledge.known.iter().find(own).map(|known| known.value)
            }
            Dimension::Unmeasured => None,
        }
    }

    /// The figure of all in what is compared.
    fn whole(&self, dimension: Dimension) -> Option<f64> {
        let topic = match dimension {
            Dimension::Length => Topic::Length,
            Dimension::Confidence => Topic::Confidence,
            _ => return None,
        };
        let known = self.knowledge.known.iter();
        let mut known =
            known.filter(|known| known.topic == topic && known.about == About::Whole && known.stat == Stat::Mean);
        known
            .next()
            .map(|known| super::hedge::round(known.value, known.decimals))
    }

    /// More than half: of a class, or of the confident or uncertain.
    fn majority(&self, operands: &Operands) -> Option<Verdict> {
        let (share, title) = match operands.subject {
            Side::Class(class) => {
                let known = self.knowledge.known.iter().find(|known| {
                    known.topic == Topic::Frequency
                        && known.about == About::Class(class)
                        && known.unit == crate::sheet::Unit::Percent
                });
                match known {
                    Some(known) => (known.value, known.title.clone()),
                    None => return self.by_name(Dimension::Frequency, class, &Rank::MORE, false),
                }
            }
            Side::Whole => {
                let topic = operands.topic?;
                let known = self
                    .knowledge
                    .given(topic, Stat::None, About::Whole, crate::sheet::Unit::Percent)?;
                (known.value, known.title.clone())
            }
        };
        let fact = Some(title.clone());
        if share <= 50.0 {
            return Some(Verdict::Unsupported {
                fact,
                reason: format!("the sheet says {share:.1}% for the {title}: that is not a majority"),
            });
        }
        let overwhelming = self.after(0) == "overwhelmingly"
            || (1..=2).any(|back| matches!(self.before(back), "overwhelming" | "vast" | "overwhelmingly"));
        if overwhelming && share < 75.0 {
            return Some(Verdict::Unsupported {
                fact,
                reason: format!("the sheet says {share:.1}% for the {title}: that is not overwhelming"),
            });
        }
        Some(Verdict::Supported { fact: title })
    }
}

fn title(dimension: Dimension, knowledge: &Knowledge<'_>) -> String {
    match dimension {
        Dimension::Frequency => format!("number of {} of each class", knowledge.sheet.items),
        Dimension::Length => "mean length".to_owned(),
        Dimension::Confidence => "mean confidence".to_owned(),
        Dimension::Other(fact) => knowledge
            .sheet
            .facts
            .get(fact)
            .map_or_else(String::new, |fact| fact.name.clone()),
        Dimension::Unmeasured => String::new(),
    }
}

/// All classes but this one, if they are one.
pub(super) fn other(class: usize, knowledge: &Knowledge<'_>) -> Option<usize> {
    match labels::others(class, knowledge) {
        About::Class(class) => Some(class),
        _ => None,
    }
}
