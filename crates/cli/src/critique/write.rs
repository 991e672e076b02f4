//! Lets the scribe write, and shows it as it comes.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Status, metadata::MetadataMap};
use understudy_protocol::v1::{
    CritiqueFinish, WriteCritiqueRequest, scribe_client::ScribeClient, write_critique_response::Event,
};

use super::live::Live;
use crate::{output::Output, problem::sentence, retry::Retry, router::Transport};

/// Asks for critiques through the router.
pub(super) struct Writer {
    pub(super) client: ScribeClient<Transport>,
    pub(super) metadata: MetadataMap,
    /// Longest wait for the next piece of text.
    pub(super) patience: Duration,
}

impl Writer {
    pub(super) async fn write(&self, request: WriteCritiqueRequest, output: &Output) -> anyhow::Result<CritiqueFinish> {
        let mut live = Live::new(output);
        let mut retry = Retry::new();
        loop {
            let status = match self.stream(request.clone(), &mut live).await? {
                Ok(finish) => {
                    live.finish(&finish)?;
                    return Ok(finish);
                }
                Err(status) => status,
            };
            let why = sentence(&status);
            live.pause();
            retry.wait(status).await.map_err(|_| anyhow::anyhow!(why.clone()))?;
            live.lost(&why)?;
        }
    }

    /// The outer error is of the terminal, the inner one of the call.
    async fn stream(
        &self,
        request: WriteCritiqueRequest,
        live: &mut Live<'_>,
    ) -> anyhow::Result<Result<CritiqueFinish, Status>> {
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        let late = |_| Status::deadline_exceeded("");
        let mut client = self.client.clone();
        live.wait();
        let opened = timeout(self.patience, client.write_critique(request)).await;
        let mut incoming = match opened.map_err(late).flatten() {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        loop {
            let next = timeout(self.patience, incoming.message()).await;
            let event = match next.map_err(late).flatten() {
                Ok(Some(message)) => message.event,
                Ok(None) => return Ok(Err(Status::unavailable("the stream ended before the critique did"))),
                Err(status) => return Ok(Err(status)),
            };
            match event {
                Some(Event::Attempt(attempt)) => live.attempt(&attempt)?,
                Some(Event::Text(text)) => live.text(&text)?,
                Some(Event::Finish(finish)) => return Ok(Ok(finish)),
                // Of a newer scribe.
                None => {}
            }
        }
    }
}
