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
use crate::recipe::{Criterion, Recipe};

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
    /// `None` if a class has no example in the validation split.
    pub(crate) roc_auc: Option<f64>,
    /// Time spent on steps so far.
    pub(crate) seconds: f64,
}

impl Evaluation {
    /// Better by the criterion, or as good with better probabilities.
    pub(crate) fn beats(&self, other: &Self, by: Criterion) -> bool {
        let score = |evaluation: &Self| match by {
            Criterion::Accuracy => evaluation.accuracy,
            Criterion::F1 => evaluation.f1,
            Criterion::RocAuc => evaluation.roc_auc.unwrap_or(0.0),
            Criterion::LogLoss => -evaluation.log_loss,
        };
        (score(self), -self.log_loss) > (score(other), -other.log_loss)
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
    /// Time spent on them.
    pub(crate) seconds: f64,
    /// The loss of each.
    pub(crate) curve: Curve,
    /// Sum and number of the losses since the last evaluation.
    pub(crate) recent: (f64, u64),
    pub(crate) history: Vec<Evaluation>,
    pub(crate) best: Option<Evaluation>,
}

/// The state's place in an output folder.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Saves a run.
pub(crate) fn save<R: Serialize>(folder: &Path, run: &R, mut tensors: Vec<(String, Tensor)>) -> anyhow::Result<()> {
    tensors.push((RUN.to_owned(), Tensor::f_from_slice(toml::to_string(run)?.as_bytes())?));
    files::replace(&path(folder), |partial| {
        Ok(Tensor::write_safetensors(&tensors, partial)?)
    })
}

/// Reads a saved run, if there is one.
pub(crate) fn load<R: DeserializeOwned>(folder: &Path) -> anyhow::Result<Option<(R, HashMap<String, Tensor>)>> {
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
pub(crate) fn begin<R: Serialize + DeserializeOwned>(
    world: &World,
    resumed: Option<&Path>,
    new: &R,
    check_same: impl Fn(&R, &R) -> anyhow::Result<()>,
    optimizer: &mut AdamW,
) -> anyhow::Result<R> {
    let resumed = resumed.filter(|_| world.is_first());
    let saved = resumed.map(load::<R>).transpose()?.flatten();
    let run = saved.as_ref().map_or(new, |(run, _)| run);
    let run = toml::from_str(&world.text_of_first(toml::to_string(run)?)?)?;
    match check_same(&run, new) {
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

/// Refuses a recipe that differs from that of the interrupted run.
pub(crate) fn check_same_recipe(before: &impl Serialize, now: &impl Serialize) -> anyhow::Result<()> {
    let (before, now) = (toml::to_string(before)?, toml::to_string(now)?);
    for (before, now) in before.lines().zip(now.lines()) {
        ensure!(
            before == now,
            "the interrupted run had `{before}`, this one has `{now}`: give the same recipe, or another --output"
        );
    }
    Ok(())
}

impl RunState {
    /// Before the first step.
    pub(crate) fn new(recipe: Recipe, parent: String, data_sha256: BTreeMap<String, String>) -> Self {
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

    /// Takes an evaluation into the history. Returns whether it is the best so far.
    pub(crate) fn evaluated(&mut self, evaluation: &Evaluation) -> bool {
        self.recent = (0.0, 0);
        self.history.push(evaluation.clone());
        let by = self.recipe.best_by;
        let best = self.best.as_ref().is_none_or(|best| evaluation.beats(best, by));
        if best {
            self.best = Some(evaluation.clone());
        }
        best
    }

    /// Whether so many evaluations in a row have not been the best that the recipe has no more patience.
    pub(crate) fn is_stuck(&self) -> bool {
        let Some(best) = &self.best else { return false };
        let since = self.history.iter().rev().take_while(|e| e.step > best.step).count();
        self.recipe.patience > 0 && since >= self.recipe.patience
    }

    /// Refuses to go on with another recipe, parent or other data than it began with.
    pub(crate) fn check_same(&self, now: &Self) -> anyhow::Result<()> {
        if self.data_sha256 != now.data_sha256 {
            bail!(
                "the interrupted run had other data: {:?}, now {:?}: give the same, or another --output",
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
        check_same_recipe(&self.recipe, &now.recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Beginning, RecipeOptions};

    #[test]
    fn the_best_is_chosen_by_the_criterion_and_patience_ends() {
        let evaluation = |step, accuracy, f1, roc_auc, log_loss| Evaluation {
            step,
            epoch: 1.0,
            train_loss: 0.5,
            accuracy,
            f1,
            log_loss,
            roc_auc: Some(roc_auc),
            seconds: 1.0,
        };
        let history = [
            evaluation(1, 0.9, 0.5, 0.6, 0.7),
            evaluation(2, 0.8, 0.6, 0.6, 0.6),
            evaluation(3, 0.8, 0.5, 0.7, 0.5),
            evaluation(4, 0.9, 0.5, 0.5, 0.4),
        ];
        for (by, best, stuck) in [
            (Criterion::Accuracy, 4, [false, false, true, false]),
            (Criterion::F1, 2, [false, false, false, true]),
            (Criterion::RocAuc, 3, [false; 4]),
            (Criterion::LogLoss, 4, [false; 4]),
        ] {
            let options = RecipeOptions {
                best_by: Some(by),
                patience: Some(2),
                ..RecipeOptions::default()
            };
            let recipe = Recipe::resolve(None, options, Beginning::New).unwrap();
            let mut run = RunState::new(recipe, String::new(), BTreeMap::new());
            let seen = history.clone().map(|evaluation| {
                run.evaluated(&evaluation);
                run.is_stuck()
            });
            assert_eq!(run.best.unwrap().step, best, "{by:?}");
            assert_eq!(seen, stuck, "{by:?}");
        }
    }
}
