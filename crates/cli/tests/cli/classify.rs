use std::{fs, io::Write as _, process::Stdio};

use crate::{
    fake_router::{FakeRouter, arm},
    run::{Ran, finish, run, understudy},
};

#[tokio::test]
async fn texts_of_the_command_line() {
    let fake = FakeRouter::start().await;
    let ran = run(fake.url(), &["classify", "--json", "a good film", "a bad one"]).await;
    let answers: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        (&answers[0]["label"], &answers[1]["label"]),
        (&"positive".into(), &"negative".into())
    );
    assert_eq!(answers[0]["version"], "v1");
    assert_eq!(answers[0]["probabilities"]["positive"], 0.75);
    let ran = run(fake.url(), &["classify", "a good film"]).await;
    assert!(
        ran.stdout.starts_with("positive") && ran.stdout.contains("75.00%  v1  a good film"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_bad_text_is_refused_alone() {
    let fake = FakeRouter::start().await;
    let ran = run(fake.url(), &["classify", "good", " ", "bad"]).await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (1, 2), "{ran:?}");
    assert!(ran.stderr.contains("text: must not be empty"), "{ran:?}");
}

#[tokio::test]
async fn lines_of_standard_input() {
    let fake = FakeRouter::start().await;
    let url = fake.url().to_owned();
    let ran: Ran = tokio::task::spawn_blocking(move || {
        let mut command = understudy();
        command
            .args(["classify", "--router", &url, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"a good one\n\na bad one\n")
            .unwrap();
        child.wait_with_output().unwrap().into()
    })
    .await
    .unwrap();
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 2), "{ran:?}");
}

#[tokio::test]
async fn a_file_goes_in_and_out_unharmed() {
    let fake = FakeRouter::start().await;
    fake.state()
        .set_route(vec![arm("stable", "v1", 500_000), arm("canary", "v2", 500_000)]);
    fake.state().unavailable = 2;
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.csv"), folder.path().join("out.csv"));
    let mut csv = b"id,review,sentiment\n".to_vec();
    for index in 0..100 {
        let (text, truth) = if index % 2 == 0 {
            ("good, \"really\"\ngood", "positive")
        } else {
            ("bad", "Negative")
        };
        csv.extend_from_slice(format!("{index},\"{}\",{truth}\n", text.replace('"', "\"\"")).as_bytes());
    }
    csv.extend_from_slice(b"100,caf\xe9 good,negative\n101,,positive\n");
    fs::write(&input, &csv).unwrap();

    let mut command = understudy();
    command
        .args(["classify", "--json", "--router", fake.url(), "--file"])
        .arg(&input)
        .arg("--out")
        .arg(&out);
    let ran = finish(command).await;
    assert_eq!(ran.code, 1, "an empty row is refused: {ran:?}");
    assert!(
        ran.stderr.contains("line 153 was refused: text: must not be empty"),
        "{ran:?}"
    );
    let report = ran.json();
    assert_eq!((&report["rows"], &report["refused"]), (&102.into(), &1.into()));
    assert!(
        (report["accuracy"].as_f64().unwrap() - 100.0 / 101.0).abs() < 1e-9,
        "{report}"
    );
    let versions = report["versions"].as_object().unwrap();
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["v1", "v2"]);

    let mut before = csv::ReaderBuilder::new().from_reader(csv.as_slice());
    let mut after = csv::Reader::from_path(&out).unwrap();
    assert_eq!(
        after.headers().unwrap(),
        vec!["id", "review", "sentiment", "label", "confidence", "version"]
    );
    let (before, after): (Vec<_>, Vec<_>) = (
        before.byte_records().map(Result::unwrap).collect(),
        after.byte_records().map(Result::unwrap).collect(),
    );
    assert_eq!(before.len(), after.len());
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(
            before.iter().eq(after.iter().take(3)),
            "row {index} is as it was, and in its place"
        );
        let label = if index == 101 {
            ""
        } else if index % 2 == 0 {
            "positive"
        } else {
            "negative"
        };
        assert_eq!(&after[3], label.as_bytes());
    }
    assert!(!folder.path().join("out.csv.part").exists());
    let longest = fake.state().calls.iter().map(Vec::len).max();
    assert_eq!(longest, Some(16), "calls are batches of a bounded size");
}

#[tokio::test]
async fn the_text_column_is_found_or_asked_for() {
    let fake = FakeRouter::start().await;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.csv");
    fs::write(&input, "headline,body,label\na,good,x\n").unwrap();
    let path = input.to_str().unwrap();
    let ran = run(fake.url(), &["classify", "--file", path]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("--column, one of headline, body, label"),
        "{ran:?}"
    );
    let ran = run(fake.url(), &["classify", "--file", path, "--column", "body"]).await;
    assert!(
        ran.stdout
            .starts_with("headline,body,label,understudy_label,confidence,version\na,good,x,positive,"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("accuracy 0.0% (0 of 1)"), "{ran:?}");
}

#[tokio::test]
async fn errors_say_what_to_do_next() {
    let fake = FakeRouter::start().await;
    fake.state().token = Some("secret".into());
    let ran = run(fake.url(), &["classify", "x"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("pass --token or set UNDERSTUDY_TOKEN"),
        "{ran:?}"
    );
    let ran = run(fake.url(), &["classify", "x", "--token", "secret"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = run(fake.url(), &["classify", "x", "--token", "secret", "--model", "nobody"]).await;
    assert!(
        ran.stderr
            .contains("there is no model nobody: `understudy models list` shows"),
        "{ran:?}"
    );
    let ran = run("http://127.0.0.1:1", &["classify", "x"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("start the platform with `understudy up`"),
        "{ran:?}"
    );
    let ran = run("http://127.0.0.1:1", &["classify", "x", "--json"]).await;
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .contains("cannot reach the router at http://127.0.0.1:1"),
        "{ran:?}"
    );
}
