//! `understudy.v1.Scribe`: checks what comes in, has the version's engine generate, passes on what comes of it.
//!
//! A stream is a task of its own. It holds its version from the first token to the last, so a swap meanwhile does not touch
//! it; only when the version has drained for longer than the drain timeout is it told to end. Whatever ends the task
//! (the client leaves, the deadline passes, the version expires) drops the engine's stream, which frees the slot.

mod call;
mod voice;
mod write;

use std::{sync::Arc, time::Instant};

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use understudy_protocol::v1::{
    GenerateRequest, GenerateResponse, GetScribeInfoRequest, ScribeInfo, WriteCritiqueRequest, WriteCritiqueResponse,
    generate_response, scribe_server::Scribe, write_critique_response,
};
use understudy_worker::{Arrival, is_shadow, within};

use self::{call::Call, voice::Voice, write::Writing};
use crate::{
    answer, critique,
    engine::{Engine as _, EngineError, Generation, Stream},
    held::{Held, Holder},
    metrics::Metrics,
    request::{self, Circumstances},
};

/// The service, over the versions that this worker holds.
pub struct ScribeService<V> {
    versions: Arc<V>,
    metrics: Metrics,
}

impl<V: Holder> ScribeService<V> {
    /// The service over these versions.
    #[must_use]
    pub fn new(versions: Arc<V>, metrics: Metrics) -> Self {
        Self { versions, metrics }
    }

    /// Finds the version that must answer and begins to keep the call's books.
    fn open(&self, method: &'static str, metadata: &MetadataMap) -> Result<(V::Held, Call), Status> {
        let mut call = Call::new(method, is_shadow(metadata.as_ref()), self.metrics.clone());
        match self.versions.resolve(metadata) {
            Ok(held) => {
                call.answered_by(&held);
                Ok((held, call))
            }
            Err(status) => Err(call.failed(status)),
        }
    }
}

fn circumstances<T>(request: &Request<T>) -> Circumstances {
    Circumstances {
        deadline: Arrival::reach(request).deadline,
        seed: rand::random(),
        shadow: is_shadow(request.metadata().as_ref()),
    }
}

/// Has a version's engine begin.
async fn start<H: Held>(held: &H, generation: Generation) -> Result<Stream, EngineError> {
    let held = held.clone();
    // It tokenises, which may take a while.
    let started = tokio::task::spawn_blocking(move || held.loaded().start(generation));
    started.await.unwrap_or(Err(EngineError::Lost))
}

/// The end of work that has a deadline.
async fn by<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    within(deadline, work)
        .await
        .unwrap_or_else(|| Err(EngineError::Deadline.into()))
}

#[tonic::async_trait]
impl<V: Holder> Scribe for ScribeService<V> {
    type GenerateStream = ReceiverStream<Result<GenerateResponse, Status>>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let circumstances = circumstances(&request);
        let (held, mut call) = self.open("Generate", request.metadata())?;
        let begun = async {
            let generation = request::generation(request.into_inner(), circumstances)?;
            Ok(start(&held, generation).await?)
        };
        // Before the answer's head, so that another worker may be asked if this one is busy.
        let stream = by(circumstances.deadline, begun).await;
        let stream = stream.map_err(|status| call.failed(status))?;
        let version = held.version().to_owned();
        Ok(call.stream(held, circumstances.deadline, async move |answers, ear| {
            let mut voice = Voice::new(answers, ear, |text| GenerateResponse {
                event: Some(generate_response::Event::Text(text)),
            });
            let finish = voice.pass_on(stream).await?.finish;
            let finish = answer::finish(&finish, &version);
            voice
                .say(GenerateResponse {
                    event: Some(generate_response::Event::Finish(finish)),
                })
                .await;
            Ok(())
        }))
    }

    type WriteCritiqueStream = ReceiverStream<Result<WriteCritiqueResponse, Status>>;

    async fn write_critique(
        &self,
        request: Request<WriteCritiqueRequest>,
    ) -> Result<Response<Self::WriteCritiqueStream>, Status> {
        let circumstances = circumstances(&request);
        let (held, mut call) = self.open("WriteCritique", request.metadata())?;
        let begun = async {
            let task = request::critique(request.into_inner(), circumstances)?;
            let first = write::generation(&task, critique::first(&task));
            let stream = start(&held, first).await.map_err(write::about_the_sheet)?;
            Ok((task, stream))
        };
        let begun = by(circumstances.deadline, begun).await;
        let (task, stream) = begun.map_err(|status| call.failed(status))?;
        let writing = Writing {
            held: held.clone(),
            task: Arc::new(task),
        };
        Ok(call.stream(held, circumstances.deadline, async move |answers, ear| {
            let voice = Voice::new(answers, ear, |text| WriteCritiqueResponse {
                event: Some(write_critique_response::Event::Text(text)),
            });
            writing.run(stream, voice).await
        }))
    }

    async fn get_scribe_info(&self, request: Request<GetScribeInfoRequest>) -> Result<Response<ScribeInfo>, Status> {
        Arrival::reach(&request);
        let (held, mut call) = self.open("GetScribeInfo", request.metadata())?;
        let info = answer::info(held.loaded().info(), held.model(), held.version());
        let mut response = Response::new(info);
        call.stamp_version(response.metadata_mut());
        call.end(Code::Ok);
        Ok(response)
    }
}
