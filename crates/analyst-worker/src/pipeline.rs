//! The way of a text: room → tokeniser → queue → engine → answer.
//!
//! ```text
//! unary    try to get room ──┐
//!                            ├─► tokenise (bounded threads) ─► room for tokens ─► queue ─► engines
//! streams  wait for room ────┘
//! shadow   try to get room ────► tokenise (one thread) ─► room for tokens ─► queue of its own ─► engine of low priority
//! ```
//!
//! Room is counted apart for each lane: a full queue refuses unary calls, while streams wait (their clients are slowed down by
//! HTTP/2 flow control), and neither can shut the other out. Copies that no client waits for have little room, and none while
//! clients' texts wait long.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    config::Limits,
    dispatch::{Dispatch, Job, Room, Ticket},
    error::Failure,
    held::Held,
    metrics::{Metrics, Stage, Version},
    model::{Model, Tokens},
};

/// Bounds of a [`Pipeline`], in texts, tokens and threads.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Texts that wait, in each lane.
    pub queue_depth_max: usize,
    /// Tokens that wait, in each lane.
    pub queue_tokens_max: usize,
    /// Texts of copies that wait.
    pub shadow_depth_max: usize,
    /// Texts that are tokenised at once.
    pub tokenizer_threads: usize,
}

/// A few batches: what cannot be served soon is better refused, as the sample is random anyway.
const SHADOW_DEPTH_MAX: usize = 64;
/// A copy that found no idle engine for so long is refused. Else its deadline would pass, and that reads as the version's fault.
const SHADOW_WAIT_MAX: Duration = Duration::from_secs(2);

impl Bounds {
    /// The bounds that the flags ask for.
    #[must_use]
    pub fn new(limits: &Limits, cores: usize) -> Self {
        Self {
            queue_depth_max: limits.queue_depth_max.get(),
            queue_tokens_max: limits.queue_tokens_max.get(),
            // A whole batch must fit.
            shadow_depth_max: SHADOW_DEPTH_MAX.max(limits.batch_max.get()),
            tokenizer_threads: limits.tokenizer_threads.map_or(cores, std::num::NonZero::get),
        }
    }
}

/// Which room a text takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Refused when there is none.
    Unary,
    /// Waits until there is some.
    Stream,
    /// Refused when there is none, or no capacity to spare.
    Shadow,
}

/// A classified text.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// One for each class.
    pub probabilities: Vec<f32>,
    /// Tokens that the model saw.
    pub token_count: usize,
    /// The text's end was not seen.
    pub truncated: bool,
}

/// Takes texts to the engines and answers back.
pub struct Pipeline<H> {
    dispatch: Arc<Dispatch<H>>,
    unary: Space,
    streams: Space,
    shadow: Space,
    metrics: Metrics,
}

struct Space {
    tokenizers: Arc<Semaphore>,
    texts: Arc<Semaphore>,
    tokens: Arc<Semaphore>,
    tokens_max: usize,
    waits: bool,
}

impl<H: Held> Pipeline<H> {
    /// A pipeline that ends in this queue.
    #[must_use]
    pub fn new(dispatch: Arc<Dispatch<H>>, bounds: Bounds, metrics: Metrics) -> Self {
        let tokenizers = Arc::new(Semaphore::new(bounds.tokenizer_threads));
        let space = |depth_max, tokenizers: &Arc<Semaphore>, waits| Space {
            tokenizers: Arc::clone(tokenizers),
            texts: Arc::new(Semaphore::new(depth_max)),
            tokens: Arc::new(Semaphore::new(bounds.queue_tokens_max)),
            tokens_max: bounds.queue_tokens_max,
            waits,
        };
        Self {
            dispatch,
            unary: space(bounds.queue_depth_max, &tokenizers, false),
            streams: space(bounds.queue_depth_max, &tokenizers, true),
            shadow: space(bounds.shadow_depth_max, &Arc::new(Semaphore::new(1)), false),
            metrics,
        }
    }

    /// Classifies texts by one version. Dropping the future takes back what still waits.
    ///
    /// # Errors
    /// The first text's failure, or no room for all of them.
    pub async fn classify(
        &self,
        held: &H,
        texts: Vec<String>,
        lane: Lane,
        deadline: Option<Instant>,
    ) -> Result<Vec<Answer>, Failure> {
        let space = match lane {
            Lane::Unary => &self.unary,
            Lane::Stream => &self.streams,
            Lane::Shadow => &self.shadow,
        };
        if lane == Lane::Shadow && self.dispatch.is_pressed() {
            return Err(Failure::QueueFull("texts of clients wait"));
        }
        let version = Arc::new(Version {
            model: held.model().to_owned(),
            version: held.version().to_owned(),
            shadow: lane == Lane::Shadow,
        });
        let room = space.room_for_texts(texts.len()).await?;
        let tokenise = |text| self.tokenise(held, &version, &space.tokenizers, text);
        let texts = try_join_all(texts.into_iter().map(tokenise)).await?;
        let tokens = space
            .room_for_tokens(texts.iter().map(|text| text.ids.len()).sum())
            .await?;

        let room = Room {
            _texts: room,
            _tokens: tokens,
        };
        let since = Instant::now();
        let mut jobs = Vec::with_capacity(texts.len());
        let mut replies = Vec::with_capacity(texts.len());
        for Tokens { ids, truncated } in texts {
            let (reply, answer) = oneshot::channel();
            replies.push((answer, ids.len(), truncated));
            let (held, version) = (held.clone(), Arc::clone(&version));
            jobs.push(Job {
                held,
                version,
                ids,
                deadline,
                since,
                reply,
            });
        }

        let tickets = self.dispatch.push(jobs, room);
        let mut answers = pin!(answers(replies));
        if lane == Lane::Shadow {
            match tokio::time::timeout(SHADOW_WAIT_MAX, &mut answers).await {
                Ok(answers) => return answers,
                Err(_) if tickets.iter().any(Ticket::waits) => return Err(Failure::QueueFull("no engine was idle")),
                Err(_) => {}
            }
        }
        answers.await
    }

    async fn tokenise(
        &self,
        held: &H,
        version: &Version,
        tokenizers: &Arc<Semaphore>,
        text: String,
    ) -> Result<Tokens, Failure> {
        let began = Instant::now();
        let Ok(turn) = Arc::clone(tokenizers).acquire_owned().await else {
            return Err(Failure::EngineLost);
        };
        let held = held.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            held.loaded().encode(&text)
        });
        let tokens = work
            .await
            .map_err(|_| Failure::Tokenizer("its thread died".to_owned()))?;
        self.metrics.stage(version, Stage::Tokenise, began.elapsed());
        tokens.map_err(Failure::Tokenizer)
    }
}

type Reply = oneshot::Receiver<Result<Vec<f32>, Failure>>;

/// Of texts with this many tokens, and whether their ends are missing.
async fn answers(replies: Vec<(Reply, usize, bool)>) -> Result<Vec<Answer>, Failure> {
    let mut answers = Vec::with_capacity(replies.len());
    for (answer, token_count, truncated) in replies {
        let probabilities = answer.await.map_err(|_| Failure::EngineLost)??;
        answers.push(Answer {
            probabilities,
            token_count,
            truncated,
        });
    }
    Ok(answers)
}

impl Space {
    async fn room_for_texts(&self, count: usize) -> Result<OwnedSemaphorePermit, Failure> {
        self.room(&self.texts, count, "too many texts wait").await
    }

    /// A call that alone has more tokens than may wait gets all the room there is, or it could never be served.
    async fn room_for_tokens(&self, count: usize) -> Result<OwnedSemaphorePermit, Failure> {
        self.room(&self.tokens, count.min(self.tokens_max), "too many tokens wait")
            .await
    }

    async fn room(
        &self,
        room: &Arc<Semaphore>,
        count: usize,
        full: &'static str,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        let count = u32::try_from(count).map_err(|_| Failure::QueueFull(full))?;
        let room = Arc::clone(room);
        if self.waits {
            room.acquire_many_owned(count)
                .await
                .map_err(|_| Failure::QueueFull(full))
        } else {
            room.try_acquire_many_owned(count).map_err(|_| Failure::QueueFull(full))
        }
    }
}
