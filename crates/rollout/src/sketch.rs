//! Quantiles of positive values.

/// Counts in logarithmic buckets with a relative error of 0.01 (DDSketch).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    zeros: u64,
    buckets: std::collections::BTreeMap<i32, u64>,
}
