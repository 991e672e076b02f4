use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use understudy_protocol::v1::Kind;

use crate::{
    fake_router::FakeRouter,
    models::weights,
    run::{Ran, finish, understudy},
};

const COMMIT: &str = "714eb0fa89d2f80546fda750413ed43d93601a13";

#[derive(Clone, Default)]
struct Hub {
    files: Arc<Vec<(&'static str, Vec<u8>)>>,
    /// Files that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
    token: Option<&'static str>,
}

impl Hub {
    async fn start(self) -> String {
        let app = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(info))
            .route("/{owner}/{name}/resolve/{revision}/{file}", get(file))
            .with_state(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    fn admits(&self, owner: &str, headers: &HeaderMap) -> bool {
        let given = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        owner == "owner"
            && self
                .token
                .is_none_or(|token| given.as_deref() == Some(&format!("Bearer {token}")))
    }
}

async fn info(
    State(hub): State<Hub>,
    UrlPath((owner, _, revision)): UrlPath<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if !hub.admits(&owner, &headers) || !["main", COMMIT].contains(&revision.as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let siblings: Vec<_> = hub.files.iter().map(|(name, _)| json!({ "rfilename": name })).collect();
    json!({ "sha": COMMIT, "siblings": siblings })
        .to_string()
        .into_response()
}

async fn file(
    State(hub): State<Hub>,
    UrlPath((owner, _, _, name)): UrlPath<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if !hub.admits(&owner, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some((_, content)) = hub.files.iter().find(|(found, _)| *found == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = headers["range"].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(content.len(), |last: usize| last + 1);
    if to == content.len() {
        hub.asked.lock().unwrap().push(name.clone());
    }
    let headers = [
        ("etag", format!("\"{name}-etag\"")),
        ("x-repo-commit", COMMIT.to_owned()),
        ("content-range", format!("bytes {from}-{}/{}", to - 1, content.len())),
    ];
    (StatusCode::PARTIAL_CONTENT, headers, content[from..to].to_vec()).into_response()
}

async fn publish(fake: &FakeRouter, hub: &str, home: &Path, source: &str, version: &str, token: Option<&str>) -> Ran {
    let mut command = understudy();
    command.args([
        "models",
        "publish",
        source,
        "--model",
        "sentiment",
        "--version",
        version,
    ]);
    command
        .env("UNDERSTUDY_ROUTER", fake.url())
        .env("HF_ENDPOINT", hub)
        .env("HF_HOME", home);
    if let Some(token) = token {
        command.env("HF_TOKEN", token);
    }
    finish(command).await
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (".gitattributes", b"x".to_vec()),
        (
            "config.json",
            br#"{"model_type":"distilbert","id2label":{"0":"NEGATIVE","1":"POSITIVE"}}"#.to_vec(),
        ),
        ("model.safetensors", weights(300_000)),
        ("pytorch_model.bin", vec![1; 10]),
        ("README.md", b"x".to_vec()),
        ("tokenizer_config.json", b"{}".to_vec()),
        ("vocab.txt", b"[PAD]\n".to_vec()),
    ]
}

#[tokio::test]
async fn a_repository_is_published_with_nothing_more_than_needed() {
    let hub = Hub {
        files: Arc::new(files()),
        token: Some("hf_secret"),
        ..Hub::default()
    };
    let asked = hub.asked.clone();
    let url = hub.start().await;
    let fake = FakeRouter::start().await;
    let (home, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fake.state().store = format!("file://{}", store.path().display());

    let ran = publish(&fake, &url, home.path(), "hf:owner/name", "v3", Some("hf_secret")).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("Published sentiment/v3 (NEGATIVE, POSITIVE)"),
        "{ran:?}"
    );
    let downloaded = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(
        downloaded,
        ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    );
    let manifest = fake.state().models["sentiment"].versions[2].clone();
    assert_eq!(manifest.lineage.unwrap().parent, format!("hf:owner/name@{COMMIT}"));
    assert_eq!(manifest.files.iter().map(|file| file.size_bytes).max(), Some(300_000));

    let again = format!("hf:owner/name@{COMMIT}");
    let ran = publish(&fake, &url, home.path(), &again, "v4", Some("hf_secret")).await;
    assert_eq!(
        (ran.code, asked.lock().unwrap().len()),
        (0, 0),
        "the cache has it: {ran:?}"
    );
}

#[tokio::test]
async fn what_the_hub_refuses_is_explained() {
    let url = Hub {
        files: Arc::new(files()),
        token: Some("hf_secret"),
        ..Hub::default()
    }
    .start()
    .await;
    let fake = FakeRouter::start().await;
    let home = tempfile::tempdir().unwrap();
    let ran = publish(&fake, &url, home.path(), "hf:owner/name", "v3", None).await;
    assert!(ran.code == 1 && ran.stderr.contains("set HF_TOKEN"), "{ran:?}");
    let ran = publish(&fake, "http://127.0.0.1:1", home.path(), "hf:owner/name", "v3", None).await;
    assert!(ran.code == 1 && ran.stderr.contains("HF_ENDPOINT"), "{ran:?}");

    let pickle = files()
        .into_iter()
        .filter(|(name, _)| *name != "model.safetensors")
        .collect();
    let hub = Hub {
        files: Arc::new(pickle),
        ..Hub::default()
    };
    let asked = hub.asked.clone();
    let ran = publish(&fake, &hub.start().await, home.path(), "hf:owner/name", "v3", None).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("M.from_pretrained(\"owner/name\")"),
        "{ran:?}"
    );
    assert!(asked.lock().unwrap().is_empty(), "nothing is downloaded in vain");
}

#[tokio::test]
async fn one_gguf_of_a_repository_is_published() {
    let ggufs = ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "big-00001-of-00002.gguf"];
    let files = ggufs.map(|name| (name, [b"GGUF".as_slice(), name.as_bytes()].concat()));
    let hub = Hub {
        files: Arc::new([(".gitattributes", b"x".to_vec())].into_iter().chain(files).collect()),
        ..Hub::default()
    };
    let asked = hub.asked.clone();
    let url = hub.start().await;
    let fake = FakeRouter::start().await;
    let (home, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fake.state().store = format!("file://{}", store.path().display());
    let publish = async |source: &str, version: &str, more: &[&str]| {
        let mut command = understudy();
        command
            .args(["models", "publish", source, "--model", "critic", "--version", version])
            .args(more);
        command
            .env("UNDERSTUDY_ROUTER", fake.url())
            .env("HF_ENDPOINT", &url)
            .env("HF_HOME", home.path());
        finish(command).await
    };
    let ran = publish("hf:owner/name/m-Q4_K_M.gguf", "v1", &[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), ["m-Q4_K_M.gguf"]);
    let manifest = fake.state().models["critic"].versions[0].clone();
    assert_eq!(
        (manifest.kind(), manifest.files[0].path.as_str()),
        (Kind::Scribe, "m-Q4_K_M.gguf")
    );
    assert_eq!(
        manifest.lineage.unwrap().parent,
        format!("hf:owner/name/m-Q4_K_M.gguf@{COMMIT}")
    );
    let ran = publish("hf:owner/name", "v2", &["--file", "m-Q8_0.gguf"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), ["m-Q8_0.gguf"]);

    let several = publish("hf:owner/name", "v3", &["--kind", "scribe"]).await;
    assert!(
        several.stderr.contains("several GGUFs: choose one with --file"),
        "{several:?}"
    );
    let part = publish("hf:owner/name/big-00001-of-00002.gguf", "v3", &[]).await;
    assert!(part.stderr.contains("llama-gguf-split --merge"), "{part:?}");
    let missing = publish("hf:owner/name/other.gguf", "v3", &[]).await;
    assert!(
        missing.stderr.contains("no GGUF other.gguf; it has: big-"),
        "{missing:?}"
    );
    let twice = publish("hf:owner/name/m-Q8_0.gguf", "v3", &["--file", "m-Q8_0.gguf"]).await;
    assert!(twice.stderr.contains("leave out --file"), "{twice:?}");
    assert!(asked.lock().unwrap().is_empty(), "nothing is downloaded in vain");
}
