//! Typed records: compare-and-swap, what is invalid, announcements.

use std::time::Duration;

use etcd_client::LeaseTimeToLiveOptions;
use understudy_registry::{Error, Registry, RegistryOptions, v1};

use crate::server::{Kind, Server, eventually, options};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn route(model: &str, epoch: u64) -> v1::Route {
    v1::Route {
        model: model.into(),
        kind: v1::Kind::Analyst.into(),
        epoch,
        arms: vec![v1::Arm {
            name: "stable".into(),
            version: "v1".into(),
            weight_ppm: 1_000_000,
        }],
        pinning: v1::Pinning::Allowed.into(),
        ..v1::Route::default()
    }
}

pub(crate) fn worker(name: &str, port: u16) -> v1::Worker {
    v1::Worker {
        worker: name.into(),
        kind: v1::Kind::Analyst.into(),
        address: format!("http://127.0.0.1:{port}"),
        ..v1::Worker::default()
    }
}

fn manifest(version: &str) -> v1::Manifest {
    v1::Manifest {
        format: 1,
        model: "sentiment".into(),
        version: version.into(),
        kind: v1::Kind::Analyst.into(),
        artifact_uri: "file:///models".into(),
        files: vec![v1::ArtifactFile {
            path: "config.json".into(),
            sha256: "0".repeat(64),
            size_bytes: 2,
        }],
        labels: vec!["negative".into(), "positive".into()],
        ..v1::Manifest::default()
    }
}

pub(crate) async fn compare_and_swap(kind: Kind) {
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    registry.create_manifest(&manifest("v1")).await.unwrap();
    let again = registry.create_manifest(&manifest("v1")).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists(_)), "{again}");
    assert_eq!(
        registry.manifest("sentiment", "v1").await.unwrap(),
        Some(manifest("v1"))
    );
    assert_eq!(registry.manifest("sentiment", "v2").await.unwrap(), None);
    // More than a page of a listing.
    for n in 2..=150 {
        registry.create_manifest(&manifest(&format!("v{n}"))).await.unwrap();
    }
    assert_eq!(registry.list::<v1::Manifest>().await.unwrap().records.len(), 150);

    assert_eq!(registry.route("sentiment").await.unwrap(), None);
    let first = registry.put_route(&route("sentiment", 1), 0).await.unwrap();
    let stale = registry.put_route(&route("sentiment", 2), 0).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict(_)), "{stale}");
    let second = registry.put_route(&route("sentiment", 2), first).await.unwrap();
    assert!(matches!(
        registry.put_route(&route("sentiment", 3), first).await,
        Err(Error::Conflict(_))
    ));
    let stored = registry.route("sentiment").await.unwrap().unwrap();
    assert_eq!((stored.mod_revision, stored.value.epoch), (second, 2));
    assert_eq!(
        registry
            .list::<v1::Route>()
            .await
            .unwrap()
            .records
            .keys()
            .collect::<Vec<_>>(),
        ["sentiment"]
    );

    let mut half = route("sentiment", 3);
    half.arms[0].weight_ppm = 500_000;
    let invalid = registry.put_route(&half, second).await.unwrap_err();
    assert!(
        matches!(&invalid, Error::Invalid { reason, .. } if reason.contains("sum to 1000000")),
        "{invalid}"
    );

    // Installations with other prefixes do not meet.
    let other = RegistryOptions {
        prefix: "/understudy/v1/other".into(),
        ..server.options()
    };
    let other = Registry::connect(&other).await.unwrap();
    assert_eq!(other.route("sentiment").await.unwrap(), None);
    // Values are readable text.
    let raw = server
        .client()
        .await
        .get("/understudy/v1/models/sentiment/route", None)
        .await
        .unwrap();
    assert!(raw.kvs()[0].value_str().unwrap().contains("\"weightPpm\": 1000000"));
}

pub(crate) async fn concurrent_increments_lose_nothing(kind: Kind) {
    const TASKS: u64 = 16;
    const INCREMENTS: u64 = 8;
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    registry.put_route(&route("counter", 0), 0).await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move {
                for _ in 0..INCREMENTS {
                    loop {
                        let stored = registry.route("counter").await.unwrap().unwrap();
                        let next = route("counter", stored.value.epoch + 1);
                        match registry.put_route(&next, stored.mod_revision).await {
                            Ok(_) => break,
                            Err(Error::Conflict(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        registry.route("counter").await.unwrap().unwrap().value.epoch,
        TASKS * INCREMENTS
    );
}

pub(crate) async fn corrupt_records_keep_the_last_good(kind: Kind) {
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    let mut client = server.client().await;
    registry.put_route(&route("a", 1), 0).await.unwrap();
    let mut follow = registry.follow::<v1::Route>();
    assert_eq!(follow.synced().await.invalid, 0);
    let key = "/understudy/v1/models/a/route";
    let bad_sum = r#"{"model":"a","kind":"KIND_ANALYST","arms":[{"name":"s","version":"v1","weightPpm":1}]}"#;
    let future = r#"{"model":"a","kind":"KIND_ORACLE","arms":[{"name":"s","version":"v1","weightPpm":1000000}]}"#;
    for bad in ["", "{", "[]", bad_sum, future, r#"{"model":"b"}"#] {
        let revision = client.put(key, bad, None).await.unwrap().header().unwrap().revision();
        eventually("the change is seen", SOON, async || follow.view().revision >= revision).await;
        let view = follow.view();
        assert_eq!((view.invalid, view.records["a"].epoch), (1, 1), "{bad}");
        assert!(view.problems.contains_key("a"));
        assert!(matches!(registry.route("a").await, Err(Error::Invalid { .. })), "{bad}");
    }
    // A follower that never saw a good one has none; others are not affected.
    registry.put_route(&route("b", 1), 0).await.unwrap();
    let mut fresh = registry.follow::<v1::Route>();
    let view = fresh.synced().await;
    assert!(view.records.keys().eq(["b"]) && view.invalid == 1, "{view:?}");
    let listing = registry.list::<v1::Route>().await.unwrap();
    assert_eq!((listing.records.len(), listing.problems.len()), (1, 1));

    // Unknown fields are from a newer software, and no problem.
    let newer = r#"{"model":"a","kind":"KIND_ANALYST","epoch":"5","mood":"good",
        "arms":[{"name":"s","version":"v1","weightPpm":1000000}]}"#;
    client.put(key, newer, None).await.unwrap();
    eventually("a good value replaces it", SOON, async || {
        follow.view().records["a"].epoch == 5 && follow.view().invalid == 0
    })
    .await;
    client.delete(key, None).await.unwrap();
    eventually("it is deleted", SOON, async || follow.view().records.keys().eq(["b"])).await;
}

pub(crate) async fn announcements_come_and_go(kind: Kind) {
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    let follow = registry.follow::<v1::Worker>();
    let seen = |name: &'static str, port: u16| {
        let follow = follow.clone();
        async move || {
            follow
                .view()
                .records
                .get(name)
                .is_some_and(|found| *found == worker(name, port))
        }
    };
    let kept = registry.announce(worker("kept", 1), Duration::from_secs(2));
    let dropped = registry.announce(worker("dropped", 2), Duration::from_secs(2));
    eventually("they are announced", SOON, seen("kept", 1)).await;
    eventually("they are announced", SOON, seen("dropped", 2)).await;
    kept.set(worker("kept", 3));
    eventually("the change is announced", SOON, seen("kept", 3)).await;

    // A worker that dies without a word is gone when its lease ends; one that lives outlives many leases' times.
    let start = std::time::Instant::now();
    drop(dropped);
    eventually("the lease ends", SOON, async || {
        !follow.view().records.contains_key("dropped")
    })
    .await;
    assert!(
        start.elapsed() > Duration::from_millis(800),
        "not before its lease ends: {:?}",
        start.elapsed()
    );
    while start.elapsed() < Duration::from_secs(4) {
        assert!(follow.view().records.contains_key("kept"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A worker that was killed and is back before its old lease ends takes its record over.
    let again = registry.announce(worker("kept", 4), Duration::from_secs(30));
    drop(kept);
    eventually("the new one is announced", SOON, seen("kept", 4)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(seen("kept", 4)().await, "the old lease's end did not take it away");

    let start = std::time::Instant::now();
    again.withdraw().await;
    eventually("it is withdrawn at once", SOON, async || {
        follow.view().records.is_empty()
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(5));
}

pub(crate) async fn announcements_survive_losses(kind: Kind) {
    let mut server = Server::start(kind).await;
    let registry = server.registry().await;
    let mut client = server.client().await;
    let announced = registry.announce(worker("w1", 1), Duration::from_secs(3));
    let stored = async || registry.get::<v1::Worker>("w1").await.ok().flatten();
    eventually("it is announced", SOON, async || stored().await.is_some()).await;

    // Its lease is revoked.
    let lease = client.get("/understudy/v1/workers/w1", None).await.unwrap().kvs()[0].lease();
    let keys = client
        .lease_time_to_live(lease, Some(LeaseTimeToLiveOptions::new().with_keys()))
        .await
        .unwrap();
    assert_eq!(keys.keys().len(), 1);
    client.lease_revoke(lease).await.unwrap();
    assert!(stored().await.is_none());
    eventually("it is announced under a new lease", SOON, async || {
        stored().await.is_some()
    })
    .await;

    // Its record is deleted, or spoilt.
    client.delete("/understudy/v1/workers/w1", None).await.unwrap();
    eventually("it is written again", SOON, async || stored().await.is_some()).await;
    client.put("/understudy/v1/workers/w1", "nonsense", None).await.unwrap();
    eventually("it is repaired", SOON, async || stored().await.is_some()).await;

    // The server is away for longer than the lease, and changes meanwhile are not lost.
    server.kill();
    announced.set(worker("w1", 2));
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.restart().await;
    eventually("the latest is announced", SOON, async || {
        stored().await.is_some_and(|found| found.value == worker("w1", 2))
    })
    .await;
    announced.withdraw().await;
    assert!(stored().await.is_none());
}

/// Nothing listens: making the registry succeeds, calls say what to do.
#[tokio::test]
async fn without_a_registry() {
    let registry = Registry::connect(&options(1)).await.unwrap();
    let start = std::time::Instant::now();
    let error = registry.route("a").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }));
    assert!(
        error.to_string().contains("http://127.0.0.1:1") && error.to_string().contains("--registry"),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(6));
    let follow = registry.follow::<v1::Route>();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!follow.view().synced);
    registry
        .announce(worker("w1", 1), Duration::from_secs(2))
        .withdraw()
        .await;
}

/// Only etcd has users.
#[tokio::test]
async fn users_and_passwords() {
    let server = Server::start(Kind::Etcd).await;
    for args in [
        vec!["user", "add", "root:secret"],
        vec!["user", "grant-role", "root", "root"],
        vec!["auth", "enable"],
    ] {
        assert!(
            server.etcdctl().args(&args).output().await.unwrap().status.success(),
            "{args:?}"
        );
    }
    let login = |password: &str| {
        let (user, password) = (Some("root".to_owned()), Some(password.to_owned()));
        RegistryOptions {
            user,
            password,
            ..server.options()
        }
    };
    let registry = Registry::connect(&login("secret")).await.unwrap();
    registry.put_route(&route("a", 1), 0).await.unwrap();
    let mut follow = registry.follow::<v1::Route>();
    assert!(follow.synced().await.records.contains_key("a"));
    for options in [login("wrong"), server.options()] {
        let error = Registry::connect(&options).await.unwrap().route("a").await.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
    }
}
