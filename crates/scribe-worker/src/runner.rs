//! The engine's loop: slots, and what a turn does with them. The decisions are in [`crate::prefix`] (who is admitted, with
//! what of its prompt computed already), [`crate::schedule`] (what a turn computes) and [`crate::sampler`]; this carries
//! them out.
//!
//! ```text
//! turn: drop what was cancelled or is late ─► admit ─► plan ─► one decode ─► a token for each finished row
//! ```
//!
//! A slot is a sequence of the cache, and has cells of its own for one request of any length that fits the context.
//!
//! Of llama.cpp's aborts, these are kept out of reach here: a batch beyond `n_batch` and a sequence beyond `n_seq_max` (both
//! are fixed with the context), reading a row that was not asked for, a partial copy between sequences (they are copied as
//! wholes, then trimmed), and a full cache.

mod cache;
mod compute;

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use llama_cpp_2::{
    context::{LlamaContext, params::LlamaContextParams},
    llama_batch::LlamaBatch,
    token::LlamaToken,
};

use crate::{
    backend::{Backend, Place},
    engine::{EngineError, Event, Finish, FinishReason, Gauges, Timings, Usage},
    job::Job,
    model::Model,
    prefix::{COPY_TOKENS_MIN, Ledger, Op, common},
    sampler::Scratch,
    schedule::Budget,
    spare::Clients,
};

/// A prompt's chunk beside running streams, as a part of the batch.
const CHUNK_DIVISOR: usize = 4;

/// Tokens of the batches that are computed before the first request.
const WARM_UP_TOKENS: [usize; 2] = [1, 32];

/// What an engine is built of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where to compute.
    pub place: Place,
    /// Streams at once.
    pub slots: usize,
    /// Cells of the KV cache that each has: at least a context's tokens.
    pub slot_cells: u32,
    /// Tokens computed at once.
    pub batch_tokens: u32,
    /// Threads.
    pub threads: u32,
    /// Those of all engines of this process.
    pub clients: Clients,
}

/// A context with its slots. It belongs to one thread.
pub struct Runner<'a> {
    model: &'a Model,
    context: LlamaContext<'a>,
    batch: LlamaBatch<'static>,
    budget: Budget,
    ledger: Ledger,
    slots: Vec<Option<Slot>>,
    queue: VecDeque<Job>,
    turn: usize,
    jobs: u64,
    /// Turns in a row whose streams did not follow each other in the cache.
    scattered: usize,
    scratch: Scratch,
    ops: Vec<Op>,
    gauges: Arc<Gauges>,
    clients: Clients,
}

struct Slot {
    job: Job,
    number: u64,
    /// Chosen, not computed.
    token: Option<u32>,
    /// The job whose prompt's beginning it waits for, by its number, and how much of it.
    follows: Option<(u64, usize)>,
    cached: usize,
    generated: usize,
    began: Instant,
    first: Option<Instant>,
}

impl Slot {
    fn is_shadow(&self) -> bool {
        self.job.shadow
    }
}

impl<'a> Runner<'a> {
    /// Makes the context and computes a little, so that the first request finds everything set up.
    ///
    /// # Errors
    /// If there is no memory for the context, or the model does not compute.
    pub fn new(backend: &Backend, model: &'a Model, setup: &Setup, gauges: Arc<Gauges>) -> Result<Self, String> {
        let slots = u32::try_from(setup.slots).map_err(|error| error.to_string())?;
        let threads = i32::try_from(setup.threads).unwrap_or(1);
        let device = setup.place != Place::Cpu;
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(setup.slot_cells.saturating_mul(slots)))
            .with_n_batch(setup.batch_tokens)
            .with_n_ubatch(setup.batch_tokens)
            .with_n_seq_max(slots)
            // Attention goes through all cells of a cache that sequences share, also through those of others.
            .with_kv_unified(false)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_offload_kqv(device)
            .with_op_offload(device)
            .with_no_perf(true);
        let context = model.llama.new_context(&backend.llama, params).map_err(|error| {
            format!(
                "llama.cpp makes no context of {slots} times {} tokens for it ({error}); the log has its words",
                setup.slot_cells
            )
        })?;
        let cells = context.n_ctx();
        let batch = context.n_batch() as usize;
        let mut runner = Self {
            model,
            batch: LlamaBatch::new(batch, 1),
            budget: Budget {
                batch,
                chunk: (batch / CHUNK_DIVISOR).max(1),
            },
            ledger: Ledger::new(setup.slots, (cells / slots.max(1)) as usize),
            slots: (0..setup.slots).map(|_| None).collect(),
            queue: VecDeque::new(),
            turn: 0,
            jobs: 0,
            scattered: 0,
            scratch: Scratch::default(),
            ops: Vec::new(),
            gauges,
            clients: setup.clients.clone(),
            context,
        };
        runner.gauges.kv_cells.store(cells.into(), Ordering::Relaxed);
        runner.warm_up()?;
        Ok(runner)
    }

    fn warm_up(&mut self) -> Result<(), String> {
        for tokens in WARM_UP_TOKENS.map(|tokens| tokens.min(self.budget.batch)) {
            self.batch.clear();
            for place in 0..tokens {
                let position = i32::try_from(place).unwrap_or(0);
                let added = self.batch.add(LlamaToken::new(0), position, &[0], place + 1 == tokens);
                added.map_err(|error| error.to_string())?;
            }
            let computed = self.context.decode(&mut self.batch);
            computed.map_err(|error| format!("the model does not compute: {error}"))?;
            self.context.clear_kv_cache();
        }
        Ok(())
    }

    /// Takes a job into the queue.
    pub fn add(&mut self, mut job: Job) {
        job.counted = (!job.shadow).then(|| self.clients.enter());
        self.queue.push_back(job);
    }

    /// Nothing runs or waits.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.queue.is_empty() && self.slots.iter().all(Option::is_none)
    }

    /// One turn; `now` is its beginning. False if there was nothing to compute.
    pub fn turn(&mut self, now: Instant) -> bool {
        self.drop_dead(now);
        self.admit(now);
        self.follow();
        self.gather();
        let parts = self.fill();
        let computes = !parts.is_empty();
        if computes {
            self.compute(parts);
        }
        self.turn = self.turn.wrapping_add(1);
        let busy = self.slots.iter().flatten().count();
        self.gauges.slots_busy.store(busy as u64, Ordering::Relaxed);
        self.gauges.kv_used.store(self.ledger.used() as u64, Ordering::Relaxed);
        computes
    }

    /// Cancelled jobs go without a word, late ones are told.
    fn drop_dead(&mut self, now: Instant) {
        let dead = |job: &mut Job| {
            let late = job.deadline.is_some_and(|deadline| deadline <= now);
            if late && !job.outlet.closed() {
                job.outlet.end(Event::Failed(EngineError::Deadline));
            }
            late || job.outlet.closed()
        };
        self.queue.retain_mut(|job| !dead(job));
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_mut().is_some_and(|slot| dead(&mut slot.job)) {
                self.free(slot, true);
            }
        }
    }

    /// Clients' requests in their order, then copies. A copy leaves a slot free, never waits, and gives way.
    fn admit(&mut self, now: Instant) {
        while !self.queue.is_empty() {
            let next = self.queue.iter().position(|job| !job.shadow).unwrap_or(0);
            let shadow = self.queue[next].shadow;
            let free = self.slots.iter().filter(|slot| slot.is_none()).count();
            if !(shadow && free < 2.min(self.slots.len())) && self.admit_one(next, now) {
                continue;
            }
            let copy = |slot: &Option<Slot>| slot.as_ref().is_some_and(Slot::is_shadow);
            if shadow {
                self.refuse(next, EngineError::NoSpare);
            } else if let Some(copy) = self.slots.iter().position(copy) {
                if let Some(slot) = &mut self.slots[copy] {
                    slot.job.outlet.end(Event::Failed(EngineError::NoSpare));
                }
                self.free(copy, true);
            } else {
                return;
            }
        }
    }

    fn refuse(&mut self, place: usize, error: EngineError) {
        if let Some(mut job) = self.queue.remove(place) {
            job.outlet.end(Event::Failed(error));
        }
    }

    /// Gives a waiting job a slot. False if there is none.
    fn admit_one(&mut self, place: usize, now: Instant) -> bool {
        let Some(job) = self.queue.get(place) else { return false };
        let Some(admitted) = self.ledger.admit(&job.prompt, &mut self.ops) else {
            return false;
        };
        let Some(mut job) = self.queue.remove(place) else {
            return false;
        };
        job.queued = None;
        self.jobs += 1;
        self.slots[admitted.sequence] = Some(Slot {
            follows: self.leader(&job, admitted.cached),
            job,
            number: self.jobs,
            token: None,
            cached: admitted.cached,
            generated: 0,
            began: now,
            first: None,
        });
        self.apply_ops();
        true
    }

    /// The job that is about to compute what this prompt begins with.
    fn leader(&self, job: &Job, cached: usize) -> Option<(u64, usize)> {
        let most = job.prompt.len().saturating_sub(1);
        let running = self.slots.iter().flatten();
        let alike = running
            // A copy may have to wait, and nobody with it.
            .filter(|slot| job.shadow || !slot.is_shadow())
            .map(|slot| (common(&slot.job.prompt, &job.prompt[..most]), slot.number));
        let (tokens, number) = alike.max()?;
        (tokens >= cached + COPY_TOKENS_MIN).then_some((number, tokens))
    }

    /// Gives followers what their leaders have computed. One whose leader has ended takes what is there.
    fn follow(&mut self) {
        for place in 0..self.slots.len() {
            let Some((number, tokens)) = self.slots[place].as_ref().and_then(|slot| slot.follows) else {
                continue;
            };
            let leader = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.number == number);
            let leads = self.slots.iter().position(leader);
            if leads.is_some_and(|leader| self.ledger.length(leader) < tokens) {
                continue;
            }
            if let Some(slot) = &mut self.slots[place] {
                slot.follows = None;
                slot.cached = self.ledger.reuse(place, &slot.job.prompt, &mut self.ops);
            }
        }
        self.apply_ops();
    }

    fn finish(&mut self, place: usize, reason: FinishReason) {
        let Some(slot) = &mut self.slots[place] else { return };
        let rest = slot.job.text.finish();
        slot.job.outlet.text(rest);
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (now, first) = (Instant::now(), slot.first.unwrap_or(slot.began));
        let finish = Finish {
            // What was held back may have had the stop string in it.
            reason: if slot.job.text.stopped() {
                FinishReason::Stop
            } else {
                reason
            },
            usage: Usage {
                prompt: narrow(slot.job.prompt.len()),
                cached: narrow(slot.cached),
                completion: narrow(slot.generated),
            },
            timings: Timings {
                queue: slot.began.saturating_duration_since(slot.job.queued_at),
                prompt: first.saturating_duration_since(slot.began),
                decode: now.saturating_duration_since(first),
            },
        };
        slot.job.outlet.end(Event::Finished(finish));
        self.free(place, true);
    }

    fn fail(&mut self, place: usize, error: EngineError) {
        if let Some(slot) = &mut self.slots[place] {
            slot.job.outlet.end(Event::Failed(error));
        }
        self.free(place, false);
    }

    /// Empties a slot. What it computed is kept for others unless it is in doubt.
    fn free(&mut self, place: usize, keep: bool) {
        self.slots[place] = None;
        if keep {
            self.ledger.finish(place);
        } else {
            self.ledger.discard(place, &mut self.ops);
            self.apply_ops();
        }
    }
}
