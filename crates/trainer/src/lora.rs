//! LoRA: which parts of a network are trained, what that saves, and `merge`.
//!
//! A run with `--lora` writes the merged checkpoint, which is evaluated and published as any other, and beside it, in `adapter/`,
//! the adapter alone in PEFT's layout. The classifier is trained whole. `pre_classifier` has more weights than all adapters
//! of the default recipe together; by default it stays as it is.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use understudy_distilbert::network::{self, Storage};
use understudy_distilbert::{Checkpoint, lora};

use crate::model::Model;
use crate::recipe::Recipe;

/// The adapter's folder in a run's.
const FOLDER: &str = "adapter";

/// Few weights near 0 take longer steps than all weights of a trained network.
pub(crate) const LEARNING_RATE: f64 = 5e-4;

/// What of the classifier LoRA trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Head {
    /// The last layer.
    Classifier,
    /// `pre_classifier` too, as PEFT does for DistilBERT.
    Full,
}

/// An adapted model's settings.
#[derive(Debug)]
pub(crate) struct Adapted {
    settings: lora::Lora,
    base: PathBuf,
}

/// What `merge` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeOptions {
    /// Checkpoint that was adapted
    #[arg(long, value_name = "FOLDER")]
    pub(crate) base: PathBuf,
    /// Adapter in PEFT's layout: adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: PathBuf,
    /// Folder for the merged checkpoint
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
}

/// Writes the full checkpoint of a base and an adapter, and returns what to print.
pub(crate) fn merge(options: &MergeOptions) -> anyhow::Result<String> {
    let output = &options.output;
    ensure!(
        !output.join("config.json").exists(),
        "{} holds a checkpoint already: choose another --output",
        output.display()
    );
    lora::merge(&options.base, &options.adapter, output)?;
    // What was written must be what serving takes.
    Checkpoint::open(output)?;
    Ok(format!("wrote {}", output.display()))
}

/// The recipe's settings, checked.
pub(crate) fn settings(recipe: &Recipe) -> anyhow::Result<lora::Lora> {
    let settings = lora::Lora {
        rank: recipe.lora_rank,
        alpha: recipe.lora_alpha,
        dropout: recipe.lora_dropout,
        targets: recipe
            .lora_targets
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect(),
    };
    settings.validate()?;
    Ok(settings)
}

/// Adds adapters to a model, freezes the rest, and returns a line about what is trained.
pub(crate) fn adapt(model: &mut Model, recipe: &Recipe, base: &Path) -> anyhow::Result<String> {
    let settings = settings(recipe)?;
    model.network.adapt(&model.store.root(), &settings)?;
    for (name, variable) in model.store.variables() {
        let trained = lora::is_adapter(&name)
            || name.starts_with("classifier.")
            || (recipe.lora_head == Head::Full && name.starts_with("pre_classifier."));
        let _ = variable.f_set_requires_grad(trained)?;
    }
    model.adapted = Some(Adapted {
        settings,
        base: base.to_owned(),
    });
    Ok(count(&model.store).to_string())
}

/// Writes the model's checkpoint, merged if it is adapted, and then the adapter beside it.
pub(crate) fn save(model: &Model, folder: &Path, tokenizer_json: &str) -> anyhow::Result<()> {
    let config = model.network.config();
    let Some(Adapted { settings, base }) = &model.adapted else {
        return Ok(network::save_checkpoint(folder, config, &model.store, tokenizer_json)?);
    };
    let mut tensors = model.store.variables();
    lora::save(&folder.join(FOLDER), settings, config, base, &tensors)?;
    lora::merge_into(&mut tensors, settings.scale())?;
    Ok(network::save_tensors(
        folder,
        config,
        tensors,
        tokenizer_json,
        Storage::Fp32,
    )?)
}

/// Parameters of an adapted network, each counted once.
struct Count {
    adapters: usize,
    head: usize,
    all: usize,
}

fn count(store: &VarStore) -> Count {
    let mut count = Count {
        adapters: 0,
        head: 0,
        all: 0,
    };
    for (name, variable) in store.variables() {
        let parameters = variable.numel();
        count.all += parameters;
        if lora::is_adapter(&name) {
            count.adapters += parameters;
        } else if variable.requires_grad() {
            count.head += parameters;
        }
    }
    count
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let &Self { adapters, head, all } = self;
        let share = 100.0 * (adapters + head) as f64 / all as f64;
        write!(
            f,
            "LoRA trains {} of {all} parameters, {share:.3}%: adapters {adapters}, classifier {head}",
            adapters + head
        )
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;
    use understudy_distilbert::{Config, Tokenizer, network::Network};

    use super::*;
    use crate::recipe::{Beginning, RecipeOptions};

    /// distilbert-base-uncased with two labels; the counts were worked out by hand.
    #[test]
    fn under_one_percent_of_the_base_shape() {
        // Drawing takes from the one random generator that runs of other tests depend on.
        let _turn = crate::train::tests::alone();
        let config = Config {
            vocab_size: 30_522,
            dim: 768,
            hidden_dim: 3072,
            n_layers: 6,
            n_heads: 12,
            max_position_embeddings: 512,
            labels: vec!["NEGATIVE".into(), "POSITIVE".into()],
            ..Config::default()
        };
        let tokenizer = crate::vocabulary::train(&["a film and a story"], 100, &[]).unwrap();
        let attention = 6 * 2 * 2 * 8 * 768;
        let everything = 5 * (6 * (4 * 2 * 768 + 2 * (768 + 3072)) + 30_522 + 768);
        for (rank, targets, adapters, expected) in [
            (None, None, attention, "148994 of 67102466 parameters, 0.222%"),
            (
                Some(5),
                Some(lora::TARGETS.join(",")),
                everything,
                "572708 of 67526180 parameters, 0.848%",
            ),
        ] {
            let store = VarStore::new(Device::Cpu);
            let network = Network::new(&store.root(), &config).unwrap();
            let mut model = Model {
                store,
                network,
                tokenizer: Tokenizer::from_json(tokenizer.as_bytes(), 512).unwrap(),
                device: Device::Cpu,
                adapted: None,
            };
            let options = RecipeOptions {
                lora_rank: rank,
                lora_targets: targets,
                ..RecipeOptions::default()
            };
            let recipe = Recipe::resolve(None, options, Beginning::Checkpoint).unwrap();
            let told = adapt(&mut model, &recipe, Path::new("base")).unwrap();
            let count = count(&model.store);
            assert_eq!((count.adapters, count.head), (adapters, 2 * 768 + 2));
            assert_eq!(count.all, 66_955_010 + adapters);
            assert!(told.contains(expected), "{told}");
        }
    }
}
