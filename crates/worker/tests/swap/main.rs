//! A worker against a real (embedded) registry and a store that is a folder, with an engine that only remembers its text.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use support::{Cluster, await_until};
use tonic::{Code, metadata::MetadataMap};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use understudy_protocol::v1::ResidencyState::{Draining, Ready};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_swaps_and_waits_for_holders() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("w1").await;
    cluster.publish("sentiment", "v1", "one").await;
    cluster.publish("sentiment", "v2", "two").await;
    cluster.route("sentiment", &["v1"]).await;
    cluster.state("w1", &[("v1", Ready)]).await;
    let held = worker.versions.resolve(&MetadataMap::new()).unwrap();
    assert_eq!(
        (held.model(), held.version(), held.text.as_str()),
        ("sentiment", "v1", "one")
    );

    // Straight from v1 to v2: v1 drains only now that v2 is ready, and is not freed while it is held.
    cluster.route("sentiment", &["v2"]).await;
    cluster.state("w1", &[("v1", Draining), ("v2", Ready)]).await;
    // Announced as draining, it still answers for the grace time, but is nobody's first choice.
    assert_eq!(
        worker.versions.resolve(&support::asks("sentiment", "v1")).unwrap().text,
        "one"
    );
    assert_eq!(worker.versions.resolve(&MetadataMap::new()).unwrap().text, "two");
    await_until("v1 takes nothing new", || {
        worker.versions.resolve(&support::asks("sentiment", "v1")).is_err()
    })
    .await;
    let refusal = worker.versions.resolve(&support::asks("sentiment", "v1")).unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert!(String::from_utf8_lossy(refusal.details()).contains("VERSION_NOT_RESIDENT"));
    assert!(
        refusal.message().contains("it holds sentiment/v2"),
        "{}",
        refusal.message()
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((held.text.as_str(), worker.engine.alive()), ("one", 2));
    cluster.state("w1", &[("v1", Draining), ("v2", Ready)]).await;
    drop(held);
    cluster.state("w1", &[("v2", Ready)]).await;
    assert_eq!((worker.engine.alive(), worker.engine.freed()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_swaps_leave_one_resident_and_no_request_without_an_answer() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker_with_grace("w1", Duration::from_millis(100)).await;
    for version in ["v1", "v2"] {
        cluster.publish("sentiment", version, version).await;
    }
    cluster.route("sentiment", &["v1"]).await;
    cluster.state("w1", &[("v1", Ready)]).await;
    let versions = worker.versions.clone();
    let load = tokio::task::spawn_blocking(move || {
        let (mut answers, mut refusals) = (0u64, 0u64);
        let end = std::time::Instant::now() + Duration::from_secs(600);
        while std::time::Instant::now() < end {
            // As a router does: one that is not there, then the other.
            let resident = ["v1", "v2"].map(|version| versions.resolve(&support::asks("sentiment", version)));
            match resident {
                [Ok(_), _] | [_, Ok(_)] => answers += 1,
                // The end of the test.
                [Err(status), _] if status.message().contains("shutting down") => break,
                _ => refusals += 1,
            }
            if answers % 1_000 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        (answers, refusals)
    });
    for n in 0..10 {
        let to = ["v2", "v1"][n % 2];
        cluster.route("sentiment", &[to]).await;
        cluster.state("w1", &[(to, Ready)]).await;
    }
    assert_eq!(
        (
            worker.engine.alive(),
            worker.engine.freed(),
            worker.engine.most_loading()
        ),
        (1, 10, 1)
    );
    worker.stop().await;
    let (answers, refusals) = load.await.unwrap();
    assert!(answers > 1_000, "{answers}");
    assert_eq!(refusals, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_fail_say_why_and_the_old_one_serves() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("w1").await;
    cluster.publish("sentiment", "v1", "one").await;
    cluster.publish("sentiment", "bad", "fail").await;
    cluster.publish("sentiment", "worse", "panic").await;
    cluster.publish("sentiment", "lost", "lost").await;
    cluster.remove_files("lost");
    cluster.publish_newer("sentiment", "newer").await;
    cluster.route("sentiment", &["v1"]).await;
    cluster.state("w1", &[("v1", Ready)]).await;
    cluster
        .route("sentiment", &["bad", "lost", "newer", "worse", "never"])
        .await;
    for (version, reason) in [
        ("bad", "weights are NaN: layer 3"),
        ("worse", "loading panicked: out of cheese"),
        ("newer", "newer Understudy"),
        ("lost", "does not exist"),
        ("never", "never published"),
    ] {
        cluster.says("w1", version, reason).await;
    }
    assert_eq!(worker.versions.resolve(&MetadataMap::new()).unwrap().text, "one");
    assert!(
        worker
            .metrics()
            .contains("understudy_worker_load_failures_total{stage=\"Load\"} 2"),
        "{}",
        worker.metrics()
    );
    // What failed to be fetched is tried again by itself.
    cluster.publish("sentiment", "never", "better late").await;
    // And v1, which nobody wants any more, may go.
    await_until("it is loaded at last", || {
        worker.versions.resolve(&support::asks("sentiment", "never")).is_ok()
    })
    .await;
    await_until("v1 is gone", || {
        worker.versions.resolve(&support::asks("sentiment", "v1")).is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_may_go_and_come_back() {
    let mut cluster = Cluster::start().await;
    let worker = cluster.worker("w1").await;
    cluster.publish("sentiment", "v1", "one").await;
    cluster.publish("sentiment", "v2", "two").await;
    cluster.route("sentiment", &["v1"]).await;
    cluster.state("w1", &[("v1", Ready)]).await;

    cluster.stop_registry().await;
    // Longer than the lease.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(worker.versions.resolve(&MetadataMap::new()).unwrap().text, "one");
    cluster.start_registry().await;
    cluster.state("w1", &[("v1", Ready)]).await;
    cluster.route("sentiment", &["v2"]).await;
    cluster.state("w1", &[("v2", Ready)]).await;

    // Somebody removes the record: it comes back by itself.
    cluster.delete_worker("w1").await;
    cluster.state("w1", &[("v2", Ready)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_versions_need_a_name_and_health_knows_each() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("w1").await;
    let channel = worker.channel().await;
    let health = async |service: &str| {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = HealthClient::new(channel.clone()).check(request).await;
        answer.map(|answer| {
            assert_eq!(answer.metadata().get("understudy-worker").unwrap(), "w1");
            answer.into_inner().status
        })
    };
    assert_eq!(health("").await.unwrap(), 1);
    let none = worker.versions.resolve(&MetadataMap::new()).unwrap_err();
    assert_eq!(none.code(), Code::Unavailable);
    cluster.publish("sentiment", "v1", "one").await;
    cluster.publish("sentiment", "v2", "two").await;
    cluster.publish("toxicity", "v1", "three").await;
    cluster.route("sentiment", &["v1", "v2"]).await;
    cluster.route("toxicity", &["v1"]).await;
    cluster
        .state_of(
            "w1",
            &[("sentiment/v1", Ready), ("sentiment/v2", Ready), ("toxicity/v1", Ready)],
        )
        .await;
    assert_eq!(health("understudy.v1.Analyst").await.unwrap(), 1);
    assert_eq!(health("sentiment/v2").await.unwrap(), 1);
    let missing = health("sentiment/v3").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.metadata().get("understudy-worker").unwrap(), "w1");

    let resolve = |metadata: &MetadataMap| worker.versions.resolve(metadata);
    let ambiguous = resolve(&MetadataMap::new()).unwrap_err();
    assert_eq!(ambiguous.code(), Code::InvalidArgument);
    assert!(
        ambiguous.message().contains("sentiment/v1, sentiment/v2, toxicity/v1"),
        "{}",
        ambiguous.message()
    );
    assert_eq!(resolve(&support::model("toxicity")).unwrap().text, "three");
    assert_eq!(
        resolve(&support::model("sentiment")).unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(resolve(&support::asks("sentiment", "v2")).unwrap().text, "two");
    assert_eq!(
        resolve(&support::asks("sentiment", "v3")).unwrap_err().code(),
        Code::Unavailable
    );

    cluster.unroute("toxicity").await;
    cluster
        .state_of("w1", &[("sentiment/v1", Ready), ("sentiment/v2", Ready)])
        .await;
    assert!(health("toxicity/v1").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_announces_finishes_and_withdraws() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("w1").await;
    cluster.publish("sentiment", "v1", "one").await;
    cluster.route("sentiment", &["v1"]).await;
    cluster.state("w1", &[("v1", Ready)]).await;
    let channel = worker.channel().await;
    let mut watch = HealthClient::new(channel.clone())
        .watch(HealthCheckRequest { service: String::new() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    let flight = worker.flight(channel).await;
    let (versions, address) = (worker.versions.clone(), worker.address);

    worker.begin_stop();
    cluster.state("w1", &[("v1", Draining)]).await;
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    // Within the grace time it still takes what routers send before they know.
    assert!(versions.resolve(&MetadataMap::new()).is_ok());
    await_until("it takes nothing new", || {
        versions.resolve(&MetadataMap::new()).is_err()
    })
    .await;
    let refusal = versions.resolve(&MetadataMap::new()).unwrap_err();
    assert!(String::from_utf8_lossy(refusal.details()).contains("DRAINING"));
    // Who watches health does not hold it up, and what is in flight ends well.
    assert!(watch.message().await.unwrap().is_none());
    assert!(cluster.worker_record("w1").await.is_some());
    flight.finish().await;
    worker.stop().await;
    assert!(cluster.worker_record("w1").await.is_none());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_held_too_long_tells_its_holders() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("w1").await;
    cluster.publish("sentiment", "v1", "one").await;
    cluster.route("sentiment", &["v1"]).await;
    cluster.state("w1", &[("v1", Ready)]).await;
    let held = worker.versions.resolve(&MetadataMap::new()).unwrap();
    let waits = tokio::spawn(async move {
        held.expired().await;
        held.expired_status()
    });
    cluster.unroute("sentiment").await;
    let status = tokio::time::timeout(Duration::from_secs(10), waits)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.metadata().get("understudy-version").unwrap(), "v1");
    cluster.state("w1", &[]).await;
}
