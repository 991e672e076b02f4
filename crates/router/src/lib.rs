//! The router: the only address that clients know.
//!
//! ```text
//!   listen ─▶ app ─┬─▶ admit ─▶ target ─▶ forward (choose arm, pick worker, send, retry) ─▶ answer (pass through, observe, mirror)
//!                  └─▶ services of its own: Models, Routes, health, reflection
//!   registry ─▶ state::writer ─▶ one snapshot, which each request loads once
//! ```
//!
//! Requests are never decoded here. Invariants: no queue without a bound, no lock that is held across an await on the data
//! plane but the one of a worker's first connection, and no dependence on the registry once routes and workers are known.

pub mod admin;
pub mod admit;
pub mod answer;
pub mod app;
pub mod budget;
pub mod config;
pub mod controller;
pub mod deadline;
pub mod endpoint;
pub mod forward;
pub mod labels;
pub mod listen;
pub mod metrics;
pub mod mirror;
pub mod observe;
pub mod pick;
pub mod replay;
pub mod server;
pub mod state;
pub mod status;
pub mod target;
pub mod tls;
pub mod webhook;

pub use config::RouterOptions;
pub use server::Router;
