//! One answer, shown as it comes.

use std::{future::Future, time::Duration};

use anyhow::anyhow;
use tokio::time::timeout;
use tonic::{Request, Status, metadata::MetadataMap};
use understudy_protocol::v1::{
    Chat, ChatMessage, Finish, GenerateRequest, Sampling,
    generate_request::{Constraint, Input},
    generate_response::Event,
    scribe_client::ScribeClient,
};

use crate::{
    output::{Output, printable},
    problem::sentence,
    retry::Retry,
    router::Transport,
};

/// Asks through the router.
pub(super) struct Scribe {
    pub(super) client: ScribeClient<Transport>,
    pub(super) metadata: MetadataMap,
    /// Longest wait for the next piece.
    pub(super) patience: Duration,
    pub(super) sampling: Sampling,
    pub(super) constraint: Option<Constraint>,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// All of it, or as far as it got.
    pub(super) text: String,
    /// Absent if it was stopped, or broke off.
    pub(super) finish: Option<Finish>,
    /// Why it broke off.
    pub(super) problem: Option<anyhow::Error>,
}

impl Scribe {
    pub(super) async fn answer(
        &self,
        messages: Vec<ChatMessage>,
        output: &Output,
        stop: impl Future<Output = ()>,
    ) -> Answer {
        let request = GenerateRequest {
            input: Some(Input::Chat(Chat { messages })),
            sampling: Some(self.sampling.clone()),
            constraint: self.constraint.clone(),
        };
        let mut answer = Answer::default();
        let end = tokio::select! {
            end = self.follow(&request, &mut answer.text, output) => Some(end),
            // Dropping the stream cancels it at the worker.
            () = stop => None,
        };
        let mut told = Ok(());
        if !answer.text.is_empty() && !output.is_json() && !answer.text.ends_with('\n') {
            told = output.line("");
        }
        match end {
            Some(Ok(finish)) => answer.finish = Some(finish),
            Some(Err(problem)) => answer.problem = Some(problem),
            None => {}
        }
        answer.problem = answer.problem.or(told.err());
        answer
    }

    /// Tries again only while nothing was shown.
    async fn follow(&self, request: &GenerateRequest, text: &mut String, output: &Output) -> anyhow::Result<Finish> {
        let mut retry = Retry::new();
        loop {
            let status = match self.stream(request.clone(), text, output).await? {
                Ok(finish) => return Ok(finish),
                Err(status) => status,
            };
            let ended = if text.is_empty() {
                retry.wait(status).await
            } else {
                Err(status)
            };
            ended.map_err(|status| anyhow!(sentence(&status)))?;
        }
    }

    /// The outer error is of the terminal, the inner one of the call.
    async fn stream(
        &self,
        request: GenerateRequest,
        text: &mut String,
        output: &Output,
    ) -> anyhow::Result<Result<Finish, Status>> {
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        let late = |_| Status::deadline_exceeded("");
        let mut client = self.client.clone();
        let opened = timeout(self.patience, client.generate(request)).await;
        let mut incoming = match opened.map_err(late).flatten() {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        loop {
            let next = timeout(self.patience, incoming.message()).await;
            match next.map_err(late).flatten() {
                Ok(Some(message)) => match message.event {
                    Some(Event::Text(piece)) => {
                        text.push_str(&piece);
                        if !output.is_json() {
                            output.raw(printable(&piece).as_bytes())?;
                        }
                    }
                    Some(Event::Finish(finish)) => return Ok(Ok(finish)),
                    // Of a newer scribe.
                    None => {}
                },
                Ok(None) => return Ok(Err(Status::unavailable("the stream ended before the answer did"))),
                Err(status) => return Ok(Err(status)),
            }
        }
    }
}
