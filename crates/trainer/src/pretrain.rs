//! `pretrain`: from texts without labels to a checkpoint that `train --from` fine-tunes.
//!
//! Masked-language modelling (Devlin et al. 2019): a share of the tokens is hidden, and the network says what they were. Replaced-token
//! detection (Clark et al. 2020) learns from every token, but needs a second network that proposes the replacements, and its
//! checkpoint cannot be asked for tokens; with the projection computed at hidden places only, masking costs less per text.
//!
//! ```text
//! output/  config.json  model.safetensors  tokenizer.json  tokenizer_config.json   the best so far, replaced whole
//!          recipe.toml  pretraining.json                                           at the end
//!          training.safetensors                                                    while the run is not finished
//! ```

mod masking;
mod positions;
mod recipe;
mod task;
#[cfg(test)]
mod tests;
mod texts;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tch::Device;
use tch::nn::VarStore;
use understudy_distilbert::network::{self, MaskedLm};
use understudy_distilbert::{Checkpoint, Config, Tokenizer};

use self::masking::Masking;
use self::recipe::{PretrainRecipe, PretrainRecipeOptions};
use self::task::{Prediction, Unmasking};
use crate::data::ColumnOptions;
use crate::interrupt::Stop;
use crate::parallel::World;
use crate::state::RunState;
use crate::steps::{self, Outcome, PlaceOptions};
use crate::train::Machine;
use crate::{files, state, vocabulary};

/// The learning curve, and the mark of a finished run.
const CURVE: &str = "pretraining.json";

/// How BERT's base shape is drawn. Other widths are drawn so that a layer has the same gain: a narrow network drawn as finely
/// would hardly pass anything on, and learn nothing but word frequencies for long.
const BASE_DEVIATION: f64 = 0.02;
const BASE_DIM: f64 = 768.0;

/// Where things lie and what they run on.
#[derive(Debug, clap::Args)]
pub(crate) struct PretrainOptions {
    /// Labelled texts, of which those to train on are read: CSV with columns review or text, sentiment or label, and perhaps
    /// split; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Vec<PathBuf>,
    /// Texts without labels: CSV with a column review or text; may be given several times
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub(crate) unlabelled: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) columns: ColumnOptions,
    /// Checkpoint to begin from, in Hugging Face's layout, instead of a new network
    #[arg(long, value_name = "FOLDER", conflicts_with = "tokenizer")]
    pub(crate) from: Option<PathBuf>,
    /// tokenizer.json of a new network; without it a vocabulary is trained on the texts
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Recipe in TOML; flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
    #[command(flatten)]
    pub(crate) machine: Machine,
    #[command(flatten)]
    pub(crate) values: PretrainRecipeOptions,
}

/// The network in pretraining.
struct Language {
    store: VarStore,
    network: MaskedLm,
    tokenizer: Tokenizer,
    device: Device,
}

/// Pretrains, until the end or until `stop`.
pub(crate) fn pretrain(options: PretrainOptions, world: &World, stop: &Stop) -> anyhow::Result<Outcome> {
    let mut recipe = PretrainRecipe::resolve(options.recipe.as_deref(), options.values.clone())?;
    let threads = options.machine.apply_in(world)?;
    let device = options.machine.device()?;
    let is_first = world.is_first();
    let say = |line: String| world.say(&line);
    if is_first {
        options.place.prepare(CURVE)?;
    }

    let parent = options.from.as_deref().map(Checkpoint::open_backbone).transpose()?;
    let texts = texts::load(&options.data, &options.unlabelled, &options.columns, &recipe, &say)?;
    let language = match &parent {
        Some(parent) => Language::load(parent, &recipe, device, &say)?,
        None => {
            let source = vocabulary::Source {
                given: options.tokenizer.as_deref(),
                begun: options.place.resumed(),
                size: recipe.vocab_size,
                max_tokens: recipe.max_tokens,
            };
            let read = || texts.train.iter().map(String::as_str).collect();
            let tokenizer = source.tokenizer(read, || texts.phrases.clone(), &say)?;
            Language::draw(tokenizer, &recipe, device)?
        }
    };
    recipe.precision = recipe.precision.resolve(device, language.network.config().dim);
    let tokenizer_json = language.tokenizer.to_json()?;
    if is_first {
        files::write_whole(&options.place.output.join("tokenizer.json"), tokenizer_json.as_bytes())?;
    }
    let positions = language.network.config().max_position_embeddings;
    ensure!(
        recipe.train_tokens <= positions,
        "train-tokens is {}, but the network takes {positions} at most",
        recipe.train_tokens
    );
    let masking = Masking::new(&language.tokenizer, &recipe)?;
    let rows = texts::rows(&texts, &tokenizer_json, &masking, &recipe, threads, &say)?;
    let parent = options.from.as_deref().and_then(Path::file_name).unwrap_or_default();
    let parent = parent.to_string_lossy().into_owned();
    let origin = RunState::new(recipe, parent, texts.sha256.clone());
    drop(texts);
    understudy_distilbert::trim_memory();
    let task = Unmasking {
        recipe: &origin.recipe,
        language: &language,
        rows: &rows,
        masking: &masking,
        tokenizer_json: &tokenizer_json,
    };
    steps::run(task, world, &options.place, stop, &origin, |state| {
        finish(&options.place.output, &state)
    })
}

impl Language {
    fn new(config: &Config, tokenizer: Tokenizer, seed: u64, device: Device) -> anyhow::Result<Self> {
        tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
        let store = VarStore::new(device);
        let network = MaskedLm::new(&store.root(), config)?;
        Ok(Self {
            store,
            network,
            tokenizer,
            device,
        })
    }

    /// A new network, drawn by the recipe's seed.
    fn draw(tokenizer: Tokenizer, recipe: &PretrainRecipe, device: Device) -> anyhow::Result<Self> {
        let config = Config {
            vocab_size: tokenizer.vocab_size(),
            max_position_embeddings: recipe.max_tokens,
            dim: recipe.dim,
            n_layers: recipe.layers,
            n_heads: recipe.heads,
            hidden_dim: recipe.hidden_dim,
            dropout: recipe.dropout,
            attention_dropout: recipe.attention_dropout,
            pad_token_id: usize::try_from(tokenizer.id("[PAD]").context("the tokeniser has no [PAD]")?)?,
            initializer_range: BASE_DEVIATION * (BASE_DIM / recipe.dim as f64).sqrt(),
            ..Config::default()
        };
        let language = Self::new(&config, tokenizer, recipe.seed, device)?;
        positions::set(&language.store, &config)?;
        Ok(language)
    }

    /// The network of a checkpoint, in fp32, with a new head if it has none.
    fn load(
        parent: &Checkpoint,
        recipe: &PretrainRecipe,
        device: Device,
        say: &dyn Fn(String),
    ) -> anyhow::Result<Self> {
        let mut config = parent.config().clone();
        config.dropout = recipe.dropout;
        config.attention_dropout = recipe.attention_dropout;
        let language = Self::new(&config, parent.tokenizer().clone(), recipe.seed, device)?;
        if !network::load_masked(&language.store, parent)? {
            say(format!(
                "{} has no head of a masked-language model: it gets a new one",
                parent.folder().display()
            ));
        }
        Ok(language)
    }
}

fn finish(folder: &Path, state: &RunState<PretrainRecipe, Prediction>) -> anyhow::Result<()> {
    files::write_whole(&folder.join("recipe.toml"), toml::to_string(&state.recipe)?.as_bytes())?;
    let curve = serde_json::json!({
        "steps": state.step,
        "seconds": state.seconds.round(),
        "best": state.best,
        "history": state.history,
        "train_loss": state.curve.points(),
        "parent": state.parent,
        "data_sha256": state.data_sha256,
    });
    files::write_whole(&folder.join(CURVE), format!("{curve:#}\n").as_bytes())?;
    std::fs::remove_file(state::path(folder)).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    if let Some(best) = &state.best {
        eprintln!(
            "{}: {:.2}% of the hidden tokens of held-out texts are told right, loss {:.4}",
            folder.display(),
            100.0 * best.accuracy,
            best.loss
        );
    }
    Ok(())
}
