//! Everything that is told of a classifier's answers.

use std::collections::BTreeMap;

use serde::Serialize;
use understudy_corpus::statistics::{Interval, wilson};
use understudy_corpus::{Bootstrap, Calibration, Clusters, Metrics, Scored, Temperature, percentile_interval};

use super::answers::{Answered, Kind, LengthUnit, Parts};
use super::{EvaluateOptions, Part};
use crate::model::softmax;

/// The level of every interval.
pub(crate) const LEVEL: f64 = 0.95;
/// Seed of the bootstrap: the same answers give the same intervals.
pub(crate) const SEED: u64 = 1;
/// Slices of one column; rarer values are told together.
const SLICES_MAX: usize = 20;
/// A column of numbers with more distinct values is cut at its quarters.
const VALUES_MAX: usize = 12;
const TOKEN_ENDS: [usize; 4] = [64, 128, 256, 512];
const WORD_ENDS: [usize; 4] = [50, 100, 200, 400];
const EXCERPT_CHARACTERS: usize = 280;

/// What `evaluate` tells; this is its JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation {
    #[serde(flatten)]
    pub(crate) metrics: Metrics,
    /// Of the main figures, by name.
    pub(crate) intervals: Option<Intervals>,
    pub(crate) calibration: Calibration,
    pub(crate) temperature: Option<Tempered>,
    pub(crate) by_length: Slices,
    pub(crate) slices: Vec<Slices>,
    /// The most confident ones first.
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) split: Part,
    pub(crate) data: String,
    pub(crate) model: String,
}

/// Percentile bootstrap intervals.
#[derive(Debug, Serialize)]
pub(crate) struct Intervals {
    pub(crate) level: f64,
    pub(crate) resamples: usize,
    pub(crate) seed: u64,
    /// The column whose values were drawn together, and how many it has.
    pub(crate) cluster: Option<String>,
    pub(crate) clusters: usize,
    /// A figure that some resample does not define has none.
    pub(crate) figures: BTreeMap<String, Interval>,
}

/// A fitted temperature, and what the measured figures would be with it.
#[derive(Debug, Serialize)]
pub(crate) struct Tempered {
    #[serde(flatten)]
    pub(crate) fitted: Temperature,
    /// Of the measured examples at this temperature.
    pub(crate) log_loss: f64,
    pub(crate) brier: f64,
    pub(crate) calibration: Calibration,
}

/// Figures of the parts of the examples.
#[derive(Debug, Serialize)]
pub(crate) struct Slices {
    /// What tells the parts apart.
    pub(crate) by: String,
    pub(crate) parts: Vec<Slice>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Slice {
    pub(crate) name: String,
    pub(crate) examples: u64,
    pub(crate) errors: u64,
    pub(crate) accuracy: f64,
    /// Wilson's 95% interval of `accuracy`.
    pub(crate) interval: Interval,
    /// Macro F1, where every class occurs.
    pub(crate) f1: Option<f64>,
    pub(crate) mean_confidence: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Mistake {
    /// Where the example begins in its file.
    pub(crate) line: u64,
    pub(crate) truth: String,
    pub(crate) said: String,
    pub(crate) confidence: f32,
    pub(crate) text: String,
}

impl Evaluation {
    pub(crate) fn measure(
        parts: &Parts,
        measured: &Answered,
        held_out: Option<&Answered>,
        options: &EvaluateOptions,
    ) -> anyhow::Result<Self> {
        let truth = parts.truth();
        let names = parts.labels.names();
        let scored = Scored::new(names.len(), &truth, &measured.probabilities)?;
        let cluster = options.resampling.cluster.as_deref();
        let clusters = parts.clusters(cluster)?;
        let temperature = held_out
            .map(|held_out| temper(parts, &truth, measured, held_out))
            .transpose()?;
        let slices = options
            .slice
            .iter()
            .map(|column| {
                Ok(Slices {
                    by: column.clone(),
                    parts: slice(&scored, measured, &truth, &groups(&parts.column(column)?)),
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            metrics: Metrics::of(names, &scored),
            intervals: (options.resampling.resamples > 0)
                .then(|| intervals(&scored, &clusters, options.resampling.resamples, cluster)),
            calibration: Calibration::measure(&truth, &measured.probabilities),
            temperature,
            by_length: Slices {
                by: match measured.unit {
                    LengthUnit::Tokens => "tokens".to_owned(),
                    LengthUnit::Words => "words".to_owned(),
                },
                parts: slice(&scored, measured, &truth, &buckets(measured)),
            },
            slices,
            mistakes: mistakes(parts, &scored, measured, options.mistakes),
            split: options.selection.split,
            data: file_name(&options.data),
            model: options.checkpoint.as_ref().map_or_else(
                || options.baseline.unwrap_or(Kind::Tfidf).name().to_owned(),
                |folder| folder.display().to_string(),
            ),
        })
    }
}

pub(crate) fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Intervals of the main figures.
pub(crate) fn intervals(scored: &Scored, clusters: &Clusters, resamples: usize, cluster: Option<&str>) -> Intervals {
    let names = scored.figures(None).entries().map(|(name, _)| name);
    let bootstrap = Bootstrap { resamples, seed: SEED };
    let replicates = bootstrap.run(clusters, |weights| {
        scored.figures(Some(weights)).entries().map(|(_, value)| value)
    });
    let figures = names.iter().zip(&replicates);
    Intervals {
        level: LEVEL,
        resamples,
        seed: SEED,
        cluster: cluster.map(str::to_owned),
        clusters: clusters.count(),
        figures: figures
            .filter_map(|(name, values)| Some(((*name).to_owned(), percentile_interval(values, LEVEL)?)))
            .collect(),
    }
}

fn temper(parts: &Parts, truth: &[usize], measured: &Answered, held_out: &Answered) -> anyhow::Result<Tempered> {
    let known: Vec<usize> = parts.validation.iter().map(|example| example.label).collect();
    let fitted = Temperature::fit(&known, &held_out.logits)?;
    let probabilities: Vec<Vec<f32>> = measured.logits.iter().map(|row| softmax(&fitted.apply(row))).collect();
    let figures = Scored::new(parts.labels.names().len(), truth, &probabilities)?.figures(None);
    Ok(Tempered {
        fitted,
        log_loss: figures.log_loss,
        brier: figures.brier,
        calibration: Calibration::measure(truth, &probabilities),
    })
}

/// Names of parts in their order, and the part of each example.
struct Groups {
    names: Vec<String>,
    of: Vec<usize>,
}

fn buckets(measured: &Answered) -> Groups {
    let ends: &[usize] = match measured.unit {
        LengthUnit::Tokens => &TOKEN_ENDS,
        LengthUnit::Words => &WORD_ENDS,
    };
    let ends: Vec<usize> = ends
        .iter()
        .copied()
        .filter(|&end| measured.length_max.is_none_or(|most| end < most))
        .collect();
    let mut names: Vec<String> = (0..ends.len())
        .map(|index| match index {
            0 => format!("up to {}", ends[0]),
            _ => format!("{} to {}", ends[index - 1] + 1, ends[index]),
        })
        .collect();
    let last = ends.last().copied().unwrap_or(0);
    names.push(match measured.length_max {
        Some(most) => format!("{} to {most} (longer ones are cut)", last + 1),
        None => format!("more than {last}"),
    });
    let of = measured.lengths.iter();
    Groups {
        of: of
            .map(|&length| ends.iter().take_while(|&&end| length > end).count())
            .collect(),
        names,
    }
}

/// By value; numbers with many values by quarters.
fn groups(values: &[&str]) -> Groups {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let numbers: Option<Vec<f64>> = values
        .iter()
        .map(|value| value.parse().ok().filter(|number: &f64| number.is_finite()))
        .collect();
    match numbers {
        Some(numbers) if counts.len() > VALUES_MAX => quarters(&numbers),
        numbers => {
            let mut names: Vec<(&str, usize)> = counts.into_iter().collect();
            names.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
            let rest = names.split_off(names.len().min(SLICES_MAX));
            if numbers.is_some() {
                let number = |name: &str| name.parse::<f64>().unwrap_or(0.0);
                names.sort_by(|a, b| number(a.0).total_cmp(&number(b.0)));
            }
            let places: BTreeMap<&str, usize> = names.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
            let of = values
                .iter()
                .map(|value| places.get(value).copied().unwrap_or(names.len()));
            let of = of.collect();
            let mut names: Vec<String> = names.iter().map(|(name, _)| (*name).to_owned()).collect();
            if !rest.is_empty() {
                names.push(format!("the {} other values", rest.len()));
            }
            Groups { names, of }
        }
    }
}

fn quarters(numbers: &[f64]) -> Groups {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 4];
    let mut ends: Vec<f64> = vec![at(1), at(2), at(3)];
    ends.dedup();
    let mut names: Vec<String> = ends.iter().map(|end| format!("up to {end}")).collect();
    for (name, before) in names.iter_mut().skip(1).zip(&ends) {
        *name = format!("more than {before}, {name}");
    }
    names.push(format!("more than {}", ends.last().copied().unwrap_or_default()));
    Groups {
        of: numbers
            .iter()
            .map(|number| ends.iter().take_while(|&end| number > end).count())
            .collect(),
        names,
    }
}

fn slice(scored: &Scored, measured: &Answered, truth: &[usize], groups: &Groups) -> Vec<Slice> {
    let classes = measured.probabilities.first().map_or(0, Vec::len);
    let mut slices = Vec::new();
    for (index, name) in groups.names.iter().enumerate() {
        let weights: Vec<u32> = groups.of.iter().map(|&of| u32::from(of == index)).collect();
        let members: Vec<usize> = (0..weights.len()).filter(|&example| weights[example] == 1).collect();
        let examples = members.len() as u64;
        if examples == 0 {
            continue;
        }
        let right = members.iter().filter(|&&example| scored.is_right(example)).count() as u64;
        let confidence: f64 = members
            .iter()
            .map(|&example| f64::from(highest(&measured.probabilities[example])))
            .sum();
        let has_all = (0..classes).all(|class| members.iter().any(|&example| truth[example] == class));
        slices.push(Slice {
            name: name.clone(),
            examples,
            errors: examples - right,
            accuracy: right as f64 / examples as f64,
            interval: wilson(right, examples),
            f1: has_all.then(|| scored.figures(Some(&weights)).f1),
            mean_confidence: confidence / examples as f64,
        });
    }
    slices
}

fn highest(row: &[f32]) -> f32 {
    row.iter().copied().fold(0.0, f32::max)
}

fn mistakes(parts: &Parts, scored: &Scored, measured: &Answered, most: usize) -> Vec<Mistake> {
    let mut wrong: Vec<usize> = (0..parts.measured.len())
        .filter(|&example| !scored.is_right(example))
        .collect();
    let confidence = |example: usize| highest(&measured.probabilities[example]);
    wrong.sort_by(|&a, &b| confidence(b).total_cmp(&confidence(a)));
    let names = parts.labels.names();
    wrong
        .into_iter()
        .take(most)
        .map(|index| {
            let (example, row) = (&parts.measured[index], &measured.probabilities[index]);
            let said = (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            Mistake {
                line: example.line,
                truth: names[example.label].clone(),
                said: names[said].clone(),
                confidence: row[said],
                text: excerpt(&example.text),
            }
        })
        .collect()
}

/// The beginning and the end of a text: reviews conclude at their end.
fn excerpt(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= EXCERPT_CHARACTERS {
        return text.to_owned();
    }
    let half = EXCERPT_CHARACTERS / 2;
    let begin: String = characters[..half].iter().collect();
    let end: String = characters[characters.len() - half..].iter().collect();
    format!("{} … {}", begin.trim_end(), end.trim_start())
}
