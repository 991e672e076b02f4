//! Figures that are part of a name, and one half as the mark that an interval includes or not.

use crate::check::Verdict;
use crate::check::knowledge::{About, Known, Named, Origin, Topic};
use crate::check::number::{Form, Spoken};

use super::Asked;

impl Asked<'_, '_> {
    /// The 95 of "95% interval" and the 90 of "90th percentile".
    pub(super) fn name(&self) -> Option<Verdict> {
        let figure = self.figure();
        let named = match figure.form {
            Form::Level => Named::Level,
            Form::Percentile => Named::Percentile,
            _ => return None,
        };
        let known: Vec<_> = self.knowledge.names.iter().filter(|(_, kind)| *kind == named).collect();
        if known.iter().any(|(value, _)| (*value - figure.value).abs() < 1e-9) {
            let what = if named == Named::Level {
                "level of the interval"
            } else {
                "percentile"
            };
            return Some(Verdict::Supported { fact: what.to_owned() });
        }
        let reason = match (named, known.first()) {
            (Named::Level, Some((value, _))) => {
                format!("the sheet's intervals are {value}% intervals, not {}", self.quote())
            }
            (Named::Percentile, Some((value, _))) => {
                format!("the sheet has the {value}th percentile, not the {}", self.quote())
            }
            (_, None) => format!("the sheet has nothing on \"{}\"", self.quote()),
        };
        Some(Verdict::Unsupported { fact: None, reason })
    }

    /// Whether the figure's part of the sentence, between commas, says no.
    fn is_denied(&self) -> bool {
        let tokens = self.reading.tokens;
        let start = self.figure().tokens.start;
        let ends = |token: &&crate::check::token::Token<'_>| !token.among(", ;");
        let before = tokens[..start].iter().rev().take_while(ends);
        let mut around = before.chain(tokens[start..].iter().take_while(ends));
        around.any(|token| token.among("not never doesn't don't without neither"))
    }

    /// Whether an interval leaves one half open: "the interval includes 50%".
    pub(super) fn half_mark(&self) -> Option<Verdict> {
        let figure = self.figure();
        let interval = self
            .reading
            .topics
            .iter()
            .any(|label| label.what.topics.contains(&Topic::Interval));
        if !interval || (figure.value - 50.0).abs() > 1e-9 || figure.unit != Spoken::Percent {
            return None;
        }
        let class = self.context.classes.iter().find_map(|about| match about {
            About::Class(class) => Some(*class),
            _ => None,
        });
        let class = class.or(self.knowledge.leader)?;
        let end = |kind: Origin| {
            let of = |known: &&Known| {
                known.kind == kind && known.topic == Topic::Interval && known.about == About::Class(class)
            };
            self.knowledge.known.iter().find(of)
        };
        let (low, high) = (end(Origin::Low)?, end(Origin::High)?);
        let negated = self.is_denied();
        let (claimed, says) = if self.reading.has_word(
            "include includes including contain contains containing cross \
            crosses take takes taking allow allows straddle straddles span spans cover covers reach reaches sides",
        ) {
            (low.value <= 50.0 && high.value >= 50.0, "include")
        } else if self.reading.has_word("exclude excludes excluding") {
            (low.value > 50.0 || high.value < 50.0, "exclude")
        } else if self.reading.has_word("above over exceeds exceed") {
            (low.value > 50.0, "lie above")
        } else if self.reading.has_word("below under") {
            (
                if self.reading.has_word("entirely wholly whole lies stays") {
                    high.value < 50.0
                } else {
                    low.value < 50.0
                },
                "lie below",
            )
        } else {
            return None;
        };
        Some(if claimed == negated {
            Verdict::Unsupported {
                fact: Some(low.title.clone()),
                reason: format!(
                    "the sheet's {} is {} to {}: \"{says} 50%\" is said wrongly",
                    low.title,
                    low.shown(),
                    high.shown()
                ),
            }
        } else {
            Verdict::Supported {
                fact: low.title.clone(),
            }
        })
    }
}
