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
        ..Default::default()
    }
}

fn shadowed() -> v1::Route {
    let shadow = v1::Shadow {
        arm: "canary".into(),
        sample_ppm: 100_000,
        noise_ppm: 1_000_000,
        keep_text: false,
    };
    v1::Route {
        rollout: 3,
        shadow: Some(shadow),
        ..route()
    }
}

fn shadow_of(route: &mut v1::Route) -> &mut v1::Shadow {
    route.shadow.as_mut().unwrap()
}

fn duration(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn slice() -> v1::Slice {
    let sketch = v1::Sketch {
        zeros: 1,
        buckets: vec![-300, -299, 4],
        counts: vec![10, 20, 1],
    };
    let card = v1::ArmCard {
        requests: 31,
        errors: 1,
        erring_keys: Some(v1::Distinct {
            smallest_hashes: vec![1, u64::MAX],
        }),
        fallbacks: 0,
        latency: Some(sketch),
        predictions: Some(v1::Predictions {
            classes: vec![10, 21],
            confidence: Some(v1::Moments {
                count: 31,
                sum: 29.5,
                sum_of_squares: 28.0,
            }),
            tokens: None,
        }),
    };
    v1::Slice {
        epoch: 7,
        weight_ppm: 50_000,
        stable: Some(card.clone()),
        candidate: Some(card),
    }
}

fn shadow_card() -> v1::ShadowCard {
    v1::ShadowCard {
        chosen: 4,
        pairs: 4,
        classes: Some(v1::ClassPairs {
            confusion: vec![1, 1, 0, 2],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn scorecard() -> v1::Scorecard {
    v1::Scorecard {
        model: "sentiment".into(),
        router: "router-1".into(),
        rollout: 3,
        epoch: 7,
        slice: Some(slice()),
        shadow: Some(shadow_card()),
        labels: None,
    }
}

fn rollout() -> v1::Rollout {
    let spec = v1::RolloutSpec {
        candidate: "v2".into(),
        stable: "v1".into(),
        strategy: v1::Strategy::Canary.into(),
        shadow: Some(v1::ShadowStage {
            sample_ppm: 100_000,
            noise_ppm: 100_000,
            hold: duration(60),
            pairs_min: 200,
        }),
        steps: vec![v1::Step {
            weight_ppm: 10_000,
            hold: duration(60),
            requests_min: 100,
            manual: false,
        }],
        gates: Some(v1::Gates {
            alpha: 0.05,
            beta: 0.05,
            latency: Some(v1::LatencyGate {
                quantiles: vec![0.5, 0.95],
                ..Default::default()
            }),
            ..Default::default()
        }),
        watch: duration(600),
        webhooks: vec![v1::Webhook {
            url: "https://hooks.example/rollouts".into(),
            secret_env: "HOOK_SECRET_1".into(),
        }],
        ..Default::default()
    };
    let status = v1::RolloutStatus {
        phase: v1::Phase::Shifting.into(),
        elapsed: duration(3),
        settled: vec![slice()],
        settled_shadow: Some(shadow_card()),
        ..Default::default()
    };
    v1::Rollout {
        model: "sentiment".into(),
        kind: v1::Kind::Analyst.into(),
        number: 3,
        generation: 9,
        spec: Some(spec),
        status: Some(status),
        history: vec![v1::Transition {
            rollout: 3,
            from: v1::Phase::Shadow.into(),
            to: v1::Phase::Shifting.into(),
            weight_ppm: 10_000,
            by: "controller r1".into(),
            ..Default::default()
        }],
        labels: vec!["negative".into(), "positive".into()],
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
fn shadows_of_routes() {
    let unknown = |r: &mut v1::Route| shadow_of(r).arm = "green".into();
    refused(shadowed(), unknown, "shadow.arm \"green\" must name an arm");
    refused(
        shadowed(),
        |r| shadow_of(r).arm = "stable".into(),
        "other than the first",
    );
    refused(
        shadowed(),
        |r| shadow_of(r).sample_ppm = 0,
        "shadow.sample_ppm must be above 0",
    );
    refused(shadowed(), |r| shadow_of(r).sample_ppm = 1_000_001, "shadow.sample_ppm");
    refused(shadowed(), |r| shadow_of(r).noise_ppm = 1_000_001, "shadow.noise_ppm");
}

#[test]
fn rollouts() {
    fn spec(r: &mut v1::Rollout) -> &mut v1::RolloutSpec {
        r.spec.as_mut().unwrap()
    }
    fn status(r: &mut v1::Rollout) -> &mut v1::RolloutStatus {
        r.status.as_mut().unwrap()
    }
    refused(rollout(), |r| r.number = 0, "number is missing");
    refused(rollout(), |r| r.spec = None, "spec is missing");
    refused(rollout(), |r| r.status = None, "status is missing");
    refused(rollout(), |r| spec(r).candidate = "../v2".into(), "spec.candidate");
    refused(rollout(), |r| spec(r).strategy = 0, "spec.strategy is missing");
    refused(rollout(), |r| spec(r).strategy = 9, "spec.strategy 9 is not known");
    refused(
        rollout(),
        |r| spec(r).steps[0].weight_ppm = 1_000_001,
        "spec.steps.weight_ppm",
    );
    refused(rollout(), |r| spec(r).steps[0].hold = duration(-1), "spec.steps.hold");
    let long = |r: &mut v1::Rollout| spec(r).steps = vec![v1::Step::default(); STEPS_MAX + 1];
    refused(rollout(), long, "spec.steps has 33 entries");
    for bad in [f64::NAN, f64::INFINITY, -0.1] {
        let spoil = |r: &mut v1::Rollout| spec(r).gates.as_mut().unwrap().alpha = bad;
        refused(rollout(), spoil, "spec.gates.alpha must be a number");
    }
    for bad in ["hooks.example", "http://", "https:///x", "file:///etc/passwd"] {
        refused(rollout(), |r| spec(r).webhooks[0].url = bad.into(), "spec.webhooks.url");
    }
    for bad in ["", "1A", "A-B", "A=B"] {
        let spoil = |r: &mut v1::Rollout| spec(r).webhooks[0].secret_env = bad.into();
        refused(rollout(), spoil, "spec.webhooks.secret_env");
    }
    refused(rollout(), |r| status(r).phase = 0, "status.phase is missing");
    refused(rollout(), |r| status(r).phase = 99, "status.phase 99 is not known");
    refused(
        rollout(),
        |r| status(r).reason = "x".repeat(2_049),
        "status.reason has 2049 bytes",
    );
    refused(rollout(), |r| r.history[0].to = -1, "history.to -1 is not known");
    let long = |r: &mut v1::Rollout| r.history = vec![r.history[0].clone(); HISTORY_MAX + 1];
    refused(rollout(), long, "history has 201 entries");
}

#[test]
fn scorecards() {
    fn stable(card: &mut v1::Scorecard) -> &mut v1::ArmCard {
        card.slice.as_mut().unwrap().stable.as_mut().unwrap()
    }
    fn sketch(card: &mut v1::Scorecard) -> &mut v1::Sketch {
        stable(card).latency.as_mut().unwrap()
    }
    refused(scorecard(), |c| c.router = "Router 1".into(), "router \"Router 1\"");
    refused(scorecard(), |c| c.rollout = 0, "rollout is missing");
    refused(
        scorecard(),
        |c| sketch(c).counts.truncate(1),
        "slice.stable.latency has 3 buckets and 1 counts",
    );
    refused(scorecard(), |c| sketch(c).buckets[1] = -300, "buckets must ascend");
    let many = |c: &mut v1::Scorecard| stable(c).erring_keys.as_mut().unwrap().smallest_hashes = vec![0; 1_025];
    refused(scorecard(), many, "slice.stable.erring_keys has 1025 entries");
    let nan = |c: &mut v1::Scorecard| {
        let predictions = stable(c).predictions.as_mut().unwrap();
        predictions.confidence.as_mut().unwrap().sum = f64::NAN;
    };
    refused(scorecard(), nan, "slice.stable.predictions.confidence has a sum");
    let lines = |c: &mut v1::Scorecard| {
        let classes = c.shadow.as_mut().unwrap().classes.as_mut().unwrap();
        classes.confusion.truncate(3);
    };
    refused(scorecard(), lines, "shadow.classes.confusion has 3 entries");
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
    for (path, key) in [
        ("sentiment/rollout", Some("sentiment")),
        ("sentiment/versions/rollout", None),
        ("sentiment/route", None),
        ("rollout", None),
    ] {
        assert_eq!(v1::Rollout::key_of(path).as_deref(), key, "{path}");
    }
    assert_eq!(v1::Route::key_of("sentiment/rollout"), None);
    assert_eq!(v1::Manifest::key_of("sentiment/rollout"), None);
    assert_eq!(v1::Manifest::key_of("a/versions/rollout").as_deref(), Some("a/rollout"));
    for (path, key) in [("m/r", Some("m/r")), ("m", None), ("m/r/x", None)] {
        assert_eq!(v1::Scorecard::key_of(path).as_deref(), key, "{path}");
    }
    assert_eq!(v1::Rollout::path(&rollout().key()), "sentiment/rollout");
    assert_eq!(v1::Scorecard::path(&scorecard().key()), "sentiment/router-1");
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
    let json = encode(&rollout()).unwrap();
    assert_eq!(decode::<v1::Rollout>("sentiment", json.as_bytes()).unwrap(), rollout());
    assert!(
        json.contains(r#""quantiles": [0.5, 0.95]"#) && json.contains(r#""phase": "PHASE_SHIFTING""#),
        "{json}"
    );
    let json = encode(&scorecard()).unwrap();
    let read = decode::<v1::Scorecard>("sentiment/router-1", json.as_bytes()).unwrap();
    assert_eq!(read, scorecard());
    let json = encode(&route()).unwrap();
    let unknown = json.replace("KIND_ANALYST", "KIND_FUTURE");
    assert!(decode::<v1::Route>("sentiment", unknown.as_bytes()).is_err());
    let mut huge = manifest();
    huge.golden_examples[0].text = "x".repeat(RECORD_BYTES_MAX);
    assert!(matches!(encode(&huge), Err(Error::Invalid { .. })));
}

/// A scorecard full to its bounds, short of the number of classes, still fits.
#[test]
fn full_scorecards_fit() {
    let mut card = scorecard();
    let full = v1::ArmCard {
        erring_keys: Some(v1::Distinct {
            smallest_hashes: vec![u64::MAX; 1_024],
        }),
        latency: Some(v1::Sketch {
            zeros: 0,
            buckets: (-1_024..1_024).collect(),
            counts: vec![1_000_000_000; 2_048],
        }),
        ..Default::default()
    };
    card.slice = Some(v1::Slice {
        stable: Some(full.clone()),
        candidate: Some(full.clone()),
        ..Default::default()
    });
    card.shadow = Some(v1::ShadowCard {
        stable_latency: full.latency.clone(),
        candidate_latency: full.latency,
        classes: Some(v1::ClassPairs {
            confusion: vec![1_000_000_000; 128 * 128],
            ..Default::default()
        }),
        ..Default::default()
    });
    let json = encode(&card).unwrap();
    assert!(json.len() < RECORD_BYTES_MAX / 2, "{}", json.len());
}
