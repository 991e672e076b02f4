//! The network in training: built, drawn or loaded, and asked.

use std::path::Path;

use anyhow::Context;
use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};
use understudy_distilbert::network::{self, Network, Storage};
use understudy_distilbert::{Checkpoint, Config, Tokenizer};

use crate::batches;
use crate::lora::Adapted;
use crate::recipe::Recipe;

/// Tokens, with padding, that one evaluation batch may have.
const EVALUATION_TOKENS_MAX: usize = 16_384;

/// A network with its variables and tokeniser.
pub(crate) struct Model {
    pub(crate) store: VarStore,
    pub(crate) network: Network,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) device: Device,
    /// Of a network with LoRA's adapters.
    pub(crate) adapted: Option<Adapted>,
}

impl Model {
    /// A new network, drawn by the recipe's seed.
    pub(crate) fn draw(
        recipe: &Recipe,
        labels: &[String],
        tokenizer: Tokenizer,
        device: Device,
    ) -> anyhow::Result<Self> {
        let config = Config {
            vocab_size: tokenizer.vocab_size(),
            max_position_embeddings: recipe.max_tokens,
            dim: recipe.dim,
            n_layers: recipe.layers,
            n_heads: recipe.heads,
            hidden_dim: recipe.hidden_dim,
            dropout: recipe.dropout,
            attention_dropout: recipe.attention_dropout,
            seq_classif_dropout: recipe.classifier_dropout,
            pad_token_id: usize::try_from(tokenizer.id("[PAD]").context("the tokeniser has no [PAD]")?)?,
            labels: labels.to_vec(),
            ..Config::default()
        };
        tch::manual_seed(i64::from_ne_bytes(recipe.seed.to_ne_bytes()));
        let store = VarStore::new(device);
        let network = Network::new(&store.root(), &config)?;
        Ok(Self {
            store,
            network,
            tokenizer,
            device,
            adapted: None,
        })
    }

    /// The network of a checkpoint, in fp32. A checkpoint without a classifier gets a new one with `labels`.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        change: impl FnOnce(&mut Config),
        device: Device,
    ) -> anyhow::Result<Self> {
        let mut config = checkpoint.config().clone();
        change(&mut config);
        let store = VarStore::new(device);
        let network = Network::new(&store.root(), &config)?;
        network::load(&store, checkpoint)?;
        Ok(Self {
            store,
            network,
            tokenizer: checkpoint.tokenizer().clone(),
            device,
            adapted: None,
        })
    }

    /// One row of logits for each row of token ids, in fp32, without dropout.
    pub(crate) fn logits(&self, rows: &[&[u32]]) -> anyhow::Result<Vec<Vec<f32>>> {
        self.logits_by(rows, usize::MAX)
    }

    /// For each row of token ids the vector from which the logits are computed.
    pub(crate) fn hidden(&self, rows: &[&[u32]]) -> anyhow::Result<Vec<Vec<f32>>> {
        self.answers(rows, usize::MAX, |ids, mask| {
            Ok(self.network.forward_with_hidden(ids, mask, false)?.1)
        })
    }

    /// Writes its checkpoint.
    pub(crate) fn save(&self, folder: &Path, storage: Storage) -> anyhow::Result<()> {
        let json = self.tokenizer.to_json()?;
        let config = self.network.config();
        Ok(network::save_checkpoint_as(
            folder,
            config,
            &self.store,
            &json,
            storage,
        )?)
    }

    /// The same with at most so many rows in a batch.
    pub(crate) fn logits_by(&self, rows: &[&[u32]], batch_max: usize) -> anyhow::Result<Vec<Vec<f32>>> {
        self.answers(rows, batch_max, |ids, mask| {
            Ok(self.network.forward(ids, mask, false)?)
        })
    }

    fn answers(
        &self,
        rows: &[&[u32]],
        batch_max: usize,
        answer: impl Fn(&Tensor, &Tensor) -> anyhow::Result<Tensor>,
    ) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&index| rows[index].len());
        let mut logits = vec![Vec::new(); rows.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            // The rows are sorted, so the last one of a batch is the longest.
            let fits = (1..=rest.len().min(batch_max))
                .take_while(|&n| n * rows[rest[n - 1]].len() <= EVALUATION_TOKENS_MAX)
                .last();
            let (batch, after) = rest.split_at(fits.unwrap_or(1));
            let texts: Vec<&[u32]> = batch.iter().map(|&index| rows[index]).collect();
            let (ids, mask) = batches::tensors(&texts, self.network.config().pad_token_id, self.device)?;
            let answers = no_grad(|| answer(&ids, &mask))?;
            for (&index, answer) in batch.iter().zip(batches::rows(&answers)?) {
                logits[index] = answer;
            }
            rest = after;
        }
        Ok(logits)
    }
}

/// Seeds dropout for a step, from the recipe's seed, the step and the process only: so a run that goes on draws what it would have
/// drawn.
pub(crate) fn seed_step(seed: u64, step: u64, rank: usize) {
    let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step ^ (rank as u64) << 48;
    tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
}

/// Probabilities from logits.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_sums_to_one() {
        let probabilities = softmax(&[1000.0, 1000.0 + 3.0_f32.ln()]);
        assert!((probabilities[0] - 0.25).abs() < 1e-4 && (probabilities[1] - 0.75).abs() < 1e-4);
    }
}
