//! The worker's flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{options::EngineOptions, quantize::Quantization};

/// Serves llama.cpp text generators over gRPC. Which ones it holds is decided by the routes in the registry.
#[derive(Debug, Parser)]
#[command(
    name = "understudy-scribe",
    version,
    about,
    mut_arg("listen", |arg| arg.default_value("127.0.0.1:8490")),
    mut_arg("metrics_listen", |arg| arg.default_value("127.0.0.1:9490"))
)]
pub struct Options {
    /// Without one, the worker serves.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Load a file, compute one token and exit: what the worker does with unknown files, in a process of their own
    #[arg(long, hide = true, value_name = "FILE")]
    pub probe: Option<PathBuf>,
    /// Logging.
    #[command(flatten)]
    pub log: understudy_telemetry::LogOptions,
    /// What every worker has.
    #[command(flatten)]
    pub worker: understudy_worker::WorkerOptions,
    /// How engines compute.
    #[command(flatten)]
    pub engine: EngineOptions,
}

/// What else the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a model file smaller
    Quantize(QuantizeOptions),
}

/// Flags of `quantize`.
#[derive(Debug, Args)]
pub struct QuantizeOptions {
    /// A GGUF file in F32 or F16; one that is quantised already loses more
    pub input: PathBuf,
    /// The file to write
    pub output: PathBuf,
    /// How weights are stored, e.g. q4_k_m or q8_0
    #[arg(long = "type", default_value = "q4_k_m", value_name = "TYPE")]
    pub quantization: Quantization,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(["understudy-scribe"].iter().chain(arguments))
    }

    #[test]
    fn flags() {
        Options::command().debug_assert();
        let options = parse(&["--slots", "4", "--context-tokens", "4096"]).unwrap();
        assert_eq!(options.worker.listen.to_string(), "127.0.0.1:8490");
        assert_eq!(options.worker.metrics_listen.to_string(), "127.0.0.1:9490");
        assert_eq!(options.engine.slots.get(), 4);
        assert!(options.command.is_none() && options.probe.is_none());
        assert_eq!(
            parse(&["--listen", "10.0.0.1:1"]).unwrap().worker.listen.to_string(),
            "10.0.0.1:1"
        );
        for bad in [["--slots", "0"], ["--device", "gpu"], ["--threads", "-1"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn other_commands() {
        let probe = parse(&["--probe", "a.gguf", "--device", "cpu"]).unwrap().probe;
        assert_eq!(probe, Some("a.gguf".into()));
        let options = parse(&["quantize", "a.gguf", "b.gguf", "--type", "q8_0"]).unwrap();
        let Some(Command::Quantize(quantize)) = options.command else {
            panic!("{options:?}");
        };
        assert_eq!(quantize.quantization.to_string(), "q8_0");
        assert!(parse(&["quantize", "a.gguf", "b.gguf", "--type", "q4"]).is_err());
        assert!(parse(&["quantize", "a.gguf"]).is_err());
    }
}
