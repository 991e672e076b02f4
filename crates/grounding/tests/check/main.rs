//! The check, from outside.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests"
)]

mod measured;
mod properties;
mod sheets;
mod support;
