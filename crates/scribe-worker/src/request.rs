//! What a request must be before it costs anything.
//!
//! Wire types end here: what comes out of this module is in the ranges of the contract. Whether a prompt fits into the
//! context, and whether a grammar is one, is the engine's to say.

mod sheet;

use std::time::Instant;

use understudy_grounding::{FactSheet, Policy};
use understudy_protocol::v1::{self, generate_request};

use crate::engine::{Constraint, Generation, Input, Message, Role, Sampling};

pub use sheet::sheet;

/// Most bytes of a request, encoded.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Most messages of a conversation.
pub const MESSAGES_MAX: usize = 256;
/// Most bytes of a prompt, or of a conversation's messages together.
pub const INPUT_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a grammar or a schema.
pub const CONSTRAINT_BYTES_MAX: usize = 64 << 10;
/// Most tokens that a request may ask for. Fewer fit into most contexts.
pub const TOKENS_MAX: u32 = 1 << 20;
/// Most stop strings.
pub const STOPS_MAX: usize = 8;
/// Most bytes of a stop string.
pub const STOP_BYTES_MAX: usize = 128;
/// Highest temperature.
pub const TEMPERATURE_MAX: f32 = 2.0;
/// Highest repeat penalty.
pub const REPEAT_PENALTY_MAX: f32 = 2.0;
/// Most attempts at a critique.
pub const ATTEMPTS_MAX: u32 = 8;
/// Attempts at a critique unless the request says otherwise.
const ATTEMPTS_DEFAULT: u32 = 3;

/// The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// As the contract names it, e.g. `chat.messages[3].content`.
    pub field: String,
    /// What is wrong, to follow the field's name.
    pub problem: String,
}

fn invalid<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid {
        field: field.into(),
        problem: problem.into(),
    })
}

/// What a critique is asked for.
#[derive(Debug, Clone)]
pub struct CritiqueTask {
    /// What is known.
    pub sheet: FactSheet,
    /// Of the first attempt.
    pub sampling: Sampling,
    /// Of each attempt.
    pub max_tokens: Option<u32>,
    /// Of each attempt.
    pub stop: Vec<String>,
    /// At least 1.
    pub attempts_max: u32,
    /// For what is unsupported after the last attempt.
    pub policy: Policy,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    /// A copy that no client waits for.
    pub shadow: bool,
}

/// What a request brings along with its message.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    /// The seed of a request that has none.
    pub seed: u32,
    /// A copy that no client waits for.
    pub shadow: bool,
}

/// Checks a `GenerateRequest`.
///
/// # Errors
/// Which field is wrong.
pub fn generation(request: v1::GenerateRequest, circumstances: Circumstances) -> Result<Generation, Invalid> {
    let input = match request.input {
        Some(generate_request::Input::Chat(chat)) => Input::Chat(messages(chat.messages)?),
        Some(generate_request::Input::Prompt(prompt)) => Input::Prompt(text("prompt", prompt, INPUT_BYTES_MAX)?),
        None => return invalid("input", "must be a chat or a prompt"),
    };
    let constraint = match request.constraint {
        Some(generate_request::Constraint::Grammar(grammar)) => {
            Some(Constraint::Grammar(text("grammar", grammar, CONSTRAINT_BYTES_MAX)?))
        }
        Some(generate_request::Constraint::JsonSchema(schema)) => Some(Constraint::JsonSchema(text(
            "json_schema",
            schema,
            CONSTRAINT_BYTES_MAX,
        )?)),
        None => None,
    };
    let Choice {
        sampling,
        max_tokens,
        stop,
    } = choice(request.sampling.unwrap_or_default(), circumstances.seed)?;
    Ok(Generation {
        input,
        sampling,
        constraint,
        max_tokens,
        stop,
        deadline: circumstances.deadline,
        shadow: circumstances.shadow,
    })
}

/// Checks a `WriteCritiqueRequest`.
///
/// # Errors
/// Which field is wrong.
pub fn critique(request: v1::WriteCritiqueRequest, circumstances: Circumstances) -> Result<CritiqueTask, Invalid> {
    let policy = match v1::UnsupportedPolicy::try_from(request.unsupported) {
        Ok(v1::UnsupportedPolicy::Unspecified | v1::UnsupportedPolicy::Mark) => Policy::Mark,
        Ok(v1::UnsupportedPolicy::Remove) => Policy::Remove,
        Err(_) => return invalid("unsupported", format!("has no value {}", request.unsupported)),
    };
    let attempts_max = request.attempts_max.unwrap_or(ATTEMPTS_DEFAULT);
    if !(1..=ATTEMPTS_MAX).contains(&attempts_max) {
        return invalid(
            "attempts_max",
            format!("is {attempts_max}; it must be 1 to {ATTEMPTS_MAX}"),
        );
    }
    let Some(facts) = request.sheet else {
        return invalid("sheet", "must be given");
    };
    let sheet = sheet(facts)?;
    let Choice {
        sampling,
        max_tokens,
        stop,
    } = choice(request.sampling.unwrap_or_default(), circumstances.seed)?;
    Ok(CritiqueTask {
        sheet,
        sampling,
        max_tokens,
        stop,
        attempts_max,
        policy,
        deadline: circumstances.deadline,
        shadow: circumstances.shadow,
    })
}

fn text(field: &str, text: String, bytes_max: usize) -> Result<String, Invalid> {
    if text.is_empty() {
        return invalid(field, "must not be empty");
    }
    if text.len() > bytes_max {
        let problem = format!("has {} bytes; at most {bytes_max} are allowed", text.len());
        return invalid(field, problem);
    }
    Ok(text)
}

fn messages(messages: Vec<v1::ChatMessage>) -> Result<Vec<Message>, Invalid> {
    const FIELD: &str = "chat.messages";
    if messages.is_empty() {
        return invalid(FIELD, "must not be empty");
    }
    if messages.len() > MESSAGES_MAX {
        let problem = format!("has {} messages; at most {MESSAGES_MAX} are allowed", messages.len());
        return invalid(FIELD, problem);
    }
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    if bytes > INPUT_BYTES_MAX {
        let problem = format!("have {bytes} bytes together; at most {INPUT_BYTES_MAX} are allowed");
        return invalid(FIELD, problem);
    }
    let last = messages.len() - 1;
    let messages = messages.into_iter().enumerate().map(|(index, message)| {
        let role = match v1::Role::try_from(message.role) {
            Ok(v1::Role::System) if index == 0 => Role::System,
            Ok(v1::Role::System) => {
                return invalid(role_of(index), "is system, which only the first message may be");
            }
            Ok(v1::Role::User) => Role::User,
            Ok(v1::Role::Assistant) => Role::Assistant,
            Ok(v1::Role::Unspecified) => return invalid(role_of(index), "must be given"),
            Err(_) => return invalid(role_of(index), format!("has no value {}", message.role)),
        };
        if index == last && role != Role::User {
            return invalid(
                role_of(index),
                "must be user: the last message is what the model answers",
            );
        }
        // An answer may be empty, and comes back as it was.
        if message.content.is_empty() && role != Role::Assistant {
            return invalid(format!("{FIELD}[{index}].content"), "must not be empty");
        }
        Ok(Message {
            role,
            content: message.content,
        })
    });
    messages.collect()
}

fn role_of(index: usize) -> String {
    format!("chat.messages[{index}].role")
}

struct Choice {
    sampling: Sampling,
    max_tokens: Option<u32>,
    stop: Vec<String>,
}

fn choice(asked: v1::Sampling, seed: u32) -> Result<Choice, Invalid> {
    // NaN is in no range.
    let within = |name: &str, value: f32, range: std::ops::RangeInclusive<f32>| {
        if range.contains(&value) {
            return Ok(value);
        }
        let problem = format!("is {value}; it must be {} to {}", range.start(), range.end());
        invalid(format!("sampling.{name}"), problem)
    };
    let top_p = asked.top_p.unwrap_or(0.95);
    if !(top_p > 0.0 && top_p <= 1.0) {
        return invalid(
            "sampling.top_p",
            format!("is {top_p}; it must be above 0, and at most 1"),
        );
    }
    let sampling = Sampling {
        temperature: within("temperature", asked.temperature.unwrap_or(0.7), 0.0..=TEMPERATURE_MAX)?,
        top_p,
        min_p: within("min_p", asked.min_p.unwrap_or(0.05), 0.0..=1.0)?,
        repeat_penalty: within(
            "repeat_penalty",
            asked.repeat_penalty.unwrap_or(1.0),
            1.0..=REPEAT_PENALTY_MAX,
        )?,
        top_k: asked.top_k.unwrap_or(40),
        seed: asked.seed.unwrap_or(seed),
    };
    if let Some(tokens) = asked.max_tokens
        && !(1..=TOKENS_MAX).contains(&tokens)
    {
        let problem = format!("is {tokens}; it must be 1 to {TOKENS_MAX}, and fit into the context with the prompt");
        return invalid("sampling.max_tokens", problem);
    }
    if asked.stop.len() > STOPS_MAX {
        let problem = format!("has {} strings; at most {STOPS_MAX} are allowed", asked.stop.len());
        return invalid("sampling.stop", problem);
    }
    for (index, stop) in asked.stop.iter().enumerate() {
        if !(1..=STOP_BYTES_MAX).contains(&stop.len()) {
            let problem = format!("has {} bytes; it must have 1 to {STOP_BYTES_MAX}", stop.len());
            return invalid(format!("sampling.stop[{index}]"), problem);
        }
    }
    Ok(Choice {
        sampling,
        max_tokens: asked.max_tokens,
        stop: asked.stop,
    })
}

#[cfg(test)]
mod tests;
