//! The loop: steps, evaluations, saving.
//!
//! Step n of a run depends on the recipe, the data and n only: batches follow from (seed, epoch), dropout from (seed, n). So a
//! resumed run does what the uninterrupted one would have done, bit for bit on one thread.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tch::Kind;

use super::inputs::{Examples, Validation};
use super::loss::Loss;
use super::{Outcome, TrainOptions};
use crate::batches;
use crate::interrupt::Stop;
use crate::lora;
use crate::model::{Model, seed_step};
use crate::optimizer::{AdamW, Settings};
use crate::parallel::World;
use crate::progress::{Progress, StepReport};
use crate::recipe::Precision;
use crate::schedule::LearningRate;
use crate::state::{self, Evaluation, RunState};
use crate::track::{self, Beginning, Tracker};

/// Folder of the latest checkpoints.
const CHECKPOINTS: &str = "checkpoints";

pub(super) struct Run<'a> {
    options: &'a TrainOptions,
    world: &'a World,
    model: &'a mut Model,
    examples: &'a Examples,
    validation: &'a Validation,
    loss: Loss<'a>,
    rate: LearningRate,
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
        world: &'a World,
        model: &'a mut Model,
        examples: &'a Examples,
        validation: &'a Validation,
        new: &RunState,
    ) -> anyhow::Result<Self> {
        let recipe = &new.recipe;
        let batches = examples.rows.len().div_ceil(recipe.batch_size);
        let steps_per_epoch = batches.div_ceil(recipe.gradient_accumulation) as u64;
        let total = ((recipe.epochs * steps_per_epoch as f64).round() as u64).max(1);
        let loss = Loss::new(examples, &model.network.config().labels, recipe)?;
        let rate = LearningRate::new(recipe, total);
        let mut optimizer = AdamW::new(&model.store, Settings::from(recipe))?.with_layer_decay(recipe.layer_decay);
        let resumed = options.resume.then_some(options.output.as_path());
        let state = state::begin(world, resumed, new, RunState::check_same, &mut optimizer)?;
        let progress = Progress::new(world.is_first(), total, state.step);
        let parameters: i64 = model
            .store
            .variables()
            .values()
            .filter(|v| v.requires_grad())
            .map(|v| v.size().iter().product::<i64>())
            .sum();
        let recipe = &state.recipe;
        progress.say(&format!(
            "{parameters} parameters to train; {total} steps of {} reviews in {} on {}{}, from step {}",
            recipe.batch_size * recipe.gradient_accumulation,
            match recipe.precision {
                Precision::Bf16 => "bf16",
                Precision::Fp32 | Precision::Auto => "fp32",
            },
            if model.device.is_cuda() {
                "CUDA"
            } else {
                "the processor"
            },
            world.described(),
            state.step
        ));
        let lengths = examples.rows.iter().map(Vec::len).collect();
        Ok(Self {
            options,
            world,
            model,
            examples,
            validation,
            loss,
            rate,
            optimizer,
            lengths,
            steps_per_epoch,
            total,
            state,
            progress,
        })
    }

    /// What is tracked of the run from its begin.
    pub(super) fn beginning(&self) -> anyhow::Result<Beginning> {
        Ok(Beginning {
            command: "train",
            output: self.options.output.clone(),
            parameters: track::parameters(&self.state.recipe.to_toml()?, &self.state.parent),
            data_sha256: self.state.data_sha256.clone(),
            resume_from: self.options.resume.then_some(self.state.step),
        })
    }

    pub(super) fn into_state(self) -> RunState {
        self.state
    }

    /// Steps until the end or until `stop`.
    pub(super) fn go(
        &mut self,
        stop: &Stop,
        tokenizer_json: &str,
        tracker: &mut Option<Tracker>,
    ) -> anyhow::Result<Outcome> {
        let save_every = Duration::from_secs(self.options.save_every);
        let mut saved = Instant::now();
        let mut epoch = None;
        let mut plan = Vec::new();
        while !self.is_over() {
            let now = self.state.step / self.steps_per_epoch;
            if epoch != Some(now) {
                plan = self.plan(now);
                epoch = Some(now);
            }
            let begun = Instant::now();
            let batches = &plan[usize::try_from(self.state.step % self.steps_per_epoch)?];
            let rate = self.rate.at(self.state.step);
            let loss = self.step(batches, rate)?;
            let taken = begun.elapsed();
            self.state.stepped(loss, rate, taken.as_secs_f64());
            let seen = batches.iter().flatten();
            let report = StepReport {
                step: self.state.step,
                loss,
                learning_rate: rate,
                texts: seen.clone().count(),
                tokens: seen.map(|&index| self.lengths[index]).sum(),
            };
            self.progress.step(report, taken);
            if let Some(tracker) = tracker
                && track::is_tracked(self.state.step, self.total)
            {
                let texts = report.texts as f64 / taken.as_secs_f64();
                let values = [
                    ("train/loss", loss),
                    ("train/learning_rate", rate),
                    ("train/texts_per_second", texts),
                ];
                tracker.metrics(self.state.step, &values);
            }
            if self.evaluation_due() {
                self.evaluate(tokenizer_json, tracker)?;
            }
            let stopping = self.world.any(stop.wanted()) && !self.is_over();
            if self.world.is_first() && (stopping || saved.elapsed() >= save_every) {
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

    fn is_over(&self) -> bool {
        self.state.step >= self.total || self.state.is_stuck()
    }

    /// The batches of each step of an epoch.
    fn plan(&self, epoch: u64) -> Vec<Vec<Vec<usize>>> {
        let recipe = &self.state.recipe;
        let batches = if recipe.group_by_length {
            batches::plan(&self.lengths, recipe.batch_size, recipe.seed, epoch)
        } else {
            batches::plan_ungrouped(self.lengths.len(), recipe.batch_size, recipe.seed, epoch)
        };
        batches
            .chunks(recipe.gradient_accumulation)
            .map(<[Vec<usize>]>::to_vec)
            .collect()
    }

    fn evaluation_due(&self) -> bool {
        let every = match self.state.recipe.evaluate_every {
            0 => self.steps_per_epoch,
            steps => steps as u64,
        };
        self.state.step.is_multiple_of(every) || self.state.step == self.total
    }

    /// One update by the gradients of all batches, of which each process computes its part. Returns the mean loss.
    fn step(&mut self, batches: &[Vec<usize>], learning_rate: f64) -> anyhow::Result<f64> {
        let step = self.state.step;
        seed_step(self.state.recipe.seed, step, self.world.rank());
        let texts = batches.iter().map(Vec::len).sum();
        let mut value = [0.0];
        for batch in batches {
            let batch = &self.world.share(batch);
            if batch.is_empty() {
                continue;
            }
            let rows: Vec<&[u32]> = batch
                .iter()
                .map(|&index| self.examples.rows[index].as_slice())
                .collect();
            let (ids, mask) = batches::tensors(&rows, self.model.network.config().pad_token_id, self.model.device)?;
            let loss = {
                let _autocast = self.state.recipe.precision.autocast(self.model.device)?;
                let (logits, hidden) = self.model.network.forward_with_hidden(&ids, &mask, true)?;
                let loss = self.loss.of(&logits.f_to_kind(Kind::Float)?, batch, texts)?;
                match self.loss.imitation(&hidden, batch, texts)? {
                    None => loss,
                    Some(more) => loss.f_add(&more)?,
                }
            };
            loss.f_backward()?;
            value[0] += loss.f_double_value(&[])?;
        }
        self.world.sum(&mut value);
        let [value] = value;
        ensure!(
            value.is_finite(),
            "the loss is not finite at step {step}: lower --learning-rate"
        );
        self.optimizer.step(self.world, step + 1, learning_rate)?;
        Ok(value)
    }

    /// Measures on the validation split and keeps the checkpoint if it is the best so far.
    fn evaluate(&mut self, tokenizer_json: &str, tracker: &mut Option<Tracker>) -> anyhow::Result<()> {
        let metrics = {
            let _autocast = self.state.recipe.precision.autocast(self.model.device)?;
            let (metrics, _) = self
                .validation
                .measure(self.world, self.model, self.state.recipe.evaluation_batch)?;
            metrics
        };
        let (sum, steps) = self.state.recent;
        let evaluation = Evaluation {
            step: self.state.step,
            epoch: self.state.step as f64 / self.steps_per_epoch as f64,
            train_loss: sum / steps as f64,
            accuracy: metrics.accuracy,
            f1: metrics.averages.f1,
            log_loss: metrics.log_loss,
            roc_auc: metrics.roc_auc,
            seconds: self.state.seconds,
        };
        if let Some(tracker) = tracker {
            tracker.metrics(
                evaluation.step,
                &[
                    ("validation/accuracy", evaluation.accuracy),
                    ("validation/f1", evaluation.f1),
                    ("validation/log_loss", evaluation.log_loss),
                    ("validation/roc_auc", evaluation.roc_auc.unwrap_or(f64::NAN)),
                    ("train/mean_loss", evaluation.train_loss),
                ],
            );
        }
        let best = self.state.evaluated(&evaluation);
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
        if best && self.world.is_first() {
            lora::save(self.model, &self.options.output, tokenizer_json)?;
        }
        if self.state.is_stuck() {
            self.progress.say(&format!(
                "no better one in {} evaluations: training ends",
                self.state.recipe.patience
            ));
        }
        self.keep_checkpoint(tokenizer_json)
    }

    /// Saves this step's checkpoint beside the best one and deletes the oldest of them.
    fn keep_checkpoint(&self, tokenizer_json: &str) -> anyhow::Result<()> {
        let most = self.state.recipe.keep_checkpoints;
        if most == 0 || !self.world.is_first() {
            return Ok(());
        }
        let all = self.options.output.join(CHECKPOINTS);
        let folder = all.join(format!("step-{:08}", self.state.step));
        if let Err(error) = lora::save(self.model, &folder, tokenizer_json) {
            // What is there of it would only be in the way.
            let _ = std::fs::remove_dir_all(&folder);
            return Err(error);
        }
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&all)? {
            let path = entry?.path();
            let is_step = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("step-"));
            if is_step {
                kept.push(path);
            }
        }
        kept.sort();
        for folder in kept.iter().rev().skip(most) {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot delete {}", folder.display()))?;
        }
        Ok(())
    }
}
