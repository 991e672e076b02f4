//! Who gets which request.

use std::collections::HashMap;

use tonic::Code;
use tonic_types::StatusExt as _;
use understudy_protocol::v1::{GetRouteRequest, Pinning};

use crate::kit::{Cluster, MODEL, load, route};
use crate::rollout::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_find_the_exact_share_whenever_one_counts() {
    let cluster = Cluster::start(&[]).await;
    let _workers = [
        cluster.worker("w1", &["v1", "v2"]).await,
        cluster.worker("w2", &["v1", "v2"]).await,
    ];
    cluster
        .route(&[("stable", "v1", 900_000), ("canary", "v2", 100_000)])
        .await;
    cluster.ready(&[2, 2]).await;
    let (mut total, mut counts) = (0, HashMap::<String, u64>::new());
    // Counted whenever no request is open; the splitter's own tests look at every n.
    for round in [1, 1, 1, 7, 10, 13, 100, 333, 534, 2_000, 3_001, 3_999] {
        for (arm, count) in load(&cluster, 8, 8, round).await {
            *counts.entry(arm).or_default() += count;
        }
        total += round as u64;
        let canary = counts.get("canary").copied().unwrap_or_default();
        assert!((canary * 10).abs_diff(total) < 10, "{canary} of {total}");
    }
    assert_eq!(total, 10_000);
    assert_eq!((counts["stable"], counts["canary"]), (9_000, 1_000));
    let traffic = cluster
        .routes()
        .await
        .get_route(GetRouteRequest { model: MODEL.into() })
        .await
        .unwrap()
        .into_inner()
        .traffic;
    let told: Vec<_> = traffic.iter().map(|arm| (arm.requests, arm.failures)).collect();
    assert_eq!(told, [(9_000, 0), (1_000, 0)]);
    assert!((cluster.metric("splits_total", "canary") - 1_000.0).abs() < 0.5);
    assert!((cluster.metric("requests_total", "arm=\"canary\",code=\"OK\"") - 1_000.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_arms_stay_within_three_requests() {
    let cluster = Cluster::start(&[]).await;
    let _worker = cluster.worker("w1", &["v1", "v2", "v3"]).await;
    let weights = [500_000, 250_000, 125_000, 100_000, 25_000];
    let names = ["a", "b", "c", "d", "e"];
    let versions = ["v1", "v2", "v3", "v1", "v2"];
    let arms: Vec<_> = (0..5).map(|i| (names[i], versions[i], weights[i])).collect();
    cluster.route(&arms).await;
    cluster.ready(&[1; 5]).await;
    let counts = load(&cluster, 4, 8, 1_111).await;
    for (name, weight) in names.iter().zip(weights) {
        let distance = (counts[*name] * 1_000_000).abs_diff(1_111 * u64::from(weight));
        assert!(distance <= 3_000_000, "{name}: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_alternates_finds_the_same_share_in_both_kinds() {
    let cluster = Cluster::start(&[]).await;
    let _worker = cluster.worker("w1", &["v1", "v2"]).await;
    cluster
        .route(&[("stable", "v1", 500_000), ("canary", "v2", 500_000)])
        .await;
    cluster.ready(&[1, 1]).await;
    let mut client = cluster.client().await;
    let mut canary = [0_u32; 2];
    for i in 0..3_000 {
        canary[i % 2] += u32::from(client.call(["long", "short"][i % 2], &[]).await.unwrap().arm == "canary");
    }
    // 1,500 draws at 1/2 in each kind: five standard deviations are 97. A round robin would give 0 and 1,500.
    assert!(canary.iter().all(|count| count.abs_diff(750) < 97), "{canary:?}");
    assert_eq!(canary[0] + canary[1], 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn pinning() {
    let cluster = Cluster::start(&[]).await;
    let _worker = cluster.worker("w1", &["v1", "v2"]).await;
    cluster
        .route(&[("stable", "v1", 1_000_000), ("canary", "v2", 0), ("next", "v3", 0)])
        .await;
    cluster.ready(&[1, 1, 0]).await;
    let mut client = cluster.client().await;
    for _ in 0..5 {
        let answer = client.call("x", &[("understudy-version", "v2")]).await.unwrap();
        assert_eq!(
            (&*answer.version, &*answer.arm, &*answer.worker),
            ("v2", "canary", "w1")
        );
    }
    let unknown = client.call("x", &[("understudy-version", "v9")]).await.unwrap_err();
    assert!(
        unknown.code() == Code::NotFound && unknown.message().contains("v1, v2, v3"),
        "{unknown}"
    );
    assert_eq!(unknown.get_details_error_info().unwrap().reason, "UNKNOWN_VERSION");
    let absent = client.call("x", &[("understudy-version", "v3")]).await.unwrap_err();
    assert!(
        absent.code() == Code::Unavailable && absent.message().contains("m/v3"),
        "{absent}"
    );
    assert!(absent.get_details_retry_info().is_some());

    let mut denied = route(&[("stable", "v1", 1_000_000)]);
    denied.pinning = Pinning::Denied.into();
    cluster.route_of(denied).await;
    let error = client.call("x", &[("understudy-version", "v1")]).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(client.call("x", &[]).await.is_ok());
    let metrics = cluster.metric("splits_total", "");
    assert!(
        (metrics - 1.0).abs() < 0.5,
        "pinned requests take no number of the split: {metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn affinity_and_draw() {
    let cluster = Cluster::start(&[]).await;
    let _worker = cluster.worker("w1", &["v1", "v2"]).await;
    let mut client = cluster.client().await;
    let mut before: Vec<bool> = vec![false; 200];
    for weight in [0, 100_000, 400_000, 1_000_000] {
        cluster
            .route(&[("stable", "v1", 1_000_000 - weight), ("canary", "v2", weight)])
            .await;
        cluster.ready(&[1, 1]).await;
        for (user, on_canary) in before.iter_mut().enumerate() {
            let key = format!("user {user}");
            let first = client.call("x", &[("understudy-affinity", &key)]).await.unwrap().arm;
            let second = client.call("y", &[("understudy-affinity", &key)]).await.unwrap().arm;
            assert_eq!(first, second);
            assert!(
                !*on_canary || first == "canary",
                "{key} went back to stable at {weight}"
            );
            *on_canary = first == "canary";
        }
        let share = before.iter().filter(|&&canary| canary).count();
        assert!(
            share.abs_diff(usize::try_from(weight / 5_000).unwrap()) < 40,
            "{share} of 200 at {weight}"
        );
    }
    cluster
        .route(&[("stable", "v1", 700_000), ("canary", "v2", 300_000)])
        .await;
    for (draw, arm) in [
        ("0", "canary"),
        ("0.299999", "canary"),
        ("0.3", "stable"),
        ("0.99", "stable"),
    ] {
        assert_eq!(client.call("x", &[("understudy-draw", draw)]).await.unwrap().arm, arm);
    }
    let error = client.call("x", &[("understudy-draw", "1.5")]).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(
        error.get_details_bad_request().unwrap().field_violations[0].field,
        "understudy-draw"
    );
    assert!(cluster.metric("splits_total", "") < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_is_not_ready_is_served_by_the_others() {
    let cluster = Cluster::start(&[]).await;
    let worker = cluster.worker("w1", &["v1"]).await;
    cluster
        .route(&[("stable", "v1", 500_000), ("canary", "v2", 500_000)])
        .await;
    cluster.ready(&[1, 0]).await;
    assert_eq!(
        load(&cluster, 2, 4, 100).await,
        HashMap::from([("stable".to_owned(), 100)])
    );
    assert!((cluster.metric("fallbacks_total", "canary") - 50.0).abs() < 0.5);

    // A route to a version that nobody has yet: what is loaded goes on serving.
    cluster.route(&[("stable", "v3", 1_000_000)]).await;
    cluster.ready(&[0]).await;
    let answer = cluster.client().await.call("x", &[]).await.unwrap();
    assert_eq!((&*answer.version, &*answer.arm), ("v1", "none"));
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_named_or_the_only_one() {
    let cluster = Cluster::start(&[]).await;
    let _worker = cluster.worker("w1", &["v1"]).await;
    let mut client = cluster.client().await;
    eventually("the router has heard that there is no route", async || {
        let none = client.call("x", &[]).await.unwrap_err();
        none.code() == Code::Unavailable && none.message().contains("no model has a route yet")
    })
    .await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    assert!(client.call("x", &[]).await.is_ok());
    let unknown = client.call("x", &[("understudy-model", "nobody")]).await.unwrap_err();
    assert!(
        unknown.code() == Code::NotFound && unknown.message().ends_with(": m"),
        "{unknown}"
    );

    cluster
        .registry
        .client()
        .await
        .create_manifest(&crate::kit::manifest("other", "v1"))
        .await
        .unwrap();
    let mut other = route(&[("stable", "v1", 1_000_000)]);
    other.model = "other".into();
    cluster.route_of(other).await;
    let which = client.call("x", &[]).await.unwrap_err();
    assert!(
        which.code() == Code::InvalidArgument && which.message().contains("m, other"),
        "{which}"
    );
    assert!(client.call("x", &[("understudy-model", "m")]).await.is_ok());
    let nobody = client.call("x", &[("understudy-model", "other")]).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unavailable);
}
