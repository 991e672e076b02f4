//! Feedback, drift and gate on small data; a whole retraining in seconds.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Parser;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::drift::Check;
use super::*;
use crate::train::tests::alone;

#[derive(Parser)]
struct Retrain {
    #[command(flatten)]
    options: RetrainOptions,
}

fn review(index: usize, good: bool) -> String {
    let plain = ["film", "story", "actor", "scene", "music", "camera"];
    let feeling = if good {
        ["superb", "charming"]
    } else {
        ["dreadful", "tedious"]
    };
    format!(
        "The {} number {index} of this {} was {} to me",
        plain[index % 6],
        plain[index / 6 % 6],
        feeling[index % 2]
    )
}

fn rows(range: std::ops::Range<usize>) -> Vec<(String, &'static str)> {
    range
        .map(|index| {
            (
                review(index, index % 3 > 0),
                if index % 3 > 0 { "positive" } else { "negative" },
            )
        })
        .collect()
}

fn csv(rows: &[(String, &str)]) -> String {
    rows.iter().fold("text,label\n".to_owned(), |mut csv, (text, label)| {
        writeln!(csv, "{text},{label}").unwrap();
        csv
    })
}

fn parquet(path: &Path, rows: &[(String, &str)]) {
    let schema = parse_message_type("message feedback { REQUIRED BINARY text (UTF8); REQUIRED BINARY label (UTF8); }");
    let file = std::fs::File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema.unwrap()), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for part in 0..2 {
        let values: Vec<ByteArray> = rows
            .iter()
            .map(|(text, label)| ByteArray::from(if part == 0 { text.as_str() } else { label }))
            .collect();
        let mut column = group.next_column().unwrap().unwrap();
        let ColumnWriter::ByteArrayColumnWriter(typed) = column.untyped() else {
            panic!("a column of strings")
        };
        typed.write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn labels() -> Labels {
    Labels::infer(["positive", "negative"]).unwrap()
}

fn splits(folder: &Path, range: std::ops::Range<usize>) -> Splits {
    let path = folder.join("data.csv");
    std::fs::write(&path, csv(&rows(range))).unwrap();
    let recipe = Recipe::resolve(None, RecipeOptions::default(), Beginning::Checkpoint).unwrap();
    read(&path, &Columns::default(), &labels(), &recipe).unwrap()
}

fn given(folder: &Path, rows: &[(String, &str)]) -> feedback::Given {
    let path = folder.join("feedback.csv");
    std::fs::write(&path, csv(rows)).unwrap();
    feedback::read(&[path], &Columns::default(), &labels(), folder).unwrap()
}

fn found(merged: &Merged, splits: &Splits) -> Vec<(Check, Level)> {
    drift::judge(merged, splits)
        .iter()
        .map(|finding| (finding.check, finding.level))
        .collect()
}

#[test]
fn what_must_not_be_learnt_is_left_out() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let splits = splits(folder.path(), 0..600);
    let new = rows(1000..1060);
    let mut rows: Vec<(String, &str)> = new.clone();
    rows.push(new[0].clone());
    rows.push((
        new[1].0.clone(),
        if new[1].1 == "positive" { "negative" } else { "positive" },
    ));
    rows.push((splits.test[0].text.clone(), "positive"));
    let learnt = &splits.train[0];
    rows.push((
        learnt.text.clone(),
        if learnt.label == 1 { "negative" } else { "positive" },
    ));
    rows.push(("short".into(), "positive"));
    let merged = feedback::merge(given(folder.path(), &rows), &splits, labels().names());
    let counts = &merged.counts;
    assert_eq!(
        (
            counts.rows,
            counts.used,
            counts.unfit,
            counts.duplicates,
            counts.contradictory,
            counts.withheld
        ),
        (65, 60, 1, 1, 2, 1)
    );
    assert_eq!((counts.corrected, counts.confirmed), (1, 0));
    assert_eq!(merged.train.len() + 1, splits.train.len());
    assert_eq!(found(&merged, &splits), []);

    let written = feedback::write(&merged, &splits.validation, labels().names()).unwrap();
    let path = folder.path().join("merged.csv");
    std::fs::write(&path, written).unwrap();
    let again = load_labelled_columns(
        path.as_path(),
        &Columns::default(),
        Some(&labels()),
        &Limits::training(),
    )
    .unwrap();
    assert_eq!(again.examples.len(), merged.train.len() + 60 + splits.validation.len());
}

#[test]
fn parquet_says_what_csv_says() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(0..50);
    let path = folder.path().join("feedback.parquet");
    parquet(&path, &rows);
    let read = feedback::read(
        std::slice::from_ref(&path),
        &Columns::default(),
        &labels(),
        folder.path(),
    )
    .unwrap();
    assert_eq!(read.examples, given(folder.path(), &rows).examples);
    std::fs::write(&path, "PAR1 and then nothing").unwrap();
    let error = feedback::read(&[path], &Columns::default(), &labels(), folder.path())
        .err()
        .unwrap();
    assert!(format!("{error:#}").contains("cannot be read as Parquet"), "{error:#}");
}

#[test]
fn drift_is_told_and_chance_is_not() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let splits = splits(folder.path(), 0..900);
    let checks = |rows: &[(String, &str)]| {
        let merged = feedback::merge(given(folder.path(), rows), &splits, labels().names());
        found(&merged, &splits)
    };
    assert_eq!(checks(&rows(1000..1040)), [], "forty rows like the others");
    let negative: Vec<_> = rows(1000..1200)
        .into_iter()
        .filter(|(_, label)| *label == "negative")
        .collect();
    assert_eq!(checks(&negative), [(Check::LabelRates, Level::Refuse)]);
    let long: Vec<_> = rows(1000..1100)
        .into_iter()
        .map(|(text, label)| (format!("{text} {text} {text}"), label))
        .collect();
    assert_eq!(checks(&long), [(Check::Lengths, Level::Refuse)]);
    let foreign: Vec<_> = (0..100)
        .map(|n| {
            (
                format!("Der Film Nummer {n} war mir sehr lieb und teuer"),
                if n % 3 > 0 { "positive" } else { "negative" },
            )
        })
        .collect();
    assert!(checks(&foreign).contains(&(Check::Vocabulary, Level::Refuse)));
    let twice: Vec<_> = [rows(1000..1060), rows(1000..1060)].concat();
    assert_eq!(
        checks(&twice),
        [(Check::Rows, Level::Warn), (Check::Duplicates, Level::Refuse)]
    );
}

#[test]
fn a_retraining_passes_its_gate_or_says_why_not() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    splits(folder.path(), 0..600);
    std::fs::write(at("feedback.csv"), csv(&rows(1000..1060))).unwrap();
    crate::train::tests::run(folder.path(), "base", "--epochs 0.5 --sample-size 64", false).unwrap();
    let retrain = |output: &str, flags: &str| {
        let (feedback, base, data, output) = (at("feedback.csv"), at("base"), at("data.csv"), at(output));
        let runs = at("runs");
        let mut words = vec![
            "retrain",
            "--feedback",
            &feedback,
            "--base",
            &base,
            "--data",
            &data,
            "--output",
            &output,
        ];
        words.extend(["--runs", &runs]);
        words.extend("--epochs 3 --threads 1".split(' '));
        words.extend(flags.split_whitespace());
        super::retrain(
            Retrain::try_parse_from(words).unwrap().options,
            &World::alone(),
            &Stop::default(),
        )
    };
    let code = |code: u8| format!("{:?}", ExitCode::from(code));
    assert_eq!(format!("{:?}", retrain("new", "").unwrap()), code(0));
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(at("new/retraining.json")).unwrap()).unwrap();
    assert_eq!(told["gate"]["passed"], true);
    assert!(
        told["gate"]["new_f1"].as_f64() > told["gate"]["base_f1"].as_f64(),
        "{told}"
    );
    assert_eq!(told["feedback"]["used"], 60);
    assert_eq!(
        card::read(Path::new(&at("new")))
            .unwrap()
            .unwrap()
            .lineage
            .unwrap()
            .parent,
        "base"
    );

    assert!(format!("{:#}", retrain("new", "").unwrap_err()).contains("with --resume"));
    let margin = "--resume --margin 0.9";
    assert_eq!(format!("{:?}", retrain("new", margin).unwrap()), code(NOT_BETTER));
    std::fs::write(at("feedback.csv"), csv(&[rows(1000..1060), rows(1000..1060)].concat())).unwrap();
    assert_eq!(format!("{:?}", retrain("other", "").unwrap()), code(REFUSED));
    assert!(!Path::new(&at("other/merged.csv")).exists());
    std::fs::write(at("feedback.csv"), "text,label\nA review of twenty characters,mixed\n").unwrap();
    assert!(format!("{:#}", retrain("third", "").unwrap_err()).contains("unknown label \"mixed\""));
}
