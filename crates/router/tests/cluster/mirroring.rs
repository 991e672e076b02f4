//! Copies of requests, and how their answers compare.

use std::time::{Duration, Instant};

use tonic::Code;
use understudy_protocol::v1::{Shadow, ShadowCard};

use crate::{
    kit::{Part, load},
    trial::{Trial, shadow, shadow_of},
};

/// Latencies of requests one after another, sorted.
async fn latencies(trial: &mut Trial, n: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        trial.client.call("positive", &[]).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn mirroring_does_not_double_load() {
    let mut trial = Trial::start(0, shadow(100_000, 0)).await;
    latencies(&mut trial, 500).await;
    let card = trial.mirrored(50).await;
    assert_eq!(
        (trial.stable.behaviour.seen("v1", false), trial.stable.calls()),
        (500, 500)
    );
    assert_eq!(
        (trial.candidate.behaviour.seen("v2", true), trial.candidate.calls()),
        (card.pairs, 50)
    );

    // All of the traffic to a candidate that is slow: a bounded number is open there, and what finds no place is counted.
    trial.candidate.behaviour.play(
        "v2",
        Part {
            slow: Duration::from_millis(500),
            ..Part::default()
        },
    );
    trial.weigh(2, 0, shadow(1_000_000, 0)).await;
    load(&trial.cluster, 4, 8, 2_000).await;
    let card = trial.mirrored(2_050).await;
    let most = trial
        .candidate
        .behaviour
        .copies_max
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!(most <= 8, "{most}");
    assert!(card.pairs > 50 && card.no_place > 1_500, "{card:?}");
    assert_eq!(trial.stable.calls(), 2_500);
    assert!((trial.cluster.metric("mirrored_total", "no_place") - card.no_place as f64).abs() < 0.5);
    assert!((trial.cluster.metric("mirrored_total", "sent") - card.pairs as f64).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_above_one_megabyte_are_counted_not_lost_silently() {
    let mut trial = Trial::start(0, shadow(1_000_000, 0)).await;
    let text = |bytes: usize| format!("positive {}", "x".repeat(bytes));
    for bytes in [2 << 20, 3 << 20, 5 << 20, 6 << 20, 7 << 20] {
        trial.client.call(&text(bytes), &[]).await.unwrap();
    }
    let card = trial.mirrored(5).await;
    assert_eq!((card.pairs, card.too_large), (2, 3));
    assert_eq!(trial.candidate.calls(), 2);
    // An answer that is too large to be kept counts as well.
    trial.client.call(&"x".repeat(2 << 20), &[]).await.unwrap();
    let card = trial.mirrored(6).await;
    assert_eq!((card.pairs, card.too_large), (2, 4));
    assert!((trial.cluster.metric("mirrored_total", "too_large") - 4.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_candidate_changes_no_answer() {
    let mut trial = Trial::start(0, None).await;
    latencies(&mut trial, 200).await;
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    let without = p99(&latencies(&mut trial, 1_000).await);
    let bad = [
        (
            "slow",
            Some(Part {
                slow: Duration::from_secs(1),
                ..Part::default()
            }),
        ),
        (
            "erring",
            Some(Part {
                fail: Some(Code::Internal),
                ..Part::default()
            }),
        ),
        (
            "busy",
            Some(Part {
                fail: Some(Code::ResourceExhausted),
                ..Part::default()
            }),
        ),
        ("dead", None),
    ];
    let mut chosen = 0;
    for (epoch, (name, part)) in (2..).zip(bad) {
        match part {
            Some(part) => trial.candidate.behaviour.play("v2", part),
            None => trial.candidate.kill(),
        }
        trial.weigh(epoch, 0, shadow(1_000_000, 0)).await;
        let times = latencies(&mut trial, 1_000).await;
        // Loose, because other tests run beside it; bench/router measures it.
        assert!(
            p99(&times) < without * 4 + Duration::from_millis(20),
            "{name}: {:?}, {without:?}",
            p99(&times)
        );
        chosen += 1_000;
        let card = trial.mirrored(chosen).await;
        match name {
            "slow" => assert!(card.no_place > 0 && card.candidate_errors == 0, "{card:?}"),
            // It is left alone but for a few, once it failed often in a row.
            "erring" => assert!(
                (20..300).contains(&card.candidate_errors) && card.no_place > 500 && card.busy == 0,
                "{card:?}"
            ),
            "busy" => assert!((1..300).contains(&card.busy), "{card:?}"),
            _ => {}
        }
    }
    let slice = trial.card(|_| true).await.slice.unwrap();
    let stable = slice.stable.unwrap();
    assert_eq!((stable.requests, stable.errors), (1_000, 0));
    assert_eq!(slice.candidate.unwrap().requests, 0, "copies are nobody's requests");
    assert!(trial.cluster.metric("ejections_total", "").abs() < 0.5);
    assert!(trial.cluster.metric("retries_total", "").abs() < 0.5);
    // Each failure is told, the newest of them.
    let told = trial.disagreements().await;
    assert!(
        told.iter()
            .any(|d| d.candidate == "INTERNAL" && d.stable == "positive 0.88" && d.text.is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_noise_floor_is_counted_beside_the_differences() {
    let mut trial = Trial::start(0, shadow(1_000_000, 500_000)).await;
    trial.candidate.behaviour.play(
        "v2",
        Part {
            swapped: true,
            ..Part::default()
        },
    );
    latencies(&mut trial, 20).await;
    let card = trial.mirrored(20).await;
    let classes = card.classes.clone().unwrap();
    assert_eq!(
        (classes.noise_triples, classes.only_candidate, classes.only_noise),
        (10, 10, 0)
    );
    assert_eq!(trial.stable.behaviour.seen("v1", true), 10);
    // Stable "positive" (index 1), candidate "negative" (0); the last row and column are for unknown labels.
    assert_eq!(classes.confusion, [0, 0, 0, 20, 0, 0, 0, 0, 0]);
    assert!((classes.probability_difference.unwrap().sum - 20.0 * 0.75).abs() < 1e-6);

    trial.candidate.behaviour.play("v2", Part::default());
    trial.stable.behaviour.play(
        "v1",
        Part {
            copies_swapped: true,
            ..Part::default()
        },
    );
    latencies(&mut trial, 20).await;
    let classes = trial.mirrored(40).await.classes.unwrap();
    assert_eq!(
        (classes.noise_triples, classes.only_candidate, classes.only_noise),
        (20, 10, 10)
    );
    assert!((trial.cluster.metric("pairs_total", "") - 40.0).abs() < 0.5);
    assert!((trial.cluster.metric("disagreements_total", "") - 20.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_batches_are_compared_text_by_text() {
    let mut trial = Trial::start(0, shadow(1_000_000, 0)).await;
    trial.candidate.behaviour.play(
        "v2",
        Part {
            swapped: true,
            ..Part::default()
        },
    );
    assert_eq!(
        trial.stream(&["positive", "negative", "positive"]).await,
        ["positive", "negative", "positive"]
    );
    let confusion = |card: ShadowCard| card.classes.unwrap().confusion;
    let card = trial.mirrored(1).await;
    assert_eq!((card.pairs, confusion(card)), (1, vec![0, 1, 0, 2, 0, 0, 0, 0, 0]));
    assert_eq!(trial.batch(&["negative", "negative"]).await, ["negative", "negative"]);
    let card = trial.mirrored(2).await;
    assert_eq!((card.pairs, confusion(card)), (2, vec![0, 3, 0, 2, 0, 0, 0, 0, 0]));
    // Labels of the fake that no probability names.
    trial.client.call("other", &[]).await.unwrap();
    let card = trial.mirrored(3).await;
    assert_eq!(confusion(card), [0, 3, 0, 2, 0, 0, 0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_kept_only_where_the_route_allows_it() {
    let mut trial = Trial::start(0, shadow(1_000_000, 0)).await;
    trial.candidate.behaviour.play(
        "v2",
        Part {
            swapped: true,
            ..Part::default()
        },
    );
    let text = format!("positive {}", "ö".repeat(1_000));
    let answer = trial.client.call(&text, &[]).await.unwrap();
    trial.mirrored(1).await;
    let told = trial.disagreements().await;
    assert_eq!((told.len(), &*told[0].text), (1, ""));
    assert_eq!(
        (&*told[0].stable, &*told[0].candidate),
        ("positive 0.88", "negative 0.88")
    );
    let id = answer.metadata.get("understudy-request-id").unwrap();
    assert_eq!(told[0].request_id, id.to_str().unwrap());
    assert!(told[0].at.is_some());

    let with_text = Shadow {
        keep_text: true,
        ..shadow(1_000_000, 0).unwrap()
    };
    trial.weigh(2, 0, Some(with_text)).await;
    trial.client.call(&text, &[]).await.unwrap();
    trial.mirrored(2).await;
    let told = trial.disagreements().await;
    let cut: String = text.chars().take(500).collect();
    assert_eq!((told.len(), &*told[0].text, &*told[1].text), (2, &*cut, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_well_or_chose_for_itself_is_not_mirrored() {
    let mut trial = Trial::start(0, shadow(1_000_000, 0)).await;
    trial.client.call("fail 13", &[]).await.unwrap_err();
    trial.client.call("x", &[("understudy-version", "v1")]).await.unwrap();
    trial.client.call("x", &[("understudy-shadow", "1")]).await.unwrap();
    let mut client = trial.client.clone();
    let dropped = tokio::spawn(async move { client.call("sleep 10000", &[]).await });
    while trial.stable.calls() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    dropped.abort();
    trial
        .client
        .call("positive", &[("understudy-affinity", "a")])
        .await
        .unwrap();
    let card = trial.mirrored(1).await;
    assert_eq!((card.pairs, trial.candidate.calls()), (1, 1));
    let last = trial.candidate.behaviour.last.lock().unwrap().clone();
    let timeout = last.get("grpc-timeout").unwrap().to_str().unwrap();
    assert_eq!(
        (timeout, last.get("understudy-shadow").unwrap().to_str().unwrap()),
        ("10000000u", "1")
    );
    assert_eq!(shadow_of(&trial.card(|_| true).await).chosen, 1);
}
