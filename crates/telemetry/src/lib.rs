//! Logging and metrics of every Understudy process.

mod logging;
mod metrics;

pub use logging::{LogFormat, LogOptions, init};
pub use metrics::{MetricsServer, serve_metrics};
