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
mod mirroring;
mod observing;
mod outages;
mod passing;
mod rollout;
mod rollout_commands;
mod rollout_course;
mod rollout_leaders;
mod rollout_pains;
mod splitting;
mod trial;
