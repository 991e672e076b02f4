//! The training run.
//!
//! A run ends after the recipe's steps, or after a time: then schedules follow the clock, so that whatever machine does
//! within the time is a whole run. Lessons depend on seed and step; an interrupted run goes on as if it had not been.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::DataOptions;
use super::batches::{Batch, group};
use super::grammar::Material;
use super::lessons::School;
use super::measure::Examination;
use super::muon::Muon;
use super::network::Network;
use super::recipe::Recipe;
use super::tokenizer::{Tokenizer, Tokens};
use crate::files;
use crate::interrupt::Stop;
use crate::optimizer::{AdamW, Settings};
use crate::parallel::World;

const STATE: &str = "scribe.safetensors";
const RUN: &str = "run";
const RECIPE: &str = "recipe.toml";
/// Share of the run in which a step grows to its last size.
const GROWING: f64 = 0.16;
/// Steps between two lines of the log.
const SAY_EVERY: u64 = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct TrainOptions {
    #[command(flatten)]
    data: DataOptions,
    /// How the scribe is made
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// The vocabulary, as `scribe tokenizer` writes it
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Folder for the trained weights and the state of the run
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// End after this time instead of the recipe's steps
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// Go on with the run in the output folder
    #[arg(long)]
    resume: bool,
    /// Threads to compute with
    #[arg(long, env = "UNDERSTUDY_TRAINER_THREADS", default_value_t = 2)]
    threads: usize,
    /// Compute with 32-bit floats even where bfloat16 is faster
    #[arg(long)]
    fp32: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunState {
    recipe: Recipe,
    step: u64,
    seconds: f64,
}

struct Run<'a> {
    options: &'a TrainOptions,
    recipe: Recipe,
    school: School<'a>,
    examination: Examination,
    network: Network,
    muon: Muon,
    adam: AdamW,
    step: u64,
    seconds: f64,
}

/// Trains; false if a signal ended it early.
pub(crate) fn train(options: &TrainOptions, stop: &Stop) -> anyhow::Result<bool> {
    ensure!(options.threads > 0, "--threads must be at least 1");
    let recipe = Recipe::load(&options.recipe)?;
    let tokenizer = Tokenizer::load(&options.tokenizer)?;
    ensure!(
        i64::try_from(tokenizer.size())? == recipe.shape.vocabulary,
        "the tokenizer has {} tokens and the recipe's shape {}: train the tokenizer again",
        tokenizer.size(),
        recipe.shape.vocabulary
    );
    std::fs::create_dir_all(&options.output).with_context(|| format!("cannot create {}", options.output.display()))?;
    let reviews = super::Reviews::load(&options.data.data)?;
    let material = Material::from_reviews(&reviews.train)?;
    let unseen = Material::from_reviews(&reviews.test)?;
    let examination = Examination::new(&unseen, &tokenizer)?;
    tch::manual_seed(i64::try_from(recipe.seed)?);
    let kind = if options.fp32 || !has_bf16() {
        Kind::Float
    } else {
        Kind::BFloat16
    };
    let (network, stores) = Network::new(recipe.shape, kind)?;
    let muon = Muon::new(&stores.matrices, recipe.weight_decay, kind)?;
    let settings = Settings {
        beta1: 0.9,
        beta2: 0.95,
        weight_decay: 0.0,
        clip: recipe.clip,
    };
    let adam = AdamW::new(&stores.others, settings)?;
    let school = School {
        material: &material,
        reviews: &reviews.train,
        tokenizer: &tokenizer,
    };
    let mut run = Run {
        options,
        recipe,
        school,
        examination,
        network,
        muon,
        adam,
        step: 0,
        seconds: 0.0,
    };
    run.begin()?;
    files::write_whole(
        &options.output.join("tokenizer.json"),
        &std::fs::read(&options.tokenizer)?,
    )?;
    files::write_whole(&options.output.join(RECIPE), toml::to_string(&run.recipe)?.as_bytes())?;
    eprintln!("{} parameters, {kind:?}", run.network.parameters());
    run.all(stop)
}

/// Whether the processor multiplies bfloat16 itself; emulated, it would be slower than fp32.
fn has_bf16() -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else {
        return false;
    };
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| {
        line.split_whitespace()
            .any(|flag| flag == "avx512_bf16" || flag == "amx_bf16")
    })
}

impl Run<'_> {
    fn begin(&mut self) -> anyhow::Result<()> {
        let path = self.options.output.join(STATE);
        if !self.options.resume {
            ensure!(
                !path.exists(),
                "{} holds a run: go on with --resume, or give another --output",
                path.display()
            );
            return Ok(());
        }
        if !path.exists() {
            return Ok(());
        }
        let (state, tensors) = load(&self.options.output)?;
        if state.recipe.shape != self.recipe.shape || state.recipe.seed != self.recipe.seed {
            bail!(
                "the run in {} had another shape or seed: give another --output",
                self.options.output.display()
            );
        }
        self.muon.restore(&tensors)?;
        self.adam.restore(&tensors)?;
        (self.step, self.seconds) = (state.step, state.seconds);
        Ok(())
    }

    fn progress(&self) -> f64 {
        let share = match self.options.minutes {
            Some(minutes) => self.seconds / (minutes * 60.0),
            None => self.step as f64 / self.recipe.steps as f64,
        };
        share.min(1.0)
    }

    fn all(&mut self, stop: &Stop) -> anyhow::Result<bool> {
        let (mut loss, mut tokens, mut seconds, mut steps) = (0.0, 0, 0.0, 0_u32);
        while self.progress() < 1.0 {
            let begin = Instant::now();
            let progress = self.progress();
            let done = self.one(progress)?;
            self.step += 1;
            let duration = begin.elapsed().as_secs_f64();
            self.seconds += duration;
            (loss, tokens) = (loss + done.loss, tokens + done.tokens);
            (seconds, steps) = (seconds + duration, steps + 1);
            if self.step.is_multiple_of(SAY_EVERY) {
                eprintln!(
                    "step {} ({:.1}%)  loss {:.4}  {:.0} tokens/s  gradient {:.2}  {:.0} s",
                    self.step,
                    100.0 * self.progress(),
                    loss / f64::from(steps),
                    tokens as f64 / seconds,
                    done.gradient,
                    self.seconds
                );
                (loss, tokens, seconds, steps) = (0.0, 0, 0.0, 0);
            }
            if self.step.is_multiple_of(self.recipe.evaluate_every) {
                eprintln!("step {}: {}", self.step, self.examination.sit(&self.network)?);
                self.save()?;
            }
            if stop.wanted() {
                self.save()?;
                return Ok(false);
            }
        }
        self.save()?;
        self.network.round_weights(true)?;
        eprintln!("at the end, in 4 bits: {}", self.examination.sit(&self.network)?);
        Ok(true)
    }

    fn one(&mut self, progress: f64) -> anyhow::Result<Done> {
        let mut random = super::random(self.recipe.seed, self.step);
        let [first, last] = self.recipe.step_tokens;
        let wanted = first as f64 + (last as f64 - first as f64) * (progress / GROWING).min(1.0);
        let (mut lessons, mut tokens): (Vec<Tokens>, usize) = (Vec::new(), 0);
        while (tokens as f64) < wanted {
            let lesson = self.school.lesson(progress, &mut random)?;
            if i64::try_from(lesson.ids.len())? <= self.recipe.shape.context {
                tokens += lesson.ids.len();
                lessons.push(lesson);
            }
        }
        if progress >= self.recipe.round_from {
            self.network.round_weights(true)?;
        }
        let groups = group(lessons, self.recipe.batch_tokens);
        let (loss, tokens) = self.gradients(&groups)?;
        let rate = self.recipe.rate(progress);
        let gradient = self.adam.step(
            &World::alone(),
            self.step + 1,
            self.recipe.embedding_learning_rate * rate,
        )?;
        self.muon.step(self.recipe.learning_rate * rate)?;
        Ok(Done { loss, gradient, tokens })
    }

    /// Adds up the gradients of all groups in the parameters. Each thread takes groups whole: threads inside one operation would
    /// wait for each other after each of these small ones. Returns the mean loss and the number of tokens.
    fn gradients(&self, groups: &[Vec<Tokens>]) -> anyhow::Result<(f64, usize)> {
        let judged: f32 = groups.iter().flatten().flat_map(|lesson| &lesson.weights).sum();
        let next = AtomicUsize::new(0);
        let work = |network: Network| -> anyhow::Result<(f64, usize)> {
            tch::set_num_threads(1);
            let (mut loss, mut tokens) = (0.0, 0);
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                let batch = Batch::new(group)?;
                let part = network.loss(&batch)?.f_div_scalar(f64::from(judged))?;
                // Into the parameters' sums, each behind a lock of libtorch.
                part.f_backward()?;
                loss += part.f_double_value(&[])?;
                tokens += batch.tokens;
            }
            Ok((loss, tokens))
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.options.threads)
                .map(|_| {
                    let (network, work) = (self.network.share(), &work);
                    scope.spawn(move || work(network))
                })
                .collect();
            let (mut loss, mut tokens) = (0.0, 0);
            for worker in workers {
                let part = worker
                    .join()
                    .map_err(|_| anyhow!("a thread of the training panicked"))??;
                (loss, tokens) = (loss + part.0, tokens + part.1);
            }
            Ok((loss, tokens))
        })
    }

    fn save(&self) -> anyhow::Result<()> {
        let state = RunState {
            recipe: self.recipe.clone(),
            step: self.step,
            seconds: self.seconds,
        };
        let mut tensors = self.muon.state();
        tensors.extend(self.adam.state());
        tensors.extend(self.network.tensors());
        tensors.push((RUN.to_owned(), Tensor::f_from_slice(&serde_json::to_vec(&state)?)?));
        files::replace(&self.options.output.join(STATE), |partial| {
            Ok(Tensor::write_safetensors(&tensors, partial)?)
        })
    }
}

struct Done {
    loss: f64,
    gradient: f64,
    tokens: usize,
}

/// The recipe of a run and its tensors: those of the network by their names in a GGUF file.
pub(crate) fn trained(folder: &Path) -> anyhow::Result<(Recipe, HashMap<String, Tensor>)> {
    let (state, tensors) = load(folder)?;
    Ok((state.recipe, tensors))
}

fn load(folder: &Path) -> anyhow::Result<(RunState, HashMap<String, Tensor>)> {
    let path = folder.join(STATE);
    let damaged = || format!("{} is missing or damaged: train the scribe first", path.display());
    let tensors = Tensor::read_safetensors(&path).with_context(damaged)?;
    let mut tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let json: Vec<u8> = tensors
        .remove(RUN)
        .with_context(damaged)?
        .try_into()
        .with_context(damaged)?;
    Ok((serde_json::from_slice(&json).with_context(damaged)?, tensors))
}

#[cfg(test)]
mod tests;
