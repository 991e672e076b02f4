//! The loop: steps, evaluations, saving.
//!
//! Step n of a run depends on the recipe, the data and n only: batches follow from (seed, epoch), dropout from (seed, n). So a
//! resumed run does what the uninterrupted one would have done, bit for bit on one thread.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tch::Kind;
use understudy_distilbert::{CpuAutocast, network};

use super::{Examples, Outcome, TrainOptions, Validation, loss};
use crate::batches;
use crate::interrupt::Stop;
use crate::model::Model;
use crate::optimizer::{AdamW, Settings};
use crate::progress::{Progress, StepReport};
use crate::recipe::Precision;
use crate::state::{self, Evaluation, RunState};

pub(super) struct Run<'a> {
    options: &'a TrainOptions,
    model: &'a mut Model,
    examples: &'a Examples,
    validation: &'a Validation,
    optimizer: AdamW,
    lengths: Vec<usize>,
    steps_per_epoch: u64,
    total: u64,
    state: RunState,
    progress: Progress,
}

impl<'a> Run<'a> {
    /// A new run, or with `--resume` the interrupted one.
    #[expect(clippy::cast_possible_truncation, reason = "checked positive, small")]
    pub(super) fn begin(
        options: &'a TrainOptions,
        model: &'a mut Model,
        examples: &'a Examples,
        validation: &'a Validation,
        mut state: RunState,
    ) -> anyhow::Result<Self> {
        let steps_per_epoch = examples.rows.len().div_ceil(state.recipe.batch_size) as u64;
        let total = ((state.recipe.epochs * steps_per_epoch as f64).round() as u64).max(1);
        let mut optimizer = AdamW::new(&model.store, Settings::from(&state.recipe))?;
        if options.resume
            && let Some((saved, tensors)) = state::load(&options.output)?
        {
            saved.check_same(&state)?;
            optimizer
                .restore(&tensors)
                .with_context(|| state::path(&options.output).display().to_string())?;
            state = saved;
        }
        let progress = Progress::new(total, state.step);
        let parameters: i64 = model
            .store
            .trainable_variables()
            .iter()
            .map(|v| v.size().iter().product::<i64>())
            .sum();
        progress.say(&format!(
            "{parameters} parameters; {total} steps of {} reviews, from step {}",
            state.recipe.batch_size, state.step
        ));
        let lengths = examples.rows.iter().map(Vec::len).collect();
        Ok(Self {
            options,
            model,
            examples,
            validation,
            optimizer,
            lengths,
            steps_per_epoch,
            total,
            state,
            progress,
        })
    }

    pub(super) fn into_state(self) -> RunState {
        self.state
    }

    /// Steps until the end or until `stop`.
    pub(super) fn go(&mut self, stop: &Stop, tokenizer_json: &str) -> anyhow::Result<Outcome> {
        let save_every = Duration::from_secs(self.options.save_every);
        let mut saved = Instant::now();
        let mut epoch = None;
        let mut plan = Vec::new();
        while self.state.step < self.total {
            let now = self.state.step / self.steps_per_epoch;
            if epoch != Some(now) {
                plan = batches::plan(&self.lengths, self.state.recipe.batch_size, self.state.recipe.seed, now);
                epoch = Some(now);
            }
            let batch = &plan[usize::try_from(self.state.step % self.steps_per_epoch)?];
            let begun = Instant::now();
            let loss = self.step(batch)?;
            let taken = begun.elapsed();
            self.state.step += 1;
            self.state.seconds += taken.as_secs_f64();
            let tokens = batch.iter().map(|&index| self.lengths[index]).sum();
            self.progress.step(
                StepReport {
                    step: self.state.step,
                    loss,
                    texts: batch.len(),
                    tokens,
                },
                taken,
            );
            if self.evaluation_due() {
                self.evaluate(tokenizer_json)?;
            }
            let stopping = stop.wanted() && self.state.step < self.total;
            if stopping || saved.elapsed() >= save_every {
                state::save(&self.options.output, &self.state, self.optimizer.state())?;
                saved = Instant::now();
            }
            if stopping {
                self.progress.finish();
                return Ok(Outcome::Interrupted);
            }
        }
        self.progress.finish();
        Ok(Outcome::Finished)
    }

    fn evaluation_due(&self) -> bool {
        let every = match self.state.recipe.evaluate_every {
            0 => self.steps_per_epoch,
            steps => steps as u64,
        };
        self.state.step.is_multiple_of(every) || self.state.step == self.total
    }

    /// Rises, then falls to 0 at the end.
    fn learning_rate(&self) -> f64 {
        let recipe = &self.state.recipe;
        let done = (self.state.step + 1) as f64 / (self.total + 1) as f64;
        let share = if done < recipe.warm_up {
            done / recipe.warm_up
        } else {
            (1.0 - done) / (1.0 - recipe.warm_up)
        };
        recipe.learning_rate * share
    }

    /// One update. Returns the loss.
    fn step(&mut self, batch: &[usize]) -> anyhow::Result<f64> {
        let step = self.state.step;
        tch::manual_seed(i64::from_ne_bytes(
            (self.state.recipe.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step).to_ne_bytes(),
        ));
        let rows: Vec<&[u32]> = batch
            .iter()
            .map(|&index| self.examples.rows[index].as_slice())
            .collect();
        let (ids, mask) = batches::tensors(&rows, self.model.network.config().pad_token_id, self.model.device)?;
        let loss = {
            let _autocast = match self.state.recipe.precision {
                Precision::Fp32 => None,
                Precision::Bf16 => Some(CpuAutocast::bf16()?),
            };
            let logits = self.model.network.forward(&ids, &mask, true)?.f_to_kind(Kind::Float)?;
            loss::of(&logits, self.examples, batch, &self.state.recipe)?
        };
        let value = loss.f_double_value(&[])?;
        ensure!(
            value.is_finite(),
            "the loss is not finite at step {step}: lower --learning-rate"
        );
        loss.f_backward()?;
        let rate = self.learning_rate();
        self.optimizer.step(step + 1, rate)?;
        Ok(value)
    }

    /// Measures on the validation split and keeps the checkpoint if it is the best so far.
    fn evaluate(&mut self, tokenizer_json: &str) -> anyhow::Result<()> {
        let (metrics, _) = self.validation.measure(self.model)?;
        let evaluation = Evaluation {
            step: self.state.step,
            epoch: self.state.step as f64 / self.steps_per_epoch as f64,
            train_loss: self.progress.loss(),
            accuracy: metrics.accuracy,
            f1: metrics.averages.f1,
            log_loss: metrics.log_loss,
            seconds: self.state.seconds,
        };
        let best = self.state.best.as_ref().is_none_or(|best| evaluation.beats(best));
        self.progress.say(&format!(
            "step {}, epoch {:.2}: validation accuracy {:.4}, F1 {:.4}, log loss {:.4}; {:.0} s{}",
            evaluation.step,
            evaluation.epoch,
            evaluation.accuracy,
            evaluation.f1,
            evaluation.log_loss,
            evaluation.seconds,
            if best { "; the best so far" } else { "" }
        ));
        if best {
            let config = self.model.network.config();
            network::save_checkpoint(&self.options.output, config, &self.model.store, tokenizer_json)?;
            self.state.best = Some(evaluation.clone());
        }
        self.state.history.push(evaluation);
        Ok(())
    }
}
