//! A request on its way through an engine.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tokio::sync::mpsc;

use crate::{
    engine::{Constraint, EngineError, Event, Gauges, Generation, Stream},
    grammar::{Grammar, Matcher},
    model::Model,
    sampler::Sampler,
    schema,
    spare::Counted,
    text::Text,
};

/// Tokens that are generated at most unless the request says, as the contract has it.
const MAX_TOKENS_DEFAULT: usize = 512;

/// A request that can be computed.
pub struct Job {
    /// Tokens.
    pub(crate) prompt: Vec<u32>,
    /// Most tokens to generate; with the prompt they fit into the context.
    pub(crate) max_tokens: usize,
    pub(crate) sampler: Sampler,
    pub(crate) matcher: Option<Matcher>,
    /// The request's field that the matcher comes from.
    pub(crate) constraint: &'static str,
    pub(crate) text: Text,
    pub(crate) outlet: Outlet,
    pub(crate) deadline: Option<Instant>,
    pub(crate) queued_at: Instant,
    /// Until it has a slot.
    pub(crate) queued: Option<Queued>,
    /// A copy that no client waits for.
    pub(crate) shadow: bool,
    /// Unless it is one.
    pub(crate) counted: Option<Counted>,
}

/// Where a request's events go. Each has one end, also when the engine dies.
pub(crate) struct Outlet {
    /// With room for all that can come, so a slow reader stalls no one.
    events: mpsc::Sender<Event>,
    ended: bool,
}

/// Counts a request as waiting while it exists.
pub(crate) struct Queued(Arc<Gauges>);

impl Queued {
    /// `None` if `most` wait.
    pub(crate) fn enter(gauges: &Arc<Gauges>, most: u64) -> Option<Self> {
        let enter = |waiting| (waiting < most).then_some(waiting + 1);
        gauges
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter)
            .ok()?;
        Some(Self(Arc::clone(gauges)))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Outlet {
    pub(crate) fn closed(&self) -> bool {
        self.events.is_closed()
    }

    pub(crate) fn text(&self, text: String) {
        if !text.is_empty() {
            // The reader may be gone; that is seen before the next turn.
            let _ = self.events.try_send(Event::Text(text));
        }
    }

    pub(crate) fn end(&mut self, event: Event) {
        self.ended = true;
        let _ = self.events.try_send(event);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Event::Failed(EngineError::Lost));
        }
    }
}

impl Job {
    /// Tokenises, reads the grammar, and checks that it fits.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn new(model: &Model, generation: Generation, now: Instant) -> Result<(Self, Stream), EngineError> {
        if generation.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(EngineError::Deadline);
        }
        let prompt = model.tokens(&generation.input)?;
        let max_tokens = max_tokens(model, prompt.len(), generation.max_tokens)?;
        let (constraint, matcher) = match generation.constraint {
            None => ("", None),
            Some(Constraint::Grammar(grammar)) => ("grammar", Some(matcher("grammar", "is not GBNF", &grammar)?)),
            Some(Constraint::JsonSchema(schema)) => {
                let refused = |reason| EngineError::BadRequest {
                    field: "json_schema",
                    reason,
                };
                let grammar = schema::grammar(&schema).map_err(refused)?;
                (
                    "json_schema",
                    Some(matcher("json_schema", "cannot be made a grammar", &grammar)?),
                )
            }
        };
        // A text for each token, what was held back, and the end.
        let (events, stream) = mpsc::channel(max_tokens + 2);
        let job = Self {
            sampler: Sampler::new(generation.sampling, &prompt),
            prompt,
            max_tokens,
            matcher,
            constraint,
            text: Text::new(generation.stop),
            outlet: Outlet { events, ended: false },
            deadline: generation.deadline,
            queued_at: now,
            queued: None,
            shadow: generation.shadow,
            counted: None,
        };
        Ok((job, stream))
    }
}

fn max_tokens(model: &Model, prompt: usize, wanted: Option<u32>) -> Result<usize, EngineError> {
    let context = model.info().context_tokens as usize;
    let bad = |field, reason| Err(EngineError::BadRequest { field, reason });
    if prompt == 0 {
        return bad("prompt", "is empty".to_owned());
    }
    if prompt >= context {
        let reason = format!(
            "has {prompt} tokens, and the context of this model has {context} for prompt and answer together; shorten it"
        );
        return bad("prompt", reason);
    }
    let room = context - prompt;
    match wanted {
        None => Ok(room.min(MAX_TOKENS_DEFAULT)),
        Some(0) => bad("sampling.max_tokens", "must be at least 1".to_owned()),
        Some(wanted) if wanted as usize <= room => Ok(wanted as usize),
        Some(wanted) => bad(
            "sampling.max_tokens",
            format!(
                "is {wanted}, and after a prompt of {prompt} tokens the context of {context} has room for {room}; lower it \
                 or shorten the prompt"
            ),
        ),
    }
}

fn matcher(field: &'static str, what: &str, grammar: &str) -> Result<Matcher, EngineError> {
    let bad = |reason| EngineError::BadRequest { field, reason };
    let grammar = Grammar::parse(grammar).map_err(|error| bad(format!("{what}: {error}")))?;
    let matcher = Matcher::new(grammar.into()).map_err(|error| bad(error.to_string()))?;
    if matcher.exhausted() && !matcher.complete() {
        return Err(bad("matches no text".to_owned()));
    }
    Ok(matcher)
}
