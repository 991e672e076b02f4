use std::{fs, path::Path};

use crate::{fake_router::FakeRouter, run::run};

/// A folder that looks like a checkpoint from the outside.
pub(crate) fn checkpoint(folder: &Path) {
    let config = r#"{"model_type":"distilbert","id2label":{"0":"NEGATIVE","1":"POSITIVE"}}"#;
    fs::write(folder.join("config.json"), config).unwrap();
    fs::write(folder.join("model.safetensors"), vec![7; 100_000]).unwrap();
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
    assert_eq!(fs::read(uploaded).unwrap(), vec![7; 100_000]);

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
