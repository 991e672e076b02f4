use super::*;
use clap::Parser;

#[derive(Parser)]
struct Runs {
    #[command(subcommand)]
    command: Command,
}

fn told(folder: &Path, words: &str) -> anyhow::Result<String> {
    let at = folder.display().to_string();
    let words = std::iter::once("runs".to_owned())
        .chain(words.split_whitespace().map(|word| word.replace("FOLDER", &at)))
        .chain(["--runs".to_owned(), format!("{at}/runs")]);
    run(&Runs::try_parse_from(words)?.command)
}

fn options(folder: &Path) -> TrackOptions {
    TrackOptions {
        runs: folder.join("runs"),
        mlflow: None,
        mlflow_experiment: "understudy".into(),
        mlflow_token: None,
    }
}

fn beginning(folder: &Path, name: &str, rate: &str) -> Beginning {
    Beginning {
        command: "train",
        output: folder.join(name),
        parameters: [("learning-rate", rate), ("seed", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        data_sha256: [("data.csv".to_owned(), "ab".repeat(32))].into(),
        resume_from: None,
    }
}

#[test]
fn runs_are_listed_shown_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(told(folder, "list").unwrap().starts_with("no runs in"));
    for (name, rate) in [("first", "0.001"), ("second", "0.01")] {
        let mut tracker = Tracker::begin(&options(folder), beginning(folder, name, rate)).unwrap();
        for step in 1..=3 {
            let loss = if name == "first" { 0.9 } else { 0.8 } / f64::from(u32::try_from(step).unwrap());
            tracker.metrics(step, &[("train/loss", loss), ("broken", f64::NAN)]);
        }
        if name == "first" {
            assert!(told(folder, "list").unwrap().contains("running"));
            tracker.end(&Ok(Outcome::Finished));
        } else {
            tracker.end(&Err(anyhow::anyhow!("no space left")));
        }
    }
    let list = told(folder, "list").unwrap();
    assert!(
        list.contains("finished") && list.contains("failed") && list.contains("train/loss 0.3000"),
        "{list}"
    );
    let show = told(folder, "show second").unwrap();
    assert!(
        show.contains("no space left") && show.contains("0.2667") && !show.contains("broken"),
        "{show}"
    );
    let compared = told(folder, "compare first second --report FOLDER/out.html").unwrap();
    assert!(
        compared.contains("learning-rate") && !compared.contains("seed"),
        "{compared}"
    );
    assert!(compared.contains("0.3000 (0.3000 to 0.9000)"), "{compared}");
    let html = std::fs::read_to_string(folder.join("out.html")).unwrap();
    assert!(html.contains("train/loss") && html.contains("<svg "));
    let json: serde_json::Value = serde_json::from_str(&told(folder, "compare first second --json").unwrap()).unwrap();
    assert_eq!(
        json["runs"][0]["series"]["train/loss"][2],
        serde_json::json!([3, 0.9 / 3.0])
    );
    assert_eq!(json["differing"]["learning-rate"], serde_json::json!(["0.001", "0.01"]));
    assert!(
        told(folder, "show 1999")
            .unwrap_err()
            .to_string()
            .contains("no run \"1999\"")
    );
    assert!(
        told(folder, "show 2")
            .unwrap_err()
            .to_string()
            .contains("2 runs begin with")
    );
}

#[test]
fn a_killed_run_is_seen_and_goes_on_where_its_state_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut tracker = Tracker::begin(&options(folder), beginning(folder, "out", "0.1")).unwrap();
    for step in 1..=5 {
        tracker.metrics(step, &[("train/loss", 1.0)]);
    }
    let run = tracker.folder.clone();
    assert!(
        Tracker::begin(
            &options(folder),
            Beginning {
                resume_from: Some(3),
                ..beginning(folder, "out", "0.1")
            }
        )
        .is_err(),
        "the run is being written"
    );
    // As a kill leaves it: no end in the record, a line cut off.
    let record = std::fs::read(run.join(record::FILE)).unwrap();
    drop(tracker);
    std::fs::write(run.join(record::FILE), record).unwrap();
    let metrics = std::fs::read_to_string(run.join(record::METRICS)).unwrap();
    std::fs::write(run.join(record::METRICS), format!("{metrics}{{\"step\":6,\"mill")).unwrap();
    assert!(told(folder, "list").unwrap().contains("died"));

    let resumed = Beginning {
        resume_from: Some(3),
        ..beginning(folder, "out", "0.1")
    };
    let mut tracker = Tracker::begin(&options(folder), resumed.clone()).unwrap();
    assert_eq!(tracker.folder, run);
    tracker.metrics(4, &[("train/loss", 0.5)]);
    tracker.end(&Ok(Outcome::Finished));
    let steps: Vec<u64> = record::measured(&run).unwrap().iter().map(|line| line.step).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    let again = Tracker::begin(&options(folder), resumed).unwrap();
    assert_ne!(again.folder, run, "a finished run is not gone on with");
}

#[test]
fn a_server_that_is_not_there_is_told_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    options.mlflow = Some(format!("http://127.0.0.1:{port}"));
    let error = Tracker::begin(&options, beginning(folder.path(), "out", "0.1"))
        .err()
        .unwrap();
    assert!(format!("{error:#}").contains("is `mlflow server` running"), "{error:#}");
    assert!(told(folder.path(), "list").unwrap().contains("failed"));
}
