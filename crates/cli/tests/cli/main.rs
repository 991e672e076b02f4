//! The built command against a router in this process, a hub in this process, and children that only pretend.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chat;
mod classify;
mod critique;
mod fake_router;
mod hub;
mod load;
mod models;
mod rollout;
mod route;
mod run;
mod status;
mod up;
