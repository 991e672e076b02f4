//! One copy's way to a worker and back.

use std::time::{Duration, Instant};

use http::{HeaderValue, request};
use http_body_util::BodyExt as _;
use tonic::Code;
use understudy_protocol::metadata;

use crate::{
    answer::code_of,
    deadline,
    observe::{Answer, Frames, Problem, Shared, Task, Undecodable, decode},
    pick::pick,
    replay::Replay,
    state::Arm,
    status::code_label,
};

/// An answer to a copy.
pub(super) struct Sent {
    frames: Frames,
    pub(super) seconds: f64,
}

impl Sent {
    pub(super) fn answer(&self, task: Task) -> Result<Answer, Undecodable> {
        decode(task, &self.frames)
    }
}

/// A copy without an answer.
pub(super) enum Failed {
    /// Nobody to send it to.
    NoWorker,
    /// The worker has no spare capacity, or could not be reached: nothing is learned of the version.
    Busy,
    /// The answer is more than is kept.
    TooLarge,
    /// The version failed, in words.
    Error(String),
}

pub(super) async fn send(
    arm: &Arm,
    head: &request::Parts,
    body: &Frames,
    timeout: Duration,
    shared: &Shared,
) -> Result<Sent, Failed> {
    let exchange = exchange(arm, head, body, timeout, shared);
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(Failed::Error(code_label(Code::DeadlineExceeded).to_owned())),
    }
}

async fn exchange(
    arm: &Arm,
    head: &request::Parts,
    body: &Frames,
    timeout: Duration,
    shared: &Shared,
) -> Result<Sent, Failed> {
    let mut draw = |n| rand::random_range(0..n);
    let endpoint = pick(&arm.ready, &[], Instant::now(), &mut draw).ok_or(Failed::NoWorker)?;
    let lease = endpoint.lease_aside().await.map_err(|_| Failed::Busy)?;
    let mut request = endpoint.request(head, &arm.version, Replay::of(body.kept()));
    let headers = request.headers_mut();
    headers.insert(metadata::SHADOW, HeaderValue::from_static("1"));
    headers.insert(deadline::GRPC_TIMEOUT, deadline::format(timeout));

    let sent = Instant::now();
    let response = lease.send(request).await.map_err(|error| {
        // With the request in the error it never left: the worker drains or is gone.
        if error.message().is_some() {
            Failed::Busy
        } else {
            Failed::Error("the connection was lost".to_owned())
        }
    })?;
    let (head, mut body) = response.into_parts();
    let mut frames = shared.answer_frames();
    let mut code = code_of(&head.headers);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failed::Error("the answer broke off".to_owned()))?;
        match frame.into_data() {
            Ok(data) => frames.push(&data),
            Err(frame) => code = code.or(frame.trailers_ref().map(|t| code_of(t).unwrap_or(Code::Unknown))),
        }
    }
    let seconds = sent.elapsed().as_secs_f64();
    match (code.unwrap_or(Code::Unknown), frames.problem()) {
        (Code::Ok, None) => Ok(Sent { frames, seconds }),
        (Code::Ok, Some(Problem::TooLarge)) => Err(Failed::TooLarge),
        (Code::Ok, Some(Problem::NoPlace)) => Err(Failed::NoWorker),
        (Code::ResourceExhausted | Code::Unavailable, _) => Err(Failed::Busy),
        (code, _) => Err(Failed::Error(code_label(code).to_owned())),
    }
}
