//! `evaluate`: how good a checkpoint or a baseline is on one split of a file, and where it fails.
//!
//! ```text
//! file ──Reading──▶ parts ──Contestant──▶ answers ──Evaluation──▶ terminal, JSON, HTML
//! ```
//!
//! A temperature is fitted on the validation split and told beside the figures, which are those of the checkpoint as it is. What
//! serves a checkpoint knows no temperature, so `--write-calibrated` divides the classifier's last layer by it: the folder that
//! comes out answers with calibrated probabilities wherever it is loaded.

pub(crate) mod answers;
mod calibrated;
pub(crate) mod figures;
mod page;
pub(crate) mod show;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use understudy_corpus::{Labels, Metrics};
use understudy_protocol::v1;

use crate::card::{self, Answers, Origin};
use crate::data::ColumnOptions;
use crate::model::Model;
use crate::outputs::Outputs;
use crate::recipe::{self, RecipeOptions};
use crate::train::Machine;
use answers::{Contestant, Kind, Reading};
use figures::Evaluation;

/// Which examples of a file to measure on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// Those to learn from.
    Train,
    /// Those to choose by.
    Validation,
    /// Those kept for the last word.
    Test,
    /// Every one, whatever the file says.
    All,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "training split",
            Self::Validation => "validation split",
            Self::Test => "test split",
            Self::All => "all of the file",
        }
    }
}

/// What to measure on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Selection {
    /// Which split: what the file's column `split` says, or, without one, what `train` with the same seed and shares set aside
    #[arg(long, value_enum, default_value = "test")]
    pub(crate) split: Part,
    /// Seed of the split, if the file has no such column [default: that of the checkpoint's recipe, else 1]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Share held out for validation, if the file has no such column [default: that of the checkpoint's recipe, else 0.1]
    #[arg(long, value_name = "SHARE")]
    pub(crate) validation_share: Option<f64>,
    /// Share held out for the test, if the file has no such column [default: that of the checkpoint's recipe, else 0.1]
    #[arg(long, value_name = "SHARE")]
    pub(crate) test_share: Option<f64>,
}

impl Selection {
    /// How to split a file that does not name its splits: as the flags say, else as `train` did for these checkpoints, which must
    /// have been split alike.
    fn drawn(&self, checkpoints: &[PathBuf]) -> anyhow::Result<Drawn> {
        let mut drawn: Option<(&Path, Drawn)> = None;
        for folder in checkpoints {
            let path = folder.join("recipe.toml");
            let recipe: RecipeOptions = recipe::read(path.exists().then_some(path.as_path()))?;
            let own = self.over(&recipe);
            match drawn {
                None => drawn = Some((folder, own)),
                Some((other, known)) => ensure!(
                    known == own,
                    "{} and {} were trained on other splits of their data ({known}; {own}): what one has learnt would be in the \
                     other's test. Give data with a column split, or say how to split by --seed, --validation-share and --test-share",
                    other.display(),
                    folder.display()
                ),
            }
        }
        Ok(drawn.map_or_else(|| self.over(&RecipeOptions::default()), |(_, drawn)| drawn))
    }

    fn over(&self, recipe: &RecipeOptions) -> Drawn {
        let share = |flag: Option<f64>, recipe: Option<f64>| flag.or(recipe).unwrap_or(0.1);
        Drawn {
            seed: self.seed.or(recipe.seed).unwrap_or(1),
            validation: share(self.validation_share, recipe.validation_share),
            test: share(self.test_share, recipe.test_share),
        }
    }
}

/// How a file is split that does not name its splits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Drawn {
    seed: u64,
    validation: f64,
    test: f64,
}

impl std::fmt::Display for Drawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, validation, test } = self;
        write!(f, "seed {seed}, shares {validation} and {test}")
    }
}

/// How to draw for intervals.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Resampling {
    /// Resamples of the bootstrap from which the 95% intervals come; 0: no intervals
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    pub(crate) resamples: usize,
    /// Column whose equal values are drawn together, e.g. the film's id: examples of one film are no independent evidence
    #[arg(long, value_name = "COLUMN")]
    pub(crate) cluster: Option<String>,
}

/// What baselines see beside the text.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Metadata {
    /// Columns that the hybrid baseline sees beside the text, with commas, e.g. rating,title
    #[arg(long = "metadata", value_delimiter = ',', value_name = "COLUMN,…")]
    pub(crate) columns: Vec<String>,
}

/// What `evaluate` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct EvaluateOptions {
    /// Checkpoint folder
    #[arg(
        required_unless_present = "baseline",
        conflicts_with = "baseline",
        value_name = "CHECKPOINT"
    )]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Measure a baseline, fitted on the file's training split, instead of a checkpoint
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "tfidf", value_name = "KIND")]
    pub(crate) baseline: Option<Kind>,
    #[command(flatten)]
    pub(crate) metadata: Metadata,
    /// Labelled reviews
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) columns: ColumnOptions,
    /// Column by whose values to tell figures apart, numbers with many values by quarters; may be given several times
    #[arg(long, value_name = "COLUMN")]
    pub(crate) slice: Vec<String>,
    #[command(flatten)]
    pub(crate) resampling: Resampling,
    /// How many of the most confident mistakes to tell in the JSON and the report
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub(crate) mistakes: usize,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
    /// Put the figures, golden examples and reference profile into the checkpoint's understudy.json
    #[arg(long, conflicts_with = "baseline")]
    pub(crate) write_card: bool,
    /// Write the checkpoint with its last layer divided by the fitted temperature: the same answers, calibrated probabilities
    #[arg(long, conflicts_with = "baseline", value_name = "FOLDER")]
    pub(crate) write_calibrated: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// Runs the command and returns what it prints.
pub(crate) fn evaluate(options: &EvaluateOptions) -> anyhow::Result<String> {
    let threads = options.machine.apply()?;
    let metadata = &options.metadata.columns;
    let mut contestant = match &options.checkpoint {
        None => Contestant::baseline(options.baseline.unwrap_or(Kind::Tfidf), metadata),
        Some(folder) => Contestant::open(folder, options.machine.device()?)?,
    };
    let reading = Reading {
        data: &options.data,
        selection: &options.selection,
        checkpoints: options.checkpoint.as_slice(),
        columns: &options.columns,
        kept: metadata
            .iter()
            .chain(&options.slice)
            .chain(&options.resampling.cluster)
            .cloned()
            .collect(),
    };
    let parts = reading.read(contestant.labels()?.as_ref())?;
    contestant.prepare(&parts)?;
    let measured = contestant.answer(&parts.measured, threads)?;
    // Fitted and measured on the same examples, a temperature would flatter itself.
    let held_out = match options.selection.split {
        Part::Test | Part::Train if !parts.validation.is_empty() => {
            eprintln!(
                "fitting the temperature on {} reviews of the validation split",
                parts.validation.len()
            );
            Some(contestant.answer(&parts.validation, threads)?)
        }
        _ => None,
    };
    let evaluation = Evaluation::measure(&parts, &measured, held_out.as_ref(), options)?;
    if let (Some(folder), Contestant::Checkpoint { model, .. }) = (&options.checkpoint, &contestant) {
        let answers = Answers {
            probabilities: measured.probabilities.clone(),
            tokens: measured.lengths.clone(),
        };
        if options.write_card {
            let mut card = renew(card::read(folder)?, model)?;
            card::measured(&mut card, &evaluation.metrics, &answers);
            card::write(folder, &card)?;
        }
        if let Some(output) = &options.write_calibrated {
            let temperature = evaluation.temperature.as_ref().context(
                "no temperature was fitted: measure on --split test, with a validation split in the file or drawn from it",
            )?;
            calibrated::write(folder, output, &temperature.fitted, &parts, threads)?;
        }
    }
    options.outputs.tell(&evaluation, show::tables, |evaluation| {
        page::page(evaluation, &measured, &parts)
    })
}

/// A card with fresh golden examples, and the origin that the old one tells.
pub(crate) fn renew(old: Option<v1::Manifest>, model: &Model) -> anyhow::Result<v1::Manifest> {
    let mut card = card::new(model, Origin::default())?;
    if let Some(lineage) = old.and_then(|old| old.lineage) {
        card.lineage = Some(lineage);
    }
    Ok(card)
}

/// Measures the model of a checkpoint folder on the selected part of a file.
pub(crate) fn measure(
    folder: &Path,
    model: &Model,
    data: &Path,
    selection: &Selection,
    threads: usize,
) -> anyhow::Result<(Metrics, Answers)> {
    let reading = Reading {
        data,
        selection,
        checkpoints: &[folder.to_owned()],
        columns: &ColumnOptions::default(),
        kept: Vec::new(),
    };
    let parts = reading.read(Some(&Labels::new(model.network.config().labels.clone())?))?;
    let answered = answers::ask(model, &parts.measured, threads)?;
    let metrics = Metrics::measure(parts.labels.names(), &parts.truth(), &answered.probabilities)?;
    Ok((
        metrics,
        Answers {
            probabilities: answered.probabilities,
            tokens: answered.lengths,
        },
    ))
}
