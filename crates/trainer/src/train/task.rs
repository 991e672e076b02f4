//! Learning to classify.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Kind;
use tch::nn::VarStore;

use super::inputs::{Examples, Validation};
use super::loss::Loss;
use crate::model::Model;
use crate::optimizer::Settings;
use crate::parallel::World;
use crate::recipe::{Criterion, Recipe};
use crate::steps::{Measured, Moment, Pace, Task};
use crate::{batches, lora};

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
    fn beats(&self, other: &Self, by: Criterion) -> bool {
        let score = |evaluation: &Self| match by {
            Criterion::Accuracy => evaluation.accuracy,
            Criterion::F1 => evaluation.f1,
            Criterion::RocAuc => evaluation.roc_auc.unwrap_or(0.0),
            Criterion::LogLoss => -evaluation.log_loss,
        };
        (score(self), -self.log_loss) > (score(other), -other.log_loss)
    }
}

impl Measured for Evaluation {
    fn step(&self) -> u64 {
        self.step
    }

    fn tracked(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("validation/accuracy", self.accuracy),
            ("validation/f1", self.f1),
            ("validation/log_loss", self.log_loss),
            ("validation/roc_auc", self.roc_auc.unwrap_or(f64::NAN)),
        ]
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "validation accuracy {:.4}, F1 {:.4}, log loss {:.4}",
            self.accuracy, self.f1, self.log_loss
        )
    }
}

/// A network that learns classes from labels and teachers.
pub(super) struct Classification<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) model: &'a Model,
    pub(super) examples: &'a Examples,
    pub(super) validation: &'a Validation,
    pub(super) loss: Loss<'a>,
    pub(super) tokenizer_json: &'a str,
}

impl Task for Classification<'_> {
    type Recipe = Recipe;
    type Evaluation = Evaluation;

    const COMMAND: &'static str = "train";
    const ROWS: &'static str = "reviews";

    fn pace(&self) -> Pace {
        let recipe = self.recipe;
        Pace {
            epochs: recipe.epochs,
            batch_size: recipe.batch_size,
            gradient_accumulation: recipe.gradient_accumulation,
            group_by_length: recipe.group_by_length,
            learning_rate: recipe.learning_rate,
            warm_up: recipe.warm_up,
            schedule: recipe.schedule,
            settings: Settings {
                beta1: recipe.beta1,
                beta2: recipe.beta2,
                weight_decay: recipe.weight_decay,
                clip: recipe.clip,
            },
            layer_decay: recipe.layer_decay,
            precision: recipe.precision,
            seed: recipe.seed,
            evaluate_every: recipe.evaluate_every,
            patience: recipe.patience,
            keep_checkpoints: recipe.keep_checkpoints,
        }
    }

    fn store(&self) -> &VarStore {
        &self.model.store
    }

    fn rows(&self) -> &[Vec<u32>] {
        &self.examples.rows
    }

    fn backward(&mut self, world: &World, _step: u64, batches: &[Vec<usize>]) -> anyhow::Result<f64> {
        let Model { network, device, .. } = self.model;
        let texts = batches.iter().map(Vec::len).sum();
        let mut value = 0.0;
        for batch in batches {
            let batch = &world.share(batch);
            if batch.is_empty() {
                continue;
            }
            let rows: Vec<&[u32]> = batch
                .iter()
                .map(|&index| self.examples.rows[index].as_slice())
                .collect();
            let (ids, mask) = batches::tensors(&rows, network.config().pad_token_id, *device)?;
            let loss = {
                let _autocast = self.recipe.precision.autocast(*device)?;
                let (logits, hidden) = network.forward_with_hidden(&ids, &mask, true)?;
                let loss = self.loss.of(&logits.f_to_kind(Kind::Float)?, batch, texts)?;
                match self.loss.imitation(&hidden, batch, texts)? {
                    None => loss,
                    Some(more) => loss.f_add(&more)?,
                }
            };
            loss.f_backward()?;
            value += loss.f_double_value(&[])?;
        }
        Ok(value)
    }

    fn measure(&self, world: &World, moment: Moment) -> anyhow::Result<Evaluation> {
        let _autocast = self.recipe.precision.autocast(self.model.device)?;
        let (metrics, _) = self
            .validation
            .measure(world, self.model, self.recipe.evaluation_batch)?;
        let Moment {
            step,
            epoch,
            train_loss,
            seconds,
        } = moment;
        Ok(Evaluation {
            step,
            epoch,
            train_loss,
            accuracy: metrics.accuracy,
            f1: metrics.averages.f1,
            log_loss: metrics.log_loss,
            roc_auc: metrics.roc_auc,
            seconds,
        })
    }

    fn beats(&self, new: &Evaluation, best: &Evaluation) -> bool {
        new.beats(best, self.recipe.best_by)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        lora::save(self.model, folder, self.tokenizer_json)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::state::RunState;

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
            let mut run = RunState::new("recipe", String::new(), BTreeMap::new());
            let seen = history.clone().map(|evaluation| {
                let is_best = run.best.as_ref().is_none_or(|best| evaluation.beats(best, by));
                run.evaluated(evaluation, is_best);
                assert!(!run.is_stuck(0));
                run.is_stuck(2)
            });
            assert_eq!(run.best.unwrap().step, best, "{by:?}");
            assert_eq!(seen, stuck, "{by:?}");
        }
    }
}
