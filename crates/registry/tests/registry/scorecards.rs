//! Scorecards live as long as the router that writes them.

use std::time::{Duration, Instant};

use understudy_registry::{Registry, ScorecardWriter, v1};

use crate::server::{Kind, Server, eventually};

const SOON: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(2);

fn card(model: &str, router: &str, requests: u64) -> v1::Scorecard {
    v1::Scorecard {
        model: model.into(),
        router: router.into(),
        rollout: 1,
        slice: Some(v1::Slice {
            stable: Some(v1::ArmCard {
                requests,
                ..v1::ArmCard::default()
            }),
            ..v1::Slice::default()
        }),
        ..v1::Scorecard::default()
    }
}

/// What a follower sees, as "a/r1 7".
fn seen(follow: &understudy_registry::Follow<v1::Scorecard>) -> Vec<String> {
    let requests = |c: &v1::Scorecard| c.slice.clone().unwrap_or_default().stable.unwrap_or_default().requests;
    let view = follow.view();
    assert_eq!(view.invalid, 0, "{:?}", view.problems);
    view.records
        .iter()
        .map(|(key, card)| format!("{key} {}", requests(card)))
        .collect()
}

async fn until_seen(follow: &understudy_registry::Follow<v1::Scorecard>, expected: &[&str]) {
    eventually(&format!("{expected:?}"), SOON, async || seen(follow) == expected).await;
}

pub(crate) async fn written_and_removed(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    let registry = server.registry().await;
    let follow = registry.follow::<v1::Scorecard>();
    let first = registry.scorecards(TTL);
    let second = server.registry().await.scorecards(TTL);
    first.put(card("a", "r1", 1));
    first.put(card("b", "r1", 2));
    second.put(card("a", "r2", 3));
    until_seen(&follow, &["a/r1 1", "a/r2 3", "b/r1 2"]).await;

    // Only the newest is written of what comes faster than it can be.
    let start = Instant::now();
    for n in 0..=10_000 {
        first.put(card("a", "r1", n));
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    until_seen(&follow, &["a/r1 10000", "a/r2 3", "b/r1 2"]).await;
    let version = client.get("/understudy/v1/scorecards/a/r1", None).await.unwrap().kvs()[0].version();
    assert!(version < 1_000, "{version} writes");
    // Nothing changed: nothing is written.
    first.put(card("a", "r1", 10_000));
    // A record that breaks the rules is not, either, and holds up no other.
    first.put(card("No Name", "r1", 1));
    first.put(card("b", "r1", 4));
    until_seen(&follow, &["a/r1 10000", "a/r2 3", "b/r1 4"]).await;
    assert_eq!(
        client.get("/understudy/v1/scorecards/a/r1", None).await.unwrap().kvs()[0].version(),
        version
    );

    first.remove("a");
    until_seen(&follow, &["a/r2 3", "b/r1 4"]).await;
    first.put(card("a", "r1", 5));
    until_seen(&follow, &["a/r1 5", "a/r2 3", "b/r1 4"]).await;
    let start = Instant::now();
    first.withdraw().await;
    until_seen(&follow, &["a/r2 3"]).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    // Somebody else's hand in it, by deleting or writing.
    client.delete("/understudy/v1/scorecards/a/r2", None).await.unwrap();
    second.put(card("a", "r2", 6));
    until_seen(&follow, &["a/r2 6"]).await;
    let raw = client.get("/understudy/v1/scorecards/a/r2", None).await.unwrap();
    let value = raw.kvs()[0].value_str().unwrap().replace("\"6\"", "\"60\"");
    client.put("/understudy/v1/scorecards/a/r2", value, None).await.unwrap();
    until_seen(&follow, &["a/r2 60"]).await;
    second.put(card("a", "r2", 7));
    until_seen(&follow, &["a/r2 7"]).await;
}

pub(crate) async fn gone_with_their_router(kind: Kind) {
    let mut server = Server::start(kind).await;
    let registry = server.registry().await;
    let follow = registry.follow::<v1::Scorecard>();
    let (dying, writer) = mortal(&server);
    writer.put(card("a", "r1", 1));
    let lives = registry.scorecards(TTL);
    lives.put(card("a", "r2", 2));
    until_seen(&follow, &["a/r1 1", "a/r2 2"]).await;
    let start = Instant::now();
    dying.shutdown_background();
    until_seen(&follow, &["a/r2 2"]).await;
    let took = start.elapsed();
    assert!(took > TTL / 2 && took < TTL + Duration::from_secs(2), "after {took:?}");
    // The lease is renewed, also when nothing is written.
    while start.elapsed() < 3 * TTL {
        assert_eq!(seen(&follow), ["a/r2 2"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Its successor of the same name takes its record over before the old lease ends.
    let (dying, writer) = mortal(&server);
    writer.put(card("a", "r3", 1));
    until_seen(&follow, &["a/r2 2", "a/r3 1"]).await;
    dying.shutdown_background();
    let successor = registry.scorecards(TTL);
    successor.put(card("a", "r3", 0));
    until_seen(&follow, &["a/r2 2", "a/r3 0"]).await;
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    assert_eq!(seen(&follow), ["a/r2 2", "a/r3 0"]);
    successor.withdraw().await;

    // The registry is away for longer than the lease: no call waits, and the newest is there afterwards.
    server.kill();
    let start = Instant::now();
    lives.put(card("a", "r2", 3));
    lives.put(card("b", "r2", 1));
    lives.put(card("a", "r2", 4));
    assert!(start.elapsed() < Duration::from_millis(100));
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    lives.remove("b");
    server.restart().await;
    until_seen(&follow, &["a/r2 4"]).await;
    lives.put(card("a", "r2", 5));
    until_seen(&follow, &["a/r2 5"]).await;
}

/// A writer that can be killed without a word.
fn mortal(server: &Server) -> (tokio::runtime::Runtime, ScorecardWriter) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let options = server.options();
    let writer = std::thread::scope(|scope| {
        let start = async { Registry::connect(&options).await.unwrap().scorecards(TTL) };
        scope.spawn(|| runtime.block_on(start)).join().unwrap()
    });
    (runtime, writer)
}
