//! Workers that die, drain, close and refuse.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tonic::{Code, Status};
use understudy_protocol::v1::{ClassifyStreamRequest, ResidencyState};

use crate::kit::{Client, Cluster, FakeWorker, residency};

/// Closed-loop load that notes every failure.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<Status>>>,
}

impl Load {
    async fn start(cluster: &Cluster, text: &'static str) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let client: Client = cluster.client().await;
            for _ in 0..8 {
                let (mut client, stop, served) = (client.clone(), Arc::clone(&stop), Arc::clone(&served));
                tasks.push(tokio::spawn(async move {
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match client.call(text, &[]).await {
                            Ok(_) => drop(served.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => failures.push(error),
                        }
                    }
                    failures
                }));
            }
        }
        Self { stop, served, tasks }
    }

    /// Waits for so many more answers.
    async fn served(&self, more: u64) {
        let (until, since) = (self.served.load(Ordering::Relaxed) + more, Instant::now());
        while self.served.load(Ordering::Relaxed) < until {
            assert!(since.elapsed() < Duration::from_secs(10), "the load stands still");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> Vec<Status> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        failures
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_fails_no_unary_request_and_its_lease_removes_it() {
    let cluster = Cluster::start(&[]).await;
    let mut dying = cluster.worker("dying", &["v1"]).await;
    let staying = cluster.worker("staying", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[2]).await;
    let load = Load::start(&cluster, "sleep 5").await;
    load.served(200).await;
    assert!(dying.calls() > 0);
    dying.kill();
    load.served(500).await;
    let (since, mut client) = (Instant::now(), cluster.client().await);
    while cluster.workers().await != ["staying"] {
        assert!(
            since.elapsed() < Duration::from_secs(8),
            "{:?}",
            cluster.workers().await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.call("x", &[]).await.unwrap().worker, "staying");
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures[0]);
    assert!(cluster.metric("retries_total", "") > 0.5);
    assert!(staying.calls() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_began_ends_with_a_status() {
    let cluster = Cluster::start(&[]).await;
    let mut worker = cluster.worker("w1", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(ClassifyStreamRequest { text: "x".into() }).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = cluster
        .client()
        .await
        .0
        .classify_stream(requests)
        .await
        .unwrap()
        .into_inner();
    answers.message().await.unwrap().unwrap();
    worker.kill();
    let error = answers.message().await.unwrap_err();
    assert!(
        error.code() == Code::Unavailable && error.message().contains("w1"),
        "{error:?}"
    );

    // Nobody is left: an answer at once, with advice.
    let error = cluster.client().await.call("x", &[]).await.unwrap_err();
    assert!(
        error.code() == Code::Unavailable && error.message().contains("cannot connect"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_a_worker_are_served_by_another() {
    let cluster = Cluster::start(&[]).await;
    let refusing = cluster.worker("refusing", &["v1"]).await;
    let mut workers = vec![cluster.worker("staying", &["v1"]).await];
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[2]).await;
    let mut client = cluster.client().await;
    for reason in ["VERSION_NOT_RESIDENT", "DRAINING"] {
        *refusing.behaviour.refuse.lock().unwrap() = Some(reason);
        for _ in 0..20 {
            assert_eq!(client.call("x", &[]).await.unwrap().worker, "staying", "{reason}");
        }
    }
    assert!(cluster.metric("retries_total", "not_begun") > 0.5);
    assert!(refusing.calls() > 0);

    // Without another the refusal itself is the answer.
    drop(workers.pop());
    cluster.ready(&[1]).await;
    let error = client.call("x", &[]).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "not here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_worker_gets_nothing_new() {
    let cluster = Cluster::start(&[]).await;
    let leaving = cluster.worker("leaving", &["v1"]).await;
    let _staying = cluster.worker("staying", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[2]).await;
    let load = Load::start(&cluster, "x").await;
    load.served(200).await;
    leaving.announce(vec![residency("v1", ResidencyState::Draining)]);
    cluster.ready(&[1]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let calls = leaving.calls();
    load.served(500).await;
    assert_eq!(leaving.calls(), calls);
    drop(leaving);
    load.served(200).await;
    assert!(load.stop().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_close_in_good_order_cost_nothing() {
    let cluster = Cluster::start(&[]).await;
    // The only worker sends GOAWAY every 30 ms.
    let age = Some(Duration::from_millis(30));
    let _worker = FakeWorker::start(&cluster.registry, "w1", &["v1"], age).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    let load = Load::start(&cluster, "sleep 3").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_bounded_by_a_budget_and_by_the_body() {
    let cluster = Cluster::start(&["--retries-min=1", "--retry-percent=0", "--retry-body-bytes-max=1000"]).await;
    let workers = [cluster.worker("w1", &["v1"]).await, cluster.worker("w2", &["v1"]).await];
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[2]).await;
    *workers[0].behaviour.refuse.lock().unwrap() = Some("DRAINING");
    let mut client = cluster.client().await;
    let large = "x".repeat(2_000);
    let mut refused = 0;
    for _ in 0..40 {
        refused += u32::from(client.call(&large, &[]).await.is_err());
    }
    assert!(refused > 5, "a body beyond the bound is not repeated");
    assert!(cluster.metric("retries_total", "") < 0.5);
    let mut failed = 0;
    for _ in 0..600 {
        failed += u32::from(client.call("x", &[]).await.is_err());
    }
    let retries = cluster.metric("retries_total", "");
    assert!(
        failed > 50 && (90.0..=130.0).contains(&retries),
        "{failed} failed, {retries} retries of a budget of 100"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_router_says_so_at_once() {
    use tonic_types::StatusExt as _;
    let cluster = Cluster::start(&["--concurrency-max=2"]).await;
    let _worker = cluster.worker("w1", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    let client = cluster.client().await;
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.call("sleep 500", &[]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let since = Instant::now();
    let error = client.clone().call("x", &[]).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.get_details_retry_info().unwrap().retry_delay.is_some());
    assert!(since.elapsed() < Duration::from_millis(200));
    for call in slow {
        assert!(call.await.unwrap().is_ok());
    }
    assert!(client.clone().call("x", &[]).await.is_ok());
    assert!((cluster.metric("rejected_total", "overloaded") - 1.0).abs() < 0.5);
}
