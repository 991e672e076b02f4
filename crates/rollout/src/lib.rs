//! Pure logic of traffic splitting and rollouts: no IO, no clock, no randomness of its own.

pub mod distinct;
pub mod gates;
pub mod machine;
pub mod scorecard;
pub mod sketch;
pub mod spec;
pub mod split;
pub mod stats;
