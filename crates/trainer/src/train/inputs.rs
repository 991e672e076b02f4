//! What a run begins with: the network and the rows.

use std::path::Path;

use tch::Device;
use understudy_corpus::{Labels, Metrics};
use understudy_distilbert::{Checkpoint, Tokenizer};

use super::TrainOptions;
use crate::card::Answers;
use crate::data::{self, Data};
use crate::model::{Model, softmax};
use crate::parallel::World;
use crate::recipe::Recipe;
use crate::teacher::{self, Lesson, SoftLabels};
use crate::vocabulary;

/// Rows ready for the network.
pub(super) struct Examples {
    pub(super) rows: Vec<Vec<u32>>,
    /// `None` for texts without a label.
    pub(super) labels: Vec<Option<usize>>,
    /// The teachers' logits; empty without a teacher.
    pub(super) teacher: Vec<Vec<f32>>,
    /// The vector that the teacher judges by; empty where the student need not imitate it.
    pub(super) hidden: Vec<Vec<f32>>,
}

pub(super) struct Validation {
    pub(super) rows: Vec<Vec<u32>>,
    pub(super) truth: Vec<usize>,
}

impl Validation {
    /// At most `batch_max` reviews at a time. Each process asks about its part; all get the same figures.
    pub(super) fn measure(&self, world: &World, model: &Model, batch_max: usize) -> anyhow::Result<(Metrics, Answers)> {
        let labels = &model.network.config().labels;
        let rows: Vec<&[u32]> = self.rows.iter().map(Vec::as_slice).collect();
        let answers = model.logits_by(&world.share(&rows), batch_max)?;
        let mut logits = vec![0.0; rows.len() * labels.len()];
        let own = logits.chunks_mut(labels.len()).skip(world.rank()).step_by(world.size());
        own.zip(&answers)
            .for_each(|(place, answer)| place.copy_from_slice(answer));
        world.sum_f32(&mut logits);
        let probabilities: Vec<Vec<f32>> = logits.chunks(labels.len()).map(softmax).collect();
        let metrics = Metrics::measure(labels, &self.truth, &probabilities)?;
        Ok((
            metrics,
            Answers {
                probabilities,
                tokens: rows.iter().map(|row| row.len()).collect(),
            },
        ))
    }
}

/// A checkpoint to begin from.
pub(super) struct Parent {
    pub(super) checkpoint: Checkpoint,
    pub(super) has_classifier: bool,
}

impl Parent {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
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
    pub(super) fn model(&self, recipe: &Recipe, labels: &Labels, device: Device) -> anyhow::Result<Model> {
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

/// That of a new model.
pub(super) fn tokenizer(
    options: &TrainOptions,
    recipe: &Recipe,
    data: &Data,
    say: &dyn Fn(String),
) -> anyhow::Result<Tokenizer> {
    let source = vocabulary::Source {
        given: options.tokenizer.as_deref(),
        begun: options.place.resumed(),
        size: recipe.vocab_size,
        max_tokens: recipe.max_tokens,
    };
    let texts = || {
        let labelled = data.splits.train.iter().map(|example| example.text.as_str());
        labelled.chain(data.unlabelled.iter().map(String::as_str)).collect()
    };
    let phrases = || data::phrases(&data.splits.train, &data.labels, recipe.phrases);
    source.tokenizer(texts, phrases, say)
}

/// Tokenises, and asks the teacher.
pub(super) fn prepare_rows(
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
        student: model,
    };
    let labelled = || data.splits.train.iter();
    let soft = teacher::ask(recipe, &lesson, say)?.unwrap_or_else(|| SoftLabels {
        texts: labelled().map(|example| example.text.as_str()).collect(),
        ..SoftLabels::default()
    });
    let texts = soft.texts;
    let mut labels: Vec<Option<usize>> = labelled().map(|example| Some(example.label)).collect();
    labels.resize(texts.len(), None);
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
    let examples = Examples {
        rows,
        labels,
        teacher: soft.logits,
        hidden: soft.hidden,
    };
    Ok((examples, validation))
}
