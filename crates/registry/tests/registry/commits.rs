//! Rollouts, written together with their routes.

use std::time::Duration;

use understudy_registry::{Commit, Error, Registry, v1};

use crate::{
    records::route,
    server::{Kind, Server, eventually, options},
    watches::{Proxy, outrun},
};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn rollout(model: &str, number: u64) -> v1::Rollout {
    v1::Rollout {
        model: model.into(),
        kind: v1::Kind::Analyst.into(),
        number,
        spec: Some(v1::RolloutSpec {
            stable: "v1".into(),
            candidate: "v2".into(),
            strategy: v1::Strategy::Canary.into(),
            ..v1::RolloutSpec::default()
        }),
        status: Some(v1::RolloutStatus {
            phase: v1::Phase::Pending.into(),
            ..v1::RolloutStatus::default()
        }),
        ..v1::Rollout::default()
    }
}

fn both(number: u64, rollout_revision: i64, route_revision: i64) -> Commit {
    Commit {
        rollout: Some((rollout("a", number), rollout_revision)),
        route: Some((route("a", number), route_revision)),
    }
}

pub(crate) async fn all_or_nothing(kind: Kind) {
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    let numbers = async || {
        let rollout = registry.rollout("a").await.unwrap().unwrap();
        let route = registry.route("a").await.unwrap().unwrap();
        (
            (rollout.value.number, rollout.mod_revision),
            (route.value.epoch, route.mod_revision),
        )
    };
    let first = registry.commit(None, &both(1, 0, 0)).await.unwrap();
    assert_eq!(numbers().await, ((1, first), (1, first)));
    let second = registry.commit(None, &both(2, first, first)).await.unwrap();
    assert_eq!(numbers().await, ((2, second), (2, second)));

    for (stale, key) in [
        (both(3, second, first), "models/a/route"),
        (both(3, first, second), "models/a/rollout"),
        (both(3, second, 0), "models/a/route"),
        (both(3, first, first), "models/a/rollout"),
    ] {
        let conflict = registry.commit(None, &stale).await.unwrap_err();
        assert!(
            matches!(&conflict, Error::Conflict(changed) if changed == key),
            "{conflict}"
        );
        assert_eq!(numbers().await, ((2, second), (2, second)), "nothing is written");
    }
    let mut invalid = both(3, second, second);
    invalid.route.as_mut().unwrap().0.arms.clear();
    let refused = registry.commit(None, &invalid).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Invalid { key, .. } if key == "models/a/route"),
        "{refused}"
    );
    assert_eq!(numbers().await, ((2, second), (2, second)));

    // Each alone; the other stays.
    let alone = Commit {
        rollout: Some((rollout("a", 3), second)),
        route: None,
    };
    let third = registry.commit(None, &alone).await.unwrap();
    assert_eq!(numbers().await, ((3, third), (2, second)));

    // Of many at once one is first.
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.commit(None, &both(10 + n, third, second)).await })
        })
        .collect();
    let mut won = Vec::new();
    for (n, task) in (10..).zip(tasks) {
        match task.await.unwrap() {
            Ok(revision) => won.push((n, revision)),
            Err(Error::Conflict(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(numbers().await, (won[0], won[0]));
}

/// Records of other kinds lie beside rollouts and do not disturb.
pub(crate) async fn rollouts_are_followed(kind: Kind) {
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    let mut client = server.client().await;
    let first = registry.commit(None, &both(1, 0, 0)).await.unwrap();
    client
        .put("/understudy/v1/models/a/rollout/old", "{}", None)
        .await
        .unwrap();
    let mut rollouts = registry.follow::<v1::Rollout>();
    let mut routes = registry.follow::<v1::Route>();
    let view = rollouts.synced().await;
    assert_eq!(view.records, [("a".to_owned(), rollout("a", 1))].into());
    assert_eq!((view.invalid, view.mod_revisions["a"]), (0, first));
    assert_eq!(routes.synced().await.mod_revisions["a"], first);

    let second = registry.commit(None, &both(2, first, first)).await.unwrap();
    eventually("both see it", SOON, async || {
        rollouts.view().mod_revisions["a"] == second && routes.view().mod_revisions["a"] == second
    })
    .await;
    assert_eq!(rollouts.view().records["a"].number, 2);
    assert!(routes.view().records.keys().eq(["a"]) && routes.view().invalid == 0);
    client.delete("/understudy/v1/models/a/rollout", None).await.unwrap();
    eventually("it is gone", SOON, async || rollouts.view().records.is_empty()).await;
    assert!(rollouts.view().mod_revisions.is_empty() && routes.view().records.len() == 1);
}

/// A follower of rollouts that falls behind until its place is compacted misses no end of a rollout.
pub(crate) async fn compaction_under_rollouts(kind: Kind) {
    let server = Server::start(kind).await;
    let proxy = Proxy::start(server.port()).await;
    let direct = server.registry().await;
    let mut client = server.client().await;
    let first = direct.commit(None, &both(1, 0, 0)).await.unwrap();
    let gone = Commit {
        rollout: Some((rollout("gone", 1), 0)),
        route: None,
    };
    direct.commit(None, &gone).await.unwrap();
    let mut slow = Registry::connect(&options(proxy.port()))
        .await
        .unwrap()
        .follow::<v1::Rollout>();
    assert_eq!(
        tokio::time::timeout(SOON, slow.synced()).await.unwrap().records.len(),
        2
    );

    proxy.hold(true);
    let second = direct.commit(None, &both(2, first, first)).await.unwrap();
    client.delete("/understudy/v1/models/gone/rollout", None).await.unwrap();
    let new = Commit {
        rollout: Some((rollout("new", 1), 0)),
        route: None,
    };
    direct.commit(None, &new).await.unwrap();
    let compacted = outrun(&client, "models").await;
    proxy.hold(false);
    eventually("it has listed again", SOON, async || {
        let view = slow.view();
        view.connected && view.revision >= compacted
    })
    .await;
    let view = slow.view();
    assert!(view.records.keys().eq(["a", "new"]), "{:?}", view.records);
    assert_eq!((view.records["a"].number, view.mod_revisions["a"]), (2, second));
    // And goes on from there.
    let third = direct.commit(None, &both(3, second, second)).await.unwrap();
    eventually("it goes on", SOON, async || slow.view().mod_revisions["a"] == third).await;
}
