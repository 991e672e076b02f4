//! What goes wrong with other tools, by name.

use std::{collections::HashSet, time::Duration};

use etcd_client::Client as Etcd;
use tonic::Code;
use understudy_protocol::v1::{
    AbortRolloutRequest, PauseRolloutRequest, Phase, ResidencyState, Rollout, Scorecard, Slice,
};

use crate::{
    kit::{Cluster, MODEL, Part, residency},
    rollout::{Stage, Traffic, blue_green, canary, eventually, status, time, told},
};

fn abort() -> AbortRolloutRequest {
    AbortRolloutRequest {
        model: MODEL.into(),
        reason: "enough".into(),
        local: false,
    }
}

/// argo-rollouts #2281, #2657.
#[tokio::test(flavor = "multi_thread")]
async fn actual_weight_equals_the_wanted_one() {
    let stage = Stage::start(1).await;
    let weights = [10_000, 50_000, 250_000];
    let mut spec = canary("v2", &weights, 50);
    spec.steps.iter_mut().for_each(|step| step.manual = true);
    stage.first().begin(spec).await.unwrap();
    let mut rollouts = stage.first().rollouts().await;
    let mut client = stage.first().client().await;
    for weight in weights {
        eventually("the step waits", async || {
            status(&stage.record().await).phase() == Phase::Judging && stage.weights().await["v2"] == weight
        })
        .await;
        let (mut candidate, all) = (0_u32, 1_000_u32);
        for _ in 0..all {
            candidate += u32::from(client.call("x", &[]).await.unwrap().version == "v2");
        }
        let wanted = weight / (1_000_000 / all);
        assert!(
            candidate.abs_diff(wanted) <= 1,
            "{candidate} instead of {wanted} of {all}"
        );
        eventually("the actual weight is measured", async || {
            let measured = stage.first().metric("understudy_rollout_actual_weight{model=\"m\"} ");
            let exact = f64::from(weight) / 1e6;
            measured.is_some_and(|measured| (measured - exact).abs() < 0.002)
        })
        .await;
        eventually("the gate is opened", async || {
            let request = understudy_protocol::v1::PromoteRolloutRequest {
                model: MODEL.into(),
                force: false,
                reason: String::new(),
            };
            rollouts.promote_rollout(request).await.is_ok()
        })
        .await;
    }
}

/// argo-rollouts #3941, #3888.
#[tokio::test(flavor = "multi_thread")]
async fn abort_does_not_send_all_traffic_to_cold_replicas() {
    let stage = Stage::start(1).await;
    stage.first().begin(blue_green("v2", 60_000)).await.unwrap();
    stage.reaches(Phase::Watching).await;
    // One of the two workers has lost the old version.
    let ready = |version| residency(version, ResidencyState::Ready);
    stage.workers[1].announce(vec![residency("v1", ResidencyState::Loading), ready("v2")]);
    eventually("it is seen", async || {
        stage.first().get().await.live.unwrap().stable_ready == 1
    })
    .await;
    let traffic = Traffic::start(&stage.peers).await;
    let mut rollouts = stage.first().rollouts().await;
    let begun = rollouts
        .abort_rollout(abort())
        .await
        .unwrap()
        .into_inner()
        .rollout
        .unwrap();
    assert_eq!(status(&begun).phase(), Phase::RollingBack);
    assert_eq!(stage.weights().await["v2"], 500_000, "what is warm takes its part");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(status(&stage.record().await).phase(), Phase::RollingBack);
    stage.workers[1].announce(vec![ready("v1"), ready("v2")]);
    let record = stage.reaches(Phase::RolledBack).await;
    assert_eq!(
        stage.weights().await,
        [("v1".to_owned(), 1_000_000)].into(),
        "{:#?}",
        told(&record)
    );
    let seen = traffic.stop().await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
}

/// argo-rollouts #4128: here the candidate never loads, and nobody leads.
#[tokio::test(flavor = "multi_thread")]
async fn abort_works_when_stuck() {
    let mut stage = Stage::start(1).await;
    let never = vec![
        residency("v1", ResidencyState::Ready),
        residency("v2", ResidencyState::Loading),
    ];
    stage.workers.iter().for_each(|worker| worker.announce(never.clone()));
    eventually("it is seen", async || {
        let workers = stage
            .registry
            .client()
            .await
            .list::<understudy_protocol::v1::Worker>()
            .await
            .unwrap();
        workers.records.values().all(|worker| worker.value.versions.len() == 2)
    })
    .await;
    stage.first().begin(canary("v2", &[100_000], 100)).await.unwrap();
    stage.reaches(Phase::Loading).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let live = stage.first().get().await.live.unwrap();
    assert!(live.waiting_for.contains("workers to load v2"), "{}", live.waiting_for);

    // Somebody who does nothing holds the leader's key.
    stage.peers.pop().unwrap().kill();
    let mut etcd = Etcd::connect([stage.registry.address.to_string()], None).await.unwrap();
    eventually("the leader's lease is over", async || {
        etcd.get("/understudy/v1/controller/leader", None)
            .await
            .unwrap()
            .count()
            == 0
    })
    .await;
    etcd.put("/understudy/v1/controller/leader", r#"{"router":"nobody"}"#, None)
        .await
        .unwrap();
    stage.peer("r9").await;
    let mut rollouts = stage.first().rollouts().await;
    rollouts.abort_rollout(abort()).await.unwrap();
    assert_eq!(stage.weights().await, [("v1".to_owned(), 1_000_000)].into());
    assert_eq!(status(&stage.record().await).phase(), Phase::RolledBack);
    assert_eq!(stage.first().get().await.live.unwrap().leader, "nobody");
}

/// argo-rollouts #4792: counts that vanish, come twice or are nonsense.
#[tokio::test(flavor = "multi_thread")]
async fn flaky_metrics_do_not_roll_back_a_good_version() {
    let mut stage = Stage::start(2).await;
    let mut traffic = Traffic::start(&stage.peers).await;
    stage
        .first()
        .begin(canary("v2", &[200_000, 500_000], 1_000))
        .await
        .unwrap();
    stage.reaches(Phase::Baking).await;
    let mut etcd = Etcd::connect([stage.registry.address.to_string()], None).await.unwrap();
    let nonsense = Scorecard {
        model: MODEL.into(),
        router: "broken".into(),
        rollout: 1,
        epoch: u64::MAX,
        slice: Some(Slice {
            epoch: 3,
            ..Slice::default()
        }),
        ..Scorecard::default()
    };
    let nonsense = understudy_protocol::json::to_string(&nonsense).unwrap();
    for text in ["nonsense", "{}", &nonsense] {
        etcd.put("/understudy/v1/scorecards/m/broken", text, None)
            .await
            .unwrap();
        etcd.delete("/understudy/v1/scorecards/m/r0", None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A router goes with all that it counted.
    traffic.leave("r1").await;
    stage.peers.pop().unwrap().kill();
    let record = stage.reaches(Phase::Done).await;
    assert!(
        record.history.iter().all(|t| t.to() != Phase::RollingBack),
        "{:#?}",
        told(&record)
    );
    let seen = traffic.stop().await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
}

/// flagger #1801, #1035.
#[tokio::test(flavor = "multi_thread")]
async fn no_traffic_is_no_failure() {
    let stage = Stage::start(1).await;
    let mut spec = canary("v2", &[500_000], 100);
    spec.progress_deadline = time(3_000);
    stage.first().begin(spec).await.unwrap();
    stage.reaches(Phase::Judging).await;
    let live = stage.first().get().await.live.unwrap();
    assert!(live.waiting_for.contains("requests of v2"), "{}", live.waiting_for);
    let paused = stage.reaches(Phase::Paused).await;
    assert!(
        status(&paused).reason.contains("no progress"),
        "{}",
        status(&paused).reason
    );
    assert_eq!(stage.weights().await["v2"], 500_000);
    // With traffic it goes on.
    let request = understudy_protocol::v1::ResumeRolloutRequest { model: MODEL.into() };
    stage.first().rollouts().await.resume_rollout(request).await.unwrap();
    let traffic = Traffic::start(&stage.peers).await;
    stage.reaches(Phase::Done).await;
    traffic.stop().await;
}

/// flagger #1532, #1647.
#[tokio::test(flavor = "multi_thread")]
async fn affinity_does_not_drift_to_the_canary() {
    const CALLERS: usize = 400;
    let stage = Stage::start(1).await;
    let weights = [50_000, 250_000];
    let mut spec = canary("v2", &weights, 50);
    spec.steps.iter_mut().for_each(|step| step.manual = true);
    stage.first().begin(spec).await.unwrap();
    let mut client = stage.first().client().await;
    let mut before = HashSet::new();
    for weight in weights {
        eventually("the step is served", async || {
            status(&stage.record().await).phase() == Phase::Judging && stage.weights().await["v2"] == weight
        })
        .await;
        for round in 0..5 {
            let mut on_candidate = HashSet::new();
            for caller in 0..CALLERS {
                let key = format!("caller {caller}");
                let answer = client.call("x", &[("understudy-affinity", &key)]).await.unwrap();
                if answer.version == "v2" {
                    on_candidate.insert(caller);
                }
            }
            let share = on_candidate.len() as f64 / CALLERS as f64;
            let wanted = f64::from(weight) / 1e6;
            assert!(
                (share - wanted).abs() < 0.06,
                "round {round}: {share} of the callers instead of {wanted}"
            );
            assert!(
                round == 0 || on_candidate == before,
                "the same callers, however often they come"
            );
            assert!(
                before.is_subset(&on_candidate),
                "nobody goes back while the weight grows"
            );
            before = on_candidate;
        }
        let mut rollouts = stage.first().rollouts().await;
        // Counts are told once a second; the gate opens when the step waits for it.
        eventually("the gate is opened", async || {
            let request = understudy_protocol::v1::PromoteRolloutRequest {
                model: MODEL.into(),
                force: false,
                reason: String::new(),
            };
            rollouts.promote_rollout(request).await.is_ok()
        })
        .await;
    }
}

/// linkerd2 #11480, #15271: in the middle of a rollout workers go, come and move.
#[tokio::test(flavor = "multi_thread")]
async fn stale_endpoints_are_not_used() {
    let mut stage = Stage::start(1).await;
    let traffic = Traffic::start(&stage.peers).await;
    stage.first().begin(canary("v2", &[500_000], 60_000)).await.unwrap();
    stage.reaches(Phase::Baking).await;
    // Leaves in good order: not asked any more from the moment that it is known.
    let draining = |version| residency(version, ResidencyState::Draining);
    stage.workers[0].announce(vec![draining("v1"), draining("v2")]);
    let registry = &stage.registry;
    let moved = crate::kit::FakeWorker::start(registry, "w3", &["v1", "v2"], None).await;
    eventually("the new one is used", async || moved.calls() > 0).await;
    let calls = stage.workers[0].calls();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.workers[0].calls(), calls, "the one that left is not asked");
    // Dies, and another one takes its name at another address.
    let mut dead = stage.workers.remove(1);
    dead.kill();
    let reborn = crate::kit::FakeWorker::start(registry, "w2", &["v1", "v2"], None).await;
    eventually("it is used at its new address", async || reborn.calls() > 0).await;
    let seen = traffic.stop().await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
}

/// A clock that jumps, or a leader that was asleep, ends no hold: time is counted in small pieces by a monotonic clock, and
/// what was persisted is no time of day.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_ends_no_hold() {
    let stage = Stage::start(1).await;
    stage.first().begin(canary("v2", &[100_000], 60_000)).await.unwrap();
    let record = stage.reaches(Phase::Baking).await;
    let pause = PauseRolloutRequest {
        model: MODEL.into(),
        reason: "to write by hand".into(),
    };
    stage.first().rollouts().await.pause_rollout(pause).await.unwrap();
    // As if all of it had been written by a machine whose clock is years ahead, or behind.
    let registry = stage.registry.client().await;
    for years in [-40_i64, 40] {
        let stored = registry.rollout(MODEL).await.unwrap().unwrap();
        let mut jumped: Rollout = stored.value.clone();
        jumped.generation += 1;
        jumped.status.clone_from(&record.status);
        for transition in &mut jumped.history {
            transition.at.as_mut().unwrap().seconds += years * 31_557_600;
        }
        let commit = understudy_registry::Commit {
            rollout: Some((jumped, stored.mod_revision)),
            route: None,
        };
        registry.commit(None, &commit).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let record = stage.record().await;
        assert_eq!(status(&record).phase(), Phase::Baking, "{:#?}", told(&record));
        assert_eq!(stage.weights().await["v2"], 100_000);
    }
}

/// flagger #1035 the other way round: a candidate that nobody can load is given up, with the reason, and no traffic met it.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_cannot_be_loaded_is_given_up() {
    let cluster = Cluster::start(&["--name=r0"]).await;
    let worker = cluster.worker("w1", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    let mut failed = residency("v2", ResidencyState::Failed);
    failed.reason = "digest mismatch".into();
    worker.announce(vec![residency("v1", ResidencyState::Ready), failed]);
    worker.behaviour.play(
        "v2",
        Part {
            fail: Some(Code::Internal),
            ..Part::default()
        },
    );
    let mut rollouts = understudy_protocol::v1::rollouts_client::RolloutsClient::new(cluster.channel().await);
    let request = understudy_protocol::v1::StartRolloutRequest {
        model: MODEL.into(),
        spec: Some(canary("v2", &[100_000], 100)),
        supersede: false,
    };
    rollouts.start_rollout(request).await.unwrap();
    let registry = cluster.registry.client().await;
    eventually("it is given up", async || {
        let record = crate::rollout::record(&registry).await;
        status(&record).phase() == Phase::RolledBack && status(&record).reason.contains("digest mismatch")
    })
    .await;
    assert_eq!(worker.behaviour.seen("v2", false), 0);
}
