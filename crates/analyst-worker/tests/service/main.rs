//! The service over real gRPC, with a model that needs no libtorch.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fake;
mod shadow;

use std::time::Duration;

use fake::{Setup, until};
use futures::{StreamExt as _, stream};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use understudy_protocol::v1::{
    ClassifyBatchRequest, ClassifyRequest, ClassifyStreamRequest, ClassifyStreamResponse, GetModelInfoRequest,
    classify_stream_response::Result::{Classification, Refusal},
};

fn one(text: impl Into<String>) -> ClassifyRequest {
    ClassifyRequest { text: text.into() }
}

fn batch(texts: impl IntoIterator<Item = &'static str>) -> ClassifyBatchRequest {
    ClassifyBatchRequest {
        texts: texts.into_iter().map(str::to_owned).collect(),
    }
}

fn streamed(text: impl Into<String>) -> ClassifyStreamRequest {
    ClassifyStreamRequest { text: text.into() }
}

fn field_of(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0]
        .field
        .clone()
}

#[tokio::test]
async fn answers_are_whole() {
    let running = Setup::default().start().await;
    let response = running.client.clone().classify(one("+ good")).await.unwrap();
    assert_eq!(response.metadata().get("understudy-version").unwrap(), "v1");
    let answer = response.into_inner().classification.unwrap();
    assert_eq!(
        (answer.label.as_str(), answer.token_count, answer.truncated),
        ("positive", 6, false)
    );
    assert!((answer.confidence - 0.880_797).abs() < 1e-5);
    assert_eq!(
        answer
            .probabilities
            .iter()
            .map(|class| class.label.as_str())
            .collect::<Vec<_>>(),
        ["negative", "positive"]
    );
    assert_eq!(answer.version, "v1");

    let long = running
        .client
        .clone()
        .classify(one("-".repeat(600)))
        .await
        .unwrap()
        .into_inner()
        .classification
        .unwrap();
    assert_eq!(
        (long.label.as_str(), long.token_count, long.truncated),
        ("negative", 512, true)
    );

    let info = running
        .client
        .clone()
        .get_model_info(GetModelInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((info.model.as_str(), info.version.as_str()), ("sentiment", "v1"));
    assert_eq!(
        (info.tokens_max, info.batch_max, info.characters_max),
        (512, 32, 10_000)
    );
    assert_eq!(
        (info.labels.len(), info.precision.as_str(), info.device.as_str()),
        (2, "fp32", "cpu")
    );
    assert_eq!(running.metric(&["requests_total", "Classify\"", "Ok", "v1"]), 2.0);
    assert_eq!(running.metric(&["stage_seconds_count", "Infer"]), 2.0);
    assert_eq!(running.metric(&["queue_texts", "v1"]), 0.0);
}

#[tokio::test]
async fn bad_texts_are_refused_by_name() {
    let running = Setup::default().start().await;
    let mut client = running.client.clone();
    let error = client.classify(one("a".repeat(5_000_000))).await.unwrap_err();
    assert_eq!(
        error.code(),
        Code::InvalidArgument,
        "larger than any message may be: {error:?}"
    );
    for bad in [String::new(), " \n\t".into(), "a".repeat(10_001)] {
        assert_eq!(field_of(&client.classify(one(bad)).await.unwrap_err()), "text");
    }
    assert!(
        client.classify(one("é".repeat(10_000))).await.is_ok(),
        "characters count, not bytes"
    );
    assert_eq!(field_of(&client.classify_batch(batch([])).await.unwrap_err()), "texts");
    assert_eq!(
        field_of(&client.classify_batch(batch(["a"; 33])).await.unwrap_err()),
        "texts"
    );
    assert_eq!(
        field_of(&client.classify_batch(batch(["a", "b", "c", " "])).await.unwrap_err()),
        "texts[3]"
    );
    let error = client.classify_batch(batch(["a", ""])).await.unwrap_err();
    assert_eq!(
        error.metadata().get("understudy-version").unwrap(),
        "v1",
        "also on errors"
    );
    assert_eq!(running.encoded(), 1, "bad texts cost nothing");
    assert_eq!(
        running.metric(&["requests_total", "Classify\"", "v1", "InvalidArgument"]),
        3.0
    );
}

#[tokio::test]
async fn batches_answer_in_order() {
    let running = Setup::default().start().await;
    let texts = (0..32).map(|index| if index % 3 == 0 { "+" } else { "-xyz" });
    let answers = running
        .client
        .clone()
        .classify_batch(batch(texts))
        .await
        .unwrap()
        .into_inner()
        .classifications;
    assert_eq!(answers.len(), 32);
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(
            answer.label,
            if index % 3 == 0 { "positive" } else { "negative" },
            "{index}"
        );
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_the_callers_fault() {
    /// Has the wire form of `ClassifyRequest`, but with bytes for text.
    #[derive(Clone, PartialEq, prost::Message)]
    struct RawRequest {
        #[prost(bytes = "vec", tag = "1")]
        text: Vec<u8>,
    }
    type Codec = tonic_prost::ProstCodec<RawRequest, ClassifyStreamResponse>;

    let running = Setup::default().start().await;
    let channel = tonic::transport::Endpoint::new(format!("http://{}", running.address))
        .unwrap()
        .connect_lazy();
    let mut grpc = tonic::client::Grpc::new(channel);
    let raw = |text: &[u8]| RawRequest { text: text.to_vec() };

    grpc.ready().await.unwrap();
    let path = "/understudy.v1.Analyst/Classify".parse().unwrap();
    let error = grpc
        .unary(Request::new(raw(b"caf\xe9")), path, Codec::default())
        .await
        .unwrap_err();
    assert_eq!(field_of(&error), "text");
    assert!(error.message().contains("UTF-8"), "{error:?}");

    grpc.ready().await.unwrap();
    let path = "/understudy.v1.Analyst/ClassifyStream".parse().unwrap();
    let texts = stream::iter([raw(b"+ok"), raw(b"caf\xe9"), raw(b"never read")]);
    let mut answers = grpc
        .streaming(Request::new(texts), path, Codec::default())
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(
        answers.message().await.unwrap().unwrap().result,
        Some(Classification(_))
    ));
    assert_eq!(field_of(&answers.message().await.unwrap_err()), "text");
    assert_eq!(running.metric(&["requests_total", "InvalidArgument"]), 1.0);
}

#[tokio::test]
async fn server_faults_wear_server_codes() {
    let running = Setup::default().start().await;
    let mut client = running.client.clone();
    for bad in ["nan", "fail", "untokenisable"] {
        let error = client.classify(one(bad)).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{bad}: {error:?}");
    }
    let error = client.classify(one("panic")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert_eq!(error.get_details_error_info().unwrap().reason, "ENGINE_LOST");
    // The engine starts over.
    assert!(
        timeout(Duration::from_secs(5), client.classify(one("+")))
            .await
            .unwrap()
            .is_ok()
    );
    assert_eq!(running.metric(&["engine_restarts"]), 1.0);
}

#[tokio::test]
async fn what_waits_is_computed_together_and_only_while_the_engine_is_busy() {
    let running = Setup {
        gated: true,
        ..Setup::default()
    }
    .start()
    .await;
    let call = |text: &str| {
        let (mut client, text) = (running.client.clone(), one(text));
        tokio::spawn(async move { client.classify(text).await.unwrap() })
    };
    let first = call("+");
    until("the engine has the first text", || {
        running.metric(&["batch_texts_count"]) == 1.0
    })
    .await;
    let others: Vec<_> = (0..10).map(|_| call("--")).collect();
    until("ten texts wait", || running.metric(&["queue_texts", "v1"]) == 10.0).await;
    assert_eq!(running.metric(&["queue_tokens", "v1"]), 20.0);
    running.compute();
    first.await.unwrap();
    running.compute();
    for other in others {
        other.await.unwrap();
    }
    assert_eq!(*running.batches.lock().unwrap(), [vec![1], vec![2; 10]]);
}

#[tokio::test]
async fn a_full_queue_refuses_and_cancelled_calls_give_room_back() {
    let setup = Setup {
        gated: true,
        batch_max: 2,
        queue_depth_max: 2,
        ..Setup::default()
    };
    let mut running = setup.start().await;
    let call = |text: &'static str| {
        let mut client = running.client.clone();
        tokio::spawn(async move { client.classify(one(text)).await })
    };
    let computing = call("+");
    until("the engine has the first text", || {
        running.metric(&["batch_texts_count"]) == 1.0
    })
    .await;
    let waiting = [call("-"), call("-")];
    until("two texts wait", || running.metric(&["queue_texts", "v1"]) == 2.0).await;

    let error = running.client.clone().classify(one("+")).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    assert!(error.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);

    for call in waiting {
        call.abort();
    }
    until("cancelled texts left", || running.metric(&["queue_texts", "v1"]) == 0.0).await;
    assert_eq!(running.metric(&["dropped", "Cancelled"]), 2.0);
    let late = call("-later");
    until("there is room again", || running.metric(&["queue_texts", "v1"]) == 1.0).await;
    running.open();
    computing.await.unwrap().unwrap();
    late.await.unwrap().unwrap();
    assert_eq!(
        *running.batches.lock().unwrap(),
        [vec![1], vec![6]],
        "the cancelled ones cost no engine time"
    );
    until("the books are closed", || {
        running.metric(&["requests_total", "Classify\"", "Cancelled"]) == 2.0
    })
    .await;
}

#[tokio::test]
async fn too_many_tokens_are_refused_too_but_one_large_batch_alone_is_not() {
    let setup = Setup {
        gated: true,
        queue_tokens_max: 100,
        ..Setup::default()
    };
    let mut running = setup.start().await;
    let mut client = running.client.clone();
    let computing = tokio::spawn(async move { client.classify(one("+")).await });
    until("the engine has the first text", || {
        running.metric(&["batch_texts_count"]) == 1.0
    })
    .await;
    let mut client = running.client.clone();
    let large = tokio::spawn(async move { client.classify(one("-".repeat(300))).await });
    until("a text waits", || running.metric(&["queue_texts", "v1"]) == 1.0).await;
    let error = running.client.clone().classify(one("+")).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    running.open();
    computing.await.unwrap().unwrap();
    large.await.unwrap().unwrap();
}

#[tokio::test]
async fn deadlines_hold_and_late_work_is_dropped() {
    let mut running = Setup {
        gated: true,
        ..Setup::default()
    }
    .start()
    .await;
    let mut client = running.client.clone();
    let computing = tokio::spawn(async move { client.classify(one("+")).await });
    until("the engine has the first text", || {
        running.metric(&["batch_texts_count"]) == 1.0
    })
    .await;

    let code = running
        .raw_call("/understudy.v1.Analyst/Classify", &one("-late"), "100m")
        .await;
    assert_eq!(code, Code::DeadlineExceeded);
    assert_eq!(running.metric(&["dropped", "Expired"]), 1.0);
    assert_eq!(running.metric(&["queue_texts", "v1"]), 0.0);
    running.open();
    computing.await.unwrap().unwrap();
    assert_eq!(
        *running.batches.lock().unwrap(),
        [vec![1]],
        "the late text cost no engine time"
    );
    assert_eq!(running.metric(&["requests_total", "DeadlineExceeded"]), 1.0);
}

#[tokio::test]
async fn streams_answer_in_order_and_refuse_in_place() {
    let running = Setup {
        engines: 2,
        batch_tokens_max: 16,
        ..Setup::default()
    }
    .start()
    .await;
    let texts = (0..500).map(|index| match index % 5 {
        0 => streamed(" "),
        1 => streamed("+".repeat(index % 40 + 1)),
        _ => streamed("-".repeat(index % 30 + 1)),
    });
    let response = running
        .client
        .clone()
        .classify_stream(stream::iter(texts))
        .await
        .unwrap();
    assert_eq!(response.metadata().get("understudy-version").unwrap(), "v1");
    let answers: Vec<_> = response.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 500);
    for (index, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.index, index as u64);
        match (index % 5, answer.result.unwrap()) {
            (0, Refusal(refusal)) => assert_eq!(refusal.code, Code::InvalidArgument as i32),
            (1, Classification(answer)) => assert_eq!(
                (answer.label.as_str(), answer.token_count as usize),
                ("positive", index % 40 + 1)
            ),
            (_, Classification(answer)) => assert_eq!(
                (answer.label.as_str(), answer.token_count as usize),
                ("negative", index % 30 + 1)
            ),
            (_, Refusal(refusal)) => panic!("{index}: {refusal:?}"),
        }
    }
    until("the books are closed", || {
        running.metric(&["requests_total", "ClassifyStream", "Ok"]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_server_fault_ends_a_stream_after_the_answers_before_it() {
    let running = Setup {
        stream_ahead_max: 1,
        ..Setup::default()
    }
    .start()
    .await;
    let texts = stream::iter(["+", "fail", "+"].map(streamed));
    let mut answers = running
        .client
        .clone()
        .classify_stream(texts)
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(
        answers.message().await.unwrap().unwrap().result,
        Some(Classification(_))
    ));
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Internal);
    until("the books are closed", || {
        running.metric(&["requests_total", "ClassifyStream", "Internal"]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn an_interactive_stream_gets_each_answer_before_the_next_question() {
    let running = Setup::default().start().await;
    let (ask, questions) = mpsc::channel(1);
    let mut answers = running
        .client
        .clone()
        .classify_stream(ReceiverStream::new(questions))
        .await
        .unwrap()
        .into_inner();
    for index in 0..5 {
        ask.send(streamed("+")).await.unwrap();
        assert_eq!(
            timeout(Duration::from_secs(5), answers.message())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                .index,
            index
        );
    }
    drop(ask);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_reads_ahead_no_more_than_its_bound() {
    let mut running = Setup {
        gated: true,
        ..Setup::default()
    }
    .start()
    .await;
    let texts = stream::iter(0..100).map(|_| streamed("+"));
    let mut answers = running
        .client
        .clone()
        .classify_stream(texts)
        .await
        .unwrap()
        .into_inner();
    until("four texts are read", || running.encoded() == 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(running.encoded(), 4, "no answer is ready, so no more is read");
    running.open();
    let mut count = 0;
    while answers.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 100);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_server_from_reading() {
    let running = Setup::default().start().await;
    // 65,535 bytes of answers fit into the client's window; an answer has about 80.
    let texts = stream::iter(0..1_000_000).map(|_| streamed("+"));
    let answers = running
        .client
        .clone()
        .classify_stream(texts)
        .await
        .unwrap()
        .into_inner();
    let mut before = 0;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if running.encoded() == before {
            break;
        }
        before = running.encoded();
    }
    assert!(
        before > 0 && before < 50_000,
        "{before} texts were read for a client that reads nothing"
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(running.encoded(), before);
    // It holds no room that others need.
    assert!(
        timeout(Duration::from_secs(5), running.client.clone().classify(one("+")))
            .await
            .unwrap()
            .is_ok()
    );
    drop(answers);
    until("the books are closed", || {
        running.metric(&["requests_total", "ClassifyStream", "Cancelled"]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn streams_wait_where_unary_calls_are_refused() {
    let setup = Setup {
        batch_max: 2,
        queue_depth_max: 2,
        stream_ahead_max: 16,
        ..Setup::default()
    };
    let running = setup.start().await;
    let streams = (0..4).map(|_| {
        let mut client = running.client.clone();
        async move {
            let texts = stream::iter(0..100).map(|_| streamed("+"));
            client
                .classify_stream(texts)
                .await
                .unwrap()
                .into_inner()
                .map(Result::unwrap)
                .count()
                .await
        }
    });
    assert_eq!(futures::future::join_all(streams).await, [100; 4]);
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let running = Setup {
        gated: true,
        ..Setup::default()
    }
    .start()
    .await;
    let mut request = Request::new(stream::iter([streamed("+")]).chain(stream::pending()));
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let mut answers = running
        .client
        .clone()
        .classify_stream(request)
        .await
        .unwrap()
        .into_inner();
    let error = timeout(Duration::from_secs(5), answers.message())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
}

#[tokio::test]
async fn a_stream_gives_its_version_up_when_that_must_go() {
    let running = Setup::default().start().await;
    let texts = stream::iter(0..1_000_000).map(|_| streamed("+"));
    let mut answers = running
        .client
        .clone()
        .classify_stream(texts)
        .await
        .unwrap()
        .into_inner();
    until("the server is stuck, because the client does not read", || {
        running.encoded() > 100
    })
    .await;
    assert!(running.holders() > 1);
    running.expired.cancel();
    until("the version is free", || running.holders() == 1).await;
    let error = loop {
        if let Err(error) = answers.message().await {
            break error;
        }
    };
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "gone"));
}

#[tokio::test]
async fn a_version_that_is_not_here_is_the_holders_refusal() {
    let running = Setup::default().start().await;
    let mut request = Request::new(one("+"));
    request
        .metadata_mut()
        .insert("understudy-version", "v2".parse().unwrap());
    let error = running.client.clone().classify(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(running.metric(&["requests_total", "Unavailable"]), 1.0);
}
