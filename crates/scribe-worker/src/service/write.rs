//! Writes a critique: has attempts made as [`crate::critique`] decides.

use std::sync::Arc;

use tonic::Status;
use understudy_grounding as grounding;
use understudy_protocol::v1::{self, WriteCritiqueResponse, write_critique_response::Event};

use super::{
    start,
    voice::{Voice, Written},
};
use crate::{
    answer,
    critique::{self, Ask, Draft, Drafts},
    engine::{EngineError, Finish, Generation, Input, Stream, Timings, Usage},
    held::Held,
    request::CritiqueTask,
};

/// A critique in the making.
pub(super) struct Writing<H> {
    pub(super) held: H,
    pub(super) task: Arc<CritiqueTask>,
}

/// What all attempts took together.
#[derive(Default)]
struct Spent {
    usage: Usage,
    timings: Timings,
}

impl<H: Held> Writing<H> {
    pub(super) async fn run(self, first: Stream, mut voice: Voice<WriteCritiqueResponse>) -> Result<(), Status> {
        let mut drafts = Drafts::new(self.task.attempts_max);
        let mut spent = Spent::default();
        let mut stream = first;
        let mut unsupported = Vec::new();
        loop {
            let number = drafts.count().saturating_add(1);
            let attempt = Event::Attempt(v1::Attempt { number, unsupported });
            voice.say(WriteCritiqueResponse { event: Some(attempt) }).await;
            let Written { text, finish } = voice.pass_on(stream).await?;
            spent.add(&finish);
            let text = critique::whole_sentences(&text, finish.reason).to_owned();
            let report = self.check(text.clone()).await?;
            let Some(draft) = drafts.add(text, report) else {
                break;
            };
            unsupported = answer::unsupported(draft);
            match self.again(draft).await? {
                Some(next) => stream = next,
                None => break,
            }
        }
        let attempts = drafts.count();
        let Some(best) = drafts.best() else {
            return Err(Status::internal("a critique had no attempt"));
        };
        let ear = voice.ear();
        let (supported, unsupported) = (best.report.supported(), best.report.unsupported());
        ear.metrics.critique(&ear.version, attempts, supported, unsupported);
        let finish = v1::CritiqueFinish {
            text: best.report.apply(&best.text, self.task.policy),
            report: Some(answer::report(&best, attempts)),
            usage: Some(answer::usage(spent.usage)),
            timings: Some(answer::timings(spent.timings)),
            version: self.held.version().to_owned(),
        };
        let finish = Event::Finish(finish);
        voice.say(WriteCritiqueResponse { event: Some(finish) }).await;
        Ok(())
    }

    async fn check(&self, text: String) -> Result<grounding::Report, Status> {
        let task = Arc::clone(&self.task);
        tokio::task::spawn_blocking(move || grounding::check(&text, &task.sheet))
            .await
            .map_err(|_| Status::internal("the check of a critique died"))
    }

    /// Begins another attempt. `None` if nothing fits into the context, or the queue is full: there is a draft already, and
    /// it says what is wrong with it.
    async fn again(&self, draft: &Draft) -> Result<Option<Stream>, EngineError> {
        for ask in critique::next(&self.task, draft) {
            match start(&self.held, generation(&self.task, ask)).await {
                Ok(stream) => return Ok(Some(stream)),
                // The request passed at the first attempt, so it is the length.
                Err(EngineError::BadRequest { .. }) => {}
                Err(EngineError::Busy(_)) => return Ok(None),
                // What a copy is compared by must not depend on who else was served.
                Err(
                    error @ (EngineError::NoSpare | EngineError::Deadline | EngineError::Lost | EngineError::Failed(_)),
                ) => return Err(error),
            }
        }
        Ok(None)
    }
}

pub(super) fn generation(task: &CritiqueTask, ask: Ask) -> Generation {
    Generation {
        input: Input::Chat(ask.messages),
        sampling: ask.sampling,
        constraint: None,
        max_tokens: ask.max_tokens,
        stop: task.stop.clone(),
        deadline: task.deadline,
        shadow: task.shadow,
    }
}

/// The prompt is made of the sheet, and the caller knows only that.
pub(super) fn about_the_sheet(error: EngineError) -> EngineError {
    match error {
        EngineError::BadRequest {
            field: "prompt" | "chat.messages",
            reason,
        } => EngineError::BadRequest { field: "sheet", reason },
        other => other,
    }
}

impl Spent {
    fn add(&mut self, finish: &Finish) {
        let Finish { usage, timings, .. } = finish;
        let tokens = [
            (&mut self.usage.prompt, usage.prompt),
            (&mut self.usage.cached, usage.cached),
            (&mut self.usage.completion, usage.completion),
        ];
        for (sum, tokens) in tokens {
            *sum = sum.saturating_add(tokens);
        }
        let times = [
            (&mut self.timings.queue, timings.queue),
            (&mut self.timings.prompt, timings.prompt),
            (&mut self.timings.decode, timings.decode),
        ];
        for (sum, time) in times {
            *sum = sum.saturating_add(time);
        }
    }
}
