use std::fmt::Write as _;

use clap::Parser;

use super::*;
use crate::train::tests::alone;

#[derive(Parser)]
struct Explore {
    #[command(flatten)]
    options: ExploreOptions,
}

fn told(folder: &std::path::Path, words: &str) -> anyhow::Result<String> {
    let at = folder.display().to_string();
    let words = words.split_whitespace().map(|word| word.replace("FOLDER", &at));
    explore(&Explore::try_parse_from(std::iter::once("explore".to_owned()).chain(words))?.options)
}

/// Distinct reviews of 40 words.
fn review(seed: usize) -> String {
    let mut text = String::new();
    for i in 0..40 {
        let _ = write!(text, "word{} ", (i * 7919 + seed * 104_729 + i * i * seed) % 9973);
    }
    text.trim_end().to_owned()
}

#[test]
fn duplicates_contradictions_leaks_and_rows_left_out_are_counted() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut data = "review,sentiment,split\n".to_owned();
    for seed in 0..30 {
        let label = if seed % 3 == 0 { "positive" } else { "negative" };
        let split = ["train", "train", "val", "test"][seed % 4];
        writeln!(data, "{},{label},{split}", review(seed)).unwrap();
    }
    // 3 is in test: a leak of an equal text, and one of a like text.
    writeln!(data, "{}!,positive,train", review(3).to_uppercase()).unwrap();
    writeln!(data, "{} end,positive,train", review(7)).unwrap();
    // 0 is in train: a contradiction within it.
    writeln!(data, "{},negative,train", review(0)).unwrap();
    writeln!(data, "short,negative,train\n{},,train", review(900)).unwrap();
    std::fs::write(folder.path().join("data.csv"), data).unwrap();
    std::fs::write(
        folder.path().join("more.csv"),
        format!("review\n{}\n{}\n", review(11), review(500)),
    )
    .unwrap();
    let words = "FOLDER/data.csv --unlabelled FOLDER/more.csv --json --threads 2 --report FOLDER/out.html";
    let json: serde_json::Value = serde_json::from_str(&told(folder.path(), words).unwrap()).unwrap();
    let file = &json["files"][0];
    assert_eq!(
        [&file["rows"], &file["kept"], &file["too_short"], &file["without_label"]],
        [35, 33, 1, 1]
    );
    let found = &json["duplicates"];
    assert_eq!(
        [
            &found["groups"],
            &found["rows"],
            &found["contradictory_groups"],
            &found["contradictory_rows"]
        ],
        [2, 2, 1, 2]
    );
    assert_eq!([&found["near_groups"], &found["near_texts"]], [1, 1]);
    let leak = |from: &str, into: &str| {
        let leaks = json["leakage"].as_array().unwrap();
        let leak = leaks
            .iter()
            .find(|leak| leak["from"] == from && leak["into"] == into)
            .unwrap();
        (leak["exact"].as_u64().unwrap(), leak["near"].as_u64().unwrap())
    };
    assert_eq!(leak("train", "test"), (1, 2));
    assert_eq!(leak("train", "validation"), (0, 0));
    assert_eq!(leak("unlabelled", "test"), (1, 1));
    assert_eq!(json["classes"][1]["label"], "POSITIVE");
    assert_eq!(json["classes"][1]["examples"], 12);
    assert_eq!(json["classes"][0]["words"]["median"], 40);
    let quoted = found["quoted"].as_array().unwrap();
    assert_eq!(quoted[0]["kind"], "contradictory");
    assert!(quoted[0]["text"].as_str().unwrap().starts_with("word"));
    let remarks = json["remarks"].to_string();
    assert!(
        remarks.contains("contradictory labels (2 rows)") && remarks.contains("1 rows of train are also in test"),
        "{remarks}"
    );
    let html = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
    assert!(html.contains("Words of the reviews") && html.contains("share of the class"));
    assert!(json["tokens"].is_null());
}

#[test]
fn tokens_are_counted_with_a_tokenizer_and_other_columns_can_be_named() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..200).map(review).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let json = crate::vocabulary::train(&texts, 300, &[]).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
    let mut data = "body,spoils,text\n".to_owned();
    for (index, text) in texts.iter().enumerate() {
        let _ = writeln!(data, "{text},{},x", if index < 20 { "yes" } else { "no" });
    }
    std::fs::write(folder.path().join("data.csv"), data).unwrap();
    let words = "FOLDER/data.csv --tokenizer FOLDER --text-column body --label-column spoils";
    let json: serde_json::Value =
        serde_json::from_str(&told(folder.path(), &format!("{words} --json")).unwrap()).unwrap();
    let tokens = &json["tokens"];
    let median = tokens["lengths"]["median"].as_u64().unwrap();
    assert!(median > 42, "more tokens than words, and [CLS] and [SEP]: {median}");
    assert_eq!(tokens["coverage"][2]["texts"], 1.0);
    let text = told(folder.path(), words).unwrap();
    assert!(
        text.contains("no has 9.0 times the reviews of yes") && text.contains("yes has only 20 reviews"),
        "{text}"
    );
}

#[test]
fn one_class_is_told_and_what_is_no_data_refused() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.csv");
    std::fs::write(&data, format!("review,label\n{},a\n{},a\n", review(1), review(2))).unwrap();
    assert!(
        told(folder.path(), "FOLDER/data.csv")
            .unwrap()
            .contains("nothing to learn from one class")
    );
    std::fs::write(&data, "review,label\n").unwrap();
    assert!(
        told(folder.path(), "FOLDER/data.csv")
            .unwrap_err()
            .to_string()
            .contains("no usable review")
    );
    std::fs::write(&data, format!("review\n{}\n", review(1))).unwrap();
    assert!(
        told(folder.path(), "FOLDER/data.csv")
            .unwrap_err()
            .to_string()
            .contains("\"sentiment\" or \"label\"")
    );
}
