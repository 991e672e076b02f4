//! A run that was interrupted, as a file in the checkpoint's folder.
//!
//! One safetensors file, replaced by rename: the parameters and moments, and as bytes the JSON of the rest. Randomness needs no
//! saving: order of the data and dropout follow from the seed and the number of the step.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::files;
use crate::recipe::Recipe;

const FILE: &str = "training.safetensors";
const RUN: &str = "run";

/// One evaluation on the validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evaluation {
    pub(crate) step: u64,
    pub(crate) epoch: f64,
    pub(crate) train_loss: f64,
    pub(crate) accuracy: f64,
    pub(crate) f1: f64,
    pub(crate) log_loss: f64,
    /// Time spent on steps so far.
    pub(crate) seconds: f64,
}

impl Evaluation {
    /// More right answers, or as many with better probabilities.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        (self.accuracy, -self.log_loss) > (other.accuracy, -other.log_loss)
    }
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) recipe: Recipe,
    pub(crate) parent: String,
    pub(crate) data_sha256: BTreeMap<String, String>,
    /// Steps done.
    pub(crate) step: u64,
    pub(crate) seconds: f64,
    pub(crate) history: Vec<Evaluation>,
    pub(crate) best: Option<Evaluation>,
}

/// The state's place in an output folder.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Saves a run.
pub(crate) fn save(folder: &Path, run: &RunState, mut tensors: Vec<(String, Tensor)>) -> anyhow::Result<()> {
    tensors.push((RUN.to_owned(), Tensor::f_from_slice(&serde_json::to_vec(run)?)?));
    files::replace(&path(folder), |partial| {
        Ok(Tensor::write_safetensors(&tensors, partial)?)
    })
}

/// Reads a saved run, if there is one.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Option<(RunState, HashMap<String, Tensor>)>> {
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
    let json: Vec<u8> = run.try_into().with_context(damaged)?;
    Ok(Some((serde_json::from_slice(&json).with_context(damaged)?, tensors)))
}

impl RunState {
    /// Refuses to go on with another recipe, parent or other data than it began with.
    pub(crate) fn check_same(&self, now: &Self) -> anyhow::Result<()> {
        if self.data_sha256 != now.data_sha256 {
            bail!(
                "the interrupted run had other data: {:?}, now {:?}",
                self.data_sha256,
                now.data_sha256
            );
        }
        if self.parent != now.parent {
            bail!(
                "the interrupted run began from {:?}, this one from {:?}",
                self.parent,
                now.parent
            );
        }
        let (before, after) = (self.recipe.to_toml()?, now.recipe.to_toml()?);
        if let Some((before, after)) = before
            .lines()
            .zip(after.lines())
            .find(|(before, after)| before != after)
        {
            bail!(
                "the interrupted run had `{before}`, this one has `{after}`: give the same recipe, or another --output"
            );
        }
        Ok(())
    }
}
