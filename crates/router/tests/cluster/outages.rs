//! The registry goes away and comes back.

use std::time::{Duration, Instant};

use tonic::Code;
use understudy_protocol::v1::{GetRouteRequest, ListModelsRequest, ListWorkersRequest, SetRouteRequest};

use crate::kit::{Cluster, MODEL, route, state_file, state_saved};

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_without_a_registry_also_over_a_restart_and_catches_up() {
    let mut cluster = Cluster::start(&[]).await;
    let _workers = [
        cluster.worker("w1", &["v1"]).await,
        cluster.worker("w2", &["v1", "v2"]).await,
    ];
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[2]).await;
    let mut client = cluster.client().await;
    client.call("x", &[]).await.unwrap();

    cluster.registry.kill();
    let since = Instant::now();
    let mut told = true;
    // Longer than the workers' leases of 2 s.
    while since.elapsed() < Duration::from_secs(4) {
        client.call("x", &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let workers = cluster
            .routes()
            .await
            .list_workers(ListWorkersRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(workers.workers.len(), 2);
        told = workers.registry_connected;
    }
    assert!(!told, "the operator is told that the registry is away");
    assert!(cluster.metric("registry_connected", "") < 0.5 && cluster.metric("state_age_seconds", "") > 1.5);
    let error = cluster
        .models()
        .await
        .list_models(ListModelsRequest {})
        .await
        .unwrap_err();
    assert!(
        error.code() == Code::Unavailable && error.message().contains("--registry"),
        "{error:?}"
    );
    let served = cluster
        .routes()
        .await
        .get_route(GetRouteRequest { model: MODEL.into() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(served.traffic.len(), 1, "what is served can be seen");

    // A router that starts now serves from its file.
    assert!(cluster.router.take().unwrap().drain().await);
    cluster.start_router(&[]).await;
    let mut client = cluster.client().await;
    assert_eq!(client.call("x", &[]).await.unwrap().version, "v1");

    // The registry is back with all leases over: nothing is lost, and changes arrive.
    cluster.registry.restart().await;
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < Duration::from_secs(15), "does not catch up");
        client.call("x", &[]).await.unwrap();
        let request = SetRouteRequest {
            route: Some(route(&[("stable", "v2", 1_000_000)])),
            expected_epoch: None,
        };
        if cluster.routes().await.set_route(request).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while client.call("x", &[]).await.unwrap().version != "v2" {
        assert!(
            since.elapsed() < Duration::from_secs(15),
            "the new route does not arrive"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while cluster.metric("registry_connected", "") < 0.5 {
        assert!(
            since.elapsed() < Duration::from_secs(15),
            "workers are not followed again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_file_is_ignored_and_replaced() {
    let mut cluster = Cluster::start(&[]).await;
    let _worker = cluster.worker("w1", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    state_saved(&cluster).await;
    cluster.router.take().unwrap().drain().await;
    let good = std::fs::read(state_file(&cluster)).unwrap();
    std::fs::write(state_file(&cluster), &good[..good.len() / 2]).unwrap();
    cluster.start_router(&[]).await;
    let mut client = cluster.client().await;
    let since = Instant::now();
    while client.call("x", &[]).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while std::fs::read(state_file(&cluster)).unwrap() != good {
        assert!(since.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_a_lower_epoch_is_ignored() {
    let cluster = Cluster::start(&[]).await;
    let _worker = cluster.worker("w1", &["v1", "v2"]).await;
    for _ in 0..3 {
        cluster.route(&[("stable", "v1", 1_000_000)]).await;
    }
    cluster.ready(&[1]).await;
    let registry = cluster.registry.client().await;
    let stored = registry.route(MODEL).await.unwrap().unwrap();
    let mut stale = route(&[("stable", "v2", 1_000_000)]);
    stale.epoch = stored.value.epoch - 1;
    registry.put_route(&stale, stored.mod_revision).await.unwrap();
    let since = Instant::now();
    while cluster.metric("stale_routes_total", "") < 0.5 {
        assert!(since.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cluster.client().await.call("x", &[]).await.unwrap().version, "v1");
    // The next change through the router is above both.
    assert_eq!(
        cluster.route(&[("stable", "v2", 1_000_000)]).await.epoch,
        stored.value.epoch + 1
    );
    assert_eq!(cluster.client().await.call("x", &[]).await.unwrap().version, "v2");
}
