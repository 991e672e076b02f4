//! The services of operators.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use understudy_protocol::v1::{
    GetArtifactStoreRequest, GetRouteRequest, GetVersionRequest, Kind, ListModelsRequest, Manifest,
    PublishVersionRequest, ResidencyState, Route, SetRouteRequest,
};

use crate::kit::{Cluster, MODEL, manifest, residency, route};

type Spoil = fn(&mut Manifest);
type Arms = &'static [(&'static str, &'static str, u32)];

fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0]
        .field
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_published_once_and_listed_in_order() {
    let cluster = Cluster::start(&[]).await;
    let mut models = cluster.models().await;
    let publish = |manifest: Manifest| PublishVersionRequest {
        manifest: Some(manifest),
    };
    for version in ["z", "a"] {
        models.publish_version(publish(manifest("new", version))).await.unwrap();
    }
    let again = models.publish_version(publish(manifest("new", "a"))).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    cluster
        .route_of(Route {
            model: "new".into(),
            ..route(&[("stable", "a", 1_000_000)])
        })
        .await;
    let listed = models
        .list_models(ListModelsRequest {})
        .await
        .unwrap()
        .into_inner()
        .models;
    let listed: Vec<_> = listed
        .iter()
        .map(|model| {
            let versions: Vec<_> = model.versions.iter().map(|version| version.version.as_str()).collect();
            (
                model.model.as_str(),
                versions.join(" "),
                model.route.as_ref().map(|route| route.epoch),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [("m", "v1 v2 v3".to_owned(), None), ("new", "z a".to_owned(), Some(1))]
    );

    let missing = models
        .publish_version(PublishVersionRequest { manifest: None })
        .await
        .unwrap_err();
    assert_eq!(field(&missing), "manifest");
    let bad: [(Spoil, &str); 9] = [
        (|m| m.version = "V 1".into(), "manifest.version"),
        (|m| m.kind = 0, "manifest.kind"),
        (|m| m.files.clear(), "manifest.files"),
        (|m| m.files[0].sha256 = "abc".into(), "manifest.files.sha256"),
        (|m| m.files[0].path = "../x".into(), "manifest.files.path"),
        (|m| m.labels.truncate(1), "manifest.labels"),
        (|m| m.labels[1] = m.labels[0].clone(), "manifest.labels"),
        (|m| m.artifact_uri = "ftp://x".into(), "manifest.artifact_uri"),
        (
            |m| _ = m.metrics.insert("accuracy".into(), f64::NAN),
            "manifest.metrics",
        ),
    ];
    for (spoil, wrong) in bad {
        let mut manifest = manifest("new", "b");
        spoil(&mut manifest);
        assert_eq!(
            field(&models.publish_version(publish(manifest)).await.unwrap_err()),
            wrong
        );
    }
    let mut newer = manifest("new", "b");
    newer.format = 2;
    let error = models.publish_version(publish(newer)).await.unwrap_err();
    assert!(error.message().contains("newer Understudy"), "{error}");

    let store = models
        .get_artifact_store(GetArtifactStoreRequest {})
        .await
        .unwrap()
        .into_inner()
        .uri;
    assert!(
        store.starts_with("file:///") && store.ends_with("/artifacts"),
        "{store}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_tells_where_it_is() {
    let cluster = Cluster::start(&[]).await;
    let worker = cluster.worker("w1", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    let mut failed = residency("v2", ResidencyState::Failed);
    failed.reason = "digest mismatch".into();
    worker.announce(vec![residency("v1", ResidencyState::Draining), failed]);
    cluster.ready(&[0]).await;
    let mut models = cluster.models().await;
    let get = |version: &str| GetVersionRequest {
        model: MODEL.into(),
        version: version.into(),
    };
    let answer = models.get_version(get("v2")).await.unwrap().into_inner();
    assert_eq!(answer.manifest.unwrap().version, "v2");
    assert_eq!(answer.workers[0].worker, "w1");
    assert_eq!(answer.workers[0].residency.as_ref().unwrap().reason, "digest mismatch");
    assert_eq!(models.get_version(get("v9")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_checked_and_changed_by_comparison() {
    let cluster = Cluster::start(&[]).await;
    let mut routes = cluster.routes().await;
    let set = |route: Route, expected_epoch| SetRouteRequest {
        route: Some(route),
        expected_epoch,
    };
    let bad: [(Arms, &str); 5] = [
        (&[], "route.arms"),
        (&[("stable", "v1", 999_999)], "route.arms.weight_ppm"),
        (
            &[("stable", "v1", 500_000), ("stable", "v2", 500_000)],
            "route.arms.name",
        ),
        (&[("Stable", "v1", 1_000_000)], "route.arms.name"),
        (
            &[("stable", "v1", 1_000_000), ("canary", "v9", 0)],
            "route.arms[1].version",
        ),
    ];
    for (arms, wrong) in bad {
        assert_eq!(
            field(&routes.set_route(set(route(arms), None)).await.unwrap_err()),
            wrong
        );
    }
    let scribe = Route {
        kind: Kind::Scribe.into(),
        ..route(&[("stable", "v1", 1_000_000)])
    };
    assert_eq!(
        field(&routes.set_route(set(scribe, None)).await.unwrap_err()),
        "route.arms[0].version"
    );
    assert_eq!(
        routes
            .get_route(GetRouteRequest { model: MODEL.into() })
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );

    let good = |epoch| Route {
        epoch,
        kind: 0,
        ..route(&[("stable", "v1", 1_000_000)])
    };
    let first = routes
        .set_route(set(good(77), Some(0)))
        .await
        .unwrap()
        .into_inner()
        .route
        .unwrap();
    assert_eq!(
        (first.epoch, first.kind()),
        (1, Kind::Analyst),
        "epoch and kind are the server's"
    );
    let late = routes.set_route(set(good(0), Some(0))).await.unwrap_err();
    assert!(
        late.code() == Code::Aborted && late.message().contains("epoch 1"),
        "{late}"
    );
    let second = routes
        .set_route(set(good(0), Some(1)))
        .await
        .unwrap()
        .into_inner()
        .route
        .unwrap();
    assert_eq!(second.epoch, 2);

    // Of many who saw the same epoch one wins; those who do not care all succeed, one after another.
    let race = |expected| {
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let (mut routes, request) = (routes.clone(), set(good(0), expected));
                tokio::spawn(async move { routes.set_route(request).await.is_ok() })
            })
            .collect();
        async move {
            let mut won = 0;
            for task in tasks {
                won += u32::from(task.await.unwrap());
            }
            won
        }
    };
    assert_eq!(race(Some(2)).await, 1);
    assert_eq!(race(None).await, 5);
    let last = routes
        .get_route(GetRouteRequest { model: MODEL.into() })
        .await
        .unwrap()
        .into_inner()
        .route
        .unwrap();
    assert_eq!(last.epoch, 8);
}
