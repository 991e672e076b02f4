//! What counts for a rollout.

use std::time::Duration;

use tonic::Code;
use understudy_protocol::v1::{
    ArmCard, RequestLabel, ResidencyState, SendLabelsRequest, feedback_client::FeedbackClient,
};

use crate::{
    kit::{Part, residency},
    trial::{NO_SHADOW, Trial, labels_of, requests, shadow, slice_of},
};

fn arms(card: &understudy_protocol::v1::Scorecard) -> (ArmCard, ArmCard) {
    let slice = slice_of(card);
    (slice.stable.unwrap(), slice.candidate.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_hold_on_long_lived_connections() {
    let mut trial = Trial::start(50_000, NO_SHADOW).await;
    // One connection, and its requests are open at the same time, too.
    for (epoch, weight, n) in [(1, 50_000, 400), (2, 250_000, 200), (3, 500_000, 100), (4, 0, 100)] {
        if epoch > 1 {
            trial.weigh(epoch, weight, NO_SHADOW).await;
        }
        let mut open = tokio::task::JoinSet::new();
        for i in 0..n {
            let mut client = trial.client.clone();
            open.spawn(async move { client.call("x", &[]).await.unwrap().arm });
            if i % 16 == 0 {
                open.join_next().await.unwrap().unwrap();
            }
        }
        let rest = open.join_all().await;
        let wanted = u64::from(weight) * n / 1_000_000;
        let card = trial.card(|card| requests(card) == (n - wanted, wanted)).await;
        let slice = slice_of(&card);
        assert_eq!((slice.epoch, u64::from(slice.weight_ppm)), (epoch, u64::from(weight)));
        assert!(rest.len() < usize::try_from(n).unwrap());
    }
    let _ = trial.client.call("x", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_and_copies_do_not_count() {
    let mut trial = Trial::start(500_000, NO_SHADOW).await;
    for _ in 0..10 {
        trial.client.call("x", &[]).await.unwrap();
        let pinned = trial.client.call("x", &[("understudy-version", "v2")]).await.unwrap();
        assert_eq!(pinned.arm, "candidate");
        assert_eq!(pinned.metadata.get("understudy-request-id").unwrap().len(), 16);
        trial.client.call("x", &[("understudy-shadow", "1")]).await.unwrap();
    }
    let card = trial.card(|card| requests(card).0 + requests(card).1 >= 10).await;
    assert_eq!(requests(&card).0 + requests(&card).1, 10);
    // The copies took numbers of the split, so each arm has its share of thirds only roughly.
    assert!(requests(&card).0 > 0 && requests(&card).1 > 0, "{:?}", requests(&card));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_caller_counts_once_and_callers_faults_not_at_all() {
    let mut trial = Trial::start(0, NO_SHADOW).await;
    for caller in ["a", "a", "a", "a", "b"] {
        let metadata = [("understudy-affinity", caller)];
        let error = trial.client.call("fail 13", &metadata).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
    }
    for _ in 0..2 {
        trial
            .client
            .call("fail 13", &[("understudy-draw", "0.75")])
            .await
            .unwrap_err();
    }
    for _ in 0..3 {
        trial.client.call("fail 13", &[]).await.unwrap_err();
        trial.client.call("fail 3", &[]).await.unwrap_err();
    }
    let card = trial.card(|card| requests(card).0 == 13).await;
    let stable = arms(&card).0;
    assert_eq!((stable.requests, stable.errors), (13, 3));
    assert_eq!(
        stable.erring_keys.unwrap().smallest_hashes.len(),
        3,
        "a, b and the call chain"
    );
    assert_eq!(stable.latency.unwrap().counts, [0; 0], "no answer ended well");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_after_the_next_route_counts_nowhere() {
    let mut trial = Trial::start(0, NO_SHADOW).await;
    trial.stable.behaviour.play(
        "v1",
        Part {
            slow: Duration::from_secs(2),
            fail: Some(Code::Internal),
            ..Part::default()
        },
    );
    let mut client = trial.client.clone();
    let late = tokio::spawn(async move { client.call("x", &[]).await });
    while trial.stable.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    trial.stable.behaviour.play("v1", Part::default());
    trial.weigh(2, 100_000, NO_SHADOW).await;
    trial.client.call("x", &[]).await.unwrap();
    assert!(!late.is_finished(), "it ends after the route was taken over");
    assert_eq!(late.await.unwrap().unwrap_err().code(), Code::Internal);
    for _ in 0..9 {
        trial.client.call("x", &[]).await.unwrap();
    }
    let card = trial.card(|card| requests(card) == (9, 1)).await;
    assert_eq!(arms(&card).0.errors, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_without_workers_is_not_ready_and_one_that_fails_on_requests_errs() {
    let mut trial = Trial::start(500_000, NO_SHADOW).await;
    *trial.candidate.behaviour.refuse.lock().unwrap() = Some("SOMETHING_ELSE");
    for _ in 0..10 {
        // The client is helped all the same.
        assert_eq!(trial.client.call("x", &[]).await.unwrap().arm, "stable");
    }
    let card = trial.card(|card| requests(card) == (5, 5)).await;
    assert_eq!((arms(&card).1.errors, arms(&card).1.fallbacks), (5, 0));

    *trial.candidate.behaviour.refuse.lock().unwrap() = None;
    trial.candidate.announce(vec![residency("v2", ResidencyState::Loading)]);
    trial.cluster.ready(&[1, 0]).await;
    for _ in 0..10 {
        assert_eq!(trial.client.call("x", &[]).await.unwrap().arm, "stable");
    }
    let card = trial.card(|card| arms(card).1.fallbacks == 5).await;
    assert_eq!(requests(&card), (10, 5));
    assert_eq!(arms(&card).1.errors, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_the_answers_is_read() {
    let mut trial = Trial::start(500_000, NO_SHADOW).await;
    trial.candidate.behaviour.play(
        "v2",
        Part {
            swapped: true,
            ..Part::default()
        },
    );
    // Classes are numbered as the stable version orders them, so its answer comes first.
    trial
        .client
        .call("positive", &[("understudy-draw", "0.75")])
        .await
        .unwrap();
    // Slower than the sample's pace, so that each is read.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..10 {
        trial.client.call("positive", &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(12)).await;
    }
    trial.batch(&["negative", "positive", "positive"]).await;
    let sum = |card: &ArmCard| card.predictions.clone().unwrap().classes.iter().sum::<u64>();
    let card = trial.card(|card| sum(&arms(card).0) + sum(&arms(card).1) == 14).await;
    let classes = |card: ArmCard| card.predictions.unwrap().classes;
    let (stable, candidate) = (classes(arms(&card).0), classes(arms(&card).1));
    // The batch met one of the arms.
    assert!(
        (&stable[..], &candidate[..]) == (&[1, 8], &[5, 0]) || (&stable[..], &candidate[..]) == (&[0, 6], &[7, 1]),
        "{stable:?} {candidate:?}"
    );
    let predictions = arms(&card).0.predictions.unwrap();
    let (confidence, tokens) = (predictions.confidence.unwrap(), predictions.tokens.unwrap());
    let sums = (confidence.sum / 0.875, tokens.sum / 3.0);
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let count = stable.iter().sum::<u64>() as f64;
    assert!(
        (sums.0 - count).abs() < 1e-9 && (sums.1 - count).abs() < 1e-9,
        "{sums:?}"
    );

    // A fast client is sampled at a bounded rate.
    for _ in 0..2_000 {
        trial.client.call("positive", &[]).await.unwrap();
    }
    let card = trial.card(|card| requests(card).0 >= 1_000).await;
    assert!(sum(&arms(&card).0) < 900, "{}", sum(&arms(&card).0));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_come_later_are_scored_once_and_as_pairs_where_both_answered() {
    let mut trial = Trial::start(0, shadow(500_000, 0)).await;
    trial.candidate.behaviour.play(
        "v2",
        Part {
            swapped: true,
            ..Part::default()
        },
    );
    let mut ids = Vec::new();
    for _ in 0..10 {
        let answer = trial.client.call("positive", &[]).await.unwrap();
        ids.push(
            answer
                .metadata
                .get("understudy-request-id")
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
        );
        tokio::time::sleep(Duration::from_millis(12)).await;
    }
    trial.mirrored(5).await;
    let mut feedback = FeedbackClient::new(trial.cluster.channel().await);
    let label = |id: &String| RequestLabel {
        request_id: id.clone(),
        label: "positive".into(),
    };
    let mut labels: Vec<_> = ids.iter().map(label).collect();
    labels.push(label(&"nobody".into()));
    labels.push(label(&"0123456789abcdef".into()));
    let request = SendLabelsRequest { labels };
    let answer = feedback.send_labels(request.clone()).await.unwrap().into_inner();
    assert_eq!((answer.taken, answer.unknown), (10, 2));
    let again = feedback.send_labels(request).await.unwrap().into_inner();
    assert_eq!((again.taken, again.unknown), (0, 12));
    let card = trial.card(|card| labels_of(card).stable_right > 0).await;
    let labels = labels_of(&card);
    assert_eq!((labels.stable_right, labels.only_stable_right), (5, 5));
    assert_eq!((labels.both_right, labels.stable_wrong), (0, 0));
}
