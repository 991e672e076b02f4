//! The gRPC worker that writes text.

mod answer;
pub mod app;
pub mod backend;
pub mod config;
pub mod critique;
pub mod engine;
pub mod grammar;
pub mod held;
pub mod job;
pub mod loader;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod options;
pub mod prefix;
pub mod probe;
pub mod quantize;
pub mod request;
pub mod runner;
pub mod sampler;
pub mod schedule;
pub mod schema;
pub mod service;
pub mod spare;
mod status;
pub mod template;
pub mod text;
