//! How a language model is made. As the recipe of `train`: a TOML file, each value of which is also a flag.

use std::path::Path;

use anyhow::ensure;

use crate::recipe::{self, Beginning, Precision, Schedule, recipe};

recipe! { PretrainRecipe, PretrainRecipeOptions:
    "Shape of a new network (not with --from)" {
        /// Tokens of the vocabulary, if one is trained [default: 16000]
        vocab_size: usize = 16_000;
        /// Phrases of two or three words that become tokens besides: those that tell most about the class beyond their words [default: 0]
        phrases: usize = 0;
        /// Width of a token's vector [default: 128]
        dim: usize = 128;
        /// Transformer blocks [default: 2]
        layers: usize = 2;
        /// Attention heads [default: 2]
        heads: usize = 2;
        /// Width of the feed-forward layers [default: 512]
        hidden_dim: usize = 512;
        /// Most tokens that the network takes [default: 512]
        max_tokens: usize = 512;
    }
    "Masking" {
        /// Share of the tokens that are to be told; of these 80% are hidden, 10% replaced by others and 10% left [default: 0.15]
        mask_share: f64 = 0.15;
    }
    "Training" {
        /// Passes over the data; may be broken, e.g. 1.5 [default: 3]
        epochs: f64 = 3.0;
        /// Windows of text in one step [default: 16]
        batch_size: usize = 16;
        /// Tokens of a window; longer texts become several [default: 256]
        train_tokens: usize = 256;
        /// Highest learning rate [default: 0.001]
        learning_rate: f64 = 1e-3;
        /// Steps in which the learning rate rises, at most half of all; below 1: their share of all steps [default: 0.05]
        warm_up: f64 = 0.05;
        /// How the learning rate falls afterwards [default: linear]
        schedule: Schedule = Schedule::Linear;
        /// AdamW's first decay rate [default: 0.9]
        beta1: f64 = 0.9;
        /// AdamW's second decay rate [default: 0.98]
        beta2: f64 = 0.98;
        /// Decoupled weight decay of matrices (never of biases and layer norms) [default: 0.01]
        weight_decay: f64 = 0.01;
        /// Longest gradient; a longer one is scaled down; 0: none is [default: 1]
        clip: f64 = 1.0;
        /// Dropout of embeddings and feed-forward layers; in few passes there is nothing to overfit [default: 0]
        dropout: f64 = 0.0;
        /// Dropout of attention weights [default: 0]
        attention_dropout: f64 = 0.0;
        /// Precision of the forward pass [default: auto]
        precision: Precision = Precision::Auto;
        /// Steps between two evaluations on held-out texts; 0: at the end of each epoch [default: 0]
        evaluate_every: usize = 0;
        /// Seed of everything that is drawn [default: 1]
        seed: u64 = 1;
    }
    "Data" {
        /// Texts held out to measure the prediction on, a tenth of all at most [default: 500]
        held_out: usize = 500;
        /// Share of a labelled file kept for validation and never learnt from, if the file does not say [default: 0.1]
        validation_share: f64 = 0.1;
        /// Share of a labelled file kept for the test and never learnt from, if the file does not say [default: 0.1]
        test_share: f64 = 0.1;
        /// Seed of that split, which must be the seed of the fine-tuning to come [default: 1]
        split_seed: u64 = 1;
    }
}

impl PretrainRecipe {
    /// Puts a recipe together from its file, if any, and the command line.
    pub(crate) fn resolve(file: Option<&Path>, flags: PretrainRecipeOptions) -> anyhow::Result<Self> {
        let recipe = flags.complete(recipe::read(file)?, Beginning::New);
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (name, value) in [("epochs", self.epochs), ("learning-rate", self.learning_rate)] {
            ensure!(
                value.is_finite() && value > 0.0,
                "{name} is {value}; it must be positive"
            );
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            ensure!(
                (0.0..1.0).contains(&value),
                "{name} is {value}; it must be at least 0 and below 1"
            );
        }
        ensure!(
            self.mask_share > 0.0 && self.mask_share < 1.0,
            "mask-share is {}; it must be above 0 and below 1",
            self.mask_share
        );
        ensure!(
            [self.weight_decay, self.clip, self.warm_up]
                .iter()
                .all(|value| value.is_finite() && *value >= 0.0),
            "weight-decay, clip and warm-up must not be negative"
        );
        ensure!(self.batch_size > 0, "batch-size must be at least 1");
        ensure!(self.held_out > 0, "held-out must be at least 1");
        ensure!(
            self.train_tokens >= 3,
            "train-tokens must be at least 3, for [CLS], a token and [SEP]"
        );
        Ok(())
    }
}
