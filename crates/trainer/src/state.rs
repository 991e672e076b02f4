//! A run that was interrupted, as a file in the checkpoint's folder.
//!
//! One safetensors file, replaced by rename: the parameters and moments, and as bytes the TOML of the rest (serde_json may read a
//! number back with another last bit). Randomness needs no saving: order of the data and dropout follow from the seed and the
//! number of the step.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::curve::{Curve, Point};
use crate::files;
use crate::optimizer::AdamW;
use crate::parallel::World;
use crate::steps::Measured;

const FILE: &str = "training.safetensors";
const RUN: &str = "run";

/// Where a run of recipe `R` with evaluations `E` stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState<R, E> {
    pub(crate) recipe: R,
    pub(crate) parent: String,
    pub(crate) data_sha256: BTreeMap<String, String>,
    /// Steps done.
    pub(crate) step: u64,
    /// Time spent on them.
    pub(crate) seconds: f64,
    /// The loss of each.
    pub(crate) curve: Curve,
    /// Sum and number of the losses since the last evaluation.
    recent: (f64, u64),
    pub(crate) history: Vec<E>,
    pub(crate) best: Option<E>,
}

/// The state's place in an output folder.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Saves a run.
pub(crate) fn save(folder: &Path, run: &impl Serialize, mut tensors: Vec<(String, Tensor)>) -> anyhow::Result<()> {
    tensors.push((RUN.to_owned(), Tensor::f_from_slice(toml::to_string(run)?.as_bytes())?));
    files::replace(&path(folder), |partial| {
        Ok(Tensor::write_safetensors(&tensors, partial)?)
    })
}

/// Reads a saved run, if there is one.
fn load<S: DeserializeOwned>(folder: &Path) -> anyhow::Result<Option<(S, HashMap<String, Tensor>)>> {
    let path = path(folder);
    if !path.exists() {
        return Ok(None);
    }
    let damaged = || format!("{} is damaged; delete it to begin anew", path.display());
    let mut tensors: HashMap<String, Tensor> = Tensor::read_safetensors(&path)
        .with_context(damaged)?
        .into_iter()
        .collect();
    let run = tensors.remove(RUN).with_context(damaged)?;
    let run: Vec<u8> = run.try_into().with_context(damaged)?;
    let run = String::from_utf8(run).with_context(damaged)?;
    Ok(Some((toml::from_str(&run).with_context(damaged)?, tensors)))
}

/// Where a run begins: with what the first process has saved in the folder that is `resumed`, if it has, else `new`. All processes get
/// its parameters and moments.
pub(crate) fn begin<R, E>(
    world: &World,
    resumed: Option<&Path>,
    new: &RunState<R, E>,
    optimizer: &mut AdamW,
) -> anyhow::Result<RunState<R, E>>
where
    R: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
{
    let resumed = resumed.filter(|_| world.is_first());
    let saved = resumed.map(load::<RunState<R, E>>).transpose()?.flatten();
    let run = saved.as_ref().map_or(new, |(run, _)| run);
    let run: RunState<R, E> = toml::from_str(&world.text_of_first(toml::to_string(run)?)?)?;
    match run.check_same(new) {
        Err(error) if world.is_first() => return Err(error),
        Err(_) => bail!(
            "the first process has other data or another recipe: all must see the same files and get the same flags"
        ),
        Ok(()) => {}
    }
    if let (Some((_, tensors)), Some(folder)) = (&saved, resumed) {
        optimizer
            .restore(tensors)
            .with_context(|| path(folder).display().to_string())?;
    }
    optimizer.copy_first(world)?;
    Ok(run)
}

impl<R, E> RunState<R, E> {
    /// Before the first step.
    pub(crate) fn new(recipe: R, parent: String, data_sha256: BTreeMap<String, String>) -> Self {
        Self {
            recipe,
            parent,
            data_sha256,
            step: 0,
            seconds: 0.0,
            curve: Curve::default(),
            recent: (0.0, 0),
            history: Vec::new(),
            best: None,
        }
    }

    /// Counts a step.
    pub(crate) fn stepped(&mut self, loss: f64, learning_rate: f64, seconds: f64) {
        self.step += 1;
        self.seconds += seconds;
        self.curve.push(Point {
            step: self.step,
            loss,
            learning_rate,
        });
        self.recent = (self.recent.0 + loss, self.recent.1 + 1);
    }

    /// Mean of the losses since the last evaluation.
    pub(crate) fn train_loss(&self) -> f64 {
        self.recent.0 / self.recent.1 as f64
    }
}

impl<R: Serialize, E> RunState<R, E> {
    /// Refuses to go on with another recipe, parent or other data than it began with.
    fn check_same(&self, now: &Self) -> anyhow::Result<()> {
        ensure!(
            self.data_sha256 == now.data_sha256,
            "the interrupted run had other data: {:?}, now {:?}: give the same, or another --output",
            self.data_sha256,
            now.data_sha256
        );
        ensure!(
            self.parent == now.parent,
            "the interrupted run began from {:?}, this one from {:?}: give the same --from, or another --output",
            self.parent,
            now.parent
        );
        let (before, now) = (toml::to_string(&self.recipe)?, toml::to_string(&now.recipe)?);
        for (before, now) in before.lines().zip(now.lines()) {
            ensure!(
                before == now,
                "the interrupted run had `{before}`, this one has `{now}`: give the same recipe, or another --output"
            );
        }
        Ok(())
    }
}

impl<R, E: Measured> RunState<R, E> {
    /// Takes an evaluation into the history.
    pub(crate) fn evaluated(&mut self, evaluation: E, is_best: bool) {
        self.recent = (0.0, 0);
        if is_best {
            self.best = Some(evaluation.clone());
        }
        self.history.push(evaluation);
    }

    /// Whether so many evaluations in a row have not been the best; `patience` 0 is without end.
    pub(crate) fn is_stuck(&self, patience: usize) -> bool {
        let Some(best) = &self.best else { return false };
        let worse = self.history.iter().rev().take_while(|e| e.step() > best.step());
        patience > 0 && worse.count() >= patience
    }
}
