//! The gRPC worker that writes text.

pub mod engine;
pub mod options;
