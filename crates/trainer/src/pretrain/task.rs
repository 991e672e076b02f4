//! Learning which tokens were hidden.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Kind, Reduction, Tensor, no_grad};
use understudy_distilbert::network;

use super::Language;
use super::masking::{Masked, Masking};
use super::recipe::PretrainRecipe;
use super::texts::Rows;
use crate::batches;
use crate::optimizer::Settings;
use crate::parallel::World;
use crate::steps::{Measured, Moment, Pace, Task};

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

impl Measured for Prediction {
    fn step(&self) -> u64 {
        self.step
    }

    fn tracked(&self) -> Vec<(&'static str, f64)> {
        vec![("validation/loss", self.loss), ("validation/accuracy", self.accuracy)]
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, accuracy, .. } = self;
        write!(f, "held-out loss {loss:.4}, {:.2}% told right", 100.0 * accuracy)
    }
}

/// A network that learns a language.
pub(super) struct Unmasking<'a> {
    pub(super) recipe: &'a PretrainRecipe,
    pub(super) language: &'a Language,
    pub(super) rows: &'a Rows,
    pub(super) masking: &'a Masking,
    pub(super) tokenizer_json: &'a str,
}

impl Task for Unmasking<'_> {
    type Recipe = PretrainRecipe;
    type Evaluation = Prediction;

    const COMMAND: &'static str = "pretrain";
    const ROWS: &'static str = "windows";

    fn pace(&self) -> Pace {
        let recipe = self.recipe;
        Pace {
            epochs: recipe.epochs,
            batch_size: recipe.batch_size,
            gradient_accumulation: 1,
            group_by_length: true,
            learning_rate: recipe.learning_rate,
            warm_up: recipe.warm_up,
            schedule: recipe.schedule,
            settings: Settings {
                beta1: recipe.beta1,
                beta2: recipe.beta2,
                weight_decay: recipe.weight_decay,
                clip: recipe.clip,
            },
            layer_decay: 1.0,
            precision: recipe.precision,
            seed: recipe.seed,
            evaluate_every: recipe.evaluate_every,
            patience: 0,
            keep_checkpoints: 0,
        }
    }

    fn store(&self) -> &VarStore {
        &self.language.store
    }

    fn rows(&self) -> &[Vec<u32>] {
        &self.rows.train
    }

    fn backward(&mut self, world: &World, step: u64, batches: &[Vec<usize>]) -> anyhow::Result<f64> {
        let rows: Vec<&[u32]> = batches
            .iter()
            .flatten()
            .map(|&index| self.rows.train[index].as_slice())
            .collect();
        let masked = self.masking.hide(&rows, step);
        let own = masked.of(&world.share(&(0..rows.len()).collect::<Vec<_>>()));
        if own.asked.is_empty() {
            return Ok(0.0);
        }
        let (logits, truth) = self.predict(&own, true)?;
        let loss = cross_entropy(&logits, &truth)?.f_div_scalar(masked.asked.len() as f64)?;
        loss.f_backward()?;
        Ok(loss.f_double_value(&[])?)
    }

    fn measure(&self, world: &World, moment: Moment) -> anyhow::Result<Prediction> {
        let (mut loss, mut right, mut asked) = (0.0, 0.0, 0.0);
        let batches = self.rows.held_out.chunks(self.recipe.batch_size).zip(HELD_OUT..);
        for (rows, number) in world.share(&batches.collect::<Vec<_>>()) {
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
        world.sum(&mut sums);
        let [loss, right, asked] = sums;
        let Moment {
            step,
            epoch,
            train_loss,
            seconds,
        } = moment;
        Ok(Prediction {
            step,
            epoch,
            train_loss,
            loss: loss / asked,
            accuracy: right / asked,
            seconds,
        })
    }

    fn beats(&self, new: &Prediction, best: &Prediction) -> bool {
        new.loss < best.loss
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let Language { network, store, .. } = self.language;
        Ok(network::save_masked(
            folder,
            network.config(),
            store,
            self.tokenizer_json,
        )?)
    }
}

impl Unmasking<'_> {
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
        let _autocast = self.recipe.precision.autocast(device)?;
        let logits = self.language.network.forward(&ids, &mask, &places, train)?;
        Ok((logits.f_to_kind(Kind::Float)?, on_device(&truth)?))
    }
}

/// The sum over the tokens.
fn cross_entropy(logits: &Tensor, truth: &Tensor) -> anyhow::Result<Tensor> {
    Ok(logits.f_cross_entropy_loss::<Tensor>(truth, None, Reduction::Sum, -100, 0.0)?)
}
