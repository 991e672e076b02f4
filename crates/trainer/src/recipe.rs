//! How a model is made: every number that decides what comes out of `train`, besides the data.
//!
//! A recipe is a TOML file, each value of which is also a flag; a flag wins over the file, the file over the default. Some
//! defaults are others with `--from`: a model that has learnt a language wants small steps, a new one large ones. The
//! recipe that was followed is written beside the checkpoint. Paths and machine settings are no part of it.

#[cfg(test)]
mod tests;
mod values;

use std::path::Path;

use anyhow::{Context, ensure};

use crate::lora::{self, Head};
use crate::teacher::Teachers;

pub(crate) use values::{ClassWeights, Criterion, Precision, Schedule, Store};

/// What training begins from: it decides some defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// A network drawn anew.
    New,
    /// A checkpoint.
    Checkpoint,
}

/// A recipe and the part of it that a file or the command line gives, from its values with their help texts and defaults.
macro_rules! recipe {
    (@default $beginning:ident, $new:expr) => {{
        let _ = $beginning;
        $new
    }};
    (@default $beginning:ident, $new:expr, $checkpoint:expr) => {
        match $beginning { Beginning::New => $new, Beginning::Checkpoint => $checkpoint }
    };
    ($recipe:ident, $options:ident: $($heading:literal { $($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)+)])? $name:ident: $type:ty = $new:expr $(, $checkpoint:expr)?;)+ })+) => {
        /// A complete recipe.
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) struct $recipe { $($($(#[doc = $doc])+ pub(crate) $name: $type,)+)+ }

        /// The part of a recipe that a file or the command line gives.
        #[derive(Debug, Clone, Default, serde::Deserialize, clap::Args)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub(crate) struct $options {
            $($(
                $(#[doc = $doc])+
                #[arg(long, help_heading = $heading $(, $($arg)+)?)]
                pub(crate) $name: Option<$type>,
            )+)+
        }

        impl $options {
            /// Fills what is open with the other's values, then with the defaults.
            fn complete(self, other: Self, beginning: Beginning) -> $recipe {
                $recipe {
                    $($($name: self.$name.or(other.$name)
                        .unwrap_or_else(|| recipe!(@default beginning, $new $(, $checkpoint)?)),)+)+
                }
            }
        }
    };
}
pub(crate) use recipe;

recipe! { Recipe, RecipeOptions:
    "Shape of a new model (not with --from)" {
        /// Tokens of the vocabulary, if one is trained [default: 12000]
        vocab_size: usize = 12_000;
        /// Phrases of two or three words that become tokens besides: those that tell most about the class beyond their words [default: 0]
        phrases: usize = 0;
        /// Width of a token's vector [default: 128]
        dim: usize = 128;
        /// Transformer blocks [default: 2]
        layers: usize = 2;
        /// Attention heads [default: 2]
        heads: usize = 2;
        /// Width of the feed-forward layers [default: 256]
        hidden_dim: usize = 256;
        /// Most tokens that the model takes [default: 512]
        max_tokens: usize = 512;
    }
    "Regularisation" {
        /// Dropout of embeddings and feed-forward layers [default: 0.1]
        dropout: f64 = 0.1;
        /// Dropout of attention weights [default: 0; with --from 0.1]
        attention_dropout: f64 = 0.0, 0.1;
        /// Dropout before the classifier [default: 0.1; with --from 0.2]
        classifier_dropout: f64 = 0.1, 0.2;
        /// Decoupled weight decay of matrices (never of biases and layer norms) [default: 0.01]
        weight_decay: f64 = 0.01;
        /// Share of a label that is spread over all classes [default: 0]
        label_smoothing: f64 = 0.0;
    }
    "Training" {
        /// Passes over the data; may be broken, e.g. 1.5 [default: 3]
        epochs: f64 = 3.0;
        /// Texts in one batch [default: 32; with --from 16]
        batch_size: usize = 32, 16;
        /// Batches whose gradients make one step [default: 1]
        gradient_accumulation: usize = 1;
        /// Tokens of a text that are trained on; the rest is cut off [default: 256]
        train_tokens: usize = 256;
        /// Highest learning rate [default: 0.001; with --from 0.00003, with --lora 0.0005]
        learning_rate: f64 = 1e-3, 3e-5;
        /// Steps in which the learning rate rises, at most half of all; below 1: their share of all steps [default: 0.05; with --from 500]
        warm_up: f64 = 0.05, 500.0;
        /// How the learning rate falls afterwards [default: linear]
        schedule: Schedule = Schedule::Linear;
        /// Learning rate of a layer as a multiple of that of the layer above it [default: 1]
        layer_decay: f64 = 1.0;
        /// AdamW's first decay rate [default: 0.9]
        beta1: f64 = 0.9;
        /// AdamW's second decay rate [default: 0.98; with --from 0.999]
        beta2: f64 = 0.98, 0.999;
        /// Longest gradient; a longer one is scaled down; 0: none is [default: 1]
        clip: f64 = 1.0;
        /// Precision of the forward pass [default: auto]
        precision: Precision = Precision::Auto;
        /// Whether texts of like length come into one batch, for less padding [default: true]
        group_by_length: bool = true;
        /// Seed of everything that is drawn [default: 1]
        seed: u64 = 1;
    }
    "Classes" {
        /// What classes count in the loss: none (the same by example), balanced (the same by class), or LABEL=WEIGHT,… [default: none]
        class_weights: ClassWeights = ClassWeights::None;
        /// Exponent of the focal loss, which makes little of what is already right; 0: cross entropy [default: 0]
        focal_gamma: f64 = 0.0;
    }
    "Evaluation while training" {
        /// Steps between two evaluations on the validation split; 0: at the end of each epoch [default: 0]
        evaluate_every: usize = 0;
        /// Most texts of an evaluation batch [default: 64]
        evaluation_batch: usize = 64;
        /// Figure by which the best checkpoint is kept [default: accuracy]
        best_by: Criterion = Criterion::Accuracy;
        /// Evaluations without a better one after which training ends; 0: it goes on [default: 0]
        patience: usize = 0;
        /// Latest evaluations whose checkpoints are kept in checkpoints/, besides the best of all [default: 1]
        keep_checkpoints: usize = 1;
    }
    "Data" {
        /// Share of the labelled reviews held out for validation, if the data does not say [default: 0.1]
        validation_share: f64 = 0.1;
        /// Share of the labelled reviews held out for the test, if the data does not say [default: 0.1]
        test_share: f64 = 0.1;
        /// Labelled reviews to learn from, drawn so that classes keep their shares; 0: all [default: 0]
        sample_size: usize = 0;
    }
    "LoRA" {
        /// Train low-rank adapters and the classifier only, and freeze the rest; needs --from [default: false]
        #[arg(num_args = 0..=1, default_missing_value = "true")]
        lora: bool = false;
        /// Width of the adapters [default: 8]
        lora_rank: usize = 8;
        /// The adapters' outputs are multiplied by this over their width [default: 32]
        lora_alpha: f64 = 32.0;
        /// Dropout of the adapters' inputs [default: 0.1]
        lora_dropout: f64 = 0.1;
        /// What is adapted, with commas: the linear layers q_lin, k_lin, v_lin, out_lin, lin1 and lin2, and word_embeddings [default: q_lin,v_lin]
        lora_targets: String = "q_lin,v_lin".to_owned();
        /// What of the classifier is trained: its last layer, or pre_classifier too [default: classifier]
        lora_head: Head = Head::Classifier;
    }
    "Distillation" {
        /// Who gives soft labels: none, baseline, naive-bayes, hybrid, the folder of a checkpoint, or the mean of several, with commas [default: none]
        distil_from: Teachers = Teachers::default();
        /// Inverse strength of the penalty of the teacher `baseline` (scikit-learn's C) [default: 30]
        baseline_strength: f64 = 30.0;
        /// Pieces of each text, some words long, that the teachers judge and the student learns besides [default: 0]
        pieces: usize = 0;
        /// Weight of the cosine distance between the vectors by which student and teacher judge; they must be as wide [default: 0]
        hidden_weight: f64 = 0.0;
        /// Softens the teacher's and the student's distributions [default: 1]
        temperature: f64 = 1.0;
        /// Share of the true label in the loss, where there is one; the rest is the teacher's [default: 0.5]
        label_weight: f64 = 0.5;
    }
    "Storage" {
        /// Numbers that the finished checkpoint is stored in: fp32, or fp16 for half the size [default: fp32]
        store: Store = Store::Fp32;
    }
}

/// What a recipe's file gives, if there is one.
pub(crate) fn read<T: Default + serde::de::DeserializeOwned>(file: Option<&Path>) -> anyhow::Result<T> {
    let Some(path) = file else { return Ok(T::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a recipe", path.display()))
}

impl Recipe {
    /// Puts a recipe together from its file, if any, and the command line.
    pub(crate) fn resolve(file: Option<&Path>, flags: RecipeOptions, beginning: Beginning) -> anyhow::Result<Self> {
        let base: RecipeOptions = read(file)?;
        let rate = flags.learning_rate.or(base.learning_rate);
        let mut recipe = flags.complete(base, beginning);
        if recipe.lora {
            recipe.learning_rate = rate.unwrap_or(lora::LEARNING_RATE);
        }
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (name, value) in [
            ("epochs", self.epochs),
            ("learning-rate", self.learning_rate),
            ("temperature", self.temperature),
            ("baseline-strength", self.baseline_strength),
        ] {
            ensure!(
                value.is_finite() && value > 0.0,
                "{name} is {value}; it must be positive"
            );
        }
        for (name, value) in [
            ("warm-up", self.warm_up),
            ("weight-decay", self.weight_decay),
            ("clip", self.clip),
            ("focal-gamma", self.focal_gamma),
        ] {
            ensure!(
                value.is_finite() && value >= 0.0,
                "{name} is {value}; it must not be negative"
            );
        }
        for (name, value) in [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("dropout", self.dropout),
            ("attention-dropout", self.attention_dropout),
            ("classifier-dropout", self.classifier_dropout),
            ("label-smoothing", self.label_smoothing),
        ] {
            ensure!(
                (0.0..1.0).contains(&value),
                "{name} is {value}; it must be at least 0 and below 1"
            );
        }
        ensure!(
            (0.0..=1.0).contains(&self.label_weight),
            "label-weight is {}; it must be from 0 to 1",
            self.label_weight
        );
        ensure!(
            self.layer_decay > 0.0 && self.layer_decay <= 1.0,
            "layer-decay is {}; it must be above 0 and at most 1",
            self.layer_decay
        );
        ensure!(
            self.warm_up < 1.0 || self.warm_up.fract() == 0.0,
            "warm-up is {}; it must be a share below 1 or a whole number of steps",
            self.warm_up
        );
        ensure!(
            self.hidden_weight.is_finite() && self.hidden_weight >= 0.0,
            "hidden-weight must not be negative"
        );
        for (name, value) in [
            ("batch-size", self.batch_size),
            ("gradient-accumulation", self.gradient_accumulation),
            ("evaluation-batch", self.evaluation_batch),
        ] {
            ensure!(value > 0, "{name} must be at least 1");
        }
        if self.lora {
            lora::settings(self)?;
        }
        ensure!(
            self.train_tokens >= 3,
            "train-tokens must be at least 3, for [CLS], a token and [SEP]"
        );
        Ok(())
    }

    /// The recipe as a file.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }
}
