//! What `train` and `pretrain` share: steps, evaluations, saving.
//!
//! Step n of a run depends on the recipe, the data and n only: batches follow from (seed, epoch), what is drawn from (seed, n). So a
//! resumed run does what the uninterrupted one would have done, bit for bit on one thread.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Tensor;
use tch::nn::VarStore;

use crate::interrupt::Stop;
use crate::model::seed_step;
use crate::optimizer::{AdamW, Settings};
use crate::parallel::World;
use crate::progress::{Progress, StepReport};
use crate::recipe::{Precision, Schedule};
use crate::schedule::LearningRate;
use crate::state::{self, RunState};
use crate::track::{self, Beginning, TrackOptions, Tracker};
use crate::{batches, files};

/// Folder of the latest checkpoints.
const CHECKPOINTS: &str = "checkpoints";

/// Where a run is kept.
#[derive(Debug, clap::Args)]
pub(crate) struct PlaceOptions {
    /// Folder for the checkpoint
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Go on with an interrupted run in the output folder; without one begin it
    #[arg(long)]
    pub(crate) resume: bool,
    /// Seconds between two savings of an unfinished run
    #[arg(
        long,
        env = "UNDERSTUDY_TRAINER_SAVE_EVERY",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub(crate) save_every: u64,
    #[command(flatten)]
    pub(crate) track: TrackOptions,
}

impl PlaceOptions {
    /// The folder of the run to go on with.
    pub(crate) fn resumed(&self) -> Option<&Path> {
        self.resume.then_some(self.output.as_path())
    }

    /// Makes the folder. Refuses one that holds other work; `finished` is the file that a finished run leaves there.
    pub(crate) fn prepare(&self, finished: &str) -> anyhow::Result<()> {
        let folder = &self.output;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for (file, what) in [
            (state::path(folder), "an unfinished run"),
            (folder.join("config.json"), "a checkpoint"),
        ] {
            ensure!(
                self.resume || !file.exists(),
                "{} holds {what} already: choose another --output, or go on with --resume",
                folder.display()
            );
        }
        ensure!(
            !folder.join(finished).exists(),
            "the run in {0} is finished: begin from it with --from {0} and another --output, or delete that folder",
            folder.display()
        );
        Ok(())
    }
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Outcome {
    /// The checkpoint is there.
    Finished,
    /// The state is saved.
    Interrupted,
}

/// The values of a recipe that steps go by.
pub(crate) struct Pace {
    pub(crate) epochs: f64,
    /// Rows of a batch.
    pub(crate) batch_size: usize,
    /// Batches of a step.
    pub(crate) gradient_accumulation: usize,
    /// Whether rows of like length come into one batch.
    pub(crate) group_by_length: bool,
    pub(crate) learning_rate: f64,
    pub(crate) warm_up: f64,
    pub(crate) schedule: Schedule,
    pub(crate) settings: Settings,
    pub(crate) layer_decay: f64,
    /// Resolved.
    pub(crate) precision: Precision,
    pub(crate) seed: u64,
    /// Steps; 0: each epoch.
    pub(crate) evaluate_every: usize,
    /// Evaluations without a better one after which a run ends; 0: never.
    pub(crate) patience: usize,
    pub(crate) keep_checkpoints: usize,
}

/// What both kinds of evaluation say of when they were made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Steps done.
    pub(crate) step: u64,
    /// Passes over the data.
    pub(crate) epoch: f64,
    /// Mean of the losses since the evaluation before.
    pub(crate) train_loss: f64,
    /// Time spent on steps so far.
    pub(crate) seconds: f64,
}

/// What is measured between steps; its text follows "step 7, epoch 1.50: ".
pub(crate) trait Measured: Clone + fmt::Display + Serialize + DeserializeOwned {
    /// Steps done by then.
    fn step(&self) -> u64;

    /// By their names in tracking.
    fn tracked(&self) -> Vec<(&'static str, f64)>;
}

/// What is learnt.
pub(crate) trait Task {
    type Recipe: Serialize + DeserializeOwned;
    type Evaluation: Measured;

    /// The subcommand.
    const COMMAND: &'static str;
    /// What its rows are.
    const ROWS: &'static str;

    fn pace(&self) -> Pace;

    fn store(&self) -> &VarStore;

    /// Token ids of what is learnt from.
    fn rows(&self) -> &[Vec<u32>];

    /// Adds the gradient of this process's part of a step to the variables, and returns its part of the mean loss.
    fn backward(&mut self, world: &World, step: u64, batches: &[Vec<usize>]) -> anyhow::Result<f64>;

    /// Measures on what is not learnt from; each process its part, all with the same result.
    fn measure(&self, world: &World, moment: Moment) -> anyhow::Result<Self::Evaluation>;

    fn beats(&self, new: &Self::Evaluation, best: &Self::Evaluation) -> bool;

    /// Writes the network as it is now.
    fn save(&self, folder: &Path) -> anyhow::Result<()>;
}

/// Steps until the end or until `stop`, from `new` or with `--resume` from what was saved. `finish` writes what belongs beside a
/// finished checkpoint.
pub(crate) fn run<T: Task>(
    task: T,
    world: &World,
    place: &PlaceOptions,
    stop: &Stop,
    new: &StateOf<T>,
    finish: impl FnOnce(StateOf<T>) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let mut run = Run::begin(task, world, place, new)?;
    let mut tracker = world
        .is_first()
        .then(|| Tracker::begin(&place.track, run.beginning()?))
        .transpose()?;
    let outcome = run.go(stop, &mut tracker).and_then(|outcome| {
        match outcome {
            Outcome::Finished if world.is_first() => finish(run.state)?,
            Outcome::Finished => {}
            Outcome::Interrupted => world.say(&format!(
                "saved in {}; the same command with --resume goes on",
                place.output.display()
            )),
        }
        Ok(outcome)
    });
    let outcome = outcome.map_err(files::advise);
    if let Some(tracker) = tracker {
        tracker.end(&outcome);
    }
    outcome
}

type StateOf<T> = RunState<<T as Task>::Recipe, <T as Task>::Evaluation>;

struct Run<'a, T: Task> {
    task: T,
    world: &'a World,
    place: &'a PlaceOptions,
    pace: Pace,
    rate: LearningRate,
    optimizer: AdamW,
    lengths: Vec<usize>,
    steps_per_epoch: u64,
    total: u64,
    state: StateOf<T>,
    progress: Progress,
}

impl<'a, T: Task> Run<'a, T> {
    #[expect(clippy::cast_possible_truncation, reason = "checked positive, small")]
    fn begin(task: T, world: &'a World, place: &'a PlaceOptions, new: &StateOf<T>) -> anyhow::Result<Self> {
        let pace = task.pace();
        let batches = task.rows().len().div_ceil(pace.batch_size);
        let steps_per_epoch = batches.div_ceil(pace.gradient_accumulation) as u64;
        let total = ((pace.epochs * steps_per_epoch as f64).round() as u64).max(1);
        let rate = LearningRate::new(pace.learning_rate, pace.warm_up, pace.schedule, total);
        let mut optimizer = AdamW::new(task.store(), pace.settings)?.with_layer_decay(pace.layer_decay);
        let state = state::begin(world, place.resumed(), new, &mut optimizer)?;
        let progress = Progress::new(world.is_first(), total, state.step);
        let variables = task.store().variables();
        let trained = variables.values().filter(|variable| variable.requires_grad());
        let parameters: usize = trained.map(Tensor::numel).sum();
        progress.say(&format!(
            "{parameters} parameters to train; {total} steps of {} {} in {} on {}{}, from step {}",
            pace.batch_size * pace.gradient_accumulation,
            T::ROWS,
            match pace.precision {
                Precision::Bf16 => "bf16",
                Precision::Fp32 | Precision::Auto => "fp32",
            },
            if task.store().device().is_cuda() {
                "CUDA"
            } else {
                "the processor"
            },
            world.described(),
            state.step
        ));
        Ok(Self {
            lengths: task.rows().iter().map(Vec::len).collect(),
            task,
            world,
            place,
            pace,
            rate,
            optimizer,
            steps_per_epoch,
            total,
            state,
            progress,
        })
    }

    /// What is tracked of the run from its begin.
    fn beginning(&self) -> anyhow::Result<Beginning> {
        Ok(Beginning {
            command: T::COMMAND,
            output: self.place.output.clone(),
            parameters: track::parameters(&toml::to_string(&self.state.recipe)?, &self.state.parent),
            data_sha256: self.state.data_sha256.clone(),
            resume_from: self.place.resume.then_some(self.state.step),
        })
    }

    fn go(&mut self, stop: &Stop, tracker: &mut Option<Tracker>) -> anyhow::Result<Outcome> {
        let save_every = Duration::from_secs(self.place.save_every);
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
                let per_second = |count: usize| count as f64 / taken.as_secs_f64();
                let values = [
                    ("train/loss", loss),
                    ("train/learning_rate", rate),
                    ("train/texts_per_second", per_second(report.texts)),
                    ("train/tokens_per_second", per_second(report.tokens)),
                ];
                tracker.metrics(self.state.step, &values);
            }
            if self.evaluation_due() {
                self.evaluate(tracker)?;
            }
            let stopping = self.world.any(stop.wanted()) && !self.is_over();
            if self.world.is_first() && (stopping || saved.elapsed() >= save_every) {
                state::save(&self.place.output, &self.state, self.optimizer.state())?;
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
        self.state.step >= self.total || self.state.is_stuck(self.pace.patience)
    }

    /// The batches of each step of an epoch.
    fn plan(&self, epoch: u64) -> Vec<Vec<Vec<usize>>> {
        let Pace { batch_size, seed, .. } = self.pace;
        let batches = if self.pace.group_by_length {
            batches::plan(&self.lengths, batch_size, seed, epoch)
        } else {
            batches::plan_ungrouped(self.lengths.len(), batch_size, seed, epoch)
        };
        batches
            .chunks(self.pace.gradient_accumulation)
            .map(<[Vec<usize>]>::to_vec)
            .collect()
    }

    fn evaluation_due(&self) -> bool {
        let every = match self.pace.evaluate_every {
            0 => self.steps_per_epoch,
            steps => steps as u64,
        };
        self.state.step.is_multiple_of(every) || self.state.step == self.total
    }

    /// One update by the gradients of all batches, of which each process computes its part. Returns the mean loss.
    fn step(&mut self, batches: &[Vec<usize>], learning_rate: f64) -> anyhow::Result<f64> {
        let step = self.state.step;
        seed_step(self.pace.seed, step, self.world.rank());
        let mut loss = [self.task.backward(self.world, step, batches)?];
        self.world.sum(&mut loss);
        let [loss] = loss;
        ensure!(
            loss.is_finite(),
            "the loss is not finite at step {step}: lower --learning-rate"
        );
        self.optimizer.step(self.world, step + 1, learning_rate)?;
        Ok(loss)
    }

    /// Measures, and keeps the checkpoint if it is the best so far.
    fn evaluate(&mut self, tracker: &mut Option<Tracker>) -> anyhow::Result<()> {
        let moment = Moment {
            step: self.state.step,
            epoch: self.state.step as f64 / self.steps_per_epoch as f64,
            train_loss: self.state.train_loss(),
            seconds: self.state.seconds,
        };
        let evaluation = self.task.measure(self.world, moment)?;
        if let Some(tracker) = tracker {
            let mut values = evaluation.tracked();
            values.push(("train/mean_loss", moment.train_loss));
            tracker.metrics(moment.step, &values);
        }
        let best = self.state.best.as_ref();
        let best = best.is_none_or(|best| self.task.beats(&evaluation, best));
        self.progress.say(&format!(
            "step {}, epoch {:.2}: {evaluation}; {:.0} s{}",
            moment.step,
            moment.epoch,
            moment.seconds,
            if best { "; the best so far" } else { "" }
        ));
        if best && self.world.is_first() {
            self.task.save(&self.place.output)?;
        }
        self.state.evaluated(evaluation, best);
        if self.state.is_stuck(self.pace.patience) {
            self.progress.say(&format!(
                "no better one in {} evaluations: training ends",
                self.pace.patience
            ));
        }
        self.keep_checkpoint()
    }

    /// Saves this step's checkpoint beside the best one and deletes the oldest of them.
    fn keep_checkpoint(&self) -> anyhow::Result<()> {
        let most = self.pace.keep_checkpoints;
        if most == 0 || !self.world.is_first() {
            return Ok(());
        }
        let all = self.place.output.join(CHECKPOINTS);
        let folder = all.join(format!("step-{:08}", self.state.step));
        if let Err(error) = self.task.save(&folder) {
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
