//! `compare`: several checkpoints, and perhaps baselines, on the same examples; which is the best, and by what test.
//!
//! Accuracy is compared by McNemar's exact test; every other figure, and every figure where examples come in clusters (reviews
//! of one film are no independent evidence), by a paired bootstrap: both classifiers on the same resamples. All pairs are
//! tested, and Holm's adjustment keeps the chance of any false claim below the level. A winner is better than every other one by
//! these tests; where there is none, that is said.

mod page;
pub(crate) mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use serde::Serialize;
use understudy_corpus::statistics::Interval;
use understudy_corpus::{Bootstrap, Clusters, Discordant, Labels, Metrics, Scored, holm, percentile_interval};

use crate::data::ColumnOptions;
use crate::evaluate::answers::{Contestant, Kind, Reading};
use crate::evaluate::figures::{Intervals, LEVEL, SEED, file_name, intervals};
use crate::evaluate::{Metadata, Part, Resampling, Selection, show::FIGURES};
use crate::outputs::Outputs;
use crate::train::Machine;

/// The figure that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// Share of right answers.
    Accuracy,
    /// Mean F1 of the classes.
    F1,
    /// Area under the ROC; of the second class where there are two.
    RocAuc,
    /// Average precision, mean of the classes.
    PrAuc,
}

impl Figure {
    fn key(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::RocAuc => "roc_auc",
            Self::PrAuc => "pr_auc",
        }
    }

    fn name(self) -> &'static str {
        let named = FIGURES.iter().find(|(key, ..)| *key == self.key());
        named.map_or(self.key(), |(_, name, _)| name)
    }

    fn is_share(self) -> bool {
        matches!(self, Self::Accuracy | Self::F1)
    }
}

/// What `compare` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareOptions {
    /// Two or more checkpoint folders; `baseline` is TF-IDF + logistic regression and `hybrid` boosted trees over the text and
    /// metadata, both fitted on the file's training split
    #[arg(value_name = "CHECKPOINT", num_args = 2.., required = true)]
    contestants: Vec<String>,
    /// Labelled reviews
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    columns: ColumnOptions,
    #[command(flatten)]
    metadata: Metadata,
    /// The figure that decides
    #[arg(long, value_enum, default_value = "accuracy")]
    by: Figure,
    /// Highest chance of naming a better one falsely
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    level: f64,
    #[command(flatten)]
    resampling: Resampling,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    machine: Machine,
}

/// What `compare` tells; this is its JSON.
#[derive(Debug, Serialize)]
struct Comparison {
    data: String,
    split: Part,
    examples: usize,
    by: Figure,
    level: f64,
    /// The test that decides.
    test: String,
    /// The best figure first.
    contestants: Vec<Standing>,
    /// Every pair, the better one by the deciding figure first.
    pairs: Vec<Pair>,
    /// The one that is better than every other.
    winner: Option<String>,
    verdict: String,
}

#[derive(Debug, Serialize)]
struct Standing {
    name: String,
    #[serde(flatten)]
    metrics: Metrics,
    intervals: Intervals,
}

impl Standing {
    fn value(&self, by: Figure) -> f64 {
        match by {
            Figure::Accuracy => self.metrics.accuracy,
            Figure::F1 => self.metrics.averages.f1,
            Figure::RocAuc => self.metrics.roc_auc.unwrap_or(f64::NAN),
            Figure::PrAuc => self.metrics.pr_auc.unwrap_or(f64::NAN),
        }
    }
}

#[derive(Debug, Serialize)]
struct Pair {
    first: String,
    second: String,
    #[serde(flatten)]
    discordant: Discordant,
    /// McNemar's exact test of equal accuracy, two-sided.
    mcnemar_p: f64,
    /// First less second, by figure.
    differences: BTreeMap<String, Difference>,
    /// Of the deciding test.
    p: f64,
    /// After Holm's adjustment for all pairs.
    p_adjusted: f64,
    is_shown: bool,
}

#[derive(Debug, Serialize)]
struct Difference {
    estimate: f64,
    /// Percentile bootstrap, both on the same resamples.
    interval: Option<Interval>,
}

/// Runs the command and returns what it prints.
pub(crate) fn compare(options: &CompareOptions) -> anyhow::Result<String> {
    ensure!(
        options.level > 0.0 && options.level < 0.5,
        "--level is {}; it must be above 0 and below 0.5",
        options.level
    );
    ensure!(
        options.resampling.resamples >= 100,
        "a comparison needs --resamples of at least 100, for its intervals"
    );
    for (index, name) in options.contestants.iter().enumerate() {
        ensure!(!options.contestants[..index].contains(name), "{name} is given twice");
    }
    let (names, scored, labels, clusters) = answer_all(options)?;
    let comparison = judge(options, names, &scored, &labels, &clusters)?;
    options.outputs.tell(&comparison, show::tables, page::page)
}

/// Each contestant in turn answers the same examples; only its scored answers stay in memory.
fn answer_all(options: &CompareOptions) -> anyhow::Result<(Vec<String>, Vec<Scored>, Labels, Clusters)> {
    let (threads, device) = (options.machine.apply()?, options.machine.device()?);
    let metadata = &options.metadata.columns;
    let kind = |name: &str| [Kind::Tfidf, Kind::Hybrid].into_iter().find(|kind| kind.name() == name);
    let open = |name: &String| match kind(name) {
        Some(kind) => Ok(Contestant::baseline(kind, metadata)),
        None => Contestant::open(Path::new(name), device),
    };
    let folders = options.contestants.iter().filter(|name| kind(name).is_none());
    let mut known: Option<Labels> = None;
    for name in &options.contestants {
        if let Some(labels) = open(name)?.labels()? {
            match &known {
                None => known = Some(labels),
                Some(known) => ensure!(
                    *known == labels,
                    "{name} answers {:?}, another checkpoint {:?}: they cannot be compared",
                    labels.names(),
                    known.names()
                ),
            }
        }
    }
    let cluster = options.resampling.cluster.as_deref();
    let reading = Reading {
        data: &options.data,
        selection: &options.selection,
        checkpoints: &folders.map(PathBuf::from).collect::<Vec<_>>(),
        columns: &options.columns,
        kept: metadata.iter().cloned().chain(cluster.map(str::to_owned)).collect(),
    };
    let parts = reading.read(known.as_ref())?;
    let truth = parts.truth();
    let (mut names, mut scored) = (Vec::new(), Vec::new());
    for name in &options.contestants {
        let mut contestant = open(name)?;
        contestant.prepare(&parts)?;
        eprintln!("asking {} about {} reviews", contestant.name(), truth.len());
        let answered = contestant.answer(&parts.measured, threads)?;
        scored.push(Scored::new(
            parts.labels.names().len(),
            &truth,
            &answered.probabilities,
        )?);
        names.push(contestant.name());
    }
    let clusters = parts.clusters(cluster)?;
    Ok((names, scored, parts.labels, clusters))
}

fn judge(
    options: &CompareOptions,
    names: Vec<String>,
    scored: &[Scored],
    labels: &Labels,
    clusters: &Clusters,
) -> anyhow::Result<Comparison> {
    let Resampling { resamples, cluster } = &options.resampling;
    let by = options.by;
    let mut order: Vec<(usize, Standing)> = names
        .into_iter()
        .zip(scored)
        .map(|(name, scored)| Standing {
            name,
            metrics: Metrics::of(labels.names(), scored),
            intervals: intervals(scored, clusters, *resamples, cluster.as_deref()),
        })
        .enumerate()
        .collect();
    if order.iter().any(|(_, standing)| standing.value(by).is_nan()) {
        bail!(
            "{} is not defined on these examples: a class has none of them",
            by.name()
        );
    }
    order.sort_by(|(_, a), (_, b)| b.value(by).total_cmp(&a.value(by)));
    let uses_mcnemar = by == Figure::Accuracy && cluster.is_none();
    let mut pairs = Vec::new();
    for (place, (first, first_standing)) in order.iter().enumerate() {
        for (second, second_standing) in &order[place + 1..] {
            let (a, b) = (&scored[*first], &scored[*second]);
            let (differences, bootstrap_p) = differences(a, b, by, clusters, *resamples);
            let discordant = Discordant::count(a, b);
            let mcnemar_p = discordant.mcnemar();
            pairs.push(Pair {
                first: first_standing.name.clone(),
                second: second_standing.name.clone(),
                discordant,
                mcnemar_p,
                differences,
                p: if uses_mcnemar { mcnemar_p } else { bootstrap_p },
                p_adjusted: 1.0,
                is_shown: false,
            });
        }
    }
    let p_values: Vec<f64> = pairs.iter().map(|pair| pair.p).collect();
    for (pair, adjusted) in pairs.iter_mut().zip(holm(&p_values)) {
        pair.p_adjusted = adjusted;
        pair.is_shown = adjusted < options.level;
    }
    let mut test = if uses_mcnemar {
        "McNemar's exact test, two-sided".to_owned()
    } else {
        let what = cluster
            .as_ref()
            .map_or("examples".to_owned(), |column| format!("groups of equal {column}"));
        format!("paired bootstrap of {resamples} resamples of {what}, two-sided")
    };
    if pairs.len() > 1 {
        let _ = write!(test, ", with Holm's adjustment for {} pairs", pairs.len());
    }
    let contestants: Vec<Standing> = order.into_iter().map(|(_, standing)| standing).collect();
    let (winner, verdict) = verdict(&contestants, &pairs, by, options.level, &test);
    Ok(Comparison {
        data: file_name(&options.data),
        split: options.selection.split,
        examples: clusters_examples(&contestants),
        by,
        level: options.level,
        test,
        contestants,
        pairs,
        winner,
        verdict,
    })
}

fn clusters_examples(contestants: &[Standing]) -> usize {
    contestants.first().map_or(0, |standing| standing.metrics.examples)
}

/// The differences of all figures with their intervals, and the two-sided p-value of the deciding one: twice the share of
/// resamples that do not have the sign of the estimate (Davison & Hinkley 1997, §4.4), each resample and the data counting once.
fn differences(
    first: &Scored,
    second: &Scored,
    by: Figure,
    clusters: &Clusters,
    resamples: usize,
) -> (BTreeMap<String, Difference>, f64) {
    let difference = |weights: Option<&[u32]>| {
        let (a, b) = (first.figures(weights).entries(), second.figures(weights).entries());
        std::array::from_fn::<_, 6, _>(|index| a[index].1 - b[index].1)
    };
    let names = first.figures(None).entries().map(|(name, _)| name);
    let estimates = difference(None);
    let bootstrap = Bootstrap { resamples, seed: SEED };
    let replicates = bootstrap.run(clusters, |weights| difference(Some(weights)));
    let (mut differences, mut p) = (BTreeMap::new(), 1.0);
    for ((name, estimate), replicates) in names.into_iter().zip(estimates).zip(replicates) {
        if name == by.key() {
            // NaN is on both sides, so that it counts against a difference.
            let below = replicates
                .iter()
                .filter(|value| value.is_nan() || **value <= 0.0)
                .count();
            let above = replicates
                .iter()
                .filter(|value| value.is_nan() || **value >= 0.0)
                .count();
            p = (2.0 * (below.min(above) + 1) as f64 / (resamples + 1) as f64).min(1.0);
        }
        let interval = percentile_interval(&replicates, LEVEL);
        differences.insert(name.to_owned(), Difference { estimate, interval });
    }
    (differences, p)
}

/// Names the winner, or says what is and what is not shown. `contestants` are sorted, the best first.
fn verdict(contestants: &[Standing], pairs: &[Pair], by: Figure, level: f64, test: &str) -> (Option<String>, String) {
    let Some(best) = contestants.first() else {
        return (None, String::new());
    };
    let of_best: Vec<&Pair> = pairs.iter().filter(|pair| pair.first == best.name).collect();
    let largest = of_best.iter().map(|pair| pair.p_adjusted).fold(0.0, f64::max);
    let others = if of_best.len() == 1 { "the other" } else { "every other" };
    if of_best.iter().all(|pair| pair.is_shown) {
        let text = format!(
            "{} wins: its {} is higher than that of {others} ({test}; p ≤ {}, below {level})",
            best.name,
            by.name(),
            show::p_value(largest)
        );
        return (Some(best.name.clone()), text);
    }
    let list = |shown: bool| {
        let names = of_best.iter().filter(|pair| pair.is_shown == shown);
        let names = names.map(|pair| format!("{} (p = {})", pair.second, show::p_value(pair.p_adjusted)));
        names.collect::<Vec<_>>().join(", ")
    };
    let mut text = format!(
        "no winner: {} has the highest {}, but it is not shown to be better than {}",
        best.name,
        by.name(),
        list(false)
    );
    if of_best.iter().any(|pair| pair.is_shown) {
        let _ = write!(text, "; it is better than {}", list(true));
    }
    let _ = write!(text, " ({test}; level {level})");
    (None, text)
}
