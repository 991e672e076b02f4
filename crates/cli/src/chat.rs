//! `understudy chat`.

mod answer;
mod conversation;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use console::style;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    signal::unix::{Signal, SignalKind, signal},
};
use tonic::metadata::{Ascii, MetadataValue};
use understudy_protocol::{
    metadata,
    v1::{Finish, FinishReason, generate_request::Constraint},
};

use self::{
    answer::{Answer, Scribe},
    conversation::{Conversation, Input},
};
use crate::{
    classify::CallOptions,
    output::{Output, duration, time},
    router::Router,
    sampling::{SamplingOptions, draw},
};

const EXAMPLES: &str = "\
Examples:
  understudy chat
  understudy chat 'What makes a review helpful?' --temperature 0
  understudy chat --system 'You are a terse film critic.' --stats
  understudy chat 'Is this review kind? A fine film.' --json-schema verdict.json";

const COMMANDS: &str = "\
  /system TEXT   sets the system prompt, and keeps the conversation
  /reset         forgets the conversation
  /exit          ends, as Ctrl-D does
  Ctrl-C         stops the answer";

/// Talks with a scribe: one question, or a conversation
///
/// Without a question it reads one from each line, and keeps the conversation: /system, /reset and /exit are commands, Ctrl-C
/// stops an answer. With --json each answer is one line.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChatOptions {
    /// Asks only this
    question: Option<String>,
    /// Tells the model what it is
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    call: CallOptions,
    /// End the answer before this text; up to 8 times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// File with a GBNF grammar that the answer must match
    #[arg(long, value_name = "FILE", conflicts_with = "json_schema")]
    grammar: Option<PathBuf>,
    /// File with a JSON schema that the answer must match
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// Tell after each answer how many tokens it took, and how long
    #[arg(long)]
    stats: bool,
    /// Longest wait for the next piece of text
    #[arg(long, default_value = "5m", value_parser = time, value_name = "TIME")]
    timeout: Duration,
    #[command(flatten)]
    sampling: SamplingOptions,
}

impl ChatOptions {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<ExitCode> {
        let chat = Chat {
            scribe: self.scribe(router)?,
            stats: self.stats,
            output,
        };
        let mut conversation = Conversation::new(self.system);
        match self.question {
            Some(question) => chat.once(&mut conversation, &question).await,
            None => chat.talk(&mut conversation).await,
        }
    }

    fn scribe(&self, router: &Router) -> anyhow::Result<Scribe> {
        let mut metadata = self.call.metadata()?;
        if self.call.pin.is_none() && self.call.affinity.is_none() {
            // One draw for the whole conversation, so that one version answers it.
            let draw: MetadataValue<Ascii> = draw().parse()?;
            metadata.insert(metadata::DRAW, draw);
        }
        let read =
            |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let constraint = match (&self.grammar, &self.json_schema) {
            (Some(path), _) => Some(Constraint::Grammar(read(path)?)),
            (None, Some(path)) => Some(Constraint::JsonSchema(read(path)?)),
            (None, None) => None,
        };
        let mut sampling = self.sampling.proto();
        sampling.stop.clone_from(&self.stop);
        Ok(Scribe {
            client: router.scribe(),
            metadata,
            patience: self.timeout,
            sampling,
            constraint,
        })
    }
}

struct Chat<'a> {
    scribe: Scribe,
    stats: bool,
    output: &'a Output,
}

impl Chat<'_> {
    async fn once(&self, conversation: &mut Conversation, question: &str) -> anyhow::Result<ExitCode> {
        // Nobody stops it but the default of Ctrl-C, which ends the program.
        self.ask(conversation, question, std::future::pending()).await?;
        Ok(ExitCode::SUCCESS)
    }

    async fn talk(&self, conversation: &mut Conversation) -> anyhow::Result<ExitCode> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let is_person = io::stdin().is_terminal() && !self.output.is_json();
        let mut failed = false;
        if is_person {
            self.output.remark(COMMANDS);
        }
        loop {
            if is_person {
                self.output.raw(format!("\n{} ", style("›").cyan().bold()).as_bytes())?;
            }
            let line = tokio::select! {
                line = lines.next_line() => line.context("cannot read standard input")?,
                _ = interrupt.recv() => {
                    self.output.remark(if is_person { "\n(/exit or Ctrl-D ends)" } else { "interrupted" });
                    if is_person { continue } else { break }
                }
            };
            let Some(line) = line else { break };
            match Input::read(&line) {
                Input::Nothing => {}
                Input::Exit => break,
                Input::Help => self.output.remark(COMMANDS),
                Input::Reset => {
                    conversation.reset();
                    self.output.remark("the conversation is forgotten");
                }
                Input::System(None) => self
                    .output
                    .remark(conversation.system().unwrap_or("there is no system prompt")),
                Input::System(Some(text)) => conversation.set_system(text),
                Input::Unknown(command) => {
                    self.output
                        .warning(format_args!("there is no command {command}; there are:\n{COMMANDS}"));
                }
                Input::Question(question) => {
                    if let Err(error) = self.ask(conversation, question, stopped(&mut interrupt)).await {
                        // The next question may do better, if somebody is there to ask it.
                        failed = true;
                        self.output.error(&error);
                    }
                }
            }
        }
        if is_person {
            self.output.line("")?;
            failed = false;
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    async fn ask(
        &self,
        conversation: &mut Conversation,
        question: &str,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let messages = conversation.ask(question)?;
        let answer = self.scribe.answer(messages, self.output, stop).await;
        conversation.answered(&answer.text);
        if let Some(problem) = answer.problem {
            return Err(problem);
        }
        self.tell(&answer)
    }

    fn tell(&self, answer: &Answer) -> anyhow::Result<()> {
        let Some(finish) = &answer.finish else {
            self.output.remark("(stopped)");
            return Ok(());
        };
        if self.output.is_json() {
            return self.output.compact(&json(answer, finish));
        }
        if finish.reason() == FinishReason::Length {
            self.output.remark("(cut off: allow more with --max-tokens)");
        }
        if self.stats {
            self.output.remark(style(stats(finish)).dim().for_stderr());
        }
        Ok(())
    }
}

async fn stopped(interrupt: &mut Signal) {
    interrupt.recv().await;
}

fn json(answer: &Answer, finish: &Finish) -> serde_json::Value {
    let (usage, timings) = (finish.usage.unwrap_or_default(), finish.timings.unwrap_or_default());
    let reason = match finish.reason() {
        FinishReason::Length => "length",
        FinishReason::Stop => "stop",
        FinishReason::End | FinishReason::Unspecified => "end",
    };
    serde_json::json!({
        "text": answer.text,
        "reason": reason,
        "version": finish.version,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_prompt_tokens": usage.cached_prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        },
        "timings": {
            "queue_seconds": timings.queue_seconds,
            "prompt_seconds": timings.prompt_seconds,
            "decode_seconds": timings.decode_seconds,
        },
    })
}

/// `42 tokens, 118 tokens/s; prompt 350 tokens, 320 of them cached, in 12 ms; queue 0 ms; version v1`
fn stats(finish: &Finish) -> String {
    let (usage, timings) = (finish.usage.unwrap_or_default(), finish.timings.unwrap_or_default());
    let time = |seconds: f64| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    // The first token belongs to the prompt.
    let decoded = usage.completion_tokens.saturating_sub(1);
    let rate = if decoded > 0 && timings.decode_seconds > 0.0 {
        format!(", {:.0} tokens/s", f64::from(decoded) / timings.decode_seconds)
    } else {
        String::new()
    };
    format!(
        "{} tokens{rate}; prompt {} tokens, {} of them cached, in {}; queue {}; version {}",
        usage.completion_tokens,
        usage.prompt_tokens,
        usage.cached_prompt_tokens,
        time(timings.prompt_seconds),
        time(timings.queue_seconds),
        finish.version
    )
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::{Timings, Usage};

    use super::*;

    #[test]
    fn stats_tell_speed_and_cache() {
        let mut finish = Finish {
            usage: Some(Usage {
                prompt_tokens: 350,
                cached_prompt_tokens: 320,
                completion_tokens: 101,
            }),
            timings: Some(Timings {
                queue_seconds: 0.0,
                prompt_seconds: 0.25,
                decode_seconds: 2.0,
            }),
            version: "v1".into(),
            ..Finish::default()
        };
        assert_eq!(
            stats(&finish),
            "101 tokens, 50 tokens/s; prompt 350 tokens, 320 of them cached, in 250 ms; queue 0 ms; version v1"
        );
        finish.timings = Some(Timings {
            prompt_seconds: f64::NAN,
            ..Timings::default()
        });
        assert!(stats(&finish).starts_with("101 tokens; prompt 350"));
    }
}
