//! How a model is made: every number that decides what comes out of `train`, besides the data.
//!
//! A recipe is a TOML file, each value of which is also a flag; a flag wins over the file, the file over the default. The
//! recipe that was followed is written beside the checkpoint. Paths and machine settings are no part of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// What the forward pass is computed in while training. Weights and moments stay fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Precision {
    /// 32-bit floats.
    Fp32,
    /// bfloat16 where libtorch's autocast allows; pays for wide models on processors with bf16 instructions.
    Bf16,
}

/// Who gives the soft labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Teacher {
    /// Nobody: labels only.
    None,
    /// TF-IDF and logistic regression, fitted on the training split.
    Baseline,
    /// A checkpoint folder.
    Checkpoint(PathBuf),
}

impl FromStr for Teacher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("say none, baseline or the folder of a checkpoint".to_owned()),
            "none" => Ok(Self::None),
            "baseline" => Ok(Self::Baseline),
            folder => Ok(Self::Checkpoint(folder.into())),
        }
    }
}

impl TryFrom<String> for Teacher {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Teacher> for String {
    fn from(teacher: Teacher) -> Self {
        teacher.to_string()
    }
}

impl fmt::Display for Teacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Baseline => f.write_str("baseline"),
            Self::Checkpoint(folder) => write!(f, "{}", folder.display()),
        }
    }
}

macro_rules! recipe {
    ($($heading:literal { $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+ })+) => {
        /// A complete recipe.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) struct Recipe { $($($(#[doc = $doc])+ pub(crate) $name: $type,)+)+ }

        /// The part of a recipe that a file or the command line gives.
        #[derive(Debug, Clone, Default, Deserialize, clap::Args)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub(crate) struct RecipeOptions {
            $($($(#[doc = $doc])+ #[arg(long, help_heading = $heading)] pub(crate) $name: Option<$type>,)+)+
        }

        impl RecipeOptions {
            /// Fills what is open with the other's values, then with the defaults.
            fn complete(self, other: Self) -> Recipe {
                Recipe { $($($name: self.$name.or(other.$name).unwrap_or_else(|| $default),)+)+ }
            }
        }
    };
}

recipe! {
    "Shape of a new model (not with --from)" {
        /// Tokens of the vocabulary, if one is trained [default: 12000]
        vocab_size: usize = 12_000;
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
        /// Dropout of attention weights [default: 0]
        attention_dropout: f64 = 0.0;
        /// Dropout before the classifier [default: 0.1]
        classifier_dropout: f64 = 0.1;
        /// Decoupled weight decay of matrices (never of biases and layer norms) [default: 0.01]
        weight_decay: f64 = 0.01;
    }
    "Training" {
        /// Passes over the data; may be broken, e.g. 1.5 [default: 3]
        epochs: f64 = 3.0;
        /// Texts in one step [default: 32]
        batch_size: usize = 32;
        /// Tokens of a text that are trained on; the rest is cut off [default: 256]
        train_tokens: usize = 256;
        /// Highest learning rate [default: 0.001]
        learning_rate: f64 = 1e-3;
        /// Share of the steps in which the learning rate rises; then it falls to 0 [default: 0.05]
        warm_up: f64 = 0.05;
        /// AdamW's first decay rate [default: 0.9]
        beta1: f64 = 0.9;
        /// AdamW's second decay rate [default: 0.98]
        beta2: f64 = 0.98;
        /// Longest gradient; a longer one is scaled down [default: 1]
        clip: f64 = 1.0;
        /// Precision of the forward pass [default: fp32]
        precision: Precision = Precision::Fp32;
        /// Steps between two evaluations on the validation split; 0: at the end of each epoch [default: 0]
        evaluate_every: usize = 0;
        /// Seed of everything that is drawn [default: 1]
        seed: u64 = 1;
    }
    "Data" {
        /// Share of the labelled reviews held out for validation, if the data does not say [default: 0.1]
        validation_share: f64 = 0.1;
        /// Share of the labelled reviews held out for the test, if the data does not say [default: 0.1]
        test_share: f64 = 0.1;
        /// Most labelled reviews to learn from; 0: all [default: 0]
        train_limit: usize = 0;
    }
    "Distillation" {
        /// Who gives soft labels: none, baseline, or the folder of a checkpoint [default: none]
        distil_from: Teacher = Teacher::None;
        /// Softens the teacher's and the student's distributions [default: 1]
        temperature: f64 = 1.0;
        /// Share of the true label in the loss, where there is one; the rest is the teacher's [default: 0.5]
        label_weight: f64 = 0.5;
    }
}

impl Recipe {
    /// Puts a recipe together from its file, if any, and the command line.
    pub(crate) fn resolve(file: Option<&Path>, flags: RecipeOptions) -> anyhow::Result<Self> {
        let base = match file {
            None => RecipeOptions::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("{} is not a recipe", path.display()))?
            }
        };
        let recipe = flags.complete(base);
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> anyhow::Result<()> {
        let positive = |name: &str, value: f64| {
            ensure!(
                value.is_finite() && value > 0.0,
                "{name} is {value}; it must be positive"
            );
            Ok(())
        };
        positive("epochs", self.epochs)?;
        positive("learning-rate", self.learning_rate)?;
        positive("clip", self.clip)?;
        positive("temperature", self.temperature)?;
        for (name, value) in [("warm-up", self.warm_up), ("beta1", self.beta1), ("beta2", self.beta2)] {
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
            self.weight_decay.is_finite() && self.weight_decay >= 0.0,
            "weight-decay must not be negative"
        );
        ensure!(self.batch_size > 0, "batch-size must be at least 1");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "dim = 64\nlayers = 1\ndistil-from = \"baseline\"\n").unwrap();
        let flags = RecipeOptions {
            layers: Some(3),
            ..RecipeOptions::default()
        };
        let recipe = Recipe::resolve(Some(&path), flags).unwrap();
        assert_eq!((recipe.dim, recipe.layers, recipe.heads), (64, 3, 2));
        assert_eq!(recipe.distil_from, Teacher::Baseline);
        std::fs::write(&path, recipe.to_toml().unwrap()).unwrap();
        assert_eq!(Recipe::resolve(Some(&path), RecipeOptions::default()).unwrap(), recipe);
    }

    #[test]
    fn bad_recipes_are_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        for (text, reason) in [
            ("dimm = 64", "unknown field `dimm`"),
            ("dim = \"wide\"", "invalid type"),
            ("epochs = 0.0", "epochs is 0"),
            ("warm-up = 1.0", "warm-up is 1"),
            ("batch-size = 0", "batch-size"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!(
                "{:#}",
                Recipe::resolve(Some(&path), RecipeOptions::default()).unwrap_err()
            );
            assert!(error.contains(reason), "{error}");
        }
        assert!(Recipe::resolve(Some(&folder.path().join("none")), RecipeOptions::default()).is_err());
    }
}
