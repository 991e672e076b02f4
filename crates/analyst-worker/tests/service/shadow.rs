//! Copies that no client waits for are computed from spare capacity only.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use tokio::{task::JoinHandle, time::sleep};
use tonic::{Code, Request, Response, Status};
use understudy_protocol::{
    metadata,
    v1::{ClassifyResponse, classify_stream_response::Result::Classification},
};

use crate::{
    batch,
    fake::{Running, Setup, until},
    one, streamed,
};

fn copy<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(metadata::SHADOW, "1".parse().unwrap());
    request
}

fn call(running: &Running, request: Request<understudy_protocol::v1::ClassifyRequest>) -> Call {
    let mut client = running.client.clone();
    tokio::spawn(async move { client.classify(request).await })
}

type Call = JoinHandle<Result<Response<ClassifyResponse>, Status>>;

const CLIENTS: &str = "shadow=\"false\"";
const COPIES: &str = "shadow=\"true\"";

async fn begun(running: &Running, whose: &str, batches: f64) {
    until("an engine has a text", || {
        running.metric(&["batch_texts_count", whose]) == batches
    })
    .await;
}

async fn waiting(running: &Running, whose: &str, texts: f64) {
    until("texts wait", || running.metric(&["queue_texts", whose]) == texts).await;
}

#[tokio::test]
async fn every_client_comes_before_a_copy_that_came_first() {
    let running = Setup {
        gated: true,
        ..Setup::default()
    }
    .start()
    .await;
    let first = call(&running, Request::new(one("+")));
    begun(&running, CLIENTS, 1.0).await;
    let copied = call(&running, copy(one("--")));
    waiting(&running, COPIES, 1.0).await;
    let second = call(&running, Request::new(one("+++")));
    waiting(&running, CLIENTS, 1.0).await;

    running.compute();
    first.await.unwrap().unwrap();
    begun(&running, CLIENTS, 2.0).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(running.metric(&["queue_texts", COPIES]), 1.0, "no engine was idle");
    running.compute();
    second.await.unwrap().unwrap();
    begun(&running, COPIES, 1.0).await;
    running.compute();
    let answer = copied.await.unwrap().unwrap();
    assert_eq!(answer.metadata().get("understudy-version").unwrap(), "v1");
    assert_eq!(*running.batches.lock().unwrap(), [vec![1], vec![3], vec![2]]);
    assert_eq!(running.metric(&["requests_total", "Classify", CLIENTS, "Ok"]), 2.0);
    assert_eq!(running.metric(&["requests_total", "Classify", COPIES, "Ok"]), 1.0);
}

#[tokio::test]
async fn a_client_does_not_wait_for_a_copy_that_is_computed() {
    let mut running = Setup {
        gated: true,
        ..Setup::default()
    }
    .start()
    .await;
    let copied = call(&running, copy(one("--")));
    begun(&running, COPIES, 1.0).await;
    let client = call(&running, Request::new(one("+")));
    begun(&running, CLIENTS, 1.0).await;
    running.open();
    client.await.unwrap().unwrap();
    copied.await.unwrap().unwrap();
}

#[tokio::test]
async fn copies_are_refused_at_once_when_there_is_nothing_to_spare() {
    let mut running = Setup {
        gated: true,
        shadow_depth_max: 2,
        ..Setup::default()
    }
    .start()
    .await;
    let first = call(&running, Request::new(one("+")));
    begun(&running, CLIENTS, 1.0).await;
    let copies = [call(&running, copy(one("-"))), call(&running, copy(one("-")))];
    waiting(&running, COPIES, 2.0).await;
    let refused = async |request| {
        let began = Instant::now();
        let error = running.client.clone().classify(request).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(2));
    };
    refused(copy(one("-"))).await;

    // A full queue of copies shuts no client out.
    let second = call(&running, Request::new(one("+")));
    waiting(&running, CLIENTS, 1.0).await;
    copies.iter().for_each(JoinHandle::abort);
    waiting(&running, COPIES, 0.0).await;
    // There is room, but a client waits for long.
    sleep(Duration::from_millis(100)).await;
    refused(copy(one("-"))).await;
    running.open();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!(running.client.clone().classify(copy(one("-"))).await.is_ok());
    assert_eq!(running.metric(&["requests_total", COPIES, "ResourceExhausted"]), 2.0);
}

/// Its deadline would read as a fault of its version, which is not to blame.
#[tokio::test]
async fn a_copy_for_which_no_engine_gets_idle_is_refused_before_its_deadline() {
    let mut running = Setup {
        gated: true,
        ..Setup::default()
    }
    .start()
    .await;
    let first = call(&running, Request::new(one("+")));
    begun(&running, CLIENTS, 1.0).await;
    let mut waits = copy(one("-"));
    waits.set_timeout(Duration::from_secs(30));
    let error = running.client.clone().classify(waits).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    assert_eq!(running.metric(&["queue_texts", COPIES]), 0.0, "it left the queue");
    running.open();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn batches_and_streams_are_copied_too() {
    let running = Setup::default().start().await;
    let mut client = running.client.clone();
    let answer = client.classify_batch(copy(batch(["+", "-"]))).await.unwrap();
    assert_eq!(answer.into_inner().classifications.len(), 2);
    let texts = stream::iter((0..100).map(|_| streamed("+")));
    let answers = client.classify_stream(copy(texts)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().result.unwrap()).collect().await;
    assert!(answers.len() == 100 && answers.iter().all(|answer| matches!(answer, Classification(_))));
    assert_eq!(running.metric(&["batch_texts_sum", COPIES]), 102.0);
    assert_eq!(running.metric(&["batch_texts_sum", CLIENTS]), 0.0);
}
