//! The engine's flags.

use std::{num::NonZeroU32, str::FromStr};

use clap::Args;

/// How an engine computes, and its bounds.
#[derive(Debug, Clone, Args)]
pub struct EngineOptions {
    /// Where to compute: `auto` (the first CUDA device if there is one), `cpu`, or `cuda`
    #[arg(long, env = "UNDERSTUDY_DEVICE", default_value = "auto", value_name = "DEVICE")]
    pub device: Device,
    /// Streams that run at once, of each version; fewer where their KV caches do not fit (see --kv-tokens)
    #[arg(long, env = "UNDERSTUDY_SLOTS", default_value = "8", value_name = "N")]
    pub slots: NonZeroU32,
    /// Most tokens of one request, prompt and answer together; default: what the model was trained on, at most 8192
    #[arg(long, env = "UNDERSTUDY_CONTEXT_TOKENS", value_name = "TOKENS")]
    pub context_tokens: Option<NonZeroU32>,
    /// Most tokens of a version's KV cache, in which each slot has room for --context-tokens, and keeps what it computed for
    /// later requests; default: what fits in half of the free memory
    #[arg(long, env = "UNDERSTUDY_KV_TOKENS", value_name = "TOKENS")]
    pub kv_tokens: Option<NonZeroU32>,
    /// Tokens that are computed at once: running streams have one each, prompts a quarter of it while any runs, else all
    #[arg(long, env = "UNDERSTUDY_BATCH_TOKENS", default_value = "512", value_name = "TOKENS")]
    pub batch_tokens: NonZeroU32,
    /// Most requests that wait for a slot of a version
    #[arg(
        long,
        env = "UNDERSTUDY_QUEUE_DEPTH_MAX",
        default_value = "64",
        value_name = "REQUESTS"
    )]
    pub queue_depth_max: NonZeroU32,
    /// Threads that compute; default: one for each physical core
    #[arg(long, env = "UNDERSTUDY_THREADS", value_name = "N")]
    pub threads: Option<NonZeroU32>,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// CUDA if it is there.
    Auto,
    /// The processor.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

impl Device {
    /// As it is written in a flag.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err("it is auto, cpu or cuda".to_owned()),
        }
    }
}
