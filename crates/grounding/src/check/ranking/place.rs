//! "Positive reviews come first, negative ones a distant second": the place of a class by its frequency.

use std::ops::Range;

use crate::check::Verdict;
use crate::check::knowledge::About;

use super::{Dimension, Ranking};

/// Tokens between a class and its place.
const APART_TOKENS_MAX: usize = 12;
const PLACES: [&str; 3] = ["first", "second", "third"];

/// The verdict on this word, if it gives a class a place.
pub(super) fn judge(ranking: &Ranking<'_, '_>) -> Option<(Range<usize>, Verdict)> {
    let (reading, knowledge, at) = (ranking.reading, ranking.knowledge, ranking.at);
    let word = ranking.after(0);
    let classes = knowledge.classes.len();
    let rear = word == "rear" && ranking.before(1) == "the" && ranking.before(2) == "up";
    let place = if word == "last" || rear {
        classes.checked_sub(1)?
    } else {
        PLACES.iter().position(|place| *place == word)?
    };
    let comes = reading.tokens[..at].iter().any(|token| {
        token.among("come comes came coming rank ranks ranked finish finishes place placed bring brings brought")
    });
    let from = at.saturating_sub(APART_TOKENS_MAX);
    let between = |start: usize| {
        !reading.tokens[start..at]
            .iter()
            .any(|token| token.among("first second third last"))
    };
    let named = reading.classes.iter().rev().find(|label| {
        let start = label.tokens.start;
        // "The neutral reviews, not the negative ones, come second."
        let denied = reading.tokens[start.saturating_sub(2)..start]
            .iter()
            .any(|token| token.among("not than before after"));
        label.tokens.end <= at && start >= from && between(start) && !denied
    })?;
    let ends = matches!(
        ranking.after(1),
        "" | "." | "," | ";" | "and" | "with" | "in" | "at" | "by" | "place"
    );
    let About::Class(class) = named.what else { return None };
    if !comes || !ends || ranking.imagined() || place >= classes {
        return None;
    }
    let value = |class: usize| ranking.value(Dimension::Frequency, class);
    let own = value(class)?;
    let mut ahead = 0;
    for other in 0..classes {
        ahead += usize::from(value(other)? > own);
    }
    let fact = format!("number of {} of each class", knowledge.sheet.items);
    let verdict = if (ahead == place) != ranking.negated() {
        Verdict::Supported { fact }
    } else {
        Verdict::Unsupported {
            reason: format!(
                "by the {fact}, {} is at place {}, not {word}",
                knowledge.classes[class].name,
                ahead + 1
            ),
            fact: Some(fact),
        }
    };
    Some((at..at + 1, verdict))
}
