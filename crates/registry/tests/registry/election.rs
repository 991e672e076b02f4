//! Who leads, and that nobody else writes as a leader.

use std::time::{Duration, Instant};

use tokio::{runtime::Runtime, sync::watch::Receiver};
use understudy_registry::{Candidacy, Commit, Error, Fence, Leadership, Registry, RegistryOptions};

use crate::{
    commits::rollout,
    records::route,
    server::{Kind, Server, eventually},
};

const SOON: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(2);
const KEY: &str = "/understudy/v1/controller/leader";

/// Waits until it is so.
async fn until(leadership: &mut Receiver<Leadership>, holds: impl FnMut(&Leadership) -> bool) -> Leadership {
    let found = tokio::time::timeout(SOON, leadership.wait_for(holds)).await;
    found.expect("soon").unwrap().clone()
}

async fn leads(candidacy: &Candidacy) -> Fence {
    let leadership = until(&mut candidacy.leadership(), |l| l.ours.is_some()).await;
    leadership.ours.unwrap()
}

fn is_valid(fence: &Fence) -> bool {
    fence.is_valid(Instant::now())
}

/// A commit of a model's first rollout and route.
fn first(model: &str) -> Commit {
    Commit {
        rollout: Some((rollout(model, 1), 0)),
        route: Some((route(model, 1), 0)),
    }
}

/// A candidate that can be killed without a word.
fn mortal(options: RegistryOptions, name: &'static str) -> (Runtime, Candidacy) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let candidacy = std::thread::scope(|scope| {
        let campaign = async { Registry::connect(&options).await.unwrap().campaign(name, TTL) };
        scope.spawn(|| runtime.block_on(campaign)).join().unwrap()
    });
    (runtime, candidacy)
}

pub(crate) async fn one_leads_and_hands_over(kind: Kind) {
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    let first_one = registry.campaign("r1", TTL);
    let fence = leads(&first_one).await;
    let second_one = server.registry().await.campaign("r2", TTL);
    let mut seen_by_second = second_one.leadership();
    let seen = until(&mut seen_by_second, |l| l.leader.is_some()).await;
    assert_eq!((seen.leader.as_deref(), seen.ours), (Some("r1"), None));
    let raw = server.client().await.get(KEY, None).await.unwrap();
    assert!(raw.kvs()[0].value_str().unwrap().contains(r#""router": "r1""#));

    // One term outlives many leases' times, and its fence with it.
    let start = Instant::now();
    while start.elapsed() < 2 * TTL {
        assert!(is_valid(&fence));
        assert_eq!(seen_by_second.borrow().leader.as_deref(), Some("r1"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    registry.commit(Some(&fence), &first("a")).await.unwrap();

    let start = Instant::now();
    first_one.withdraw().await;
    assert!(!is_valid(&fence));
    let next = leads(&second_one).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(next.create_revision() > fence.create_revision());
    let late = registry.commit(Some(&fence), &first("b")).await.unwrap_err();
    assert!(matches!(late, Error::NotLeader), "{late}");

    // A drop is as good.
    let third_one = registry.campaign("r3", TTL);
    until(&mut third_one.leadership(), |l| l.leader.as_deref() == Some("r2")).await;
    let start = Instant::now();
    drop(second_one);
    leads(&third_one).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

pub(crate) async fn another_leads_after_a_death(kind: Kind) {
    let server = Server::start(kind).await;
    let (runtime, dying) = mortal(server.options(), "r1");
    let fence = leads(&dying).await;
    let heir = server.registry().await.campaign("r2", TTL);
    until(&mut heir.leadership(), |l| l.leader.as_deref() == Some("r1")).await;
    let start = Instant::now();
    runtime.shutdown_background();
    let next = leads(&heir).await;
    let took = start.elapsed();
    // The lease had at least three quarters of its time; servers look for ended ones twice a second, and are busy.
    assert!(took > TTL / 2 && took < TTL + Duration::from_secs(2), "after {took:?}");
    assert!(!is_valid(&fence) && is_valid(&next));
}

/// The registry goes away under a leader: it stops before its lease could end elsewhere, and leads again later.
pub(crate) async fn no_leader_without_a_registry(kind: Kind) {
    let mut server = Server::start(kind).await;
    let registry = server.registry().await;
    let candidacy = registry.campaign("r1", TTL);
    let fence = leads(&candidacy).await;
    let start = Instant::now();
    server.kill();
    until(&mut candidacy.leadership(), |l| *l == Leadership::default()).await;
    assert!(!is_valid(&fence));
    assert!(start.elapsed() < TTL, "{:?}", start.elapsed());
    let start = Instant::now();
    let refused = registry.commit(Some(&fence), &first("a")).await.unwrap_err();
    assert!(matches!(refused, Error::NotLeader), "{refused}");
    assert!(start.elapsed() < Duration::from_millis(100), "without asking");

    server.restart().await;
    let next = leads(&candidacy).await;
    assert!(next.create_revision() > fence.create_revision() && !is_valid(&fence));
    registry.commit(Some(&next), &first("a")).await.unwrap();
}

/// A leader that does not know yet that it is none: the registry refuses it.
pub(crate) async fn stale_leaders_write_nothing(kind: Kind) {
    let server = Server::start(kind).await;
    let registry = server.registry().await;
    let mut client = server.client().await;
    // It looks at its key every fifteen seconds.
    let stale = registry.campaign("r1", Duration::from_secs(60));
    let fence = leads(&stale).await;
    let heir = server.registry().await.campaign("r2", TTL);
    until(&mut heir.leadership(), |l| l.leader.as_deref() == Some("r1")).await;
    client.delete(KEY, None).await.unwrap();
    // With no leader at all, and with another one.
    for _ in 0..2 {
        assert!(is_valid(&fence), "it does not know");
        let refused = registry.commit(Some(&fence), &first("a")).await.unwrap_err();
        assert!(matches!(refused, Error::NotLeader), "{refused}");
        leads(&heir).await;
    }
    assert_eq!(registry.rollout("a").await.unwrap(), None);
    assert_eq!(registry.route("a").await.unwrap(), None);
    let next = leads(&heir).await;
    registry.commit(Some(&next), &first("a")).await.unwrap();
    // Operators need no leader.
    registry.commit(None, &first("b")).await.unwrap();
}

/// Its key or its lease is taken away by hand: it notices, and there is one leader again.
pub(crate) async fn lost_seats_are_noticed(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    let candidacy = server.registry().await.campaign("r1", TTL);
    let mut fence = leads(&candidacy).await;
    for revoke in [false, true] {
        if revoke {
            let lease = client.get(KEY, None).await.unwrap().kvs()[0].lease();
            client.lease_revoke(lease).await.unwrap();
        } else {
            client.delete(KEY, None).await.unwrap();
        }
        let next = until(&mut candidacy.leadership(), |l| {
            l.ours.as_ref().is_some_and(|ours| *ours != fence)
        })
        .await;
        assert!(!is_valid(&fence));
        fence = next.ours.unwrap();
    }
    // What somebody wrote there is a leader, whoever it is.
    candidacy.withdraw().await;
    client.put(KEY, "nonsense", None).await.unwrap();
    let candidacy = server.registry().await.campaign("r1", TTL);
    until(&mut candidacy.leadership(), |l| {
        l.leader.as_deref() == Some("(unreadable)")
    })
    .await;
    client.delete(KEY, None).await.unwrap();
    leads(&candidacy).await;
}

/// Whatever happens, at most one fence is valid.
pub(crate) async fn never_two(kind: Kind) {
    let server = Server::start(kind).await;
    let mut candidacies = Vec::new();
    for name in ["r1", "r2", "r3"] {
        candidacies.push(Some(server.registry().await.campaign(name, TTL)));
    }
    let valid = |candidacies: &[Option<Candidacy>]| {
        let ours = |c: &Candidacy| c.leadership().borrow().ours.as_ref().is_some_and(is_valid);
        candidacies.iter().flatten().filter(|c| ours(c)).count()
    };
    let mut client = server.client().await;
    for round in 0..6 {
        eventually("somebody leads", SOON, async || {
            let leading = valid(&candidacies);
            assert!(leading <= 1, "{leading} lead");
            leading == 1
        })
        .await;
        let leader = candidacies.iter().position(|c| valid(std::slice::from_ref(c)) == 1);
        let Some(leader) = leader else { continue };
        if round % 2 == 0 {
            candidacies[leader] = None;
            candidacies[leader] = Some(server.registry().await.campaign("again", TTL));
        } else {
            // The lease ended, and its owner goes before it notices.
            let lease = client.get(KEY, None).await.unwrap().kvs()[0].lease();
            client.lease_revoke(lease).await.unwrap();
            candidacies[leader].take().unwrap().withdraw().await;
            candidacies[leader] = Some(server.registry().await.campaign("again", TTL));
        }
    }
}
