//! The loop: steps, evaluations, saving.
//!
//! As in `train`, step n depends on the recipe, the data and n only, so that a resumed run does what the uninterrupted one
//! would have done, bit for bit on one thread.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor, no_grad};
use understudy_distilbert::network;

use super::masking::{Masked, Masking};
use super::recipe::PretrainRecipe;
use super::texts::Rows;
use super::{Language, PretrainOptions};
use crate::batches;
use crate::interrupt::Stop;
use crate::model::seed_step;
use crate::optimizer::{AdamW, Settings};
use crate::parallel::World;
use crate::progress::{Progress, StepReport};
use crate::schedule::LearningRate;
use crate::state;
use crate::track::{self, Beginning, Tracker};
use crate::train::Outcome;

/// The held-out texts are masked in the same way each time, and as no step's are.
const HELD_OUT: u64 = 1 << 63;

/// One evaluation on held-out texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Prediction {
    pub(super) step: u64,
    pub(super) epoch: f64,
    pub(super) train_loss: f64,
    /// Mean cross entropy of the asked tokens, in nats.
    pub(super) loss: f64,
    /// Share of the asked tokens that are told right.
    pub(super) accuracy: f64,
    /// Time spent on steps so far.
    pub(super) seconds: f64,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PretrainState {
    pub(super) recipe: PretrainRecipe,
    pub(super) parent: String,
    pub(super) data_sha256: BTreeMap<String, String>,
    /// Steps done.
    pub(super) step: u64,
    pub(super) seconds: f64,
    /// Sum and number of the losses since the last evaluation.
    recent: (f64, u64),
    pub(super) history: Vec<Prediction>,
    pub(super) best: Option<Prediction>,
}

impl PretrainState {
    /// Before the first step.
    pub(super) fn new(recipe: PretrainRecipe, parent: String, data_sha256: BTreeMap<String, String>) -> Self {
        Self {
            recipe,
            parent,
            data_sha256,
            step: 0,
            seconds: 0.0,
            recent: (0.0, 0),
            history: Vec::new(),
            best: None,
        }
    }

    /// Refuses to go on with another recipe, parent or other data than it began with.
    fn check_same(&self, now: &Self) -> anyhow::Result<()> {
        ensure!(
            (&self.parent, &self.data_sha256) == (&now.parent, &now.data_sha256),
            "the interrupted run had the parent {:?} and the data {:?}, this one {:?} and {:?}: give the same, or another --output",
            self.parent,
            self.data_sha256,
            now.parent,
            now.data_sha256
        );
        state::check_same_recipe(&self.recipe, &now.recipe)
    }
}

pub(super) struct Run<'a> {
    options: &'a PretrainOptions,
    world: &'a World,
    language: &'a mut Language,
    rows: &'a Rows,
    masking: &'a Masking,
    rate: LearningRate,
    optimizer: AdamW,
    lengths: Vec<usize>,
    steps_per_epoch: u64,
    total: u64,
    state: PretrainState,
    progress: Progress,
}

impl<'a> Run<'a> {
    /// A new run, or with `--resume` the interrupted one.
    #[expect(clippy::cast_possible_truncation, reason = "checked positive, small")]
    pub(super) fn begin(
        options: &'a PretrainOptions,
        world: &'a World,
        language: &'a mut Language,
        rows: &'a Rows,
        masking: &'a Masking,
        new: &PretrainState,
    ) -> anyhow::Result<Self> {
        let recipe = &new.recipe;
        let steps_per_epoch = rows.train.len().div_ceil(recipe.batch_size) as u64;
        let total = ((recipe.epochs * steps_per_epoch as f64).round() as u64).max(1);
        let rate = LearningRate::with(recipe.learning_rate, recipe.warm_up, recipe.schedule, total);
        let settings = Settings {
            beta1: recipe.beta1,
            beta2: recipe.beta2,
            weight_decay: recipe.weight_decay,
            clip: recipe.clip,
        };
        let mut optimizer = AdamW::new(&language.store, settings)?;
        let resumed = options.resume.then_some(options.output.as_path());
        let state = state::begin(world, resumed, new, PretrainState::check_same, &mut optimizer)?;
        let progress = Progress::new(world.is_first(), total, state.step);
        let lengths: Vec<usize> = rows.train.iter().map(Vec::len).collect();
        let parameters: usize = language.store.trainable_variables().iter().map(Tensor::numel).sum();
        progress.say(&format!(
            "{parameters} parameters; {} windows, {} tokens; {total} steps of {} windows{}, from step {}",
            lengths.len(),
            lengths.iter().sum::<usize>(),
            state.recipe.batch_size,
            world.described(),
            state.step
        ));
        Ok(Self {
            options,
            world,
            language,
            rows,
            masking,
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
            command: "pretrain",
            output: self.options.output.clone(),
            parameters: track::parameters(&toml::to_string(&self.state.recipe)?, &self.state.parent),
            data_sha256: self.state.data_sha256.clone(),
            resume_from: self.options.resume.then_some(self.state.step),
        })
    }

    pub(super) fn into_state(self) -> PretrainState {
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
        while self.state.step < self.total {
            let now = self.state.step / self.steps_per_epoch;
            if epoch != Some(now) {
                plan = batches::plan(&self.lengths, self.state.recipe.batch_size, self.state.recipe.seed, now);
                epoch = Some(now);
            }
            let batch = &plan[usize::try_from(self.state.step % self.steps_per_epoch)?];
            let begun = Instant::now();
            let learning_rate = self.rate.at(self.state.step);
            let loss = self.step(batch, learning_rate)?;
            let taken = begun.elapsed();
            self.state.step += 1;
            self.state.seconds += taken.as_secs_f64();
            self.state.recent = (self.state.recent.0 + loss, self.state.recent.1 + 1);
            let report = StepReport {
                step: self.state.step,
                loss,
                learning_rate,
                texts: batch.len(),
                tokens: batch.iter().map(|&index| self.lengths[index]).sum(),
            };
            self.progress.step(report, taken);
            if let Some(tracker) = tracker
                && track::is_tracked(self.state.step, self.total)
            {
                let values = [
                    ("train/loss", loss),
                    ("train/learning_rate", learning_rate),
                    ("train/tokens_per_second", report.tokens as f64 / taken.as_secs_f64()),
                ];
                tracker.metrics(self.state.step, &values);
            }
            if self.evaluation_due() {
                self.evaluate(tokenizer_json, tracker)?;
            }
            let stopping = self.world.any(stop.wanted()) && self.state.step < self.total;
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

    fn evaluation_due(&self) -> bool {
        let every = match self.state.recipe.evaluate_every {
            0 => self.steps_per_epoch,
            steps => steps as u64,
        };
        self.state.step.is_multiple_of(every) || self.state.step == self.total
    }

    /// One update by the gradients of a batch, of which each process computes its part. Returns the mean loss.
    fn step(&mut self, batch: &[usize], learning_rate: f64) -> anyhow::Result<f64> {
        let step = self.state.step;
        seed_step(self.state.recipe.seed, step, self.world.rank());
        let rows: Vec<&[u32]> = batch.iter().map(|&index| self.rows.train[index].as_slice()).collect();
        let masked = self.masking.hide(&rows, step);
        let own = masked.of(&self.world.share(&(0..rows.len()).collect::<Vec<_>>()));
        let mut value = [0.0];
        if !own.asked.is_empty() {
            let (logits, truth) = self.predict(&own, true)?;
            let loss = cross_entropy(&logits, &truth)?.f_div_scalar(masked.asked.len() as f64)?;
            loss.f_backward()?;
            value = [loss.f_double_value(&[])?];
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

    /// Logits of the asked tokens, and these.
    fn predict(&self, masked: &Masked, train: bool) -> anyhow::Result<(Tensor, Tensor)> {
        let rows: Vec<&[u32]> = masked.rows.iter().map(Vec::as_slice).collect();
        let device = self.language.device;
        let (ids, mask) = batches::tensors(&rows, self.language.network.config().pad_token_id, device)?;
        let longest = usize::try_from(ids.size2()?.1)?;
        let places: Vec<i64> = masked
            .asked
            .iter()
            .map(|&(row, position)| i64::try_from(row * longest + position))
            .collect::<Result<_, _>>()?;
        let truth: Vec<i64> = masked.truth.iter().map(|&id| i64::from(id)).collect();
        let on_device =
            |values: &[i64]| -> anyhow::Result<Tensor> { Ok(Tensor::f_from_slice(values)?.f_to_device(device)?) };
        let places = on_device(&places)?;
        let _autocast = self.state.recipe.precision.autocast(device)?;
        let logits = self.language.network.forward(&ids, &mask, &places, train)?;
        Ok((logits.f_to_kind(Kind::Float)?, on_device(&truth)?))
    }

    /// Measures on the held-out texts and keeps the checkpoint if it is the best so far.
    fn evaluate(&mut self, tokenizer_json: &str, tracker: &mut Option<Tracker>) -> anyhow::Result<()> {
        let (mut loss, mut right, mut asked) = (0.0, 0.0, 0.0);
        let batches = self.rows.held_out.chunks(self.state.recipe.batch_size).zip(HELD_OUT..);
        for (rows, number) in self.world.share(&batches.collect::<Vec<_>>()) {
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            no_grad(|| -> anyhow::Result<()> {
                let (logits, truth) = self.predict(&self.masking.hide(&rows, number), false)?;
                loss += cross_entropy(&logits, &truth)?.f_double_value(&[])?;
                let told = logits.f_argmax(-1, false)?.f_eq_tensor(&truth)?;
                right += told.f_sum(Kind::Float)?.f_double_value(&[])?;
                asked += truth.numel() as f64;
                Ok(())
            })?;
        }
        let mut sums = [loss, right, asked];
        self.world.sum(&mut sums);
        let [loss, right, asked] = sums;
        let prediction = Prediction {
            step: self.state.step,
            epoch: self.state.step as f64 / self.steps_per_epoch as f64,
            train_loss: self.state.recent.0 / self.state.recent.1 as f64,
            loss: loss / asked,
            accuracy: right / asked,
            seconds: self.state.seconds,
        };
        if let Some(tracker) = tracker {
            tracker.metrics(
                prediction.step,
                &[
                    ("validation/loss", prediction.loss),
                    ("validation/accuracy", prediction.accuracy),
                    ("train/mean_loss", prediction.train_loss),
                ],
            );
        }
        let best = self.state.best.as_ref().is_none_or(|best| prediction.loss < best.loss);
        self.progress.say(&format!(
            "step {}, epoch {:.2}: held-out loss {:.4}, {:.2}% told right; {:.0} s{}",
            prediction.step,
            prediction.epoch,
            prediction.loss,
            100.0 * prediction.accuracy,
            prediction.seconds,
            if best { "; the best so far" } else { "" }
        ));
        if best {
            if self.world.is_first() {
                let config = self.language.network.config();
                network::save_masked(&self.options.output, config, &self.language.store, tokenizer_json)?;
            }
            self.state.best = Some(prediction.clone());
        }
        self.state.recent = (0.0, 0);
        self.state.history.push(prediction);
        Ok(())
    }
}

/// The sum over the tokens.
fn cross_entropy(logits: &Tensor, truth: &Tensor) -> anyhow::Result<Tensor> {
    Ok(logits.f_cross_entropy_loss::<Tensor>(truth, None, Reduction::Sum, -100, 0.0)?)
}
