//! Carries out on llama.cpp's cache what the books say.
//!
//! Sequences are copied through the process's memory, as many cells as they use. llama.cpp's own copy between sequences
//! with separate cells takes all the cells that they might use.

use llama_cpp_2::{LlamaStateSeqFlags, SeqState};

use super::Runner;
use crate::{
    engine::{EngineError, Event},
    prefix::Op,
    schedule::Work,
};

/// Streams that do not follow each other in the cache are computed one group after the other, and each group reads all
/// weights. Moving a sequence costs about as much as that, so it waits for so many turns: others may end just then.
const SCATTERED_TURNS_MAX: usize = 2;

impl Runner<'_> {
    /// Moves streams that are computed in several groups, if that lasts.
    pub(super) fn gather(&mut self) {
        let pause = self.clients.any();
        let streams: Vec<usize> = (0..self.slots.len())
            .filter(|&place| self.work(place, pause) == Work::Token)
            .collect();
        let scattered = streams.windows(2).any(|pair| pair[0] + 1 != pair[1]);
        self.scattered = if scattered { self.scattered + 1 } else { 0 };
        if self.scattered > SCATTERED_TURNS_MAX {
            self.ledger.gather(&streams, &mut self.ops);
            self.apply_ops();
        }
    }

    /// Does to the cache what the books have done already. If that fails, what the cache holds is not known: it is emptied.
    pub(super) fn apply_ops(&mut self) {
        let ops = std::mem::take(&mut self.ops);
        if let Err(error) = self.carry_out(&ops) {
            tracing::error!(
                error,
                "a sequence of the KV cache cannot be copied; the cache is emptied"
            );
            for place in 0..self.slots.len() {
                if let Some(mut slot) = self.slots[place].take() {
                    slot.job.outlet.end(Event::Failed(EngineError::Failed(error.clone())));
                }
                self.ledger.discard(place, &mut self.ops);
            }
            self.ops.clear();
            self.context.clear_kv_cache();
        }
    }

    fn carry_out(&mut self, ops: &[Op]) -> Result<(), String> {
        // Several may follow one.
        let mut held: Option<(usize, SeqState)> = None;
        for op in ops {
            match *op {
                Op::Trim { sequence, tokens } => {
                    held = held.filter(|(from, _)| *from != sequence);
                    self.trim(sequence, tokens)?;
                }
                Op::Copy { from, to, tokens } => {
                    let state = match held.take() {
                        Some((number, state)) if number == from => state,
                        _ => self.state(from)?,
                    };
                    self.replace(to, &state)?;
                    self.trim(to, tokens)?;
                    held = Some((from, state));
                }
                Op::Swap(a, b) => {
                    held = None;
                    let (state_a, state_b) = (self.state(a)?, self.state(b)?);
                    self.replace(a, &state_b)?;
                    self.replace(b, &state_a)?;
                    self.slots.swap(a, b);
                }
            }
        }
        Ok(())
    }

    fn state(&self, sequence: usize) -> Result<SeqState, String> {
        let number = i32::try_from(sequence).map_err(|error| error.to_string())?;
        let state = self.context.state_seq_get(number, LlamaStateSeqFlags::empty());
        state.map_err(|error| error.to_string())
    }

    fn replace(&mut self, sequence: usize, state: &SeqState) -> Result<(), String> {
        self.trim(sequence, 0)?;
        let number = i32::try_from(sequence).map_err(|error| error.to_string())?;
        let replaced = self.context.state_seq_set(state, number);
        replaced.map_err(|error| error.to_string())
    }

    fn trim(&mut self, sequence: usize, tokens: usize) -> Result<(), String> {
        let number = |number: usize| u32::try_from(number).map_err(|error| error.to_string());
        let (sequence, tokens) = (number(sequence)?, number(tokens)?);
        let trimmed = self.context.clear_kv_cache_seq(Some(sequence), Some(tokens), None);
        trimmed.map(|_| ()).map_err(|error| error.to_string())
    }
}
