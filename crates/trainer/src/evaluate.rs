//! `evaluate`: a checkpoint's or the baseline's figures on one split of a file.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use comfy_table::{Cell, Table, presets};
use understudy_corpus::{Baseline, BaselineOptions, Example, Fractions, Labels, Limits, Metrics, load_labelled, split};
use understudy_distilbert::Checkpoint;
use understudy_protocol::v1;

use crate::card::{self, Answers, Origin};
use crate::model::{Model, softmax};
use crate::train::Machine;
use crate::{data, files};

/// Which examples of a file to measure on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
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

/// What to measure on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Selection {
    /// Which split: what the file's column `split` says, or, without one, what `train` with the same seed and shares set aside
    #[arg(long, value_enum, default_value = "test")]
    pub(crate) split: Part,
    /// Seed of the split, if the file has no such column
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Share held out for validation, if the file has no such column
    #[arg(long, default_value_t = 0.1)]
    pub(crate) validation_share: f64,
    /// Share held out for the test, if the file has no such column
    #[arg(long, default_value_t = 0.1)]
    pub(crate) test_share: f64,
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
    /// Measure TF-IDF + logistic regression, fitted on the file's training split, instead of a checkpoint
    #[arg(long)]
    pub(crate) baseline: bool,
    /// Labelled reviews
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the JSON to a file as well
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Put the figures, golden examples and reference profile into the checkpoint's understudy.json
    #[arg(long, conflicts_with = "baseline")]
    pub(crate) write_card: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// Runs the command and returns what it prints.
pub(crate) fn evaluate(options: &EvaluateOptions) -> anyhow::Result<String> {
    let threads = options.machine.apply()?;
    let metrics = match &options.checkpoint {
        None => baseline(options)?,
        Some(folder) => {
            let checkpoint = Checkpoint::open(folder)?;
            let model = Model::load(&checkpoint, |_| {}, options.machine.device()?)?;
            let (metrics, answers) = measure(&model, &options.data, &options.selection, threads)?;
            if options.write_card {
                let mut card = renew(card::read(folder)?, &model)?;
                card::measured(&mut card, &metrics, &answers);
                card::write(folder, &card)?;
            }
            metrics
        }
    };
    let json = serde_json::to_string_pretty(&metrics)?;
    if let Some(path) = &options.output {
        files::write_whole(path, format!("{json}\n").as_bytes())?;
    }
    Ok(if options.json { json } else { table(&metrics) })
}

/// A card with fresh golden examples, and the origin that the old one tells.
pub(crate) fn renew(old: Option<v1::Manifest>, model: &Model) -> anyhow::Result<v1::Manifest> {
    let mut card = card::new(model, Origin::default())?;
    if let Some(lineage) = old.and_then(|old| old.lineage) {
        card.lineage = Some(lineage);
    }
    Ok(card)
}

/// Measures a model on the selected part of a file.
pub(crate) fn measure(
    model: &Model,
    data: &std::path::Path,
    selection: &Selection,
    threads: usize,
) -> anyhow::Result<(Metrics, Answers)> {
    let labels = Labels::new(model.network.config().labels.clone())?;
    let set = load_labelled(data, Some(&labels), &Limits::evaluation())?;
    eprintln!("{}: {}", data.display(), data::counts(&set.counts));
    let examples = select(set.examples, selection)?;
    let texts: Vec<&str> = examples.iter().map(|example| example.text.as_str()).collect();
    let truth: Vec<usize> = examples.iter().map(|example| example.label).collect();
    let rows = data::encode(&model.tokenizer, &texts, threads)?;
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let probabilities: Vec<Vec<f32>> = model.logits(&rows)?.iter().map(|row| softmax(row)).collect();
    let metrics = Metrics::measure(labels.names(), &truth, &probabilities)?;
    Ok((
        metrics,
        Answers {
            probabilities,
            tokens: rows.iter().map(|row| row.len()).collect(),
        },
    ))
}

fn select(examples: Vec<Example>, selection: &Selection) -> anyhow::Result<Vec<Example>> {
    if selection.split == Part::All {
        return Ok(examples);
    }
    let fractions = Fractions {
        validation: selection.validation_share,
        test: selection.test_share,
    };
    let splits = split(examples, fractions, selection.seed)?;
    let part = match selection.split {
        Part::Train => splits.train,
        Part::Validation => splits.validation,
        Part::Test | Part::All => splits.test,
    };
    ensure!(
        !part.is_empty(),
        "the file has nothing in this split: choose another --split"
    );
    Ok(part)
}

fn baseline(options: &EvaluateOptions) -> anyhow::Result<Metrics> {
    if options.selection.split == Part::All {
        bail!("the baseline learns from the training split: measure it on --split validation or test");
    }
    let set = load_labelled(&options.data, None, &Limits::evaluation())?;
    let train = select(
        set.examples.clone(),
        &Selection {
            split: Part::Train,
            ..options.selection.clone()
        },
    )?;
    let part = select(set.examples, &options.selection)?;
    eprintln!("fitting the baseline on {} reviews", train.len());
    let texts: Vec<&str> = train.iter().map(|example| example.text.as_str()).collect();
    let truth: Vec<usize> = train.iter().map(|example| example.label).collect();
    let fitted = Baseline::fit(&texts, &truth, set.labels.names().len(), &BaselineOptions::default())?;
    let probabilities: Vec<Vec<f32>> = part
        .iter()
        .map(|example| softmax(&fitted.logits(&example.text)))
        .collect();
    let truth: Vec<usize> = part.iter().map(|example| example.label).collect();
    Ok(Metrics::measure(set.labels.names(), &truth, &probabilities)?)
}

fn table(metrics: &Metrics) -> String {
    let percent = |share: f64| format!("{:.2}%", 100.0 * share);
    let mut by_class = Table::new();
    by_class.load_style(presets::UTF8_FULL_CONDENSED);
    let header = ["class", "precision", "recall", "F1", "examples"]
        .map(str::to_owned)
        .into_iter();
    by_class.set_header(header.chain(metrics.classes.iter().map(|class| format!("said {}", class.label))));
    for (class, said) in metrics.classes.iter().zip(&metrics.confusion) {
        let scores = class.scores;
        let mut row = vec![
            Cell::new(&class.label),
            Cell::new(percent(scores.precision)),
            Cell::new(percent(scores.recall)),
            Cell::new(percent(scores.f1)),
            Cell::new(class.support),
        ];
        row.extend(said.iter().map(Cell::new));
        by_class.add_row(row);
    }
    let area = metrics
        .roc_auc
        .map_or("not defined".to_owned(), |area| format!("{area:.4}"));
    format!(
        "{by_class}\naccuracy {} on {} examples, macro F1 {}, ROC AUC {area}, log loss {:.4}",
        percent(metrics.accuracy),
        metrics.examples,
        percent(metrics.averages.f1),
        metrics.log_loss
    )
}
