//! The seam between the service and what generates text.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
pub use understudy_grounding::prompt::{Message, Role};

/// What is asked of an engine. The numbers were checked to be in the ranges of the contract.
#[derive(Debug, Clone)]
pub struct Generation {
    /// What the text continues.
    pub input: Input,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What the text must match.
    pub constraint: Option<Constraint>,
    /// Most tokens to generate; what fits, up to a default, if absent.
    pub max_tokens: Option<u32>,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    /// A copy that no client waits for: it is computed only while no engine of the process has a client's request.
    pub shadow: bool,
}

/// What a text continues.
#[derive(Debug, Clone)]
pub enum Input {
    /// Rendered by the model's own template.
    Chat(Vec<Message>),
    /// As it is, after the begin-of-text token.
    Prompt(String),
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest always.
    pub temperature: f32,
    /// The likeliest that together have this probability.
    pub top_p: f32,
    /// None less likely than this times the likeliest.
    pub min_p: f32,
    /// Makes the last 64 tokens less likely; 1 does not.
    pub repeat_penalty: f32,
    /// That many of the likeliest; 0 for all.
    pub top_k: u32,
    /// Equal seeds give equal draws.
    pub seed: u32,
}

/// What a text must match.
#[derive(Debug, Clone)]
pub enum Constraint {
    /// GBNF.
    Grammar(String),
    /// A JSON schema.
    JsonSchema(String),
}

/// What comes of a generation: texts, then one of the others.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The next piece: whole characters, no part of a stop string.
    Text(String),
    /// The end.
    Finished(Finish),
    /// It could not go on.
    Failed(EngineError),
}

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// Tokens.
    pub usage: Usage,
    /// Times.
    pub timings: Timings,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or completed the grammar.
    End,
    /// A stop string came.
    Stop,
    /// As many tokens as allowed.
    Length,
}

/// Tokens of a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, with those of the template.
    pub prompt: u32,
    /// Of these, found computed.
    pub cached: u32,
    /// Generated.
    pub completion: u32,
}

/// Times of a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for a slot.
    pub queue: Duration,
    /// From the slot to the first token.
    pub prompt: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// Why there is no text, or no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The caller's fault.
    #[error("{field} {reason}")]
    BadRequest {
        /// The request's field, as the contract names it.
        field: &'static str,
        /// What is wrong with it, e.g. "is not GBNF: …".
        reason: String,
    },
    /// As many generations wait as may.
    #[error("the queue is full ({0} requests wait): try again later, or add workers")]
    Busy(usize),
    /// A copy has to give way.
    #[error("there is no capacity to spare for a copy: requests of clients come first")]
    NoSpare,
    /// The caller's deadline passed.
    #[error("the deadline passed before the text was complete")]
    Deadline,
    /// The engine died.
    #[error("the engine that had this request was lost: try again")]
    Lost,
    /// The computation failed.
    #[error("generation failed: {0}")]
    Failed(String),
}

/// A generation's events. Dropping it cancels the generation within one decode step.
pub type Stream = mpsc::Receiver<Event>;

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// As the file calls itself.
    pub name: String,
    /// E.g. "llama".
    pub architecture: String,
    /// Weights.
    pub parameters: u64,
    /// E.g. "Q4_K_M".
    pub quantization: String,
    /// Most tokens of one request, prompt and answer together.
    pub context_tokens: u32,
    /// Streams that run at once.
    pub slots: u32,
    /// "cpu" or e.g. "cuda:0".
    pub device: String,
}

/// What an engine does and did; written by its thread, read at any time.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Generations that wait for a slot.
    pub queued: AtomicU64,
    /// Slots that generate.
    pub slots_busy: AtomicU64,
    /// Cells of the KV cache that hold a token.
    pub kv_used: AtomicU64,
    /// Cells of the KV cache.
    pub kv_cells: AtomicU64,
    /// Prompt tokens computed since the start.
    pub prompt_tokens: AtomicU64,
    /// Prompt tokens found computed since the start.
    pub cached_tokens: AtomicU64,
    /// Tokens generated since the start.
    pub decode_tokens: AtomicU64,
    /// Calls of the model since the start.
    pub steps: AtomicU64,
    /// Microseconds in the model since the start.
    pub busy_micros: AtomicU64,
}

/// Generates text.
pub trait Engine: Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> &Info;

    /// What it does and did.
    fn gauges(&self) -> &Gauges;

    /// Begins a generation, or waits in the queue to begin. Does not block, but tokenises: call it where that may take some
    /// milliseconds.
    ///
    /// # Errors
    /// What can be said at once: a bad request, a full queue, a lost engine.
    fn start(&self, generation: Generation) -> Result<Stream, EngineError>;
}
