//! Which attempts a critique takes, and which is delivered (pure).
//!
//! ```text
//! write ─► draft ─► unsupported claims, or no text? ── no ──► deliver it
//!   ▲                     │ yes
//!   │                     ├── attempts left ─► ask to revise this draft; if that does not fit into the
//!   └─────────────────────┘                    context, ask afresh with another seed
//!                         └── none left ─────► deliver the best: most to read, fewest unsupported, earliest
//! ```
//!
//! A draft that was cut off at its last token loses the sentence that it did not complete. That alone is no reason for
//! another attempt, which would be cut off too.

use understudy_grounding::{Report, prompt};

use crate::{
    engine::{FinishReason, Message, Sampling},
    request::CritiqueTask,
};

/// Most tokens of a revision unless the request says otherwise: what an attempt has by default. It is said outright, so that
/// a revision is not squeezed into what little room its prompt leaves.
const REVISION_TOKENS: u32 = 512;

/// A text with what the check says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Which attempt it was, from 1.
    pub number: u32,
    /// What was written; without the sentence that it broke off in.
    pub text: String,
    /// On this text.
    pub report: Report,
}

/// The attempts at a critique.
#[derive(Debug)]
pub struct Drafts {
    attempts_max: u32,
    made: Vec<Draft>,
}

/// What is asked of the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The conversation.
    pub messages: Vec<Message>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens.
    pub max_tokens: Option<u32>,
}

impl Drafts {
    /// None yet.
    #[must_use]
    pub fn new(attempts_max: u32) -> Self {
        Self {
            attempts_max,
            made: Vec::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.made.len()).unwrap_or(u32::MAX)
    }

    /// Takes in a text that was checked, and gives it back if another attempt is worth while and allowed.
    pub fn add(&mut self, text: String, report: Report) -> Option<&Draft> {
        let number = self.count().saturating_add(1);
        self.made.push(Draft { number, text, report });
        let draft = self.made.last()?;
        let mend = draft.text.trim().is_empty() || draft.report.unsupported() > 0;
        (mend && number < self.attempts_max).then_some(draft)
    }

    /// The one to deliver: one with text before one without, then the fewest unsupported claims, then the earliest.
    #[must_use]
    pub fn best(self) -> Option<Draft> {
        let rank = |draft: &Draft| (draft.text.trim().is_empty(), draft.report.unsupported(), draft.number);
        self.made.into_iter().min_by_key(rank)
    }
}

/// The first attempt.
#[must_use]
pub fn first(task: &CritiqueTask) -> Ask {
    attempt(task, 1)
}

/// What to ask after a draft, the better one first: what does not fit into the context is passed over. Nothing if all that
/// would give the same text again.
#[must_use]
pub fn next(task: &CritiqueTask, draft: &Draft) -> Vec<Ask> {
    let number = draft.number.saturating_add(1);
    let has_text = !draft.text.trim().is_empty();
    let revision = has_text.then(|| Ask {
        messages: prompt::revision(&task.sheet, &draft.text, &draft.report.complaints()),
        sampling: seeded(task.sampling, number),
        max_tokens: Some(task.max_tokens.unwrap_or(REVISION_TOKENS)),
    });
    let draws = task.sampling.temperature > 0.0;
    revision
        .into_iter()
        .chain(draws.then(|| attempt(task, number)))
        .collect()
}

fn attempt(task: &CritiqueTask, number: u32) -> Ask {
    Ask {
        messages: prompt::critique(&task.sheet),
        sampling: seeded(task.sampling, number),
        max_tokens: task.max_tokens,
    }
}

fn seeded(sampling: Sampling, number: u32) -> Sampling {
    Sampling {
        seed: sampling.seed.wrapping_add(number.saturating_sub(1)),
        ..sampling
    }
}

/// What of a text counts: if it was cut off, not the sentence that it broke off in.
#[must_use]
pub fn whole_sentences(text: &str, reason: FinishReason) -> &str {
    match reason {
        FinishReason::End | FinishReason::Stop => text,
        FinishReason::Length => &text[..sentences_end(text)],
    }
}

/// Where the last complete sentence ends, with quotation marks and brackets that close after it.
fn sentences_end(text: &str) -> usize {
    let ends = text.char_indices().filter(|(_, c)| matches!(c, '.' | '!' | '?' | '…'));
    let mut ends = ends.filter_map(|(at, mark)| {
        let rest = &text[at + mark.len_utf8()..];
        let after = rest.trim_start_matches(['"', '\'', '”', '’', '»', ')', ']']);
        let end = text.len() - after.len();
        let digit_before = text[..at].ends_with(|c: char| c.is_ascii_digit());
        // "54." at the very end may have been on its way to "54.1".
        let complete = match after.chars().next() {
            Some(next) => next.is_whitespace(),
            None => !(mark == '.' && digit_before && end == at + 1),
        };
        complete.then_some(end)
    });
    ends.next_back().unwrap_or(0)
}

#[cfg(test)]
mod tests;
