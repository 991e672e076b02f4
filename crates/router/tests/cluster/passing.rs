//! What passes through the router, and how soon it stops.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status};
use understudy_protocol::v1::{
    ClassifyRequest, ClassifyStreamRequest, Kind, ResidencyState, Worker, classify_stream_response,
};

use crate::kit::{Cluster, MODEL, classify, code_for, http2, message, request, residency};

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn one_worker() -> (Cluster, crate::kit::FakeWorker) {
    let cluster = Cluster::start(&["--deadline-max=20s"]).await;
    let worker = cluster.worker("w1", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    (cluster, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_codes_and_large_messages() {
    let (cluster, worker) = one_worker().await;
    let mut client = cluster.client().await;
    let answer = client
        .call("x", &[("x-custom", "word"), ("understudy-model", "m")])
        .await
        .unwrap();
    assert_eq!(answer.metadata.get("x-custom-back").unwrap(), "word");
    let seen = worker.behaviour.last.lock().unwrap().clone();
    let get = |key: &str| {
        seen.get(key)
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    assert_eq!(
        (get("understudy-model"), get("understudy-version")),
        (MODEL.to_owned(), "v1".to_owned())
    );

    for code in [
        Code::InvalidArgument,
        Code::ResourceExhausted,
        Code::Internal,
        Code::DataLoss,
    ] {
        let error = client.call(&format!("fail {}", code as i32), &[]).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, "as you wish"));
        assert_eq!(
            error.metadata().get("understudy-worker").unwrap(),
            "w1",
            "errors tell who made them, too"
        );
        assert_eq!(error.metadata().get("understudy-arm").unwrap(), "stable");
    }
    assert!((cluster.metric("requests_total", "code=\"DATA_LOSS\"") - 1.0).abs() < 0.5);
    let traffic = understudy_protocol::v1::GetRouteRequest { model: MODEL.into() };
    let traffic = cluster
        .routes()
        .await
        .get_route(traffic)
        .await
        .unwrap()
        .into_inner()
        .traffic;
    assert_eq!(
        traffic[0].failures, 3,
        "a client's mistake is no failure of the version"
    );

    let large = "x".repeat(5 << 20);
    assert_eq!(client.call(&large, &[]).await.unwrap().label.len(), large.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_flows_both_ways_at_its_own_pace() {
    let (cluster, _worker) = one_worker().await;
    let mut client = cluster.client().await.0;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let response = client.classify_stream(requests).await.unwrap();
    assert_eq!(response.metadata().get("understudy-arm").unwrap(), "stable");
    let mut answers = response.into_inner();
    for index in 0..100 {
        let text = format!("text {index}");
        sender.send(ClassifyStreamRequest { text: text.clone() }).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap(); // before the next one is sent
        assert_eq!(answer.index, index);
        let Some(classify_stream_response::Result::Classification(found)) = answer.result else {
            panic!()
        };
        assert_eq!(found.label, text);
    }
    sender
        .send(ClassifyStreamRequest { text: "fail 9".into() })
        .await
        .unwrap();
    let error = answers.message().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, "as you wish")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_worker_and_is_not_buffered() {
    let (cluster, _worker) = one_worker().await;
    let mut client = cluster.client().await.0;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let text = "x".repeat(10_000);
    let requests = tokio_stream::iter(0..10_000).map(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        ClassifyStreamRequest { text: text.clone() }
    });
    let mut answers = client.classify_stream(requests).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 2_000, "{sent} messages of 10 kB went out although nobody reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_shrink_and_end_the_request_everywhere() {
    let (cluster, worker) = one_worker().await;
    let mut client = cluster.client().await;
    let timeout = |worker: &crate::kit::FakeWorker| {
        let last = worker.behaviour.last.lock().unwrap();
        understudy_router::deadline::parse(
            &HeaderValue::from_bytes(last.get("grpc-timeout").unwrap().as_bytes()).unwrap(),
        )
    };
    client.call("x", &[("grpc-timeout", "3S")]).await.unwrap();
    let left = timeout(&worker).unwrap();
    assert!(
        left < Duration::from_secs(3) && left > Duration::from_millis(2_500),
        "{left:?}"
    );
    client.call("x", &[("grpc-timeout", "1H")]).await.unwrap();
    assert!(
        timeout(&worker).unwrap() <= Duration::from_secs(20),
        "the router's own bound"
    );
    client.call("x", &[]).await.unwrap();
    assert!(timeout(&worker).unwrap() <= Duration::from_secs(20));

    let since = Instant::now();
    let mut bare = http2(TcpStream::connect(cluster.address).await.unwrap()).await;
    let late = classify("x").header("grpc-timeout", "150m");
    assert_eq!(
        code_for(&mut bare, late, "sleep 10000").await,
        Code::DeadlineExceeded as i32
    );
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    eventually("the worker is told", || {
        worker.behaviour.cancelled.load(Ordering::SeqCst) == 1
    })
    .await;
    let error = client.call("x", &[("grpc-timeout", "soon")]).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_reaches_the_worker() {
    let (cluster, worker) = one_worker().await;
    let mut client = cluster.client().await;
    let call = tokio::time::timeout(Duration::from_millis(200), client.call("sleep 10000", &[]));
    assert!(call.await.is_err());
    eventually("unary", || worker.behaviour.cancelled.load(Ordering::SeqCst) == 1).await;
    eventually("counted", || cluster.metric("requests_total", "CANCELLED") > 0.5).await;

    // A stream, whose request is still open when the client resets it, and then one whose client vanishes.
    for expected in [2, 3] {
        let stream = TcpStream::connect(cluster.address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::post("http://x/understudy.v1.Analyst/ClassifyStream")
            .header("content-type", "application/grpc");
        let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(message("x"), false).unwrap();
        let mut answers = response.await.unwrap().into_body();
        answers.data().await.unwrap().unwrap();
        match expected {
            2 => body.send_reset(h2::Reason::CANCEL),
            _ => connection.abort(),
        }
        eventually("stream", || {
            worker.behaviour.cancelled.load(Ordering::SeqCst) == expected
        })
        .await;
    }
    eventually("nothing stays open", || cluster.metric("in_flight", "") < 0.5).await;
}

/// A worker on bare HTTP/2, for what tonic does not do.
async fn raw_worker<F>(cluster: &Cluster, answer: F) -> understudy_registry::Announcement
where
    F: Fn(Request<Incoming>) -> Response<BoxBody<Bytes, std::io::Error>> + Clone + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let worker = Worker {
        worker: "raw".into(),
        kind: Kind::Analyst.into(),
        address: format!("http://{}", listener.local_addr().unwrap()),
        versions: vec![residency("v1", ResidencyState::Ready)],
        ..Worker::default()
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(request)) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    cluster.registry.client().await.announce(worker, Duration::from_secs(2))
}

fn frames<S>(frames: S) -> Response<BoxBody<Bytes, std::io::Error>>
where
    S: Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync + 'static,
{
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
        .headers_mut()
        .insert("x-initial", HeaderValue::from_static("a"));
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_any_kind_pass() {
    let cluster = Cluster::start(&[]).await;
    let _worker = raw_worker(&cluster, |_| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-trailing", HeaderValue::from_static("b"));
        trailers.insert("x-trailing-bin", HeaderValue::from_static("AAEC"));
        let data = Frame::data(Bytes::from_static(&[0; 5]));
        frames(tokio_stream::iter([Ok(data), Ok(Frame::trailers(trailers))]))
    })
    .await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    let mut client = cluster.client().await.0;
    let response = client.classify(request("x", &[])).await.unwrap();
    let metadata = response.metadata(); // tonic puts trailers of unary calls here, too
    assert_eq!(metadata.get("x-initial").unwrap(), "a");
    assert_eq!(metadata.get("x-trailing").unwrap(), "b");
    assert_eq!(
        metadata.get_bin("x-trailing-bin").unwrap().to_bytes().unwrap(),
        Bytes::from_static(&[0, 1, 2])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_by_the_worker_is_a_reset_for_the_client() {
    let cluster = Cluster::start(&[]).await;
    let _worker = raw_worker(&cluster, |_| {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            sender
                .send(Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 0]))))
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await; // lets the answer begin
            sender.send(Err(std::io::Error::other("gives up"))).await.unwrap();
        });
        frames(tokio_stream::wrappers::ReceiverStream::new(receiver))
    })
    .await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    let error: Status = cluster
        .client()
        .await
        .0
        .classify(ClassifyRequest { text: "x".into() })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    assert!((cluster.metric("requests_total", "code=\"INTERNAL\"") - 1.0).abs() < 0.5);
    assert!(
        cluster.metric("retries_total", "") < 0.5,
        "an answer that began is not repeated"
    );
}
