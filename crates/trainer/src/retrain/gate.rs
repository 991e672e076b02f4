//! Whether the new model is good enough: both answer the same test split.

use std::fmt;

use anyhow::ensure;
use serde::Serialize;
use tch::Device;
use understudy_corpus::{Bootstrap, Clusters, Discordant, Example, Scored, percentile_interval};
use understudy_distilbert::Checkpoint;

use crate::compare::show::p_value;
use crate::data;
use crate::model::{Model, softmax};

/// How often the test split is drawn anew for the interval.
const RESAMPLES: usize = 1000;
const SEED: u64 = 1;
const LEVEL: f64 = 0.95;

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Verdict {
    pub(super) passed: bool,
    pub(super) examples: usize,
    pub(super) base_f1: f64,
    pub(super) new_f1: f64,
    pub(super) margin: f64,
    /// New less base, 95%, by bootstrap of pairs.
    pub(super) interval: Option<(f64, f64)>,
    /// Examples on which only one of the two is right.
    pub(super) only_base_right: u64,
    pub(super) only_new_right: u64,
    /// McNemar's exact test, two-sided.
    pub(super) mcnemar_p: f64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed { "passed" } else { "not passed" };
        write!(
            f,
            "gate {word}: macro F1 {:.4}, the base's {:.4}, margin {}, on {} examples of the test split; difference {:+.4}",
            self.new_f1,
            self.base_f1,
            self.margin,
            self.examples,
            self.new_f1 - self.base_f1
        )?;
        if let Some((low, high)) = self.interval {
            write!(f, " ({low:+.4} to {high:+.4})")?;
        }
        write!(
            f,
            "; right only now {}, only before {}, McNemar's p {}",
            self.only_new_right,
            self.only_base_right,
            p_value(self.mcnemar_p)
        )
    }
}

/// By what both are judged.
pub(super) struct Judging<'a> {
    pub(super) test: &'a [Example],
    pub(super) margin: f64,
    pub(super) threads: usize,
    pub(super) device: Device,
}

impl Judging<'_> {
    /// Asks both.
    pub(super) fn judge(&self, base: &Checkpoint, new: &Checkpoint) -> anyhow::Result<Verdict> {
        ensure!(
            base.labels() == new.labels(),
            "the base answers {:?}, the new model {:?}",
            base.labels(),
            new.labels()
        );
        let (base, new) = (self.answers(base)?, self.answers(new)?);
        let (base_f1, new_f1) = (base.figures(None).f1, new.figures(None).f1);
        let bootstrap = Bootstrap {
            resamples: RESAMPLES,
            seed: SEED,
        };
        let [differences] = bootstrap.run(&Clusters::single(self.test.len()), |weights| {
            [new.figures(Some(weights)).f1 - base.figures(Some(weights)).f1]
        });
        let discordant = Discordant::count(&base, &new);
        Ok(Verdict {
            passed: new_f1 >= base_f1 + self.margin,
            examples: self.test.len(),
            base_f1,
            new_f1,
            margin: self.margin,
            interval: percentile_interval(&differences, LEVEL).map(|interval| (interval.low, interval.high)),
            only_base_right: discordant.only_first,
            only_new_right: discordant.only_second,
            mcnemar_p: discordant.mcnemar(),
        })
    }

    fn answers(&self, checkpoint: &Checkpoint) -> anyhow::Result<Scored> {
        let model = Model::load(checkpoint, |_| {}, self.device)?;
        let texts: Vec<&str> = self.test.iter().map(|example| example.text.as_str()).collect();
        let truth: Vec<usize> = self.test.iter().map(|example| example.label).collect();
        let rows = data::encode(&model.tokenizer, &texts, self.threads)?;
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let probabilities: Vec<Vec<f32>> = model.logits(&rows)?.iter().map(|row| softmax(row)).collect();
        Ok(Scored::new(checkpoint.labels().len(), &truth, &probabilities)?)
    }
}
