//! The gRPC worker that classifies text.
//!
//! ```text
//! edge ─► service ─► pipeline: room ─► tokenise ─► dispatch (batch) ─► engine threads ─► model
//!                                                                                         ▲
//! worker: routes ─► fetch ─► loader: open, check, warm up ────────────────────────────────┘
//! ```
//!
//! [`batch`], [`golden`] and [`check`] decide and are pure; the rest carries out. What every worker does (which versions
//! it holds, health, drain) is in `understudy-worker`; the network is in `understudy-distilbert`.

pub mod app;
pub mod batch;
pub mod check;
pub mod config;
pub mod dispatch;
pub mod engine;
pub mod error;
pub mod golden;
pub mod held;
pub mod loader;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod service;
