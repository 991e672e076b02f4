//! Soft labels from teachers.
//!
//! Several teachers answer with the mean of their logits. Baselines judge labelled reviews out of fold: by a copy that was
//! fitted on the other folds, or they would only repeat their labels.
//!
//! A teacher can also judge pieces of the reviews, a few words each: a review tells the student one figure in hundreds of words,
//! a piece tells which words it hangs on (Tang et al., Distilling Task-Specific Knowledge from BERT, 2019).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::ensure;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use understudy_corpus::{Baseline, BaselineOptions, Entry, Example, Hybrid, Labels};
use understudy_distilbert::Checkpoint;

use crate::data;
use crate::model::Model;
use crate::recipe::Recipe;

const FOLDS: usize = 4;
/// Words of the shortest and the longest piece.
const PIECE_WORDS: [f64; 2] = [6.0, 60.0];
/// The stream of random numbers for pieces; folds have the first.
const PIECES: u64 = 1;

/// Who gives soft labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Teacher {
    /// TF-IDF and logistic regression, fitted on the training split.
    Baseline,
    /// The same with triples of words and log-count ratios.
    NaiveBayes,
    /// Boosted trees over the text.
    Hybrid,
    /// A checkpoint folder.
    Checkpoint(PathBuf),
}

/// Teachers that answer together; none for training on labels alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Teachers(pub(crate) Vec<Teacher>);

impl FromStr for Teachers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        let teacher = |name: &str| match name.trim() {
            "" | "none" => Err(
                "say none, baseline, naive-bayes, hybrid or the folder of a checkpoint, several with commas".to_owned(),
            ),
            "baseline" => Ok(Teacher::Baseline),
            "naive-bayes" => Ok(Teacher::NaiveBayes),
            "hybrid" => Ok(Teacher::Hybrid),
            folder => Ok(Teacher::Checkpoint(folder.into())),
        };
        text.split(',').map(teacher).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for Teachers {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Teachers> for String {
    fn from(teachers: Teachers) -> Self {
        teachers.to_string()
    }
}

impl fmt::Display for Teachers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, teacher) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match teacher {
                Teacher::Baseline => f.write_str("baseline"),
                Teacher::NaiveBayes => f.write_str("naive-bayes"),
                Teacher::Hybrid => f.write_str("hybrid"),
                Teacher::Checkpoint(folder) => write!(f, "{}", folder.display()),
            }?;
        }
        Ok(())
    }
}

/// What the teachers are to judge.
pub(crate) struct Lesson<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) labelled: &'a [Example],
    pub(crate) unlabelled: &'a [String],
    pub(crate) threads: usize,
    /// The student.
    pub(crate) student: &'a Model,
}

/// What the teachers say.
#[derive(Default)]
pub(crate) struct SoftLabels<'a> {
    /// The labelled texts, those without a label, and pieces of both, in this order.
    pub(crate) texts: Vec<&'a str>,
    /// For each text.
    pub(crate) logits: Vec<Vec<f32>>,
    /// For each text the vector that the teacher's classifier judges by, if the student is to imitate it.
    pub(crate) hidden: Vec<Vec<f32>>,
}

/// A text to judge.
struct Question<'a> {
    text: &'a str,
    /// The labelled example that it is or comes from.
    example: Option<usize>,
}

/// Asks the recipe's teachers, if it has any.
pub(crate) fn ask<'a>(
    recipe: &Recipe,
    lesson: &Lesson<'a>,
    say: &dyn Fn(String),
) -> anyhow::Result<Option<SoftLabels<'a>>> {
    let teachers = &recipe.distil_from.0;
    if teachers.is_empty() {
        return Ok(None);
    }
    let questions = questions(recipe, lesson);
    let classes = lesson.labels.names().len();
    let mut soft = SoftLabels {
        texts: questions.iter().map(|question| question.text).collect(),
        ..SoftLabels::default()
    };
    for teacher in teachers {
        let logits = match teacher {
            Teacher::Baseline => {
                let options = BaselineOptions::with_strength(recipe.baseline_strength);
                let fit = |texts: &[&str], labels: &[usize]| {
                    Baseline::fit(texts, labels, classes, &options).map(|fitted| move |text: &str| fitted.logits(text))
                };
                out_of_fold("the baseline", fit, recipe.seed, lesson, &questions, say)?
            }
            Teacher::NaiveBayes => {
                let fit = |texts: &[&str], labels: &[usize]| {
                    Baseline::fit(texts, labels, classes, &BaselineOptions::naive_bayes())
                        .map(|fitted| move |text: &str| fitted.logits(text))
                };
                let name = "the baseline with log-count ratios";
                out_of_fold(name, fit, recipe.seed, lesson, &questions, say)?
            }
            Teacher::Hybrid => {
                let fit = |texts: &[&str], labels: &[usize]| {
                    let entries: Vec<Entry> = texts.iter().map(|text| Entry { text, metadata: &[] }).collect();
                    Hybrid::fit(&entries, labels, classes)
                        .map(|fitted| move |text: &str| fitted.logits(&Entry { text, metadata: &[] }))
                };
                out_of_fold("the hybrid", fit, recipe.seed, lesson, &questions, say)?
            }
            Teacher::Checkpoint(folder) => {
                let checkpoint = Checkpoint::open(folder)?;
                ensure!(
                    checkpoint.labels() == lesson.labels.names(),
                    "the teacher {} answers {:?}, the data has {:?}",
                    folder.display(),
                    checkpoint.labels(),
                    lesson.labels.names()
                );
                say(format!(
                    "asking the teacher {} about {} texts",
                    folder.display(),
                    questions.len()
                ));
                let model = Model::load(&checkpoint, |_| {}, lesson.student.device)?;
                let rows = data::encode(&model.tokenizer, &soft.texts, lesson.threads)?;
                let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                if recipe.hidden_weight > 0.0 {
                    let (theirs, ours) = (model.network.config().dim, lesson.student.network.config().dim);
                    ensure!(
                        theirs == ours,
                        "hidden-weight needs a teacher as wide as the student: {} has the width {theirs}, the student {ours}",
                        folder.display()
                    );
                    ensure!(
                        soft.hidden.is_empty(),
                        "hidden-weight needs one checkpoint among the teachers, not several"
                    );
                    soft.hidden = model.hidden(&rows)?;
                }
                model.logits(&rows)?
            }
        };
        if soft.logits.is_empty() {
            soft.logits = logits;
        } else {
            for (sum, more) in soft.logits.iter_mut().zip(logits) {
                sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
        }
    }
    ensure!(
        recipe.hidden_weight == 0.0 || !soft.hidden.is_empty(),
        "hidden-weight needs a checkpoint among the teachers: baselines have no hidden states"
    );
    let count = teachers.len() as f32;
    soft.logits.iter_mut().flatten().for_each(|logit| *logit /= count);
    if teachers.len() > 1 {
        say(format!("the teachers together: {}", right(lesson, &soft.logits)));
    }
    Ok(Some(soft))
}

fn questions<'a>(recipe: &Recipe, lesson: &Lesson<'a>) -> Vec<Question<'a>> {
    let labelled = lesson.labelled.iter().enumerate().map(|(index, example)| Question {
        text: &example.text,
        example: Some(index),
    });
    let unlabelled = lesson.unlabelled.iter().map(|text| Question { text, example: None });
    let mut questions: Vec<Question> = labelled.chain(unlabelled).collect();
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
    random.set_stream(PIECES);
    for index in 0..questions.len() {
        let Question { text, example } = questions[index];
        for text in pieces(text, recipe.pieces, &mut random) {
            questions.push(Question { text, example });
        }
    }
    questions
}

/// Runs of words, short ones more often than long ones. A text that is hardly longer than a piece has none.
#[expect(clippy::cast_possible_truncation, reason = "within the bounds of a piece")]
fn pieces<'a>(text: &'a str, count: usize, random: &mut ChaCha8Rng) -> Vec<&'a str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [shortest, longest] = PIECE_WORDS;
    let longest = longest.min(words.len() as f64 / 2.0);
    if longest < shortest {
        return Vec::new();
    }
    let start_of = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let piece = |_| {
        let length = (shortest * (longest / shortest).powf(random.random())).round() as usize;
        let first = random.random_range(0..=words.len() - length);
        let last = words[first + length - 1];
        &text[start_of(words[first])..start_of(last) + last.len()]
    };
    (0..count).map(piece).collect()
}

/// What a baseline says that was fitted on the labelled examples: of each of them and its pieces a copy that was fitted on other folds.
fn out_of_fold<J: Fn(&str) -> Vec<f32>>(
    name: &str,
    fit: impl Fn(&[&str], &[usize]) -> Result<J, understudy_corpus::Error>,
    seed: u64,
    lesson: &Lesson,
    questions: &[Question],
    say: &dyn Fn(String),
) -> anyhow::Result<Vec<Vec<f32>>> {
    let fit = |examples: &[&Example]| {
        let texts: Vec<&str> = examples.iter().map(|example| example.text.as_str()).collect();
        let labels: Vec<usize> = examples.iter().map(|example| example.label).collect();
        fit(&texts, &labels)
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let fold_of: Vec<usize> = lesson.labelled.iter().map(|_| random.random_range(0..FOLDS)).collect();
    let mut logits = vec![Vec::new(); questions.len()];
    for fold in 0..FOLDS {
        say(format!(
            "fitting {name} on labelled reviews, fold {} of {FOLDS}",
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
        for (question, logits) in questions.iter().zip(&mut logits) {
            if question.example.is_some_and(|example| fold_of[example] == fold) {
                *logits = teacher(question.text);
            }
        }
    }
    say(format!("{name}: {}", right(lesson, &logits)));
    if !lesson.unlabelled.is_empty() {
        say(format!(
            "fitting {name} for {} reviews without a label",
            lesson.unlabelled.len()
        ));
        let teacher = fit(&lesson.labelled.iter().collect::<Vec<_>>())?;
        for (question, logits) in questions.iter().zip(&mut logits) {
            if question.example.is_none() {
                *logits = teacher(question.text);
            }
        }
    }
    Ok(logits)
}

/// How often the answers on the labelled texts, which come first, are right.
fn right(lesson: &Lesson, logits: &[Vec<f32>]) -> String {
    let right = lesson
        .labelled
        .iter()
        .zip(logits)
        .filter(|(example, logits)| logits.iter().all(|&logit| logit <= logits[example.label]))
        .count();
    format!(
        "right on {:.2}% of the labelled reviews",
        100.0 * right as f64 / lesson.labelled.len() as f64
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teachers_are_written_as_they_are_read() {
        for text in ["none", "baseline", "naive-bayes,run/a", "baseline,naive-bayes,hybrid"] {
            assert_eq!(text.parse::<Teachers>().unwrap().to_string(), text);
        }
        assert_eq!("none".parse::<Teachers>().unwrap(), Teachers::default());
        assert!("baseline,".parse::<Teachers>().is_err() && "none,baseline".parse::<Teachers>().is_err());
    }

    #[test]
    fn pieces_are_runs_of_words_of_the_text() {
        let words: Vec<String> = (0..300).map(|n| format!("wörd{n}")).collect();
        let text = words.join("  ");
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let pieces = pieces(&text, 200, &mut random);
        assert_eq!(pieces.len(), 200);
        let counts: Vec<usize> = pieces
            .iter()
            .map(|piece| {
                assert!(text.contains(piece) && piece.starts_with('w'));
                piece.split_whitespace().count()
            })
            .collect();
        assert!(counts.iter().all(|count| (6..=60).contains(count)));
        assert!(counts.iter().any(|&count| count < 10) && counts.iter().any(|&count| count > 45));
        assert!(super::pieces("too short to be cut", 3, &mut random).is_empty());
    }
}
