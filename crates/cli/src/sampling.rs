//! How the next token is chosen, and draws.

use clap::Args;
use understudy_protocol::v1::Sampling;

/// The same for every command that lets a model write. What is not given is the worker's choice.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingOptions {
    /// 0 always takes the likeliest token; up to 2 [default: 0.7]
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f32>,
    /// Take the likeliest tokens that together have this probability [default: 0.95]
    #[arg(long, value_name = "NUMBER")]
    top_p: Option<f32>,
    /// Leave out tokens less likely than this times the likeliest [default: 0.05]
    #[arg(long, value_name = "NUMBER")]
    min_p: Option<f32>,
    /// Take only that many of the likeliest tokens; 0 for all [default: 40]
    #[arg(long, value_name = "N")]
    top_k: Option<u32>,
    /// Make the last 64 tokens less likely: 1 (not at all) to 2 [default: 1]
    #[arg(long, value_name = "NUMBER")]
    repeat_penalty: Option<f32>,
    /// Equal seeds give equal draws
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Tokens to write, at most
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
}

impl SamplingOptions {
    pub(crate) fn proto(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            min_p: self.min_p,
            top_k: self.top_k,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
            max_tokens: self.max_tokens,
            stop: Vec::new(),
        }
    }
}

/// A call chain's draw: a decimal fraction in [0, 1).
pub(crate) fn draw() -> String {
    format!("0.{:09}", rand::random_range(0..1_000_000_000_u32))
}
