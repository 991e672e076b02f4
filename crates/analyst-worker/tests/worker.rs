//! The whole worker: registry, artifacts, a real (tiny, random) checkpoint on libtorch, gRPC.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser as _;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, Request, transport::Channel};
use understudy_analyst::{app::App, config::Options};
use understudy_protocol::v1::{
    Arm, ArtifactFile, ClassifyBatchRequest, ClassifyRequest, GetModelInfoRequest, GoldenExample, Kind, Manifest,
    ResidencyState, Route, Worker, analyst_client::AnalystClient,
};
use understudy_registry::Registry;

/// What `transformers` answers for the tiny checkpoint; see `scripts/parity/generate.py`.
const GREAT: (&str, [f64; 3]) = ("This movie was great!", [-0.037_779_741, 2.833_102_23, -0.584_334_016]);
const DULL: (&str, [f64; 3]) = ("Dull.", [0.253_678_739, 4.265_332_7, -1.091_308_36]);
const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

fn softmax(logits: [f64; 3]) -> Vec<f32> {
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "as in a manifest")]
    logits.iter().map(|logit| (logit.exp() / sum) as f32).collect()
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../distilbert/tests/data/tiny")
        .canonicalize()
        .unwrap()
}

/// A registry and a worker, in one process, on ports of their own.
struct Cluster {
    folder: TempDir,
    registry: Registry,
    client: AnalystClient<Channel>,
    stop: oneshot::Sender<()>,
    app: JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    async fn start() -> Self {
        understudy_distilbert::init_process();
        let folder = tempfile::tempdir().unwrap();
        let registry = start_registry(&folder.path().join("registry")).await;
        let url = format!("http://{registry}");
        let cache = folder.path().join("cache");
        let flags = [
            "understudy-analyst",
            "--listen=127.0.0.1:0",
            "--metrics-listen=127.0.0.1:0",
            "--name=tester",
            "--drain-grace=100ms",
            "--device=cpu",
            "--precision=fp32",
            "--engines=2",
            "--registry",
            &url,
            "--cache-dir",
            cache.to_str().unwrap(),
        ];
        let options = Options::try_parse_from(flags).unwrap();
        let registry = Registry::connect(&options.worker.registry).await.unwrap();
        let app = App::start(options.worker, options.analyst).await.unwrap();
        let client = AnalystClient::connect(format!("http://{}", app.address()))
            .await
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let app = tokio::spawn(app.run(async {
            let _ = stopped.await;
        }));
        Self {
            folder,
            registry,
            client,
            stop,
            app,
        }
    }

    /// Publishes the files of a folder, with changes to the manifest.
    async fn publish(&self, version: &str, files: &Path, change: impl FnOnce(&mut Manifest)) {
        let store = format!("file://{}", self.folder.path().join("store").display());
        let prefix = format!("sentiment/{version}");
        let uploaded = understudy_artifacts::upload(&store, &prefix, files, &FILES, |_, _| ())
            .await
            .unwrap();
        let golden = |(text, logits): (&str, _)| GoldenExample {
            text: text.into(),
            probabilities: softmax(logits),
        };
        let mut manifest = Manifest {
            format: 1,
            model: "sentiment".into(),
            version: version.into(),
            kind: Kind::Analyst.into(),
            artifact_uri: uploaded.uri,
            files: uploaded
                .files
                .into_iter()
                .map(|file| ArtifactFile {
                    path: file.path,
                    sha256: file.sha256,
                    size_bytes: file.size_bytes,
                })
                .collect(),
            labels: ["negative", "neutral", "positive"].map(str::to_owned).into(),
            golden_examples: vec![golden(GREAT), golden(DULL)],
            ..Manifest::default()
        };
        change(&mut manifest);
        self.registry.create_manifest(&manifest).await.unwrap();
    }

    async fn route(&self, versions: &[&str]) {
        let current = self.registry.route("sentiment").await.unwrap();
        let arms = versions.iter().enumerate().map(|(index, version)| Arm {
            name: format!("arm-{index}"),
            version: (*version).into(),
            weight_ppm: if index == 0 { 1_000_000 } else { 0 },
        });
        let route = Route {
            model: "sentiment".into(),
            kind: Kind::Analyst.into(),
            epoch: current.as_ref().map_or(1, |stored| stored.value.epoch + 1),
            arms: arms.collect(),
            ..Route::default()
        };
        self.registry
            .put_route(&route, current.map_or(0, |stored| stored.mod_revision))
            .await
            .unwrap();
    }

    /// Waits until these versions have these states, and tells their reasons.
    async fn until(&self, wanted: &[(&str, ResidencyState)]) -> BTreeMap<String, String> {
        let mut seen = None;
        for _ in 0..1_500 {
            seen = self
                .registry
                .get::<Worker>("tester")
                .await
                .unwrap()
                .map(|stored| stored.value.versions);
            let found = seen.iter().flatten();
            let states: BTreeMap<_, _> = found
                .map(|version| (version.version.as_str(), version.state()))
                .collect();
            if states == wanted.iter().copied().collect() {
                return seen
                    .into_iter()
                    .flatten()
                    .map(|version| (version.version, version.reason))
                    .collect();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited thirty seconds for {wanted:?}, there is {seen:?}");
    }

    async fn label(&self, version: &str) -> Result<String, tonic::Status> {
        let mut request = Request::new(ClassifyRequest { text: DULL.0.into() });
        request
            .metadata_mut()
            .insert("understudy-version", version.parse().unwrap());
        let answer = self
            .client
            .clone()
            .classify(request)
            .await?
            .into_inner()
            .classification
            .unwrap();
        assert_eq!(answer.version, version);
        Ok(answer.label)
    }
}

async fn start_registry(data_dir: &Path) -> SocketAddr {
    let options = understudy_embedded_registry::Options {
        data_dir: data_dir.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
    };
    let (ready, address) = oneshot::channel();
    tokio::spawn(understudy_embedded_registry::serve(
        options,
        |address| ready.send(address).unwrap(),
        std::future::pending(),
    ));
    address.await.unwrap()
}

/// The tiny checkpoint with other bytes in one of its files.
fn changed(folder: &Path, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let copy = folder.join("changed");
    fs::create_dir_all(&copy).unwrap();
    for name in FILES {
        fs::copy(tiny().join(name), copy.join(name)).unwrap();
    }
    fs::write(copy.join(file), change(fs::read(tiny().join(file)).unwrap())).unwrap();
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_version_answers_as_its_publisher_saw_it() {
    let cluster = Cluster::start().await;
    let mut client = cluster.client.clone();
    let error = client
        .classify(ClassifyRequest { text: "early".into() })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(error.metadata().get("understudy-worker").unwrap(), "tester");

    cluster.publish("v1", &tiny(), |_| ()).await;
    cluster.route(&["v1"]).await;
    cluster.until(&[("v1", ResidencyState::Ready)]).await;

    let response = client.classify(ClassifyRequest { text: GREAT.0.into() }).await.unwrap();
    assert_eq!(response.metadata().get("understudy-version").unwrap(), "v1");
    assert_eq!(response.metadata().get("understudy-worker").unwrap(), "tester");
    let answer = response.into_inner().classification.unwrap();
    assert_eq!(
        (answer.label.as_str(), answer.token_count, answer.truncated),
        ("neutral", 7, false)
    );
    for (got, want) in answer.probabilities.iter().zip(softmax(GREAT.1)) {
        assert!((got.probability - want).abs() < 1e-5, "{answer:?}");
    }
    let texts = [GREAT.0, DULL.0, &"great ".repeat(900)].map(str::to_owned).into();
    let answers = client
        .classify_batch(ClassifyBatchRequest { texts })
        .await
        .unwrap()
        .into_inner()
        .classifications;
    assert!((answers[1].probabilities[1].probability - softmax(DULL.1)[1]).abs() < 1e-5);
    assert_eq!((answers[2].token_count, answers[2].truncated), (512, true));
    let info = client
        .get_model_info(GetModelInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (info.tokens_max, info.precision.as_str(), info.device.as_str()),
        (512, "fp32", "cpu")
    );

    cluster.stop.send(()).unwrap();
    cluster.app.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_what_it_should_be_fails_and_the_others_go_on() {
    let cluster = Cluster::start().await;
    let folder = cluster.folder.path();
    cluster.publish("v1", &tiny(), |_| ()).await;
    cluster
        .publish("two-labels", &tiny(), |manifest| {
            manifest.labels.pop();
            manifest.golden_examples.clear();
        })
        .await;
    cluster
        .publish("other-labels", &tiny(), |manifest| manifest.labels.swap(0, 1))
        .await;
    cluster
        .publish("other-answers", &tiny(), |manifest| {
            manifest.golden_examples[1].probabilities = vec![0.8, 0.1, 0.1];
        })
        .await;
    let nan = changed(folder, "model.safetensors", |mut bytes| {
        let end = bytes.len();
        bytes[end - 400..].fill(0xff);
        bytes
    });
    cluster
        .publish("nan", &nan, |manifest| manifest.golden_examples.clear())
        .await;
    let half = changed(folder, "model.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec());
    cluster.publish("half", &half, |_| ()).await;

    let bad = ["two-labels", "other-labels", "other-answers", "nan", "half"];
    cluster.route(&[&["v1"], &bad[..]].concat()).await;
    let failed = bad.map(|version| (version, ResidencyState::Failed));
    let reasons = cluster
        .until(&[&[("v1", ResidencyState::Ready)], &failed[..]].concat())
        .await;
    for (version, words) in [
        (
            "two-labels",
            "the manifest has 2 labels (negative, neutral), but the checkpoint's config.json has 3",
        ),
        (
            "other-labels",
            "label 0 is \"neutral\" in the manifest, but \"negative\"",
        ),
        ("other-answers", "golden example 1 gets probability"),
        ("nan", "holds NaN or infinite values"),
        ("half", "model.safetensors"),
    ] {
        assert!(reasons[version].contains(words), "{version}: {:?}", reasons[version]);
        assert_eq!(cluster.label(version).await.unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!(cluster.label("v1").await.unwrap(), "neutral");

    // A swap to a good one, with load: nothing fails.
    cluster.publish("v2", &tiny(), |_| ()).await;
    let mut client = cluster.client.clone();
    let load = tokio::spawn(async move {
        for _ in 0..300 {
            client.classify(ClassifyRequest { text: DULL.0.into() }).await.unwrap();
        }
    });
    cluster.route(&["v2"]).await;
    cluster.until(&[("v2", ResidencyState::Ready)]).await;
    load.await.unwrap();
    assert_eq!(cluster.label("v2").await.unwrap(), "neutral");
    assert_eq!(cluster.label("v1").await.unwrap_err().code(), Code::Unavailable);
}
