//! Counting distinct keys.

/// Distinct keys by their hashes: exact below its bound, estimated from the smallest hashes above it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distinct {
    /// Ascending.
    smallest: Vec<u64>,
}
