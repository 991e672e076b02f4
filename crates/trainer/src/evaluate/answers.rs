//! The examples to measure on, and what a checkpoint or a baseline answers.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use tch::Device;
use understudy_corpus::{
    Baseline, BaselineOptions, Clusters, Columns, Entry, Example, Fractions, Hybrid, Labels, Limits,
    load_labelled_columns, split,
};
use understudy_distilbert::Checkpoint;

use super::{Drawn, Part, Selection};
use crate::data::{self, ColumnOptions};
use crate::model::{Model, softmax};

/// What to read.
pub(crate) struct Reading<'a> {
    pub(crate) data: &'a Path,
    pub(crate) selection: &'a Selection,
    /// Those that are asked.
    pub(crate) checkpoints: &'a [PathBuf],
    pub(crate) columns: &'a ColumnOptions,
    /// Columns of metadata, then those for slices and clusters.
    pub(crate) kept: Vec<String>,
}

/// The examples of a file.
pub(crate) struct Parts {
    pub(crate) labels: Labels,
    /// Those to measure on.
    pub(crate) measured: Vec<Example>,
    /// The training split; empty where everything is measured.
    pub(crate) train: Vec<Example>,
    /// The validation split; empty where everything is measured.
    pub(crate) validation: Vec<Example>,
    kept: Vec<String>,
}

impl Reading<'_> {
    /// Reads and splits. Without `labels`, the classes are those of the file.
    pub(crate) fn read(self, labels: Option<&Labels>) -> anyhow::Result<Parts> {
        let columns = Columns {
            kept: self.kept.clone(),
            ..self.columns.labelled()
        };
        let load = |limits: &Limits| load_labelled_columns(self.data, &columns, labels, limits);
        let mut set = load(&Limits::evaluation())?;
        let names_splits = set.examples.iter().any(|example| example.split.is_some());
        if self.selection.split != Part::All && !names_splits {
            // What `train` set aside is found again only among the examples that it had.
            set = load(&Limits::training())?;
        }
        eprintln!("{}: {}", self.data.display(), data::counts(&set.counts));
        let (labels, kept) = (set.labels, self.kept);
        if self.selection.split == Part::All {
            return Ok(Parts {
                labels,
                measured: set.examples,
                train: Vec::new(),
                validation: Vec::new(),
                kept,
            });
        }
        let Drawn { seed, validation, test } = if names_splits {
            self.selection.drawn(&[])?
        } else {
            self.selection.drawn(self.checkpoints)?
        };
        let splits = split(set.examples, Fractions { validation, test }, seed)?;
        let measured = match self.selection.split {
            Part::Train => splits.train.clone(),
            Part::Validation => splits.validation.clone(),
            Part::Test | Part::All => splits.test,
        };
        ensure!(
            !measured.is_empty(),
            "the file has nothing in this split: choose another --split"
        );
        Ok(Parts {
            labels,
            measured,
            train: splits.train,
            validation: splits.validation,
            kept,
        })
    }
}

impl Parts {
    /// The classes of what is measured on.
    pub(crate) fn truth(&self) -> Vec<usize> {
        self.measured.iter().map(|example| example.label).collect()
    }

    /// The values of a column that was asked for.
    pub(crate) fn column(&self, name: &str) -> anyhow::Result<Vec<&str>> {
        let at = self.kept.iter().position(|kept| kept == name);
        let at = at.with_context(|| format!("the column {name:?} was not read"))?;
        Ok(self.measured.iter().map(|example| example.kept[at].as_str()).collect())
    }

    /// What the bootstrap draws together.
    pub(crate) fn clusters(&self, column: Option<&str>) -> anyhow::Result<Clusters> {
        Ok(match column {
            None => Clusters::single(self.measured.len()),
            Some(name) => Clusters::by(self.column(name)?),
        })
    }
}

/// What lengths are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LengthUnit {
    Tokens,
    Words,
}

/// Answers to examples, in their order.
pub(crate) struct Answered {
    pub(crate) logits: Vec<Vec<f32>>,
    pub(crate) probabilities: Vec<Vec<f32>>,
    pub(crate) lengths: Vec<usize>,
    pub(crate) unit: LengthUnit,
    /// Tokens that the model takes at most; longer texts were cut to it.
    pub(crate) length_max: Option<usize>,
}

/// A baseline, which is fitted on the training split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// TF-IDF + logistic regression
    Tfidf,
    /// Boosted trees over the text and metadata
    Hybrid,
}

impl Kind {
    /// As `compare` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tfidf => "baseline",
            Self::Hybrid => "hybrid",
        }
    }
}

pub(crate) enum Fitted {
    Tfidf(Baseline),
    Hybrid(Box<Hybrid>),
}

/// Who answers.
pub(crate) enum Contestant {
    Baseline {
        kind: Kind,
        /// How many of an example's first kept values are metadata.
        metadata: usize,
        fitted: Option<Fitted>,
    },
    /// A checkpoint.
    Checkpoint { folder: PathBuf, model: Box<Model> },
}

impl Contestant {
    pub(crate) fn baseline(kind: Kind, metadata: &[String]) -> Self {
        Self::Baseline {
            kind,
            metadata: metadata.len(),
            fitted: None,
        }
    }

    pub(crate) fn open(folder: &Path, device: Device) -> anyhow::Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        Ok(Self::Checkpoint {
            folder: folder.to_owned(),
            model: Box::new(Model::load(&checkpoint, |_| {}, device)?),
        })
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Baseline { kind, .. } => kind.name().to_owned(),
            Self::Checkpoint { folder, .. } => folder.display().to_string(),
        }
    }

    /// The classes that it knows; a baseline learns them from the file.
    pub(crate) fn labels(&self) -> anyhow::Result<Option<Labels>> {
        match self {
            Self::Baseline { .. } => Ok(None),
            Self::Checkpoint { model, .. } => Ok(Some(Labels::new(model.network.config().labels.clone())?)),
        }
    }

    /// Fits a baseline on the training split.
    pub(crate) fn prepare(&mut self, parts: &Parts) -> anyhow::Result<()> {
        let Self::Baseline { kind, metadata, fitted } = self else {
            return Ok(());
        };
        ensure!(
            !parts.train.is_empty(),
            "a baseline learns from the training split: measure it on --split validation or test"
        );
        eprintln!("fitting the {} on {} reviews", kind.name(), parts.train.len());
        let truth: Vec<usize> = parts.train.iter().map(|example| example.label).collect();
        let classes = parts.labels.names().len();
        *fitted = Some(match kind {
            Kind::Tfidf => {
                let texts: Vec<&str> = parts.train.iter().map(|example| example.text.as_str()).collect();
                Fitted::Tfidf(Baseline::fit(&texts, &truth, classes, &BaselineOptions::default())?)
            }
            Kind::Hybrid => {
                let entries: Vec<Entry> = parts.train.iter().map(|example| entry(example, *metadata)).collect();
                Fitted::Hybrid(Box::new(Hybrid::fit(&entries, &truth, classes)?))
            }
        });
        Ok(())
    }

    pub(crate) fn answer(&self, examples: &[Example], threads: usize) -> anyhow::Result<Answered> {
        match self {
            Self::Checkpoint { model, .. } => ask(model, examples, threads),
            Self::Baseline { kind, fitted: None, .. } => bail!("the {} is not fitted yet", kind.name()),
            Self::Baseline {
                metadata,
                fitted: Some(fitted),
                ..
            } => {
                let logits: Vec<Vec<f32>> = examples
                    .iter()
                    .map(|example| match fitted {
                        Fitted::Tfidf(fitted) => fitted.logits(&example.text),
                        Fitted::Hybrid(fitted) => fitted.logits(&entry(example, *metadata)),
                    })
                    .collect();
                Ok(Answered {
                    probabilities: logits.iter().map(|row| softmax(row)).collect(),
                    logits,
                    lengths: examples.iter().map(|example| example.text.split(' ').count()).collect(),
                    unit: LengthUnit::Words,
                    length_max: None,
                })
            }
        }
    }
}

fn entry(example: &Example, metadata: usize) -> Entry<'_> {
    Entry {
        text: &example.text,
        metadata: &example.kept[..metadata],
    }
}

/// A model's answers.
pub(crate) fn ask(model: &Model, examples: &[Example], threads: usize) -> anyhow::Result<Answered> {
    let texts: Vec<&str> = examples.iter().map(|example| example.text.as_str()).collect();
    let rows = data::encode(&model.tokenizer, &texts, threads)?;
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let logits = model.logits(&rows)?;
    Ok(Answered {
        probabilities: logits.iter().map(|row| softmax(row)).collect(),
        logits,
        lengths: rows.iter().map(|row| row.len()).collect(),
        unit: LengthUnit::Tokens,
        length_max: Some(model.tokenizer.max_tokens()),
    })
}
