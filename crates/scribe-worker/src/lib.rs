//! The gRPC worker that writes text.

pub mod backend;
pub mod engine;
pub mod grammar;
pub mod job;
pub mod loader;
pub mod memory;
pub mod model;
pub mod options;
pub mod prefix;
pub mod probe;
pub mod quantize;
pub mod runner;
pub mod sampler;
pub mod schedule;
pub mod schema;
pub mod template;
pub mod text;
