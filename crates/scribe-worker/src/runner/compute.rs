//! What a turn computes, and the tokens that come of it.

use std::{sync::atomic::Ordering, time::Instant};

use llama_cpp_2::token::LlamaToken;

use super::Runner;
use crate::{
    engine::{EngineError, FinishReason},
    job::Job,
    model::Model,
    sampler::Scratch,
    schedule::{Budget, Work, plan},
};

/// Tokens of a slot that a turn computes.
pub(super) struct Part {
    slot: usize,
    tokens: usize,
    /// The row that chooses its next token.
    row: Option<i32>,
}

impl Runner<'_> {
    /// Fills the batch with what the plan says.
    pub(super) fn fill(&mut self) -> Vec<Part> {
        let pause = self.clients.any();
        let works: Vec<Work> = (0..self.slots.len()).map(|place| self.work(place, pause)).collect();
        // While clients have nothing here, copies have the turn for themselves. The next client waits for no more than a chunk.
        let batch = if pause {
            self.budget.batch
        } else {
            self.budget.chunk.max(self.slots.len())
        };
        let counts = plan(&works, Budget { batch, ..self.budget }, self.turn);
        self.batch.clear();
        let mut parts = Vec::with_capacity(counts.len());
        for (slot, tokens) in counts.into_iter().enumerate().filter(|(_, tokens)| *tokens > 0) {
            let row = self.put(slot, tokens);
            parts.push(Part { slot, tokens, row });
        }
        parts
    }

    /// What is to do for a slot; for copies nothing in a pause.
    pub(super) fn work(&self, place: usize, pause: bool) -> Work {
        match &self.slots[place] {
            None => Work::None,
            Some(slot) if pause && slot.is_shadow() => Work::None,
            Some(slot) if slot.token.is_some() => Work::Token,
            Some(slot) if slot.follows.is_some() => Work::None,
            Some(slot) => Work::Prompt(slot.job.prompt.len() - self.ledger.length(place)),
        }
    }

    /// Puts a slot's next tokens into the batch, and tells the row of the last one if it chooses a token.
    fn put(&mut self, place: usize, tokens: usize) -> Option<i32> {
        let slot = self.slots[place].as_ref()?;
        let (begin, sequence) = (self.ledger.length(place), i32::try_from(place).ok()?);
        let upcoming = match &slot.token {
            Some(token) => std::slice::from_ref(token),
            None => &slot.job.prompt[begin..begin + tokens],
        };
        let chooses = slot.token.is_some() || begin + tokens == slot.job.prompt.len();
        for (offset, &token) in upcoming.iter().enumerate() {
            let position = i32::try_from(begin + offset).ok()?;
            let row = chooses && offset + 1 == upcoming.len();
            // The plan keeps to the batch's size.
            self.batch
                .add(LlamaToken::new(i32::try_from(token).ok()?), position, &[sequence], row)
                .ok()?;
        }
        chooses.then(|| self.batch.n_tokens() - 1)
    }

    /// Computes the batch. If it fails, each part is tried by itself, so that only what cannot be computed fails.
    pub(super) fn compute(&mut self, parts: Vec<Part>) {
        match self.decode() {
            Ok(()) => self.computed(parts),
            Err(error) => {
                tracing::error!(error, "a batch failed; its parts are tried one by one");
                for part in &parts {
                    self.forget_half(part.slot);
                }
                for mut part in parts {
                    self.batch.clear();
                    part.row = self.put(part.slot, part.tokens);
                    match self.decode() {
                        Ok(()) => self.computed(vec![part]),
                        Err(error) => {
                            self.forget_half(part.slot);
                            self.fail(part.slot, EngineError::Failed(error));
                        }
                    }
                }
            }
        }
    }

    fn decode(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        self.context
            .decode(&mut self.batch)
            .map_err(|error| error.to_string())?;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.gauges.steps.fetch_add(1, Ordering::Relaxed);
        self.gauges.busy_micros.fetch_add(micros, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what a failed batch may have left of a slot's new tokens.
    fn forget_half(&mut self, slot: usize) {
        let sequence = u32::try_from(slot).ok();
        let kept = u32::try_from(self.ledger.length(slot)).ok();
        // It fails only for numbers that are not there.
        let _ = self.context.clear_kv_cache_seq(sequence, kept, None);
    }

    fn computed(&mut self, parts: Vec<Part>) {
        for part in parts {
            let Some(slot) = &mut self.slots[part.slot] else {
                continue;
            };
            let complete = match slot.token.take() {
                Some(token) => self.ledger.push(part.slot, token),
                None => {
                    let begin = self.ledger.length(part.slot);
                    self.gauges
                        .prompt_tokens
                        .fetch_add(part.tokens as u64, Ordering::Relaxed);
                    let tokens = &slot.job.prompt[begin..begin + part.tokens];
                    tokens.iter().all(|&token| self.ledger.push(part.slot, token))
                }
            };
            if !complete {
                self.fail(
                    part.slot,
                    EngineError::Failed("the KV cache's books are wrong".to_owned()),
                );
            } else if let Some(row) = part.row {
                self.next_token(part.slot, row);
            }
        }
    }

    fn next_token(&mut self, place: usize, row: i32) {
        let Some(slot) = &mut self.slots[place] else { return };
        let logits = self.context.get_logits_ith(row);
        let token = match choose(self.model, &mut slot.job, logits, &mut self.scratch) {
            Ok(token) => token,
            Err(error) => return self.fail(place, error),
        };
        if slot.first.is_none() {
            slot.first = Some(Instant::now());
            self.gauges
                .cached_tokens
                .fetch_add(slot.cached as u64, Ordering::Relaxed);
        }
        if self.model.ends(token) {
            return self.finish(place, FinishReason::End);
        }
        self.gauges.decode_tokens.fetch_add(1, Ordering::Relaxed);
        slot.generated += 1;
        let job = &mut slot.job;
        job.sampler.accept(token);
        let text = job.text.push(self.model.piece(token));
        job.outlet.text(text);
        let exhausted = job
            .matcher
            .as_ref()
            .is_some_and(|matcher| matcher.complete() && matcher.exhausted());
        if job.text.stopped() {
            self.finish(place, FinishReason::Stop);
        } else if exhausted {
            self.finish(place, FinishReason::End);
        } else if slot.generated >= job.max_tokens {
            self.finish(place, FinishReason::Length);
        } else {
            slot.token = Some(token);
        }
    }
}

/// The next token, as sampling and grammar have it.
fn choose(model: &Model, job: &mut Job, logits: &[f32], scratch: &mut Scratch) -> Result<u32, EngineError> {
    let numbers = || {
        let reason = "the model's output is not a number; its weights may be damaged";
        EngineError::Failed(reason.to_owned())
    };
    let Some(matcher) = &mut job.matcher else {
        return job.sampler.choose(logits, scratch, |_| true).ok_or_else(numbers);
    };
    matcher.begin_choice();
    let mut problem = None;
    let mut allowed = |token: u32| {
        let allowed = if model.ends(token) {
            Ok(matcher.complete())
        } else {
            matcher.allows(model.piece(token))
        };
        problem.is_none()
            && allowed.unwrap_or_else(|error| {
                problem = Some(error);
                false
            })
    };
    // Most often what the model wants is allowed, and then not the whole vocabulary need be looked at.
    let wanted = job.sampler.choose(logits, scratch, |_| true).ok_or_else(numbers)?;
    let token = if allowed(wanted) {
        Some(wanted)
    } else {
        job.sampler.choose(logits, scratch, &mut allowed)
    };
    let bad = |reason: String| EngineError::BadRequest {
        field: job.constraint,
        reason,
    };
    if let Some(problem) = problem {
        return Err(bad(problem.to_string()));
    }
    let token = token.ok_or_else(|| bad("allows no token of this model's vocabulary to follow".to_owned()))?;
    if !model.ends(token) {
        matcher
            .accept(model.piece(token))
            .map_err(|problem| bad(problem.to_string()))?;
    }
    Ok(token)
}
