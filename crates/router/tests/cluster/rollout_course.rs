//! What becomes of rollouts when nothing fails but, at times, the candidate.

use std::time::Duration;

use tokio_stream::StreamExt as _;
use tonic::Code;
use understudy_protocol::v1::{Phase, ShadowStage, WatchRolloutRequest};

use crate::{
    kit::{MODEL, Part},
    rollout::{Stage, Traffic, blue_green, canary, course, status, time, told},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_candidate_is_promoted_step_by_step() {
    let stage = Stage::start(2).await;
    let traffic = Traffic::start(&stage.peers).await;
    let started = stage
        .first()
        .begin(canary("v2", &[100_000, 500_000], 200))
        .await
        .unwrap();
    assert_eq!((started.number, status(&started).phase()), (1, Phase::Pending));
    let mut watched = stage.peers[1]
        .rollouts()
        .await
        .watch_rollout(WatchRolloutRequest { model: MODEL.into() })
        .await
        .unwrap()
        .into_inner();
    let (mut weights, mut answers) = (Vec::new(), 0);
    while let Some(answer) = watched.next().await {
        let answer = answer.unwrap();
        let (rollout, live) = (answer.rollout.unwrap(), answer.live.unwrap());
        assert!(live.routers <= 2 && live.candidate_ready == 2, "{live:?}");
        assert!(!live.waiting_for.is_empty() && live.leader.starts_with('r'), "{live:?}");
        weights.push(live.slice.unwrap().weight_ppm);
        answers += 1;
        assert!(answers < 200, "{:#?}", told(&rollout));
    }
    assert!(weights.is_sorted() && weights.contains(&500_000), "{weights:?}");
    assert_eq!(weights.last(), Some(&1_000_000), "until it has ended");

    let record = stage.record().await;
    let steps = |index| [Phase::Shifting, Phase::Baking, Phase::Judging].map(|phase| (phase, index));
    let mut expected = vec![(Phase::Pending, 0), (Phase::Loading, 0)];
    expected.extend(steps(0).into_iter().chain(steps(1)));
    expected.extend([Phase::Promoting, Phase::Watching, Phase::Standby, Phase::Done].map(|phase| (phase, 0)));
    assert_eq!(course(&record), expected, "{:#?}", told(&record));
    assert_eq!(record.history[0].by, "operator");
    assert!(record.history[1].by.starts_with("controller r"));
    assert_eq!(stage.weights().await, [("v2".to_owned(), 1_000_000)].into());
    let seen = traffic.stop().await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);

    let leaders: f64 = stage
        .peers
        .iter()
        .map(|peer| peer.metric("understudy_rollout_leader ").unwrap())
        .sum();
    assert!((leaders - 1.0).abs() < 0.1, "{leaders} leaders");
    for peer in &stage.peers {
        crate::rollout::eventually("the phase is measured", async || {
            peer.metric("understudy_rollout_phase{model=\"m\",phase=\"done\"} ") == Some(1.0)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_fails_is_rolled_back_with_its_reason() {
    let stage = Stage::start(1).await;
    let broken = Part {
        fail: Some(Code::Internal),
        ..Part::default()
    };
    stage
        .workers
        .iter()
        .for_each(|worker| worker.behaviour.play("v2", broken));
    let traffic = Traffic::start(&stage.peers).await;
    stage
        .first()
        .begin(canary("v2", &[50_000, 500_000], 20_000))
        .await
        .unwrap();
    let record = stage.reaches(Phase::RolledBack).await;
    assert!(status(&record).reason.contains("error"), "{}", status(&record).reason);
    assert!(course(&record).contains(&(Phase::Baking, 0)), "{:#?}", told(&record));
    assert_eq!(stage.weights().await, [("v1".to_owned(), 1_000_000)].into());
    let seen = traffic.stop().await;
    let all = seen.of("v1") + u64::try_from(seen.failures.len()).unwrap();
    let share = seen.failures.len() as f64 / all as f64;
    assert!(share < 0.06, "{share} of the requests met it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_answers_otherwise_is_caught_in_the_shadow() {
    let stage = Stage::start(1).await;
    let swapped = Part {
        swapped: true,
        ..Part::default()
    };
    stage
        .workers
        .iter()
        .for_each(|worker| worker.behaviour.play("v2", swapped));
    let mut spec = canary("v2", &[500_000], 200);
    spec.shadow = Some(ShadowStage {
        sample_ppm: 1_000_000,
        noise_ppm: 100_000,
        hold: time(20_000),
        pairs_min: 1_000,
    });
    spec.gates.as_mut().unwrap().agreement.as_mut().unwrap().off = false;
    stage.first().begin(spec).await.unwrap();
    let mut client = stage.first().client().await;
    let mut sent = 0;
    while status(&stage.record().await).phase() != Phase::RolledBack {
        for text in ["positive thing", "negative thing"] {
            assert_eq!(client.call(text, &[]).await.unwrap().version, "v1");
            sent += 1;
        }
        assert!(sent < 4_000, "{:#?}", told(&stage.record().await));
    }
    let record = stage.record().await;
    assert!(
        status(&record).reason.contains("agreement"),
        "{}",
        status(&record).reason
    );
    // What differed can still be looked at.
    let request = understudy_protocol::v1::ListDisagreementsRequest {
        model: MODEL.into(),
        limit: 3,
    };
    let answer = stage
        .first()
        .rollouts()
        .await
        .list_disagreements(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.disagreements.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn blue_and_green_flip_at_once_and_back() {
    let stage = Stage::start(2).await;
    let traffic = Traffic::start(&stage.peers).await;
    stage.first().begin(blue_green("v2", 60_000)).await.unwrap();
    stage.reaches(Phase::Watching).await;
    // Every router serves it when it is watched: from here on nobody meets the old version.
    traffic.take();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen = traffic.take();
    assert!(seen.of("v1") <= 2 && seen.of("v2") > 2, "{seen:?}");
    assert_eq!(
        stage.weights().await,
        [("v1".to_owned(), 0), ("v2".to_owned(), 1_000_000)].into()
    );

    let request = understudy_protocol::v1::UndoRolloutRequest {
        model: MODEL.into(),
        reason: "a customer complained".into(),
    };
    stage.peers[1].rollouts().await.undo_rollout(request).await.unwrap();
    let record = stage.reaches(Phase::RolledBack).await;
    assert_eq!(status(&record).reason, "a customer complained");
    traffic.take();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = traffic.stop().await;
    assert!(seen.of("v2") <= 2 && seen.of("v1") > 2, "{seen:?}");
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
}
