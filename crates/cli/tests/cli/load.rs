use std::fs;

use crate::{
    fake_router::{FakeRouter, arm},
    run::run,
};

#[tokio::test]
async fn counts_by_version_arm_and_accuracy() {
    let fake = FakeRouter::start().await;
    fake.state()
        .set_route(vec![arm("stable", "v1", 900_000), arm("canary", "v2", 100_000)]);
    let folder = tempfile::tempdir().unwrap();
    let (input, timeline) = (folder.path().join("in.csv"), folder.path().join("timeline.csv"));
    fs::write(
        &input,
        "review,sentiment\ngood,positive\nbad,negative\ntricky good,positive\n",
    )
    .unwrap();
    let (input, timeline) = (input.to_str().unwrap(), timeline.to_str().unwrap());
    let arguments = [
        "--file",
        input,
        "--requests",
        "300",
        "--check-split",
        "--timeline",
        timeline,
        "--json",
    ];
    let ran = run(fake.url(), &[&["load"], &arguments[..]].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    assert_eq!((&report["requests"], &report["failures"]), (&300.into(), &0.into()));
    assert_eq!(report["arms"], serde_json::json!({ "stable": 270, "canary": 30 }));
    assert_eq!(report["versions"]["v1"]["accuracy"], 1.0);
    assert_eq!(report["split"]["within_bound"], true);
    let lines = fs::read_to_string(timeline).unwrap();
    assert_eq!(lines.lines().next(), Some("start_us,latency_us,code,version,arm"));
    assert_eq!(lines.lines().filter(|line| line.ends_with(",OK,v2,canary")).count(), 30);
}

#[tokio::test]
async fn a_split_that_is_off_is_a_failure() {
    let fake = FakeRouter::start().await;
    fake.state()
        .set_route(vec![arm("stable", "v1", 500_000), arm("canary", "v2", 500_000)]);
    fake.state().skewed = true;
    let ran = run(fake.url(), &["load", "--requests", "20", "--check-split"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout
            .contains("split: canary wants 50% of 20 = 10.0, got 0 (-10.0)"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn failures_are_counted_by_code() {
    let fake = FakeRouter::start().await;
    fake.state().unavailable = 3;
    let ran = run(fake.url(), &["load", "--requests", "50", "--json"]).await;
    assert_eq!(
        (ran.code, &ran.json()["failures_by_code"]["UNAVAILABLE"]),
        (1, &3.into()),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_command_runs_under_load() {
    let fake = FakeRouter::start().await;
    let understudy = env!("CARGO_BIN_EXE_understudy");
    let set = ["route", "set", "sentiment", "v2", "--no-wait", "--router", fake.url()];
    let arguments = [&["load", "--duration", "300ms", "--json", "--", understudy], &set[..]].concat();
    let ran = run(fake.url(), &arguments).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    let phase = |index: usize| report["phases"][index].clone();
    assert_eq!(
        [
            phase(0)["phase"].clone(),
            phase(1)["phase"].clone(),
            phase(2)["phase"].clone()
        ],
        ["before", "during", "after"]
    );
    let versions = |index: usize| {
        phase(index)["versions"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (versions(0), versions(2)),
        (vec!["v1".to_owned()], vec!["v2".to_owned()])
    );
    assert!(
        ran.stderr.contains("sentiment is recorded: stable=v2 100% (epoch 2)"),
        "{ran:?}"
    );
    let ran = run(fake.url(), &["load", "--duration", "50ms", "--", "false"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("false failed"), "{ran:?}");
}
