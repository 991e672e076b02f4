//! `retrain`: from corrected answers to a candidate version.
//!
//! ```text
//! feedback ─┐
//! data ─────┴▶ merge ─▶ checks ─▶ train from the base ─▶ gate: base and new on the same test split ─▶ publish ─▶ rollout
//!                         │ 4                              │ 3
//!                         ▼                                ▼
//!                     data refused                    not better
//! ```
//!
//! The numbers are exit codes: a scheduled job can tell what happened without reading. Nothing is published that did not pass
//! both. Feedback is text and label: routers keep no texts of the requests they answer, so an id of a request says nothing here.

mod drift;
mod feedback;
mod gate;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use understudy_corpus::{Columns, Fractions, Labels, Limits, Splits, load_labelled_columns, split};
use understudy_distilbert::Checkpoint;

use self::drift::Level;
use self::feedback::Merged;
use crate::data::ColumnOptions;
use crate::evaluate::{Part, Selection};
use crate::interrupt::Stop;
use crate::parallel::World;
use crate::publish::{self, PublishOptions};
use crate::recipe::{Beginning, Recipe, RecipeOptions};
use crate::steps::{Outcome, PlaceOptions};
use crate::track::TrackOptions;
use crate::train::{self, Machine, TrainOptions};
use crate::{card, data, files};

/// Exit code: the new model is not good enough.
const NOT_BETTER: u8 = 3;
/// Exit code: the feedback was refused.
const REFUSED: u8 = 4;
/// Exit code: a signal came; the run is saved.
const INTERRUPTED: u8 = 130;

/// What `retrain` is told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the new model passed (and was published, if asked for), 3 it is not better, 4 the feedback was \
                        refused, 130 interrupted, 1 anything else."
)]
pub(crate) struct RetrainOptions {
    /// Texts with their right labels: CSV (plain, .gz or .zst) or Parquet; may be given several times
    #[arg(long, required = true, value_name = "FILE")]
    feedback: Vec<PathBuf>,
    /// Checkpoint that serves now: training begins from it, and its recipe.toml is followed
    #[arg(long, value_name = "FOLDER")]
    base: PathBuf,
    /// Labelled reviews that the base learnt from; their test split decides
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    columns: ColumnOptions,
    /// Folder for the new checkpoint
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// By how much the macro F1 of the new model must be above the base's, e.g. 0.002
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "DIFFERENCE",
        allow_negative_numbers = true
    )]
    margin: f64,
    /// Goes on although a check of the feedback refuses it
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CHECK")]
    accept: Vec<drift::Check>,
    /// Recipe in TOML instead of the base's
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Go on with an interrupted retraining in the output folder
    #[arg(long)]
    resume: bool,
    /// Publish the new model, if it passes, as this version
    #[arg(long, value_name = "VERSION", requires = "model")]
    publish: Option<String>,
    /// The model that it is a version of, e.g. sentiment
    #[arg(long)]
    model: Option<String>,
    /// Start a rollout of the published version
    #[arg(long, requires = "publish")]
    rollout: bool,
    /// Any router of the platform
    #[arg(
        long,
        env = "UNDERSTUDY_ROUTER",
        default_value = "http://127.0.0.1:8470",
        value_name = "URL"
    )]
    router: String,
    /// Bearer token that the router asks for
    #[arg(long, env = "UNDERSTUDY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    track: TrackOptions,
    #[command(flatten)]
    values: RecipeOptions,
}

/// Runs the command and returns its exit code.
pub(crate) fn retrain(options: RetrainOptions, world: &World, stop: &Stop) -> anyhow::Result<ExitCode> {
    ensure!(
        world.size() == 1,
        "retrain runs in one process: start it without mpirun or srun"
    );
    let base = Checkpoint::open(&options.base)?;
    let labels = Labels::new(base.labels().to_vec())?;
    let recipe_file = options.recipe.clone().or_else(|| {
        let beside = options.base.join("recipe.toml");
        beside.exists().then_some(beside)
    });
    let mut values = options.values.clone();
    // What the base was kept to for a trial would leave out feedback now.
    values.sample_size.get_or_insert(0);
    let recipe = Recipe::resolve(recipe_file.as_deref(), values.clone(), Beginning::Checkpoint)?;
    warn_of_other_data(&options)?;
    let columns = options.columns.labelled();
    let splits = read(&options.data, &columns, &labels, &recipe)?;
    ensure!(
        !splits.test.is_empty(),
        "{} has no test split, by which the new model is judged: add a column split, or set --test-share",
        options.data.display()
    );
    ensure!(
        !splits.train.is_empty(),
        "{} leaves nothing to train on",
        options.data.display()
    );
    std::fs::create_dir_all(&options.output)
        .with_context(|| format!("cannot make the folder {}", options.output.display()))?;

    let given = feedback::read(&options.feedback, &columns, &labels, &options.output)?;
    let merged = feedback::merge(given, &splits, labels.names());
    eprintln!("{}", merged.counts);
    let findings = drift::judge(&merged, &splits);
    let mut refused = false;
    for finding in &findings {
        let accepted = options.accept.contains(&finding.check);
        refused |= finding.level == Level::Refuse && !accepted;
        let word = match finding.level {
            Level::Refuse if !accepted => "refused",
            _ => "warning",
        };
        eprintln!("{word}: {finding}");
    }
    if refused {
        eprintln!("nothing was trained; look at the feedback, or go on with --accept");
        report(&options.output, &merged, &findings, None)?;
        return Ok(ExitCode::from(REFUSED));
    }

    if !options.output.join(card::FILE).exists() {
        let path = options.output.join("merged.csv");
        files::write_whole(&path, &feedback::write(&merged, &splits.validation, labels.names())?)?;
        let training = TrainOptions {
            data: path,
            columns: ColumnOptions::default(),
            unlabelled: Vec::new(),
            place: PlaceOptions {
                output: options.output.clone(),
                resume: options.resume,
                save_every: 300,
                track: options.track.clone(),
            },
            from: Some(options.base.clone()),
            tokenizer: None,
            label_names: Vec::new(),
            recipe: recipe_file,
            machine: options.machine.clone(),
            values,
        };
        if train::train(training, world, stop)? == Outcome::Interrupted {
            return Ok(ExitCode::from(INTERRUPTED));
        }
    } else {
        ensure!(
            options.resume,
            "{} holds a trained model already: go on to its gate with --resume, or choose another --output",
            options.output.display()
        );
    }

    let threads = options.machine.apply()?;
    let judging = gate::Judging {
        test: &splits.test,
        margin: options.margin,
        threads,
        device: options.machine.device()?,
    };
    let verdict = judging.judge(&base, &Checkpoint::open(&options.output)?)?;
    println!("{verdict}");
    report(&options.output, &merged, &findings, Some(&verdict))?;
    if !verdict.passed {
        if let (Some(version), Some(model)) = (&options.publish, &options.model) {
            println!("{model} {version} is not published");
        }
        return Ok(ExitCode::from(NOT_BETTER));
    }
    if let (Some(version), Some(model)) = (&options.publish, &options.model) {
        let test = options.output.join("test.csv");
        files::write_whole(&test, &feedback::write_test(&splits.test, labels.names())?)?;
        let publishing = PublishOptions {
            checkpoint: options.output.clone(),
            model: model.clone(),
            version: version.clone(),
            router: options.router.clone(),
            token: options.token.clone(),
            data: Some(test),
            selection: Selection {
                split: Part::All,
                seed: None,
                validation_share: None,
                test_share: None,
            },
            machine: options.machine.clone(),
        };
        println!("{}", publish::publish(&publishing)?);
        if options.rollout {
            println!("{}", publish::start_rollout(&publishing)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The data as `train` reads it: with other limits, a file without a column `split` would be split otherwise, and what the base
/// has learnt would be in the test.
fn read(path: &Path, columns: &Columns, labels: &Labels, recipe: &Recipe) -> anyhow::Result<Splits> {
    let set = load_labelled_columns(path, columns, Some(labels), &Limits::training())?;
    eprintln!("{}: {}", path.display(), data::counts(&set.counts));
    let fractions = Fractions {
        validation: recipe.validation_share,
        test: recipe.test_share,
    };
    Ok(split(set.examples, fractions, recipe.seed)?)
}

/// The base may have learnt what another file calls its test split.
fn warn_of_other_data(options: &RetrainOptions) -> anyhow::Result<()> {
    let lineage = card::read(&options.base)?
        .and_then(|card| card.lineage)
        .unwrap_or_default();
    let (_, digest) = data::digest(&options.data)?;
    if !lineage.data_sha256.values().any(|known| *known == digest) {
        eprintln!(
            "warning: {} does not say that it learnt from {}: if it learnt from the test split, the gate compares unfairly",
            options.base.display(),
            options.data.display()
        );
    }
    Ok(())
}

fn report(
    folder: &Path,
    merged: &Merged,
    findings: &[drift::Finding],
    verdict: Option<&gate::Verdict>,
) -> anyhow::Result<()> {
    let report = serde_json::json!({"feedback": merged.counts, "findings": findings, "gate": verdict});
    files::write_whole(&folder.join("retraining.json"), format!("{report:#}\n").as_bytes())
}
