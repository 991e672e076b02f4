use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tonic::Status;
use understudy_protocol::v1::{UnsupportedPolicy, fact};

use crate::{
    fake_router::{FakeRouter, arm, attempt, finish, number, piece},
    run::{Ran, finish as finish_command, understudy},
};

/// 300 reviews, so that there are several streams: two of three are good.
fn reviews(folder: &Path) -> PathBuf {
    let mut csv = "split,review,sentiment\n".to_owned();
    for index in 0..300 {
        let (text, truth) = match index % 3 {
            0 => (
                "A dull film.<br />It wastes a fine cast on a story that nobody wanted.",
                "negative",
            ),
            1 => (
                "A good film with warm and honest performances from the whole cast.",
                "positive",
            ),
            _ => (
                "A good and endless film, with a shade of doubt about its last hour.",
                "pos",
            ),
        };
        let split = if index < 30 { "train" } else { "test" };
        csv += &format!("{split},\"{text}\",{truth}\n");
    }
    let path = folder.join("film_reviews.csv");
    fs::write(&path, csv).unwrap();
    path
}

struct Case {
    fake: FakeRouter,
    folder: TempDir,
    file: PathBuf,
}

impl Case {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            fake: FakeRouter::start().await,
            file: reviews(folder.path()),
            folder,
        }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = understudy();
        command
            .args(["critique", "--router", self.fake.url()])
            .arg(&self.file)
            .args(more);
        command
    }

    async fn run(&self, more: &[&str]) -> Ran {
        finish_command(self.command(more)).await
    }
}

#[tokio::test]
async fn a_file_becomes_statistics_and_a_checked_critique() {
    let case = Case::new().await;
    let (wrong, right, quiet) = (
        "Of 300 reviews, 70.0% are positive.",
        "Of 300 reviews, 66.7% are positive.",
        "That is <most> of them.",
    );
    let claims = |sentence: &str, share: &str, reason: &str| {
        vec![
            number("300 reviews", sentence, "number of reviews", ""),
            number(share, sentence, "share of positive reviews", reason),
        ]
    };
    let bad = claims(wrong, "70.0%", "the sheet says 66.7%");
    let script = vec![
        attempt(1, vec![]),
        piece("Of 300 reviews, "),
        piece("70.0% are positive."),
        attempt(2, vec![bad[1].clone()]),
        piece(right),
        piece(&format!("\n\n{quiet}")),
        finish(&format!("{right}\n\n{quiet}"), 2, claims(right, "66.7%", "")),
    ];
    case.fake.state().critiques.push_back(script);
    let report = |name: &str| case.folder.path().join(name);
    let mut command = case.command(&["--attempts", "2", "--unsupported", "remove", "--seed", "7"]);
    for name in ["r.md", "r.html", "r.json"] {
        command.arg("--report").arg(report(name));
    }
    let ran = finish_command(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for said in [
        "Statistics: film reviews",
        "300 reviews in ",
        "analyst v1: 300 reviews",
        "accuracy 100.0% (300 of 300)",
        "100 reviews were classified by their beginning",
        "66.7%",
        "70.0% are positive.",
        "attempt 2: the fact sheet does not support 1 claim of the text above",
        "“70.0%” figure: the sheet says 66.7% (share of positive reviews)",
        "2 of 2 claims are supported",
        "scribe v3: attempt 2 of 2, 101 tokens, 50 tokens/s",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
    let order = [
        "Statistics:",
        "70.0% are positive",
        "attempt 2",
        "66.7% are positive",
        "Grounding",
    ];
    let places: Vec<_> = order.iter().map(|part| ran.stdout.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?} {ran:?}");
    assert_eq!(
        ran.stdout.matches("That is <most> of them.").count(),
        1,
        "it is not shown twice: {ran:?}"
    );

    let state = case.fake.state();
    let (draw, request) = state.sheets[0].clone();
    let draw = draw.unwrap();
    assert!((0.0..1.0).contains(&draw.parse::<f64>().unwrap()), "{draw}");
    assert!(
        state.streams.len() == 3 && state.streams.iter().all(|(other, _)| other.as_ref() == Some(&draw)),
        "one draw for the chain, in several streams"
    );
    assert!(
        state
            .streams
            .iter()
            .flat_map(|(_, texts)| texts)
            .all(|text| !text.contains("<br")),
        "texts are clean"
    );
    assert_eq!(
        (request.attempts_max, request.sampling.unwrap().seed),
        (Some(2), Some(7))
    );
    assert_eq!(request.unsupported, i32::from(UnsupportedPolicy::Remove));
    let sheet = request.sheet.unwrap();
    assert_eq!(
        (sheet.title.as_str(), sheet.items.as_str()),
        ("film reviews", "reviews")
    );
    let share = sheet
        .facts
        .iter()
        .find(|fact| fact.name == "share" && fact.subject == "positive");
    let Some(fact::Value::Number(share)) = &share.unwrap().value else {
        panic!("{share:?}")
    };
    assert!((share.value - 66.667).abs() < 0.001, "{share:?}");

    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(report("r.json")).unwrap()).unwrap();
    assert_eq!(
        (&json["statistics"]["texts"], &json["analysis"]["truncated"]),
        (&300.into(), &100.into())
    );
    assert_eq!(
        (
            &json["critique"]["attempts"],
            &json["critique"]["claims"][1]["supported"]
        ),
        (&2.into(), &true.into())
    );
    let markdown = fs::read_to_string(report("r.md")).unwrap();
    assert!(markdown.contains("Of 300 reviews, 66.7% are positive.") && markdown.contains("✓ [66.7%](#fact-"));
    let html = fs::read_to_string(report("r.html")).unwrap();
    assert!(html.contains("<svg ") && html.contains(">66.7%</a>") && html.contains("&lt;most&gt;"));
}

#[tokio::test]
async fn workers_that_restart_are_survived() {
    let case = Case::new().await;
    case.fake.state().unavailable = 1;
    case.fake.state().breaking = 2;
    let text = "The reviews are good.";
    case.fake.state().critiques.extend([
        vec![Err(Status::unavailable("the worker drains"))],
        vec![
            attempt(1, vec![]),
            piece("Half a sen"),
            Err(Status::unavailable("the worker died")),
        ],
        vec![attempt(1, vec![]), piece(text), finish(text, 1, vec![])],
    ]);
    let ran = case.run(&[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("analyst v1: 300 reviews"),
        "none twice, none lost: {ran:?}"
    );
    assert!(
        ran.stdout.contains("the critique begins again: the worker died"),
        "{ran:?}"
    );
    assert_eq!(case.fake.state().sheets.len(), 3);
}

#[tokio::test]
async fn what_is_refused_is_counted_and_told() {
    let case = Case::new().await;
    let long = "good ".repeat(20_000);
    let csv = format!("review\na good one\n\"  \"\n{long}\n<br />\na forbidden one\na bad one\n");
    fs::write(&case.file, csv).unwrap();
    let ran = case.run(&["--json", "--limit", "5"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    let refused = &json["analysis"]["refused"];
    assert_eq!(
        (&refused["empty"], &refused["too_long"], &refused["other"]),
        (&2.into(), &1.into(), &1.into()),
        "{json}"
    );
    assert_eq!(
        (&json["analysis"]["rows"], &json["statistics"]["texts"]),
        (&5.into(), &1.into())
    );
    assert!(json["analysis"]["accuracy"].is_null());
    assert_eq!(json["critique"]["text"], "The reviews speak for themselves.");
    assert!(
        ran.stderr
            .contains("line 4 was refused: it has more than 10,000 characters"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("line 6 was refused: text: I will not read this"),
        "{ran:?}"
    );
    let sent = case
        .fake
        .state()
        .streams
        .iter()
        .flat_map(|(_, texts)| texts)
        .map(String::len)
        .max();
    assert!(sent < Some(10_100), "no more than needed travels: {sent:?}");

    fs::write(&case.file, "review\n\"\"\n").unwrap();
    let ran = case.run(&[]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("none of the 1 reviews could be classified"),
        "{ran:?}"
    );
    fs::write(&case.file, "review\n").unwrap();
    let ran = case.run(&[]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("the file has no reviews"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_split_of_a_packed_file_and_no_critique() {
    let case = Case::new().await;
    let packed = zstd::encode_all(fs::read(&case.file).unwrap().as_slice(), 1).unwrap();
    fs::write(&case.file, packed).unwrap();
    let ran = case.run(&["--split", "train", "--sheet-only"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("Corpus: film reviews, train split"), "{ran:?}");
    assert!(ran.stdout.contains("- number of reviews: 30 reviews"), "{ran:?}");
    assert!(case.fake.state().sheets.is_empty());
    let ran = case.run(&["--split", "dev"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("one of test, train"), "{ran:?}");
}

#[tokio::test]
async fn versions_that_answered_are_told() {
    let case = Case::new().await;
    case.fake
        .state()
        .set_route(vec![arm("stable", "v1", 500_000), arm("canary", "v2", 500_000)]);
    // Two whole streams: whichever comes first, each version answers one.
    let ran = case
        .run(&["--title", "Films, old and new", "--limit", "256", "--json"])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    let reviews = |version: &str| json["analysis"]["versions"][version].as_u64().unwrap();
    assert_eq!((reviews("v1"), reviews("v2")), (128, 128), "{json}");
    assert_eq!(
        (&json["title"], &json["critique"]["version"]),
        (&"Films, old and new".into(), &"v3".into())
    );
}

#[tokio::test]
async fn an_unsupported_sentence_that_is_delivered_is_shown_as_it_is() {
    let case = Case::new().await;
    let sentence = "There are 9 reviews.";
    let script = vec![
        attempt(1, vec![]),
        piece(sentence),
        finish(
            "There are 9 reviews. [unsupported]",
            1,
            vec![number(
                "9",
                sentence,
                "number of reviews",
                "the sheet says 300\u{1b}[31m",
            )],
        ),
    ];
    case.fake.state().critiques.push_back(script);
    let ran = case.run(&[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout
            .contains("Critique as delivered (attempt 1 of 1)\n\nThere are 9 reviews. [unsupported]"),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .contains("✗ “9” figure: the sheet says 300[31m (number of reviews)"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("0 of 1 claims are supported"), "{ran:?}");
}

#[tokio::test]
async fn errors_say_what_to_do_next() {
    let case = Case::new().await;
    let ran = case.run(&["--report", "report.pdf"]).await;
    assert!(ran.code == 2 && ran.stderr.contains(".md, .html or .json"), "{ran:?}");
    case.fake
        .state()
        .critiques
        .push_back(vec![Err(Status::internal("the engine failed"))]);
    let missing = case.folder.path().join("nowhere/r.md");
    let ran = case.run(&["--report", missing.to_str().unwrap()]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("the engine failed: this is a fault of the server"),
        "{ran:?}"
    );
    let ran = case.run(&["--report", missing.to_str().unwrap()]).await;
    assert!(ran.code == 1 && ran.stderr.contains("cannot write"), "{ran:?}");
    case.fake.state().token = Some("secret".into());
    let ran = case.run(&[]).await;
    assert!(ran.code == 1 && ran.stderr.contains("pass --token"), "{ran:?}");
}
