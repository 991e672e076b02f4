//! A call's books: who answered, and how it ended.

use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Response, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};
use understudy_protocol::metadata;

use super::by;
use crate::{
    held::Held,
    metrics::{Metrics, Version},
};

/// Answers that may wait for a client that reads slowly; what comes after waits in the engine's stream.
const ANSWERS_AHEAD_MAX: usize = 16;

/// Where a stream's answers go.
pub(super) type Answers<A> = mpsc::Sender<Result<A, Status>>;

/// What a call's work needs to keep its books.
pub(super) struct Ear {
    pub(super) metrics: Metrics,
    pub(super) version: Version,
    pub(super) arrived: Instant,
}

pub(super) struct Call {
    method: &'static str,
    version: Version,
    stamp: Option<MetadataValue<Ascii>>,
    metrics: Metrics,
    arrived: Instant,
    ended: bool,
}

impl Call {
    pub(super) fn new(method: &'static str, shadow: bool, metrics: Metrics) -> Self {
        Self {
            method,
            version: Version {
                shadow,
                ..Version::default()
            },
            stamp: None,
            metrics,
            arrived: Instant::now(),
            ended: false,
        }
    }

    pub(super) fn answered_by<H: Held>(&mut self, held: &H) {
        self.version.model.push_str(held.model());
        self.version.version.push_str(held.version());
        self.stamp = held.version().parse().ok();
    }

    pub(super) fn stamp_version(&self, metadata: &mut MetadataMap) {
        if let Some(version) = &self.stamp {
            metadata.insert(metadata::VERSION, version.clone());
        }
    }

    pub(super) fn end(&mut self, code: Code) {
        self.metrics.call_ended(self.method, &self.version, code);
        self.ended = true;
    }

    pub(super) fn failed(&mut self, mut status: Status) -> Status {
        self.stamp_version(status.metadata_mut());
        self.end(status.code());
        status
    }

    /// Answers with what `work` sends, until that is done or fails, the deadline passes, the client leaves, or the version has
    /// to go: that happens whether or not the client reads, so this is a task of its own.
    pub(super) fn stream<H, A, F>(
        mut self,
        held: H,
        deadline: Option<Instant>,
        work: impl FnOnce(Answers<A>, Ear) -> F,
    ) -> Response<ReceiverStream<Result<A, Status>>>
    where
        H: Held,
        A: Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (answers, answered) = mpsc::channel(ANSWERS_AHEAD_MAX);
        let mut response = Response::new(ReceiverStream::new(answered));
        self.stamp_version(response.metadata_mut());
        let ear = Ear {
            metrics: self.metrics.clone(),
            version: self.version.clone(),
            arrived: self.arrived,
        };
        let work = work(answers.clone(), ear);
        tokio::spawn(async move {
            let end = tokio::select! {
                end = by(deadline, work) => end,
                () = held.expired() => Err(held.expired_status()),
                // The books say "cancelled" of themselves.
                () = answers.closed() => return,
            };
            // The client may take its time to read the end; the version need not wait for that.
            drop(held);
            match end {
                Ok(()) => self.end(Code::Ok),
                Err(status) => {
                    // Nobody is left to read it if this fails.
                    let _ = answers.send(Err(self.failed(status))).await;
                }
            }
        });
        response
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Code::Cancelled);
        }
    }
}
