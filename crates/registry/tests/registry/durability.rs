//! Kills, outages and restored clusters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::PutOptions;
use understudy_registry::{Error, Registry, v1};

use crate::{
    records::{route, worker},
    server::{Kind, Server, eventually, options as options_for},
};

pub(crate) async fn acknowledged_writes_survive_sigkill(kind: Kind) {
    const WRITERS: usize = 8;
    let mut server = Server::start(kind).await;
    let mut client = server.client().await;
    let lease = client.lease_grant(5, None).await.unwrap().id();
    client
        .put("leased", "1", Some(PutOptions::new().with_lease(lease)))
        .await
        .unwrap();
    let mut expected = [0_usize; WRITERS];
    let mut latest = 0;
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Arc<Vec<AtomicUsize>> = Arc::new(expected.iter().map(|n| AtomicUsize::new(*n)).collect());
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
                let mut client = client.clone();
                tokio::spawn(async move {
                    let mut n = acknowledged[writer].load(Ordering::Relaxed);
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        let put = client.put(format!("w/{writer}"), n.to_string(), None);
                        if !matches!(tokio::time::timeout(Duration::from_secs(1), put).await, Ok(Ok(_))) {
                            return;
                        }
                        acknowledged[writer].store(n, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200 + 77 * round)).await;
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        server.restart().await;
        client = server.client().await;
        for (writer, expected) in expected.iter_mut().enumerate() {
            let answer = client.get(format!("w/{writer}"), None).await.unwrap();
            let kv = &answer.kvs()[0];
            let stored: usize = kv.value_str().unwrap().parse().unwrap();
            let acknowledged = acknowledged[writer].load(Ordering::Relaxed);
            assert!(
                acknowledged > *expected,
                "writer {writer} wrote nothing in round {round}"
            );
            // One more may have been kept without an answer.
            assert!(
                (acknowledged..=acknowledged + 1).contains(&stored),
                "{acknowledged} acknowledged, {stored} stored"
            );
            assert_eq!(kv.version(), i64::try_from(stored).unwrap());
            *expected = stored;
        }
        let revision = client.get("x", None).await.unwrap().header().unwrap().revision();
        assert!(revision > latest);
        latest = revision;
    }
    // The lease lived on, with its time to run, and still ends.
    let asked = client.lease_time_to_live(lease, None).await.unwrap();
    assert!((3..=5).contains(&asked.ttl()), "{}", asked.ttl());
    assert_eq!(client.get("leased", None).await.unwrap().count(), 1);
    eventually("the lease ends", Duration::from_secs(15), async || {
        client
            .clone()
            .get("leased", None)
            .await
            .is_ok_and(|answer| answer.count() == 0)
    })
    .await;
}

pub(crate) async fn follower_catches_up_after_an_outage(kind: Kind) {
    let mut server = Server::start(kind).await;
    let registry = server.registry().await;
    registry.put_route(&route("a", 1), 0).await.unwrap();
    let mut follow = registry.follow::<v1::Route>();
    assert!(follow.synced().await.records.contains_key("a"));

    server.kill();
    eventually("the outage is seen", Duration::from_secs(5), async || {
        !follow.view().connected
    })
    .await;
    let view = follow.view();
    assert!(view.synced && view.records["a"].epoch == 1, "what was known stays");
    let start = std::time::Instant::now();
    let error = registry.route("a").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(6));
    // One that starts during the outage waits for its end.
    let late = registry.follow::<v1::Route>();
    assert!(!late.view().synced && !late.view().connected);

    server.restart().await;
    let other = server.registry().await;
    let stored = other.route("a").await.unwrap().unwrap();
    other.put_route(&route("a", 2), stored.mod_revision).await.unwrap();
    other.put_route(&route("b", 1), 0).await.unwrap();
    for follower in [&follow, &late] {
        eventually("the follower catches up", Duration::from_secs(10), async || {
            let view = follower.view();
            view.connected && view.records.len() == 2 && view.records["a"].epoch == 2
        })
        .await;
    }
    // The same connection serves again.
    assert_eq!(registry.route("b").await.unwrap().unwrap().value.epoch, 1);
}

pub(crate) async fn restored_cluster_with_a_lower_revision(kind: Kind) {
    let mut server = Server::start(kind).await;
    let registry = server.registry().await;
    let follow = registry.follow::<v1::Route>();
    registry.put_route(&route("old", 1), 0).await.unwrap();
    let mut revision = registry.put_route(&route("both", 7), 0).await.unwrap();
    for epoch in 8..20 {
        revision = registry.put_route(&route("both", epoch), revision).await.unwrap();
    }
    let announced = registry.announce(worker("w1", 1), Duration::from_secs(30));
    eventually("all is followed", Duration::from_secs(5), async || {
        follow.view().revision >= revision
    })
    .await;

    server.kill();
    server.restart_empty().await;
    let restored = server.registry().await;
    restored.put_route(&route("both", 3), 0).await.unwrap();
    let now = restored.put_route(&route("new", 1), 0).await.unwrap();
    assert!(now < revision);
    eventually(
        "the follower takes the restored state for the truth",
        Duration::from_secs(10),
        async || {
            let view = follow.view();
            view.connected && view.records.keys().eq(["both", "new"]) && view.records["both"].epoch == 3
        },
    )
    .await;
    // And goes on from there.
    restored.put_route(&route("newer", 1), 0).await.unwrap();
    eventually("changes arrive again", Duration::from_secs(5), async || {
        follow.view().records.contains_key("newer") && follow.view().revision < revision
    })
    .await;
    // The worker's lease was lost with the old cluster.
    eventually("the worker is announced again", Duration::from_secs(15), async || {
        restored
            .get::<v1::Worker>("w1")
            .await
            .is_ok_and(|found| found.is_some())
    })
    .await;
    announced.withdraw().await;
}

/// In this process: it stops in order, though clients hold watches and leases open, and leaves its folder free.
#[tokio::test]
async fn embedded_server_stops_in_order() {
    let folder = tempfile::TempDir::with_prefix("understudy-registry-").unwrap();
    let mut revision = 0;
    for round in 0..2 {
        let options = understudy_embedded_registry::Options {
            data_dir: folder.path().to_owned(),
            listen: std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)),
        };
        let (ready, address) = tokio::sync::oneshot::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(understudy_embedded_registry::serve(
            options.clone(),
            |address| ready.send(address).unwrap(),
            async { drop(stopped.await) },
        ));
        let registry = Registry::connect(&options_for(address.await.unwrap().port()))
            .await
            .unwrap();
        let follow = registry.follow::<v1::Worker>();
        let _announced = registry.announce(worker("w1", round), Duration::from_secs(30));
        eventually("the worker is announced", Duration::from_secs(5), async || {
            follow.view().records.get("w1") == Some(&worker("w1", round))
        })
        .await;
        let second = understudy_embedded_registry::serve(options, |_| {}, std::future::pending()).await;
        let message = second.unwrap_err().to_string();
        assert!(message.contains("another registry runs on this folder"), "{message}");

        stop.send(()).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(2), serving).await;
        ended.expect("it stops before its grace ends").unwrap().unwrap();
        eventually("the follower knows", Duration::from_secs(5), async || {
            !follow.view().connected
        })
        .await;
        assert!(follow.view().revision > revision);
        revision = follow.view().revision;
    }
}
