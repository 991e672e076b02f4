//! Pure logic of traffic splitting and rollouts: no IO, no clock, no randomness of its own.

pub mod split;
