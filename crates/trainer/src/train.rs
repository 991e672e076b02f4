//! `train`: from reviews to a checkpoint folder.
//!
//! ```text
//! output/  config.json  model.safetensors  tokenizer.json  tokenizer_config.json   the best so far, replaced whole
//!          recipe.toml  training.json  understudy.json                             at the end
//!          training.safetensors                                                    while the run is not finished
//! ```

mod loss;
mod run;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tch::Device;
use understudy_corpus::{Labels, Metrics};
use understudy_distilbert::{Checkpoint, Tokenizer};

use crate::card::{self, Answers, Origin};
use crate::data::{self, Data};
use crate::interrupt::Stop;
use crate::model::{Model, softmax};
use crate::recipe::{Recipe, RecipeOptions};
use crate::state::RunState;
use crate::teacher::{self, Lesson};
use crate::{files, state, vocabulary};

/// Where things lie and what they run on.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainOptions {
    /// Labelled reviews: CSV with columns review or text, sentiment or label, and perhaps split; plain, .gz or .zst
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// Reviews without labels, for the vocabulary and for distillation; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) unlabelled: Vec<PathBuf>,
    /// Folder for the checkpoint
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Checkpoint to begin from, in Hugging Face's layout, instead of a new model
    #[arg(long, value_name = "FOLDER", conflicts_with = "tokenizer")]
    pub(crate) from: Option<PathBuf>,
    /// tokenizer.json of a new model; without it a vocabulary is trained on the reviews
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Recipe in TOML; flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Go on with an interrupted run in the output folder; without one begin it
    #[arg(long)]
    pub(crate) resume: bool,
    /// Seconds between two savings of an unfinished run
    #[arg(
        long,
        env = "UNDERSTUDY_TRAINER_SAVE_EVERY",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub(crate) save_every: u64,
    #[command(flatten)]
    pub(crate) machine: Machine,
    #[command(flatten)]
    pub(crate) values: RecipeOptions,
}

/// What a run computes on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Machine {
    /// Threads [default: as many as there are processors]
    #[arg(long, env = "UNDERSTUDY_TRAINER_THREADS")]
    pub(crate) threads: Option<usize>,
}

impl Machine {
    /// Sets libtorch's threads and returns their number.
    pub(crate) fn apply(&self) -> anyhow::Result<usize> {
        let threads = match self.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        ensure!((1..=1024).contains(&threads), "--threads must be from 1 to 1024");
        tch::set_num_threads(i32::try_from(threads)?);
        Ok(threads)
    }
}

/// How `train` ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Outcome {
    /// The checkpoint is there.
    Finished,
    /// The state is saved.
    Interrupted,
}

/// Rows ready for the network.
struct Examples {
    rows: Vec<Vec<u32>>,
    /// `None` for texts without a label.
    labels: Vec<Option<usize>>,
    /// The teacher's logits; empty without a teacher.
    teacher: Vec<Vec<f32>>,
}

struct Validation {
    rows: Vec<Vec<u32>>,
    truth: Vec<usize>,
}

impl Validation {
    fn measure(&self, model: &Model) -> anyhow::Result<(Metrics, Answers)> {
        let rows: Vec<&[u32]> = self.rows.iter().map(Vec::as_slice).collect();
        let probabilities: Vec<Vec<f32>> = model.logits(&rows)?.iter().map(|row| softmax(row)).collect();
        let metrics = Metrics::measure(&model.network.config().labels, &self.truth, &probabilities)?;
        Ok((
            metrics,
            Answers {
                probabilities,
                tokens: rows.iter().map(|row| row.len()).collect(),
            },
        ))
    }
}

/// Trains, until the end or until `stop`.
pub(crate) fn train(options: TrainOptions, stop: &Stop) -> anyhow::Result<Outcome> {
    let recipe = Recipe::resolve(options.recipe.as_deref(), options.values.clone())?;
    let threads = options.machine.apply()?;
    let device = Device::Cpu;
    let say = |line: String| eprintln!("{line}");
    prepare(&options)?;

    let parent = options.from.as_deref().map(Parent::open).transpose()?;
    let known = match &parent {
        Some(parent) if parent.has_classifier => Some(Labels::new(parent.checkpoint.labels().to_vec())?),
        _ => None,
    };
    let data = data::load(&options.data, &options.unlabelled, known.as_ref(), &recipe, &say)?;
    let mut model = match &parent {
        Some(parent) => {
            tch::manual_seed(i64::from_ne_bytes(recipe.seed.to_ne_bytes()));
            parent.model(&recipe, &data.labels, device)?
        }
        None => Model::draw(
            &recipe,
            data.labels.names(),
            tokenizer(&options, &recipe, &data, &say)?,
            device,
        )?,
    };
    let tokenizer_json = model.tokenizer.to_json()?;
    files::write_whole(&options.output.join("tokenizer.json"), tokenizer_json.as_bytes())?;

    let (examples, validation) = prepare_rows(&data, &recipe, &model, threads, &say)?;
    let origin = RunState {
        recipe,
        parent: options
            .from
            .as_deref()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        data_sha256: data.sha256.clone(),
        step: 0,
        seconds: 0.0,
        history: Vec::new(),
        best: None,
    };
    drop(data);
    // The texts and the teacher took more than the network will.
    understudy_distilbert::trim_memory();
    let mut run = run::Run::begin(&options, &mut model, &examples, &validation, origin)?;
    let outcome = run.go(stop, &tokenizer_json)?;
    let state = run.into_state();
    if outcome == Outcome::Finished {
        finish(&options.output, state, &validation)?;
    } else {
        say(format!(
            "saved in {}; the same command with --resume goes on",
            options.output.display()
        ));
    }
    Ok(outcome)
}

fn prepare(options: &TrainOptions) -> anyhow::Result<()> {
    let folder = &options.output;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (file, what) in [
        (state::path(folder), "an unfinished run"),
        (folder.join("config.json"), "a checkpoint"),
    ] {
        ensure!(
            options.resume || !file.exists(),
            "{} holds {what} already: choose another --output, or go on with --resume",
            folder.display()
        );
    }
    ensure!(
        !folder.join(card::FILE).exists(),
        "the run in {} is finished: choose another --output, or delete that folder",
        folder.display()
    );
    Ok(())
}

struct Parent {
    checkpoint: Checkpoint,
    has_classifier: bool,
}

impl Parent {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        match Checkpoint::open(folder) {
            Ok(checkpoint) => Ok(Self {
                checkpoint,
                has_classifier: true,
            }),
            Err(error) => match Checkpoint::open_backbone(folder) {
                Ok(checkpoint) => Ok(Self {
                    checkpoint,
                    has_classifier: false,
                }),
                Err(_) => Err(error.into()),
            },
        }
    }

    /// Its network, with the recipe's dropout, and with a new classifier for `labels` if it has none.
    fn model(&self, recipe: &Recipe, labels: &Labels, device: Device) -> anyhow::Result<Model> {
        let change = |config: &mut understudy_distilbert::Config| {
            config.dropout = recipe.dropout;
            config.attention_dropout = recipe.attention_dropout;
            config.seq_classif_dropout = recipe.classifier_dropout;
            if !self.has_classifier {
                config.labels = labels.names().to_vec();
            }
        };
        Model::load(&self.checkpoint, change, device)
    }
}

fn tokenizer(options: &TrainOptions, recipe: &Recipe, data: &Data, say: &dyn Fn(String)) -> anyhow::Result<Tokenizer> {
    let begun = options.output.join("tokenizer.json");
    let json = match &options.tokenizer {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        None if options.resume && begun.exists() => std::fs::read(&begun)?,
        None => {
            say(format!("training a vocabulary of {} tokens", recipe.vocab_size));
            let labelled = data.splits.train.iter().map(|example| example.text.as_str());
            let texts: Vec<&str> = labelled.chain(data.unlabelled.iter().map(String::as_str)).collect();
            vocabulary::train(&texts, recipe.vocab_size)?.into_bytes()
        }
    };
    Ok(Tokenizer::from_json(&json, recipe.max_tokens)?)
}

fn prepare_rows(
    data: &Data,
    recipe: &Recipe,
    model: &Model,
    threads: usize,
    say: &dyn Fn(String),
) -> anyhow::Result<(Examples, Validation)> {
    let lesson = Lesson {
        labels: &data.labels,
        labelled: &data.splits.train,
        unlabelled: &data.unlabelled,
        threads,
        device: model.device,
    };
    let soft = teacher::ask(recipe, &lesson, say)?;
    let mut texts: Vec<&str> = data.splits.train.iter().map(|example| example.text.as_str()).collect();
    let mut labels: Vec<Option<usize>> = data.splits.train.iter().map(|example| Some(example.label)).collect();
    let mut teacher = Vec::new();
    if let Some(soft) = soft {
        texts.extend(data.unlabelled.iter().map(String::as_str));
        labels.resize(texts.len(), None);
        teacher = [soft.labelled, soft.unlabelled].concat();
    }
    say(format!(
        "tokenising {} reviews",
        texts.len() + data.splits.validation.len()
    ));
    let rows = data::encode(&model.tokenizer, &texts, threads)?;
    let rows = rows
        .into_iter()
        .map(|row| data::cut(row, recipe.train_tokens))
        .collect();
    let held: Vec<&str> = data
        .splits
        .validation
        .iter()
        .map(|example| example.text.as_str())
        .collect();
    let validation = Validation {
        rows: data::encode(&model.tokenizer, &held, threads)?,
        truth: data.splits.validation.iter().map(|example| example.label).collect(),
    };
    Ok((Examples { rows, labels, teacher }, validation))
}

/// Measures the best checkpoint and writes what belongs beside it.
fn finish(folder: &Path, state: RunState, validation: &Validation) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(folder)?;
    let model = Model::load(&checkpoint, |_| {}, Device::Cpu)?;
    let (metrics, answers) = validation.measure(&model)?;
    let recipe = state.recipe.to_toml()?;
    files::write_whole(&folder.join("recipe.toml"), recipe.as_bytes())?;
    let report = serde_json::json!({
        "steps": state.step,
        "seconds": state.seconds.round(),
        "best": state.best,
        "history": state.history,
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
