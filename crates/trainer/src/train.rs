//! `train`: from reviews to a checkpoint folder.
//!
//! ```text
//! output/  config.json  model.safetensors  tokenizer.json  tokenizer_config.json   the best so far, replaced whole
//!          recipe.toml  training.json  understudy.json                             at the end
//!          checkpoints/step-…/                                                     the latest, as many as are kept
//!          training.safetensors                                                    while the run is not finished
//! ```

mod inputs;
mod loss;
mod task;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tch::Device;
use understudy_corpus::Labels;
use understudy_distilbert::Checkpoint;
use understudy_distilbert::network::Storage;

use self::inputs::{Parent, Validation};
use self::loss::Loss;
use self::task::Classification;
pub(crate) use self::task::Evaluation;
use crate::card::{self, Origin};
use crate::data::{self, ColumnOptions};
use crate::interrupt::Stop;
use crate::model::Model;
use crate::parallel::World;
use crate::recipe::{Beginning, Recipe, RecipeOptions, Store};
use crate::state::RunState;
use crate::steps::{self, Outcome, PlaceOptions};
use crate::{files, lora, state};

/// Where things lie and what they run on.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainOptions {
    /// Labelled reviews: CSV with columns review or text, sentiment or label, and perhaps split; plain, .gz or .zst
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) columns: ColumnOptions,
    /// Reviews without labels, for the vocabulary and for distillation; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) unlabelled: Vec<PathBuf>,
    /// Checkpoint to begin from, in Hugging Face's layout, instead of a new model
    #[arg(long, value_name = "FOLDER", conflicts_with = "tokenizer")]
    pub(crate) from: Option<PathBuf>,
    /// tokenizer.json of a new model; without it a vocabulary is trained on the reviews
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Names of the classes, in the order of their numbers in the data, e.g. NO_SPOILER,SPOILER [default: what the data says]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) label_names: Vec<String>,
    /// Recipe in TOML; flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
    #[command(flatten)]
    pub(crate) machine: Machine,
    #[command(flatten)]
    pub(crate) values: RecipeOptions,
}

/// What a run computes on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Machine {
    /// Threads [default: as many as there are processors; of several processes on them, each takes its part]
    #[arg(long, env = "UNDERSTUDY_TRAINER_THREADS")]
    pub(crate) threads: Option<usize>,
    /// Device: auto takes CUDA where there is a device and the libraries of PyTorch 2.11.0
    #[arg(long, env = "UNDERSTUDY_TRAINER_DEVICE", value_enum, default_value = "auto")]
    pub(crate) device: DeviceChoice,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DeviceChoice {
    /// CUDA where it can be used, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

impl Machine {
    /// Sets libtorch's threads and returns their number.
    pub(crate) fn apply(&self) -> anyhow::Result<usize> {
        self.apply_in(&World::alone())
    }

    /// The same for one of several processes.
    pub(crate) fn apply_in(&self, world: &World) -> anyhow::Result<usize> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let share = (processors / world.neighbours()?).max(1);
        let threads = self.threads.unwrap_or(share);
        ensure!((1..=1024).contains(&threads), "--threads must be from 1 to 1024");
        tch::set_num_threads(i32::try_from(threads)?);
        Ok(threads)
    }

    /// The device to compute on. To be called before the first tensor is made.
    pub(crate) fn device(&self) -> anyhow::Result<Device> {
        if self.device == DeviceChoice::Cpu {
            return Ok(Device::Cpu);
        }
        if understudy_distilbert::cuda_available() {
            return Ok(Device::Cuda(0));
        }
        ensure!(
            self.device == DeviceChoice::Auto,
            "there is no CUDA device to be used: CUDA needs a driver and the libraries of PyTorch 2.11.0 on LD_LIBRARY_PATH (its torch/lib); or take --device cpu"
        );
        Ok(Device::Cpu)
    }
}

/// Trains, until the end or until `stop`.
pub(crate) fn train(options: TrainOptions, world: &World, stop: &Stop) -> anyhow::Result<Outcome> {
    let beginning = match options.from {
        Some(_) => Beginning::Checkpoint,
        None => Beginning::New,
    };
    let mut recipe = Recipe::resolve(options.recipe.as_deref(), options.values.clone(), beginning)?;
    let threads = options.machine.apply_in(world)?;
    let device = options.machine.device()?;
    let is_first = world.is_first();
    let say = |line: String| world.say(&line);
    if is_first {
        options.place.prepare(card::FILE)?;
    }

    let parent = options.from.as_deref().map(Parent::open).transpose()?;
    let known = match &parent {
        Some(parent) if parent.has_classifier => Some(Labels::new(parent.checkpoint.labels().to_vec())?),
        _ if !options.label_names.is_empty() => Some(Labels::new(options.label_names.clone())?),
        _ => None,
    };
    let data = data::load(
        &options.data,
        &options.unlabelled,
        &options.columns,
        known.as_ref(),
        &recipe,
        &say,
    )?;
    let mut model = match &parent {
        Some(parent) => {
            tch::manual_seed(i64::from_ne_bytes(recipe.seed.to_ne_bytes()));
            parent.model(&recipe, &data.labels, device)?
        }
        None => Model::draw(
            &recipe,
            data.labels.names(),
            inputs::tokenizer(&options, &recipe, &data, &say)?,
            device,
        )?,
    };
    if recipe.lora {
        let base = options
            .from
            .as_deref()
            .context("--lora needs --from: what is there to adapt?")?;
        say(lora::adapt(&mut model, &recipe, base)?);
    }
    recipe.precision = recipe.precision.resolve(device, model.network.config().dim);
    let tokenizer_json = model.tokenizer.to_json()?;
    if is_first {
        files::write_whole(&options.place.output.join("tokenizer.json"), tokenizer_json.as_bytes())
            .map_err(files::advise)?;
    }

    let (examples, validation) = inputs::prepare_rows(&data, &recipe, &model, threads, &say)?;
    let parent = options.from.as_deref().and_then(Path::file_name).unwrap_or_default();
    let origin = RunState::new(recipe, parent.to_string_lossy().into_owned(), data.sha256.clone());
    drop(data);
    // The texts and the teacher took more than the network will.
    understudy_distilbert::trim_memory();
    let task = Classification {
        recipe: &origin.recipe,
        model: &model,
        examples: &examples,
        validation: &validation,
        loss: Loss::new(&examples, &model.network.config().labels, &origin.recipe)?,
        tokenizer_json: &tokenizer_json,
    };
    steps::run(task, world, &options.place, stop, &origin, |state| {
        finish(&options.place.output, state, &validation, device)
    })
}

/// Measures the best checkpoint and writes what belongs beside it.
fn finish(
    folder: &Path,
    state: RunState<Recipe, Evaluation>,
    validation: &Validation,
    device: Device,
) -> anyhow::Result<()> {
    let mut model = Model::load(&Checkpoint::open(folder)?, |_| {}, device)?;
    if state.recipe.store == Store::Fp16 {
        model.save(folder, Storage::Fp16)?;
        // What is measured is what is stored.
        model = Model::load(&Checkpoint::open(folder)?, |_| {}, device)?;
    }
    let (metrics, answers) = validation.measure(&World::alone(), &model, state.recipe.evaluation_batch)?;
    let stopped_early = state.is_stuck(state.recipe.patience);
    let recipe = state.recipe.to_toml()?;
    files::write_whole(&folder.join("recipe.toml"), recipe.as_bytes())?;
    let report = serde_json::json!({
        "steps": state.step,
        "seconds": state.seconds.round(),
        "best": state.best,
        "stopped_early": stopped_early,
        "history": state.history,
        "train_loss": state.curve.points(),
        "validation": metrics,
    });
    files::write_whole(&folder.join("training.json"), format!("{report:#}\n").as_bytes())?;
    let origin = Origin {
        parent: state.parent,
        recipe,
        data_sha256: state.data_sha256,
    };
    let mut card = card::new(&model, origin)?;
    card::measured(&mut card, &metrics, &answers);
    card::write(folder, &card)?;
    std::fs::remove_file(state::path(folder)).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    eprintln!(
        "{}: accuracy {:.4} on {} reviews of the validation split",
        folder.display(),
        metrics.accuracy,
        metrics.examples
    );
    Ok(())
}
