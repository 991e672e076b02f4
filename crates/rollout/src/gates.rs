//! Verdicts on a candidate, from evidence, at any moment.
//!
//! # Who may err how often
//!
//! A rollout is rolled back if any gate says "worse", so the gates share alpha; the parts below are fixed, whichever
//! gates are on, so that a gate whose data come late changes nothing:
//!
//! | gate | part of alpha | within it |
//! | --- | --- | --- |
//! | errors | 94% | [`crate::stats::ratio`]: 10% likelihood ratios, 90% bets with a horizon |
//! | errors in shadow | 0.5% | |
//! | latency | 2.5% | equal by quantile; 1/(k(k+1)) for the k-th slice; half for each arm |
//! | agreement | 1% | half for all pairs, half equal by class |
//! | confidence | 0.5% | half in shadow, half with clients |
//! | text | 0.5% | length in shadow, length with clients, grounding: a third each |
//! | labels | 0.5% | |
//! | after the promotion | 0.5% | |
//!
//! Errors get nearly all because their test alone is asked about a candidate exactly at the border of its null
//! hypothesis (a candidate that is just as good); the other gates' borders lie a margin away, and the price of a small
//! part is little: the evidence needed grows with the part's logarithm.
//!
//! A rollout is promoted if every gate says "good", so each may use beta in full: the chance to promote a candidate
//! that is worse in some respect is at most the chance that the one gate of that respect is wrong.
//!
//! # Numbers
//!
//! `e_worse` and `e_good` are e-values with thresholds of 1/(part of alpha) and 1/beta, except for latency, where they
//! are proved ratios (see `gates/latency.rs`). Either way a verdict is exactly that its number has reached its
//! threshold.

mod agreement;
mod errors;
mod labels;
mod latency;
mod means;
mod split;
#[cfg(test)]
mod tests;
mod words;

pub use errors::watch_report;
pub use split::sample_ratio_mismatch;

use crate::{
    scorecard::{Evidence, Slice},
    spec::Gates,
};

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Too little is known.
    Undecided,
    /// Good enough.
    Good,
    /// Worse.
    Worse,
}

/// A gate's verdict with its grounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// "errors", "latency p95", "agreement", "agreement positive", "confidence", …
    pub gate: String,
    /// What it says.
    pub verdict: Verdict,
    /// Evidence that the candidate is worse, and how much rolls it back.
    pub e_worse: f64,
    /// The threshold of `e_worse`.
    pub e_worse_threshold: f64,
    /// Evidence that it is good enough.
    pub e_good: f64,
    /// The threshold of `e_good`.
    pub e_good_threshold: f64,
    /// E.g. "2.1% of 812 against 1.0% of 15,431".
    pub detail: String,
}

/// Every gate's report; gates without any data are left out. Classes without a name are told by their number.
#[must_use]
pub fn judge(gates: &Gates, evidence: &Evidence) -> Vec<Report> {
    let slices: Vec<&Slice> = slices_of(evidence.settled.iter().chain([&evidence.live])).collect();
    let mut reports = Vec::new();
    reports.extend(errors::with_clients(gates, &slices));
    reports.extend(errors::in_shadow(gates, &evidence.shadow));
    reports.extend(latency::reports(gates, &slices, evidence.recent.as_ref()));
    reports.extend(agreement::reports(gates, &evidence.shadow, &evidence.class_names));
    reports.extend(means::reports(gates, &slices, &evidence.shadow));
    reports.extend(labels::report(gates, &evidence.labels));
    reports
}

/// Those in which both versions answer clients, oldest first.
fn slices_of<'a>(all: impl Iterator<Item = &'a Slice>) -> impl Iterator<Item = &'a Slice> {
    all.filter(|slice| (1..crate::split::PPM).contains(&slice.weight_ppm))
}

fn weight(slice: &Slice) -> f64 {
    f64::from(slice.weight_ppm) / f64::from(crate::split::PPM)
}

/// A number and the threshold it has to reach.
#[derive(Debug, Clone, Copy)]
struct Bar {
    value: f64,
    threshold: f64,
}

impl Bar {
    /// An e-value that refutes with probability at most `level`.
    fn e_value(ln: f64, level: f64) -> Self {
        // Finite, so that it can be told in any format.
        let value = if ln.is_nan() { 0.0 } else { ln.min(E_VALUE_LN_MAX).exp() };
        Self {
            value,
            threshold: 1.0 / level,
        }
    }

    fn is_reached(self) -> bool {
        self.value >= self.threshold
    }
}

/// How much of the evidence that a threshold asks for is there, from 0 to 1. E-values multiply, so their logarithms are
/// compared; a threshold of at most 1 is a ratio to be proved, and that is compared as it is.
#[must_use]
pub fn reached(value: f64, threshold: f64) -> f64 {
    let part = if value >= threshold {
        1.0
    } else if threshold > 1.0 {
        value.ln() / threshold.ln()
    } else {
        value / threshold
    };
    if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
}

/// E-values are told up to 1e30 or so.
const E_VALUE_LN_MAX: f64 = 69.0;

impl Report {
    fn new(gate: impl Into<String>, worse: Bar, good: Bar, detail: String) -> Self {
        Self {
            gate: gate.into(),
            verdict: if worse.is_reached() {
                Verdict::Worse
            } else if good.is_reached() {
                Verdict::Good
            } else {
                Verdict::Undecided
            },
            e_worse: worse.value,
            e_worse_threshold: worse.threshold,
            e_good: good.value,
            e_good_threshold: good.threshold,
            detail,
        }
    }
}
