//! `understudy.v1.Analyst`: checks what comes in, hands it to the pipeline, puts answers together.

use std::{future::Future, pin::pin, sync::Arc, time::Instant};

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataMap, MetadataValue},
};
use understudy_protocol::{
    metadata,
    v1::{
        ClassProbability, Classification, ClassifyBatchRequest, ClassifyBatchResponse, ClassifyRequest,
        ClassifyResponse, ClassifyStreamRequest, ClassifyStreamResponse, GetModelInfoRequest, ModelInfo, Refusal,
        analyst_server::Analyst, classify_stream_response,
    },
};
use understudy_worker::{Arrival, is_shadow, undecodable, within};

use crate::{
    check,
    config::Limits,
    error::Failure,
    held::{Held, Holder},
    metrics::{Metrics, Version},
    model::{Model, argmax},
    pipeline::{Answer, Lane, Pipeline},
};

/// The service, over the versions that this worker holds.
pub struct AnalystService<V: Holder> {
    pipeline: Arc<Pipeline<V::Held>>,
    versions: Arc<V>,
    batch_max: usize,
    stream_ahead_max: usize,
    metrics: Metrics,
}

impl<V: Holder> AnalystService<V> {
    /// The service over these versions.
    #[must_use]
    pub fn new(versions: Arc<V>, pipeline: Pipeline<V::Held>, limits: &Limits, metrics: Metrics) -> Self {
        Self {
            pipeline: Arc::new(pipeline),
            versions,
            batch_max: limits.batch_max.get(),
            stream_ahead_max: limits.stream_ahead_max.get(),
            metrics,
        }
    }

    /// Finds the version that must answer and begins to keep the call's books.
    fn open(&self, method: &'static str, metadata: &MetadataMap) -> Result<(V::Held, Call), Status> {
        let mut call = Call {
            method,
            version: Version {
                shadow: is_shadow(metadata.as_ref()),
                ..Version::default()
            },
            stamp: None,
            metrics: self.metrics.clone(),
            ended: false,
        };
        match self.versions.resolve(metadata) {
            Ok(held) => {
                call.version.model.push_str(held.model());
                call.version.version.push_str(held.version());
                call.stamp = held.version().parse().ok();
                Ok((held, call))
            }
            Err(status) => Err(call.failed(status)),
        }
    }

    /// One request, one answer: everything but the work itself.
    async fn unary<Q, A, F>(
        &self,
        method: &'static str,
        request: Request<Q>,
        work: impl FnOnce(V::Held, Q, Terms) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let deadline = Arrival::reach(&request).deadline;
        let (held, mut call) = self.open(method, request.metadata())?;
        let terms = Terms {
            lane: if call.version.shadow { Lane::Shadow } else { Lane::Unary },
            deadline,
        };
        let answer = within(deadline, work(held, request.into_inner(), terms)).await;
        match answer.unwrap_or_else(|| Err(Failure::Expired.into())) {
            Ok(answer) => {
                let mut response = Response::new(answer);
                call.stamp_version(response.metadata_mut());
                call.end(Code::Ok);
                Ok(response)
            }
            Err(status) => Err(call.failed(status)),
        }
    }
}

#[tonic::async_trait]
impl<V: Holder> Analyst for AnalystService<V> {
    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        self.unary("Classify", request, async |held, request, terms| {
            check::text("text", &request.text)?;
            let classification = classify_one(&self.pipeline, &held, request.text, terms).await?;
            Ok(ClassifyResponse {
                classification: Some(classification),
            })
        })
        .await
    }

    async fn classify_batch(
        &self,
        request: Request<ClassifyBatchRequest>,
    ) -> Result<Response<ClassifyBatchResponse>, Status> {
        self.unary("ClassifyBatch", request, async |held, request, terms| {
            check::texts(&request.texts, self.batch_max)?;
            let answers = self
                .pipeline
                .classify(&held, request.texts, terms.lane, terms.deadline)
                .await?;
            let classifications = answers
                .into_iter()
                .map(|answer| classification(&held, answer))
                .collect();
            Ok(ClassifyBatchResponse { classifications })
        })
        .await
    }

    type ClassifyStreamStream = ReceiverStream<Result<ClassifyStreamResponse, Status>>;

    async fn classify_stream(
        &self,
        request: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let deadline = Arrival::reach(&request).deadline;
        let (held, call) = self.open("ClassifyStream", request.metadata())?;
        let (answers, answered) = mpsc::channel(1);
        let mut response = Response::new(ReceiverStream::new(answered));
        call.stamp_version(response.metadata_mut());

        let texts = Texts {
            requests: request.into_inner(),
            ahead_max: self.stream_ahead_max,
            terms: Terms {
                lane: if call.version.shadow {
                    Lane::Shadow
                } else {
                    Lane::Stream
                },
                deadline,
            },
        };
        tokio::spawn(texts.answer(Arc::clone(&self.pipeline), held, answers, call));
        Ok(response)
    }

    async fn get_model_info(&self, request: Request<GetModelInfoRequest>) -> Result<Response<ModelInfo>, Status> {
        self.unary("GetModelInfo", request, async |held, GetModelInfoRequest {}, _| {
            let info = held.loaded().info();
            Ok(ModelInfo {
                model: held.model().to_owned(),
                version: held.version().to_owned(),
                labels: info.labels.clone(),
                tokens_max: narrow(info.tokens_max),
                batch_max: narrow(self.batch_max),
                characters_max: narrow(check::CHARACTERS_MAX),
                precision: info.precision.clone(),
                device: info.device.clone(),
            })
        })
        .await
    }
}

/// What a call's texts are worked on by.
#[derive(Debug, Clone, Copy)]
struct Terms {
    lane: Lane,
    deadline: Option<Instant>,
}

async fn classify_one<H: Held>(
    pipeline: &Pipeline<H>,
    held: &H,
    text: String,
    terms: Terms,
) -> Result<Classification, Failure> {
    let answers = pipeline.classify(held, vec![text], terms.lane, terms.deadline).await?;
    let answer = answers.into_iter().next().ok_or(Failure::EngineLost)?;
    Ok(classification(held, answer))
}

/// The requests of a stream.
struct Texts {
    requests: Streaming<ClassifyStreamRequest>,
    ahead_max: usize,
    terms: Terms,
}

type StreamAnswers = mpsc::Sender<Result<ClassifyStreamResponse, Status>>;

impl Texts {
    /// Answers them in their order until they end, one fails, the deadline passes, the client leaves, or the version has
    /// to go: that happens whether or not the client reads, so this runs as a task of its own.
    async fn answer<H: Held>(self, pipeline: Arc<Pipeline<H>>, held: H, answers: StreamAnswers, mut call: Call) {
        let end = tokio::select! {
            end = within(self.terms.deadline, self.all(pipeline, held.clone(), &answers)) => {
                end.unwrap_or_else(|| Err(Failure::Expired.into()))
            }
            () = held.expired() => Err(held.expired_status()),
            // The call's books say "cancelled" of themselves.
            () = answers.closed() => return,
        };
        // The client may take its time to read the end; the version need not wait for that.
        drop(held);
        match end {
            Ok(()) => call.end(Code::Ok),
            Err(status) => {
                // Nobody is left to read it if this fails.
                let _ = answers.send(Err(call.failed(status))).await;
            }
        }
    }

    /// `buffered` is the flow control: the next request is read only while fewer than `ahead_max` are unanswered, and an
    /// answer leaves only when HTTP/2 has room for it. Each text is a task of its own, so that a client that reads slowly
    /// keeps neither room in the queue nor a tokenizer's turn from others.
    async fn all<H: Held>(self, pipeline: Arc<Pipeline<H>>, held: H, answers: &StreamAnswers) -> Result<(), Status> {
        let texts = self.requests.enumerate().map(|(index, request)| {
            let (pipeline, held) = (Arc::clone(&pipeline), held.clone());
            let work = AbortOnDropHandle::new(tokio::spawn(async move {
                let request = request.map_err(|status| undecodable(&status))?;
                answer_in_stream(&pipeline, &held, index as u64, request, self.terms).await
            }));
            async move {
                work.await
                    .unwrap_or_else(|_| Err(Status::internal("a stream's task died")))
            }
        });
        let mut texts = pin!(texts.buffered(self.ahead_max));
        while let Some(answer) = texts.next().await {
            // If the client is gone, the caller of this knows.
            let _ = answers.send(Ok(answer?)).await;
        }
        Ok(())
    }
}

/// A bad text is refused in its place. A server fault ends the stream, because whoever judges a version by its calls sees
/// only how they end.
async fn answer_in_stream<H: Held>(
    pipeline: &Pipeline<H>,
    held: &H,
    index: u64,
    request: ClassifyStreamRequest,
    terms: Terms,
) -> Result<ClassifyStreamResponse, Status> {
    let result = match check::text("text", &request.text) {
        Ok(()) => {
            let classification = classify_one(pipeline, held, request.text, terms).await?;
            classify_stream_response::Result::Classification(classification)
        }
        Err(status) => classify_stream_response::Result::Refusal(Refusal {
            code: status.code() as i32,
            message: status.message().to_owned(),
        }),
    };
    Ok(ClassifyStreamResponse {
        index,
        result: Some(result),
    })
}

fn classification<H: Held>(held: &H, answer: Answer) -> Classification {
    let best = argmax(&answer.probabilities);
    let labels = &held.loaded().info().labels;
    let probabilities = labels.iter().zip(&answer.probabilities);
    Classification {
        label: labels.get(best).cloned().unwrap_or_default(),
        confidence: answer.probabilities.get(best).copied().unwrap_or_default(),
        probabilities: probabilities
            .map(|(label, probability)| ClassProbability {
                label: label.clone(),
                probability: *probability,
            })
            .collect(),
        token_count: narrow(answer.token_count),
        truncated: answer.truncated,
        version: held.version().to_owned(),
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A call's books: who answered, and how it ended.
struct Call {
    method: &'static str,
    version: Version,
    stamp: Option<MetadataValue<Ascii>>,
    metrics: Metrics,
    ended: bool,
}

impl Call {
    fn stamp_version(&self, metadata: &mut MetadataMap) {
        if let Some(version) = &self.stamp {
            metadata.insert(metadata::VERSION, version.clone());
        }
    }

    fn end(&mut self, code: Code) {
        self.metrics.call_ended(self.method, &self.version, code);
        self.ended = true;
    }

    fn failed(&mut self, mut status: Status) -> Status {
        self.stamp_version(status.metadata_mut());
        self.end(status.code());
        status
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Code::Cancelled);
        }
    }
}
