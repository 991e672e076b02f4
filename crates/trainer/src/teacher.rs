//! Soft labels from a teacher.
//!
//! The baseline judges labelled reviews out of fold: by a copy that was fitted on the other folds, or it would only repeat their labels.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::Device;
use understudy_corpus::{Baseline, BaselineOptions, Example, Labels};
use understudy_distilbert::Checkpoint;

use crate::data;
use crate::model::Model;
use crate::recipe::{Recipe, Teacher};

const FOLDS: usize = 4;

/// A teacher's logits.
pub(crate) struct SoftLabels {
    /// For each labelled example.
    pub(crate) labelled: Vec<Vec<f32>>,
    /// For each text without a label.
    pub(crate) unlabelled: Vec<Vec<f32>>,
}

/// What the teacher is to judge.
pub(crate) struct Lesson<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) labelled: &'a [Example],
    pub(crate) unlabelled: &'a [String],
    pub(crate) threads: usize,
    pub(crate) device: Device,
}

/// Asks the recipe's teacher, if it has one.
pub(crate) fn ask(recipe: &Recipe, lesson: &Lesson, say: &dyn Fn(String)) -> anyhow::Result<Option<SoftLabels>> {
    match &recipe.distil_from {
        Teacher::None => Ok(None),
        Teacher::Baseline => baseline(recipe.seed, lesson, say).map(Some),
        Teacher::Checkpoint(folder) => {
            let checkpoint = Checkpoint::open(folder)?;
            anyhow::ensure!(
                checkpoint.labels() == lesson.labels.names(),
                "the teacher {} answers {:?}, the data has {:?}",
                folder.display(),
                checkpoint.labels(),
                lesson.labels.names()
            );
            say(format!("asking the teacher {}", folder.display()));
            let model = Model::load(&checkpoint, |_| {}, lesson.device)?;
            let judge = |texts: &[&str]| -> anyhow::Result<Vec<Vec<f32>>> {
                let rows = data::encode(&model.tokenizer, texts, lesson.threads)?;
                model.logits(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
            };
            let labelled: Vec<&str> = lesson.labelled.iter().map(|example| example.text.as_str()).collect();
            let unlabelled: Vec<&str> = lesson.unlabelled.iter().map(String::as_str).collect();
            Ok(Some(SoftLabels {
                labelled: judge(&labelled)?,
                unlabelled: judge(&unlabelled)?,
            }))
        }
    }
}

fn baseline(seed: u64, lesson: &Lesson, say: &dyn Fn(String)) -> anyhow::Result<SoftLabels> {
    let classes = lesson.labels.names().len();
    let fit = |examples: &[&Example]| {
        let texts: Vec<&str> = examples.iter().map(|example| example.text.as_str()).collect();
        let labels: Vec<usize> = examples.iter().map(|example| example.label).collect();
        Baseline::fit(&texts, &labels, classes, &BaselineOptions::default())
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let fold_of: Vec<usize> = lesson.labelled.iter().map(|_| random.random_range(0..FOLDS)).collect();
    let mut labelled = vec![Vec::new(); lesson.labelled.len()];
    let mut right = 0;
    for fold in 0..FOLDS {
        say(format!(
            "fitting the baseline on labelled reviews, fold {} of {FOLDS}",
            fold + 1
        ));
        let others: Vec<&Example> = lesson
            .labelled
            .iter()
            .zip(&fold_of)
            .filter(|&(_, &of)| of != fold)
            .map(|(example, _)| example)
            .collect();
        let teacher = fit(&others)?;
        for (index, example) in lesson
            .labelled
            .iter()
            .enumerate()
            .filter(|&(index, _)| fold_of[index] == fold)
        {
            let logits = teacher.logits(&example.text);
            right += usize::from((0..classes).all(|class| logits[class] <= logits[example.label]));
            labelled[index] = logits;
        }
    }
    let share = 100.0 * right as f64 / lesson.labelled.len() as f64;
    say(format!(
        "the baseline is right on {share:.2}% of the labelled reviews, each judged without having been learnt"
    ));
    let mut unlabelled = Vec::new();
    if !lesson.unlabelled.is_empty() {
        say(format!(
            "the baseline labels {} reviews that have no label",
            lesson.unlabelled.len()
        ));
        let teacher = fit(&lesson.labelled.iter().collect::<Vec<_>>())?;
        unlabelled = lesson.unlabelled.iter().map(|text| teacher.logits(text)).collect();
    }
    Ok(SoftLabels { labelled, unlabelled })
}
