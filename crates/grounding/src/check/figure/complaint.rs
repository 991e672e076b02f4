//! What is said of a figure that the sheet does not support.

use crate::check::Verdict;
use crate::check::clause::Hold;
use crate::check::knowledge::{About, Known, Origin};

use super::{Asked, in_unit};

impl Asked<'_, '_> {
    /// The figure as the text writes it.
    pub(super) fn quote(&self) -> String {
        let tokens = &self.reading.tokens[self.figure().tokens.clone()];
        let mut quote = String::new();
        let mut end = None;
        for token in tokens {
            if end.is_some_and(|end| end < token.range.start) {
                quote.push(' ');
            }
            quote.push_str(token.text);
            end = Some(token.range.end);
        }
        quote
    }

    pub(super) fn complain(&self, other: Option<&Known>) -> Verdict {
        let expected = self.expected();
        let figure = self.quote();
        let is = other.map(|known| format!(" ({} is the {})", known.shown(), known.title));
        let reason = match &expected {
            Some(known) => format!(
                "the sheet says {} for the {}, not {figure}{}",
                known.shown(),
                known.title,
                is.unwrap_or_default()
            ),
            None => match other {
                Some(known) => format!("{figure} is the sheet's figure for the {}, not for this", known.title),
                None => format!("no fact of the sheet says {figure}"),
            },
        };
        Verdict::Unsupported {
            fact: expected.map(|known| known.title.clone()),
            reason,
        }
    }

    /// The fact that the text seems to be about.
    fn expected(&self) -> Option<&Known> {
        let figure = self.figure();
        let mut best: Option<(u32, f64, &Known)> = None;
        for known in &self.knowledge.known {
            let given = matches!(known.kind, Origin::Given | Origin::Low | Origin::High);
            let Some((value, _)) = in_unit(figure, known) else {
                continue;
            };
            if !given || self.contradicts(known) || matches!(known.about, About::Quotation(_)) {
                continue;
            }
            let named = match known.about {
                About::Class(_) => self.context.hold == Hold::Strict,
                _ => self.context.hold == Hold::Free || self.context.whole,
            };
            let measured = self
                .context
                .measured
                .as_ref()
                .is_some_and(|measured| measured.topics.contains(&known.topic));
            let stat = self.context.stats.contains(&known.stat);
            let score = 2 * u32::from(named) + 2 * u32::from(measured) + 2 * u32::from(stat);
            let distance = (known.value - value).abs();
            let better = best.is_none_or(|(most, least, _)| score > most || score == most && distance < least);
            if better {
                best = Some((score, distance, known));
            }
        }
        best.map(|(_, _, known)| known)
    }
}
