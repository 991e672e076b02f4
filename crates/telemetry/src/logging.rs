use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Flags of logging, the same in every binary.
#[derive(Debug, Clone, Args)]
pub struct LogOptions {
    /// What to log, e.g. `info` or `understudy_router=debug,warn`
    #[arg(
        long,
        env = "UNDERSTUDY_LOG",
        default_value = "info",
        value_name = "FILTER",
        global = true
    )]
    pub log: String,
    /// How to write log lines: `text`, `json`, or `auto` (text on a terminal, JSON elsewhere)
    #[arg(
        long,
        env = "UNDERSTUDY_LOG_FORMAT",
        default_value = "auto",
        value_enum,
        global = true
    )]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `Text` if standard error is a terminal, `Json` otherwise.
    Auto,
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends this process's logs to standard error. Call once, first in `main`.
///
/// # Errors
/// If the filter cannot be parsed or logging was set up already.
pub fn init(options: &LogOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let terminal = io::stderr().is_terminal();
    let json = match options.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let result = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(terminal).try_init()
    };
    result.map_err(|error| anyhow::anyhow!("{error}"))
}
