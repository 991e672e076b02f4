//! How the starter scribe is made, as a TOML file.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::network::Shape;

/// Everything besides the data that decides what comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    /// Unless a time limit is given.
    pub(crate) steps: u64,
    /// Tokens of one step, first and last; it grows while copying is learnt.
    pub(crate) step_tokens: [usize; 2],
    /// Tokens that are computed at once.
    pub(crate) batch_tokens: usize,
    pub(crate) learning_rate: f64,
    /// Of embeddings and norms.
    pub(crate) embedding_learning_rate: f64,
    pub(crate) weight_decay: f64,
    /// Longest gradient of embeddings and norms.
    pub(crate) clip: f64,
    /// Shares of the run in which the learning rate rises to its height, and falls from it to 0.
    pub(crate) warm_up: f64,
    pub(crate) cool_down: f64,
    /// Share of the run from which on weights are rounded as in a 4-bit file.
    pub(crate) round_from: f64,
    /// Steps between two measurements on held-out examples.
    pub(crate) evaluate_every: u64,
    pub(crate) shape: Shape,
}

impl Recipe {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let recipe: Self =
            toml::from_str(&text).with_context(|| format!("{} is not a recipe of a scribe", path.display()))?;
        recipe.check().with_context(|| format!("in {}", path.display()))?;
        Ok(recipe)
    }

    fn check(&self) -> anyhow::Result<()> {
        self.shape.check()?;
        ensure!(
            self.steps > 0 && self.evaluate_every > 0,
            "steps and evaluate-every must be positive"
        );
        ensure!(
            self.batch_tokens > 0 && self.step_tokens[0] > 0,
            "batch-tokens and step-tokens must be positive"
        );
        let rates = [self.learning_rate, self.embedding_learning_rate, self.clip];
        ensure!(
            rates.iter().all(|rate| rate.is_finite() && *rate > 0.0) && self.weight_decay >= 0.0,
            "learning rates and clip must be positive, and weight-decay not negative"
        );
        let shares = [self.warm_up, self.cool_down, self.round_from];
        ensure!(
            shares.iter().all(|share| (0.0..=1.0).contains(share)),
            "warm-up, cool-down and round-from are shares of the run, 0 to 1"
        );
        Ok(())
    }

    /// The learning rate's share of its height at this point of the run, 0 to 1.
    pub(crate) fn rate(&self, progress: f64) -> f64 {
        let rising = if self.warm_up > 0.0 {
            progress / self.warm_up
        } else {
            1.0
        };
        let falling = if self.cool_down > 0.0 {
            (1.0 - progress) / self.cool_down
        } else {
            1.0
        };
        rising.min(falling).clamp(0.001, 1.0)
    }
}

#[cfg(test)]
mod tests;
