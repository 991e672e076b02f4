use super::*;

fn arm(name: &str, version: &str, weight_ppm: u32) -> v1::Arm {
    v1::Arm {
        name: name.into(),
        version: version.into(),
        weight_ppm,
    }
}

fn route() -> v1::Route {
    v1::Route {
        model: "sentiment".into(),
        kind: v1::Kind::Analyst.into(),
        epoch: 1,
        arms: vec![arm("stable", "v1", 900_000), arm("canary", "v2", 100_000)],
        pinning: 0,
    }
}

fn manifest() -> v1::Manifest {
    v1::Manifest {
        format: 1,
        model: "sentiment".into(),
        version: "v1".into(),
        kind: v1::Kind::Analyst.into(),
        artifact_uri: "file:///models/sentiment/v1".into(),
        files: vec![v1::ArtifactFile {
            path: "a/model.safetensors".into(),
            sha256: "0".repeat(64),
            size_bytes: 1,
        }],
        labels: vec!["negative".into(), "positive".into()],
        golden_examples: vec![v1::GoldenExample {
            text: "good".into(),
            probabilities: vec![0.25, 0.75],
        }],
        ..Default::default()
    }
}

fn worker() -> v1::Worker {
    v1::Worker {
        worker: "w1".into(),
        kind: v1::Kind::Analyst.into(),
        address: "http://10.0.0.7:8480".into(),
        versions: vec![v1::Residency {
            model: "sentiment".into(),
            version: "v1".into(),
            state: v1::ResidencyState::Ready.into(),
            reason: String::new(),
        }],
        engine: "cpu".into(),
    }
}

fn refused<R: Record>(mut record: R, spoil: impl FnOnce(&mut R), expected: &str) {
    assert_eq!(record.validate(), Ok(()));
    spoil(&mut record);
    let problem = record.validate().expect_err(expected);
    assert!(problem.contains(expected), "{problem:?} lacks {expected:?}");
}

#[test]
fn routes() {
    refused(route(), |r| r.arms[0].weight_ppm = 1, "must sum to 1000000, not 100001");
    refused(
        route(),
        |r| r.arms = vec![arm("a", "v1", u32::MAX), arm("b", "v2", 1_000_001)],
        "must sum to",
    );
    refused(
        route(),
        |r| r.arms[1].name = "stable".into(),
        "arms.name \"stable\" appears twice",
    );
    refused(route(), |r| r.arms.clear(), "arms must be 1 to 32");
    refused(route(), |r| r.arms[0].version = "../v1".into(), "arms.version");
    refused(route(), |r| r.model = "Sentiment".into(), "model \"Sentiment\"");
    refused(route(), |r| r.kind = 0, "kind is missing");
    refused(route(), |r| r.kind = 77, "kind 77 is not known");
    refused(route(), |r| r.pinning = -1, "pinning -1 is not known");
}

#[test]
fn manifests() {
    refused(manifest(), |m| m.format = 2, "newer Understudy");
    refused(manifest(), |m| m.format = 0, "format is missing");
    refused(manifest(), |m| m.version = String::new(), "version");
    refused(manifest(), |m| m.files.clear(), "files is empty");
    for path in ["", "/etc/passwd", "a//b", "../a", "a/..", ".", "a\\b", "c:a"] {
        refused(manifest(), |m| m.files[0].path = path.into(), "files.path");
    }
    refused(manifest(), |m| m.files[0].sha256 = "G".repeat(64), "files.sha256");
    refused(manifest(), |m| m.files.push(m.files[0].clone()), "appears twice");
    refused(
        manifest(),
        |m| m.labels[1] = "negative".into(),
        "labels \"negative\" appears twice",
    );
    refused(manifest(), |m| m.labels.truncate(1), "2 probabilities for 1 labels");
    refused(
        manifest(),
        |m| m.golden_examples[0].probabilities[0] = f32::NAN,
        "outside of [0, 1]",
    );
    refused(
        manifest(),
        |m| m.metrics.extend([("f1".to_owned(), f64::INFINITY)]),
        "finite",
    );
}

#[test]
fn workers() {
    refused(worker(), |w| w.address = "10.0.0.7:8480".into(), "address");
    refused(worker(), |w| w.address = "http://".into(), "address");
    refused(worker(), |w| w.versions[0].state = 0, "versions.state is missing");
    refused(worker(), |w| w.versions[0].state = 9, "versions.state 9 is not known");
    refused(worker(), |w| w.versions.push(w.versions[0].clone()), "appears twice");
}

#[test]
fn keys() {
    for (path, key) in [
        ("sentiment/versions/v1", Some("sentiment/v1")),
        ("sentiment/route", None),
        ("a/b/versions/c", None),
    ] {
        assert_eq!(v1::Manifest::key_of(path).as_deref(), key, "{path}");
    }
    for (path, key) in [
        ("sentiment/route", Some("sentiment")),
        ("a/versions/route", None),
        ("route", None),
    ] {
        assert_eq!(v1::Route::key_of(path).as_deref(), key, "{path}");
    }
    assert_eq!(v1::Worker::key_of("w1/x"), None);
    assert_eq!(v1::Manifest::path(&manifest().key()), "sentiment/versions/v1");
    assert_eq!(v1::Route::path(&route().key()), "sentiment/route");
}

#[test]
fn what_is_written_can_be_read() {
    let json = encode(&route()).unwrap();
    assert_eq!(decode::<v1::Route>("sentiment", json.as_bytes()).unwrap(), route());
    let moved = decode::<v1::Route>("other", json.as_bytes()).unwrap_err().to_string();
    assert!(
        moved.contains("models/other/route") && moved.contains("sentiment"),
        "{moved}"
    );
    let unknown = json.replace("KIND_ANALYST", "KIND_FUTURE");
    assert!(decode::<v1::Route>("sentiment", unknown.as_bytes()).is_err());
    let mut huge = manifest();
    huge.golden_examples[0].text = "x".repeat(RECORD_BYTES_MAX);
    assert!(matches!(encode(&huge), Err(Error::Invalid { .. })));
}
