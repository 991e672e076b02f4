//! The worker's flags.

use std::{num::NonZeroUsize, str::FromStr};

use clap::{Args, Parser};
use understudy_distilbert::{Device, Precision};

/// Serves DistilBERT text classifiers over gRPC. Which ones it holds is decided by the routes in the registry.
#[derive(Debug, Parser)]
#[command(name = "understudy-analyst", version, about)]
pub struct Options {
    /// Logging.
    #[command(flatten)]
    pub log: understudy_telemetry::LogOptions,
    /// What every worker has.
    #[command(flatten)]
    pub worker: understudy_worker::WorkerOptions,
    /// What only the analyst has.
    #[command(flatten)]
    pub analyst: AnalystOptions,
}

/// Flags of the analyst.
#[derive(Debug, Clone, Args)]
pub struct AnalystOptions {
    /// Where to compute: `auto` (the first CUDA device if there is one), `cpu`, or `cuda:N`
    #[arg(long, env = "UNDERSTUDY_DEVICE", default_value = "auto", value_name = "DEVICE")]
    pub device: Auto<Device>,
    /// What to compute in: fp32, bf16, fp16, int8, or `auto`: the fastest that this machine has natively and that a version's
    /// golden examples allow
    #[arg(long, env = "UNDERSTUDY_PRECISION", default_value = "auto", value_name = "PRECISION")]
    pub precision: Auto<Precision>,
    /// Engines, each one thread; default: one for each core on a CPU. A CUDA device has one always
    #[arg(long, env = "UNDERSTUDY_ENGINES", value_name = "N")]
    pub engines: Option<NonZeroUsize>,
    /// Bounds.
    #[command(flatten)]
    pub limits: Limits,
}

/// Bounds of the analyst's queues and batches.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Most texts in one ClassifyBatch
    #[arg(long, env = "UNDERSTUDY_BATCH_MAX", default_value = "32", value_name = "TEXTS")]
    pub batch_max: NonZeroUsize,
    /// Most tokens that an engine computes at once; default: 1024 on a CPU, 16384 on a CUDA device
    #[arg(long, env = "UNDERSTUDY_BATCH_TOKENS_MAX", value_name = "TOKENS")]
    pub batch_tokens_max: Option<NonZeroUsize>,
    /// Most texts that wait, of unary calls and again of streams; more are refused (unary) or not read yet (streams)
    #[arg(
        long,
        env = "UNDERSTUDY_QUEUE_DEPTH_MAX",
        default_value = "1024",
        value_name = "TEXTS"
    )]
    pub queue_depth_max: NonZeroUsize,
    /// Most tokens that wait, of unary calls and again of streams
    #[arg(
        long,
        env = "UNDERSTUDY_QUEUE_TOKENS_MAX",
        default_value = "65536",
        value_name = "TOKENS"
    )]
    pub queue_tokens_max: NonZeroUsize,
    /// Requests that a stream may be ahead of the answers its client has read
    #[arg(
        long,
        env = "UNDERSTUDY_STREAM_AHEAD_MAX",
        default_value = "32",
        value_name = "TEXTS"
    )]
    pub stream_ahead_max: NonZeroUsize,
    /// Texts that are tokenised at once; default: one for each core
    #[arg(long, env = "UNDERSTUDY_TOKENIZER_THREADS", value_name = "N")]
    pub tokenizer_threads: Option<NonZeroUsize>,
}

/// A flag's value, or what suits this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto<T> {
    /// `auto`.
    Auto,
    /// What the operator set.
    Set(T),
}

impl<T: FromStr<Err = String>> FromStr for Auto<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            Ok(Self::Auto)
        } else {
            text.parse().map(Self::Set).map_err(|error| format!("{error}, or auto"))
        }
    }
}

impl Limits {
    /// Refuses bounds that contradict each other.
    ///
    /// # Errors
    /// If a full ClassifyBatch could never be taken in.
    pub fn check(&self) -> anyhow::Result<()> {
        let (batch, depth) = (self.batch_max, self.queue_depth_max);
        anyhow::ensure!(
            batch <= depth,
            "--batch-max {batch} is more than --queue-depth-max {depth}: a full batch could never wait; raise the latter"
        );
        let most = tokio::sync::Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        anyhow::ensure!(
            depth.get().max(self.queue_tokens_max.get()) <= most,
            "--queue-depth-max and --queue-tokens-max must be at most {most}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags() {
        Options::command().debug_assert();
        let parse = |arguments: &[&str]| {
            Options::try_parse_from(["understudy-analyst"].iter().chain(arguments)).map(|options| options.analyst)
        };
        let options = parse(&["--device", "cuda:1", "--precision", "bf16", "--batch-max", "8"]).unwrap();
        assert_eq!(
            (options.device, options.precision),
            (Auto::Set(Device::Cuda(1)), Auto::Set(Precision::Bf16))
        );
        assert!(options.limits.check().is_ok());
        assert!(parse(&["--batch-max", "2000"]).unwrap().limits.check().is_err());
        for bad in [
            ["--device", "gpu"],
            ["--device", "cuda:"],
            ["--batch-max", "0"],
            ["--precision", "fp64"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
