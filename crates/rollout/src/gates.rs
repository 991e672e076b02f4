//! Verdicts on a candidate, from evidence, at any moment.

use crate::{scorecard::Evidence, spec::Gates};

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

/// Every gate's report; gates without any data are left out.
#[must_use]
pub fn judge(gates: &Gates, evidence: &Evidence) -> Vec<Report> {
    let _ = (gates, evidence);
    Vec::new()
}
