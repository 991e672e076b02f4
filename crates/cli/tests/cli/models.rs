use std::{fs, path::Path};

use understudy_protocol::v1::Kind;

use crate::{fake_router::FakeRouter, run::run};

/// A safetensors file of this size with one tensor.
pub(crate) fn weights(size: usize) -> Vec<u8> {
    let header = |end: usize| format!(r#"{{"a":{{"dtype":"U8","shape":[{end}],"data_offsets":[0,{end:>7}]}}}}"#);
    // Its numbers are of one length, so the header is.
    let rest = size - 8 - header(0).len() - 7;
    let header = format!("{:<1$}", header(rest), size - 8 - rest);
    let length = u64::try_from(header.len()).unwrap().to_le_bytes();
    [&length, header.as_bytes(), &vec![7; rest]].concat()
}

/// A folder that looks like a checkpoint from the outside.
pub(crate) fn checkpoint(folder: &Path) {
    let config = r#"{"model_type":"distilbert","id2label":{"0":"NEGATIVE","1":"POSITIVE"}}"#;
    fs::write(folder.join("config.json"), config).unwrap();
    fs::write(folder.join("model.safetensors"), weights(100_000)).unwrap();
    fs::write(folder.join("vocab.txt"), "[PAD]\n").unwrap();
    fs::write(folder.join("training_args.bin"), "not to be published").unwrap();
}

async fn publish(fake: &FakeRouter, folder: &Path, more: &[&str]) -> crate::run::Ran {
    let folder = folder.to_str().unwrap();
    let arguments = [
        &[
            "models",
            "publish",
            folder,
            "--model",
            "sentiment",
            "--version",
            "v3",
            "--json",
        ],
        more,
    ]
    .concat();
    run(fake.url(), &arguments).await
}

#[tokio::test]
async fn publish_takes_what_the_trainer_knows() {
    let fake = FakeRouter::start().await;
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fake.state().store = format!("file://{}", store.path().display());
    checkpoint(folder.path());
    let description = r#"{"labels":["negative","positive"],"metrics":{"accuracy":0.87,"f1":0.86},"lineage":{"recipe":"train"},
        "goldenExamples":[{"text":"good","probabilities":[0.1,0.9]}]}"#;
    fs::write(folder.path().join("understudy.json"), description).unwrap();
    let ran = publish(&fake, folder.path(), &["--metric", "accuracy=0.91"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let manifest = fake.state().models["sentiment"].versions[2].clone();
    assert_eq!(
        (manifest.labels.as_slice(), manifest.metrics["accuracy"]),
        (&["negative".into(), "positive".into()][..], 0.91)
    );
    assert_eq!((manifest.metrics["f1"], manifest.golden_examples.len()), (0.86, 1));
    assert_eq!(manifest.lineage.unwrap().recipe, "train");
    let mut names: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["config.json", "model.safetensors", "vocab.txt"]);
    let uploaded = Path::new(manifest.artifact_uri.strip_prefix("file://").unwrap()).join("model.safetensors");
    assert_eq!(fs::read(uploaded).unwrap(), weights(100_000));

    let ran = publish(&fake, folder.path(), &[]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("choose another --version"),
        "{ran:?}"
    );
    let ran = run(fake.url(), &["models", "list"]).await;
    assert!(ran.stdout.contains("accuracy 0.9100, f1 0.8600"), "{ran:?}");
    let ran = run(fake.url(), &["models", "show", "sentiment", "v3"]).await;
    assert!(
        ran.stdout.contains("negative, positive") && ran.stdout.contains("100,000 bytes"),
        "{ran:?}"
    );
    let ran = run(fake.url(), &["models", "show", "sentiment", "v8"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("`understudy models list` shows what there is"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn what_is_no_checkpoint_is_refused_before_anything_is_uploaded() {
    let fake = FakeRouter::start().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let refused = async |said: &str| {
        let ran = publish(&fake, folder, &[]).await;
        assert!(ran.code == 1 && ran.stderr.contains(said), "{said}: {ran:?}");
    };
    refused("has no config.json").await;
    checkpoint(folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    fs::write(folder.join("pytorch_model.bin"), "pickle").unwrap();
    refused("save_pretrained").await;
    checkpoint(folder);
    fs::remove_file(folder.join("vocab.txt")).unwrap();
    refused("neither tokenizer.json nor vocab.txt").await;
    checkpoint(folder);
    fs::write(folder.join("config.json"), r#"{"model_type":"bert"}"#).unwrap();
    refused("of type \\\"bert\\\"").await;
    checkpoint(folder);
    let ran = publish(&fake, folder, &["--labels", "a,b,c"]).await;
    assert!(
        ran.stderr.contains("--labels names 3 classes, but the model has 2"),
        "{ran:?}"
    );
    assert_eq!(fake.state().models["sentiment"].versions.len(), 2);
}

/// Publishes as the model `critic`, by default a GGUF that only begins like one.
async fn publish_scribe(fake: &FakeRouter, source: &Path, version: &str, more: &[&str]) -> crate::run::Ran {
    let source = source.to_str().unwrap();
    let arguments = [
        &["models", "publish", source, "--model", "critic", "--version", version],
        more,
    ]
    .concat();
    run(fake.url(), &arguments).await
}

#[tokio::test]
async fn a_gguf_is_published_as_a_scribe_of_one_file() {
    let fake = FakeRouter::start().await;
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fake.state().store = format!("file://{}", store.path().display());
    let file = folder.path().join("my critic.gguf");
    fs::write(&file, b"GGUF and more").unwrap();
    fs::write(folder.path().join("README.md"), "not to be published").unwrap();

    let ran = publish_scribe(&fake, &file, "v1", &["--metric", "supported=0.97"]).await;
    assert!(
        ran.code == 0 && ran.stdout.contains("Published critic/v1 (13 B)"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains("warning"), "{ran:?}");
    let manifest = fake.state().models["critic"].versions[0].clone();
    assert_eq!((manifest.kind(), manifest.labels.len()), (Kind::Scribe, 0));
    assert_eq!(
        (manifest.files.len(), manifest.files[0].path.as_str()),
        (1, "my critic.gguf")
    );
    assert_eq!(manifest.metrics["supported"], 0.97);
    let uploaded = Path::new(manifest.artifact_uri.strip_prefix("file://").unwrap()).join("my critic.gguf");
    assert_eq!(fs::read(uploaded).unwrap(), b"GGUF and more");

    let of_folder = publish_scribe(&fake, folder.path(), "v2", &["--kind", "scribe"]).await;
    assert_eq!(of_folder.code, 0, "{of_folder:?}");
    let uri = format!("file://{}/my%20critic.gguf", folder.path().display());
    let of_store = publish_scribe(&fake, Path::new(&uri), "v3", &[]).await;
    assert_eq!(of_store.code, 0, "{of_store:?}");
    let versions = fake.state().models["critic"].versions.clone();
    assert_eq!(
        (&versions[0].files, &versions[0].files),
        (&versions[1].files, &versions[2].files)
    );
    assert_eq!(versions[2].lineage.as_ref().unwrap().parent, uri);
    let ran = run(fake.url(), &["models", "list"]).await;
    assert!(ran.stdout.contains("critic     scribe   v1"), "{ran:?}");
}

#[tokio::test]
async fn what_is_no_scribe_is_refused_with_a_way_out() {
    let fake = FakeRouter::start().await;
    let store = tempfile::tempdir().unwrap();
    fake.state().store = format!("file://{}", store.path().display());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let refused = async |source: &Path, more: &[&str], said: &str| {
        let ran = publish_scribe(&fake, source, "v1", more).await;
        assert!(ran.code == 1 && ran.stderr.contains(said), "{said}: {ran:?}");
    };
    refused(&folder.join("no.gguf"), &[], "there is no file").await;
    refused(folder, &["--kind", "scribe"], "no file whose name ends in .gguf").await;
    fs::write(folder.join("a.bin"), "x").unwrap();
    refused(&folder.join("a.bin"), &["--kind", "scribe"], "is no GGUF").await;
    for part in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
        fs::write(folder.join(part), "GGUF").unwrap();
    }
    refused(folder, &[], "llama-gguf-split --merge m-00001-of-00002.gguf m.gguf").await;
    refused(&folder.join("m-00002-of-00002.gguf"), &[], "--merge").await;
    fs::write(folder.join("a.gguf"), "GGUF").unwrap();
    refused(folder, &[], "several GGUFs: choose one with --file, e.g. --file a.gguf").await;
    refused(folder, &["--file", "b.gguf"], "no GGUF b.gguf").await;
    refused(&folder.join("a.gguf"), &["--labels", "a,b"], "no classes").await;
    refused(&folder.join("a.gguf"), &["--kind", "analyst"], "a GGUF is a scribe").await;
    fs::write(folder.join("lfs.gguf"), "version https://git-lfs.github.com/spec/v1").unwrap();
    refused(&folder.join("lfs.gguf"), &[], "git lfs pull").await;
    assert!(!fake.state().models.contains_key("critic"));

    let other = folder.join("a.gguf");
    let arguments = [
        "models",
        "publish",
        other.to_str().unwrap(),
        "--model",
        "sentiment",
        "--version",
        "v9",
    ];
    let ran = run(fake.url(), &arguments).await;
    assert!(
        ran.code == 1
            && ran
                .stderr
                .contains("sentiment is a model of kind analyst, and this is of kind scribe"),
        "{ran:?}"
    );
    fs::write(folder.join("odd.gguf"), "").unwrap();
    let ran = publish_scribe(&fake, &folder.join("odd.gguf"), "v1", &[]).await;
    assert!(
        ran.code == 0 && ran.stderr.contains("does not begin as a GGUF does"),
        "{ran:?}"
    );
}
