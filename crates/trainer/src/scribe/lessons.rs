//! What the scribe is taught, and when.
//!
//! First to copy: short sheets of a few facts and quotations, whose answer repeats them. Then to write: whole critiques, at
//! first mostly without the critic's long system prompt, which is the same in all of them and costs time; at the end as they
//! will be asked for. Reviews as plain text are mixed in, so that quotations read like words and not like noise.

use rand::Rng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use understudy_grounding::prompt::{Message, Role};

use super::grammar::{Example, Material, example};
use super::tokenizer::{Part, Tokenizer, Tokens};

/// Shares of the run after which copying gives way to writing, and the short prompts to the whole ones.
const COPYING_UNTIL: f64 = 0.10;
const WRITING_FROM: f64 = 0.16;
const WHOLE_FROM: f64 = 0.80;
/// How often a whole critique has the system prompt before that.
const SYSTEM_EARLY: f64 = 0.3;
/// Of the lessons that are not critiques, later on.
const COPYING_LATER: f64 = 0.08;
const REVIEWS: f64 = 0.04;
/// How much tokens count that are copied, next to prose, much of which is chance; and those of reviews, most of which is.
const COPIED_WEIGHT: f32 = 3.0;
const REVIEW_WEIGHT: f32 = 0.1;
const REVIEW_BYTES: usize = 800;
/// Lines of a sheet to copy from.
const COPIED_LINES: std::ops::RangeInclusive<usize> = 2..=9;

/// Where lessons come from.
pub(crate) struct School<'a> {
    pub(crate) material: &'a Material,
    pub(crate) reviews: &'a [String],
    pub(crate) tokenizer: &'a Tokenizer,
}

impl School<'_> {
    /// One lesson at this point of the run, 0 to 1.
    pub(crate) fn lesson(&self, progress: f64, rng: &mut ChaCha8Rng) -> anyhow::Result<Tokens> {
        let writing = ((progress - COPYING_UNTIL) / (WRITING_FROM - COPYING_UNTIL)).clamp(0.0, 1.0);
        if rng.random_bool(REVIEWS) {
            return self.review(rng);
        }
        let Example {
            sheet,
            mut messages,
            answer,
        } = example(self.material, rng)?;
        if !rng.random_bool(writing * (1.0 - COPYING_LATER)) {
            return self.copying(&sheet.to_string(), rng);
        }
        let whole = if progress < WHOLE_FROM { SYSTEM_EARLY } else { 1.0 };
        if !rng.random_bool(whole) && messages.len() == 2 {
            messages.remove(0);
        }
        self.weighted(&messages, &answer)
    }

    fn weighted(&self, messages: &[Message], answer: &str) -> anyhow::Result<Tokens> {
        let mut tokens = self.tokenizer.conversation(messages, Some(answer))?;
        let weight = |part| if part == Part::Prose { 1.0 } else { COPIED_WEIGHT };
        tokens.weights = self.tokenizer.parts(&tokens)?.into_iter().map(weight).collect();
        Ok(tokens)
    }

    fn review(&self, rng: &mut ChaCha8Rng) -> anyhow::Result<Tokens> {
        let review = self.reviews.choose(rng).map_or("", String::as_str);
        let end = review
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| at >= REVIEW_BYTES)
            .unwrap_or(review.len());
        let mut tokens = self.tokenizer.plain(&review[..end])?;
        tokens.weights.fill(REVIEW_WEIGHT);
        Ok(tokens)
    }

    /// Some lines of a sheet in, the same figures and quotations in another order out.
    fn copying(&self, sheet: &str, rng: &mut ChaCha8Rng) -> anyhow::Result<Tokens> {
        let lines: Vec<&str> = sheet.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        let count = rng.random_range(COPIED_LINES);
        let mut chosen: Vec<&str> = lines.choose_multiple(rng, count).copied().collect();
        let question: Vec<String> = chosen.iter().map(|line| format!("- {line}\n")).collect();
        chosen.shuffle(rng);
        let answer: Vec<String> = chosen
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| match name.split_once(" (") {
                Some((class, _)) => format!("One {class} review says {value}"),
                None => format!("The {name} is {value}."),
            })
            .collect();
        let content = format!("Facts:\n{}\nWrite them again.", question.concat());
        self.weighted(
            &[Message {
                role: Role::User,
                content,
            }],
            &answer.join(" "),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests;
