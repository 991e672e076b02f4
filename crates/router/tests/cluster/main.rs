//! A router in front of workers with seeded faults, with a real registry, in one process and on ports of the kernel's choice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod admin;
mod faults;
mod kit;
mod listening;
mod outages;
mod passing;
mod splitting;
