//! What a client hears of a generation.

use super::call::{Answers, Ear};
use crate::engine::{EngineError, Event, Finish, Stream};

/// Sends answers of one kind.
pub(super) struct Voice<A> {
    answers: Answers<A>,
    ear: Ear,
    wrap: fn(String) -> A,
    spoke: bool,
}

/// A generation that ended.
pub(super) struct Written {
    /// All of it.
    pub(super) text: String,
    pub(super) finish: Finish,
}

impl<A> Voice<A> {
    pub(super) fn new(answers: Answers<A>, ear: Ear, wrap: fn(String) -> A) -> Self {
        Self {
            answers,
            ear,
            wrap,
            spoke: false,
        }
    }

    pub(super) fn ear(&self) -> &Ear {
        &self.ear
    }

    /// Waits until HTTP/2 has room for it.
    pub(super) async fn say(&self, answer: A) {
        // If the client is gone, the call's task knows.
        let _ = self.answers.send(Ok(answer)).await;
    }

    /// Passes a generation's text on as it comes.
    pub(super) async fn pass_on(&mut self, mut stream: Stream) -> Result<Written, EngineError> {
        let mut text = String::new();
        while let Some(event) = stream.recv().await {
            match event {
                Event::Text(piece) => {
                    if !self.spoke {
                        self.spoke = true;
                        let ear = &self.ear;
                        ear.metrics.first_text(&ear.version, ear.arrived.elapsed());
                    }
                    text.push_str(&piece);
                    self.say((self.wrap)(piece)).await;
                }
                Event::Finished(finish) => {
                    self.ear.metrics.generated(&self.ear.version, &finish);
                    return Ok(Written { text, finish });
                }
                Event::Failed(error) => {
                    if let EngineError::Failed(problem) = &error {
                        let version = &self.ear.version;
                        tracing::error!(
                            model = version.model,
                            version = version.version,
                            error = problem,
                            "generation failed"
                        );
                    }
                    return Err(error);
                }
            }
        }
        Err(EngineError::Lost)
    }
}
