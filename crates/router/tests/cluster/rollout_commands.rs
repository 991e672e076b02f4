//! What operators say, and what is answered.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use understudy_protocol::v1::{
    AbortRolloutRequest, GetRolloutRequest, GetRouteRequest, ListRolloutsRequest, PauseRolloutRequest, Phase,
    PromoteRolloutRequest, ResumeRolloutRequest, Rollout, RolloutSpec, SetRouteRequest, ShadowStage, Strategy,
    UndoRolloutRequest,
};

use crate::{
    kit::{FakeWorker, MODEL, manifest, route},
    rollout::{Stage, Traffic, blue_green, canary, course, eventually, status, time, told},
};

fn reason_of(status: &Status) -> String {
    let details = status.get_details_error_info();
    details.map(|info| info.reason).unwrap_or_default()
}

fn abort() -> AbortRolloutRequest {
    AbortRolloutRequest {
        model: MODEL.into(),
        reason: String::new(),
        local: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_resumes_opens_a_gate_and_promotes() {
    let stage = Stage::start(2).await;
    let traffic = Traffic::start(&stage.peers).await;
    let mut spec = canary("v2", &[100_000, 500_000], 200);
    spec.steps.iter_mut().for_each(|step| step.manual = true);
    stage.first().begin(spec).await.unwrap();
    stage.reaches(Phase::Judging).await;
    let mut rollouts = stage.peers[1].rollouts().await;
    let pause = PauseRolloutRequest {
        model: MODEL.into(),
        reason: "lunch".into(),
    };
    let paused = rollouts
        .pause_rollout(pause.clone())
        .await
        .unwrap()
        .into_inner()
        .rollout
        .unwrap();
    assert_eq!(
        (status(&paused).phase(), &*status(&paused).reason),
        (Phase::Paused, "lunch")
    );
    let again = rollouts.pause_rollout(pause).await.unwrap_err();
    assert_eq!(
        (again.code(), &*reason_of(&again)),
        (Code::FailedPrecondition, "NOT_IN_THIS_PHASE")
    );
    assert_eq!(stage.weights().await["v2"], 100_000);
    let resume = ResumeRolloutRequest { model: MODEL.into() };
    rollouts.resume_rollout(resume).await.unwrap();
    let promote = |force| PromoteRolloutRequest {
        model: MODEL.into(),
        force,
        reason: "looks good".into(),
    };
    // The gate's word is given where the step waits for it.
    eventually("the gate is opened", async || {
        rollouts.promote_rollout(promote(false)).await.is_ok()
    })
    .await;
    eventually("the next step is there", async || {
        stage.weights().await["v2"] == 500_000
    })
    .await;
    let forced = rollouts
        .promote_rollout(promote(true))
        .await
        .unwrap()
        .into_inner()
        .rollout
        .unwrap();
    assert!(
        forced.history.last().unwrap().reason.contains("looks good"),
        "{:#?}",
        told(&forced)
    );
    let record = stage.reaches(Phase::Done).await;
    let by: Vec<&str> = record
        .history
        .iter()
        .map(|t| &*t.by)
        .filter(|by| !by.starts_with("controller"))
        .collect();
    assert_eq!(by, ["operator"; 5], "{:#?}", told(&record));
    let seen = traffic.stop().await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rollout_mirrors_nothing_until_it_is_resumed() {
    let stage = Stage::start(1).await;
    let mut spec = canary("v2", &[500_000], 60_000);
    spec.shadow = Some(ShadowStage {
        sample_ppm: 1_000_000,
        hold: time(60_000),
        ..ShadowStage::default()
    });
    stage.first().begin(spec).await.unwrap();
    stage.reaches(Phase::Shadow).await;
    let mut client = stage.first().client().await;
    let mut rollouts = stage.first().rollouts().await;
    let copies = || -> u64 {
        let seen = |worker: &FakeWorker| worker.behaviour.seen("v2", true);
        stage.workers.iter().map(seen).sum()
    };
    let mut calls = async |mirrored: bool| {
        eventually("it is so", async || {
            let before = copies();
            for _ in 0..20 {
                client.call("x", &[]).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            (copies() > before) == mirrored
        })
        .await;
    };
    calls(true).await;
    let epoch = status(&stage.record().await).route_epoch;
    let pause = PauseRolloutRequest {
        model: MODEL.into(),
        reason: "lunch".into(),
    };
    rollouts.pause_rollout(pause).await.unwrap();
    calls(false).await;
    let before = copies();
    let mut another = stage.first().client().await;
    for _ in 0..200 {
        another.call("x", &[]).await.unwrap();
    }
    assert_eq!(copies(), before, "and so it stays");
    let resume = ResumeRolloutRequest { model: MODEL.into() };
    rollouts.resume_rollout(resume).await.unwrap();
    calls(true).await;
    assert_eq!(status(&stage.record().await).route_epoch, epoch, "the evidence goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_told_with_its_field() {
    let stage = Stage::start(1).await;
    let client = stage.registry.client().await;
    let mut other = manifest(MODEL, "other");
    other.labels = vec!["yes".into(), "no".into()];
    client.create_manifest(&other).await.unwrap();
    let spec = |candidate: &str| canary(candidate, &[100_000], 100);
    let mut descending = spec("v2");
    descending.steps = canary("v2", &[500_000, 100_000], 1).steps;
    let mut stable = spec("v2");
    stable.stable = "v3".into();
    let bad = [
        (RolloutSpec::default(), "spec.candidate"),
        (spec("v1"), "spec.candidate"),
        (spec("v9"), "spec.candidate"),
        (spec("other"), "spec.candidate"),
        (stable, "spec.stable"),
        (descending, "spec.steps[1].weight_ppm"),
        (
            RolloutSpec {
                strategy: 99,
                ..spec("v2")
            },
            "spec.strategy",
        ),
    ];
    for (spec, field) in bad {
        let error = stage.first().begin(spec).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{field}: {error}");
        assert_eq!(
            error.get_details_bad_request().unwrap().field_violations[0].field,
            field,
            "{error}"
        );
    }
    let mut rollouts = stage.first().rollouts().await;
    let request = GetRolloutRequest { model: MODEL.into() };
    let error = rollouts.get_rollout(request).await.unwrap_err();
    assert_eq!((error.code(), &*reason_of(&error)), (Code::NotFound, "NO_ROLLOUT"));
    let error = rollouts.abort_rollout(abort()).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);

    let split = route(&[("stable", "v1", 500_000), ("other", "v2", 500_000)]);
    let set = |route| SetRouteRequest {
        route: Some(route),
        expected_epoch: None,
    };
    stage.first().routes().await.set_route(set(split)).await.unwrap();
    let error = stage.first().begin(spec("v3")).await.unwrap_err();
    assert_eq!(
        (error.code(), &*reason_of(&error)),
        (Code::FailedPrecondition, "ROUTE_IS_SPLIT")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_not_set_by_hand_while_a_rollout_runs() {
    let stage = Stage::start(1).await;
    stage.first().begin(canary("v2", &[100_000], 60_000)).await.unwrap();
    stage.reaches(Phase::Baking).await;
    let set = SetRouteRequest {
        route: Some(route(&[("stable", "v1", 1_000_000)])),
        expected_epoch: None,
    };
    let mut routes = stage.first().routes().await;
    let error = routes.set_route(set.clone()).await.unwrap_err();
    assert_eq!(
        (error.code(), &*reason_of(&error)),
        (Code::FailedPrecondition, "ROLLOUT_RUNNING")
    );
    assert!(error.message().contains("understudy rollout abort"), "{error}");

    // Behind everybody's back: the rollout stands still and leaves it alone, until it is told to go on.
    let registry = stage.registry.client().await;
    let stored = registry.route(MODEL).await.unwrap().unwrap();
    let mut foreign = stored.value.clone();
    foreign.epoch += 1;
    (foreign.arms[0].weight_ppm, foreign.arms[1].weight_ppm) = (1_000_000, 0);
    registry.put_route(&foreign, stored.mod_revision).await.unwrap();
    let paused = stage.reaches(Phase::Paused).await;
    assert!(
        status(&paused).reason.contains("route was changed"),
        "{}",
        status(&paused).reason
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(registry.route(MODEL).await.unwrap().unwrap().value, foreign);
    let resume = ResumeRolloutRequest { model: MODEL.into() };
    stage.first().rollouts().await.resume_rollout(resume).await.unwrap();
    assert_eq!(stage.weights().await["v2"], 100_000);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(status(&stage.record().await).phase(), Phase::Baking);

    stage.first().rollouts().await.abort_rollout(abort()).await.unwrap();
    stage.reaches(Phase::RolledBack).await;
    routes.set_route(set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_rollout_takes_the_place_of_a_running_one() {
    let stage = Stage::start(2).await;
    stage.first().begin(canary("v2", &[500_000], 60_000)).await.unwrap();
    stage.reaches(Phase::Baking).await;
    let error = stage.first().begin(canary("v3", &[100_000], 60_000)).await.unwrap_err();
    assert_eq!(
        (error.code(), &*reason_of(&error)),
        (Code::FailedPrecondition, "ROLLOUT_RUNNING")
    );
    let new = stage.peers[1]
        .begin_over(canary("v3", &[100_000], 60_000), true)
        .await
        .unwrap();
    assert_eq!((new.number, &*new.spec.as_ref().unwrap().stable), (2, "v1"));
    assert!(course(&new).contains(&(Phase::Superseded, 0)), "{:#?}", told(&new));
    assert!(!stage.weights().await.contains_key("v2"));
    stage.reaches(Phase::Baking).await;
    assert_eq!(
        stage.weights().await,
        [("v1".to_owned(), 900_000), ("v3".to_owned(), 100_000)].into()
    );
    let listed = stage
        .first()
        .rollouts()
        .await
        .list_rollouts(ListRolloutsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.rollouts.iter().map(|r| r.number).collect::<Vec<_>>(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promoted_is_undone() {
    let stage = Stage::start(1).await;
    stage.first().begin(blue_green("v2", 100)).await.unwrap();
    stage.reaches(Phase::Done).await;
    let mut rollouts = stage.first().rollouts().await;
    let undo = UndoRolloutRequest {
        model: MODEL.into(),
        reason: "it is worse after all".into(),
    };
    let back: Rollout = rollouts.undo_rollout(undo).await.unwrap().into_inner().rollout.unwrap();
    let spec = back.spec.as_ref().unwrap();
    assert_eq!((back.number, &*spec.stable, &*spec.candidate), (2, "v2", "v1"));
    assert_eq!(spec.strategy(), Strategy::BlueGreen);
    assert!(back.history.last().unwrap().reason.contains("it is worse after all"));
    stage.reaches(Phase::Done).await;
    assert_eq!(stage.weights().await, [("v1".to_owned(), 1_000_000)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_abort_works_with_the_registry_down_and_ends_with_the_next_route() {
    let mut stage = Stage::start(2).await;
    stage.first().begin(canary("v2", &[500_000], 60_000)).await.unwrap();
    stage.reaches(Phase::Baking).await;
    let peers = [&stage.peers[0], &stage.peers[1]];
    let mut routes = (peers[0].routes().await, peers[1].routes().await);
    let mut rollouts = peers[0].rollouts().await;
    let mut traffic = Traffic::start(&stage.peers[..1]).await;
    stage.registry.kill();
    let locally = AbortRolloutRequest { local: true, ..abort() };
    let answer = rollouts.abort_rollout(locally.clone()).await.unwrap().into_inner();
    assert_eq!(answer.rollout, None);
    traffic.take();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen = traffic.take();
    assert!(seen.of("v2") <= 1 && seen.of("v1") > 1, "{seen:?}");
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    let get = GetRouteRequest { model: MODEL.into() };
    let told = routes.0.get_route(get.clone()).await.unwrap().into_inner();
    assert!(told.aborted_locally && told.traffic.len() == 2, "{told:?}");
    assert!(
        !routes
            .1
            .get_route(get.clone())
            .await
            .unwrap()
            .into_inner()
            .aborted_locally
    );
    let unknown = AbortRolloutRequest {
        model: "unknown".into(),
        ..locally
    };
    assert_eq!(
        rollouts.abort_rollout(unknown).await.unwrap_err().code(),
        Code::NotFound
    );

    // Back again, the router keeps to it, until there is a newer route.
    stage.registry.restart().await;
    eventually("the registry is back", async || {
        rollouts.list_rollouts(ListRolloutsRequest {}).await.is_ok()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    traffic.take();
    assert!(
        routes
            .0
            .get_route(get.clone())
            .await
            .unwrap()
            .into_inner()
            .aborted_locally
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(traffic.take().of("v2"), 0);
    eventually("it is aborted everywhere", async || {
        rollouts.abort_rollout(abort()).await.is_ok()
    })
    .await;
    eventually("the local abort is over", async || {
        !routes
            .0
            .get_route(get.clone())
            .await
            .unwrap()
            .into_inner()
            .aborted_locally
    })
    .await;
    traffic.leave("r0").await;
    assert!(traffic.stop().await.failures.is_empty());
}
