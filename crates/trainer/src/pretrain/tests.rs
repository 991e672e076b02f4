//! Whole runs on generated texts, in seconds.

use std::fmt::Write as _;

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::train::tests::{alone, run as train};

#[derive(Parser)]
#[command(args_override_self = true)]
struct Pretrain {
    #[command(flatten)]
    options: PretrainOptions,
}

/// Sentences whose words follow from each other: the noun from the adjective, the end from the noun.
fn texts(count: usize) -> TempDir {
    let pairs = [
        ("salty", "sea", "waves"),
        ("green", "forest", "leaves"),
        ("dusty", "library", "books"),
        ("noisy", "street", "cars"),
    ];
    let (mut labelled, mut unlabelled) = ("review,sentiment\n".to_owned(), "review\n".to_owned());
    for index in 0..count {
        let (adjective, noun, end) = pairs[index * 7919 / 3 % 4];
        let text = format!("number {index} : we walked to the {adjective} {noun} and saw its {end} again");
        if index % 3 == 0 {
            let label = ["positive", "negative"][index % 2];
            writeln!(labelled, "{text},{label}").unwrap();
        } else {
            writeln!(unlabelled, "{text}").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.csv"), labelled).unwrap();
    std::fs::write(folder.path().join("more.csv"), unlabelled).unwrap();
    folder
}

const SMALL: &str = "--data FOLDER/data.csv --unlabelled FOLDER/more.csv --vocab-size 160 --dim 16 --layers 1 --heads 2 \
                     --hidden-dim 32 --max-tokens 48 --train-tokens 32 --batch-size 8 --learning-rate 0.01 --threads 1";

fn run(folder: &Path, output: &str, flags: &str, stop: bool) -> anyhow::Result<Outcome> {
    let at = |name: &str| folder.join(name).display().to_string();
    let words = format!("pretrain {SMALL} {flags}");
    let mut words: Vec<String> = words
        .split_whitespace()
        .map(|word| word.replace("FOLDER", &at("")))
        .collect();
    words.extend(["--output".to_owned(), at(output), "--runs".to_owned(), at("runs")]);
    let signal = Stop::default();
    if stop {
        signal.set();
    }
    pretrain(Pretrain::try_parse_from(words)?.options, &World::alone(), &signal)
}

fn error(folder: &Path, output: &str, flags: &str) -> String {
    format!("{:#}", run(folder, output, flags, false).unwrap_err())
}

fn curve(folder: &Path) -> Vec<(f64, f64)> {
    let json = std::fs::read(folder.join(CURVE)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let history = json["history"].as_array().unwrap().iter();
    history
        .map(|point| (number(&point["loss"]), number(&point["accuracy"])))
        .collect()
}

#[test]
fn learns_which_word_follows_and_others_go_on_from_it() {
    let _turn = alone();
    let folder = texts(600);
    let flags = "--epochs 6";
    assert_eq!(run(folder.path(), "language", flags, false).unwrap(), Outcome::Finished);
    let language = folder.path().join("language");
    let curve_of_new = curve(&language);
    let (first, last) = (curve_of_new[0], curve_of_new[5]);
    assert!(last.0 < first.0 - 0.3, "{curve_of_new:?}");
    assert!(last.1 > 0.6, "{curve_of_new:?}");
    assert!(!state::path(&language).exists());
    let mut runs = std::fs::read_dir(folder.path().join("runs")).unwrap();
    let tracked = std::fs::read_to_string(runs.next().unwrap().unwrap().path().join("metrics.jsonl")).unwrap();
    assert_eq!(tracked.matches("validation/loss").count(), 6, "{tracked}");
    let config = std::fs::read_to_string(language.join("config.json")).unwrap();
    assert!(config.contains("DistilBertForMaskedLM") && !config.contains("id2label"));
    assert!(error(folder.path(), "language", "").contains("holds a checkpoint already"));
    assert!(error(folder.path(), "language", "--resume").contains("is finished"));

    // Pretraining goes on where it was, head included.
    let from = "--from FOLDER/language --epochs 1 --learning-rate 0.001";
    run(folder.path(), "further", from, false).unwrap();
    let further = curve(&folder.path().join("further"));
    assert!(further[0].0 < first.0 - 0.3, "{further:?}");

    // Fine-tuning begins with its blocks and vocabulary, and a new classifier.
    let from = "--from FOLDER/language --epochs 0.1 --learning-rate 0.0000001";
    train(folder.path(), "tuned", from, false).unwrap();
    let tuned = Checkpoint::open(&folder.path().join("tuned")).unwrap();
    let tokenizer = Checkpoint::open_backbone(&language)
        .unwrap()
        .tokenizer()
        .to_json()
        .unwrap();
    assert_eq!(tuned.tokenizer().to_json().unwrap(), tokenizer);
    let weights = |name: &str| {
        let tensors = tch::Tensor::read_safetensors(folder.path().join(name).join("model.safetensors")).unwrap();
        let find = |(name, _): &(String, _)| name == "distilbert.transformer.layer.0.ffn.lin1.weight";
        tensors.into_iter().find(find).unwrap().1
    };
    let change = (weights("tuned") - weights("language")).abs().max().double_value(&[]);
    assert!(change < 1e-5, "{change}");

    // From a classifier: its blocks with a new head.
    run(folder.path(), "again", "--from FOLDER/tuned --epochs 0.2", false).unwrap();
    assert!(Checkpoint::open_backbone(&folder.path().join("again")).is_ok());
}

#[test]
fn a_run_stopped_at_every_step_ends_as_if_it_had_not_been() {
    let _turn = alone();
    let folder = texts(200);
    let flags = "--epochs 1.2 --evaluate-every 7 --dropout 0.1";
    assert_eq!(run(folder.path(), "whole", flags, false).unwrap(), Outcome::Finished);
    let resumed = format!("{flags} --resume");
    let mut stops = 0;
    while run(folder.path(), "parts", &resumed, true).unwrap() == Outcome::Interrupted {
        stops += 1;
        assert!(stops < 100);
        if stops == 3 {
            let other = format!("{resumed} --mask-share 0.3");
            assert!(error(folder.path(), "parts", &other).contains("`mask-share = 0.15`"));
            assert!(error(folder.path(), "parts", flags).contains("an unfinished run already"));
        }
    }
    assert!(stops > 15, "it stopped only {stops} times");
    for file in ["model.safetensors", "tokenizer.json"] {
        let [whole, parts] = ["whole", "parts"].map(|run| std::fs::read(folder.path().join(run).join(file)).unwrap());
        assert!(whole == parts, "{file} differs");
    }
    assert_eq!(curve(&folder.path().join("whole")), curve(&folder.path().join("parts")));
}

#[test]
fn bad_wishes_are_told_before_any_work() {
    let _turn = alone();
    let folder = texts(60);
    let told = |flags: &str, reason: &str| {
        let error = error(folder.path(), "out", flags);
        assert!(error.contains(reason), "{error}");
    };
    told("--epochs 0", "epochs is 0");
    told("--mask-share 1", "mask-share is 1");
    told("--train-tokens 64 --tokenizer FOLDER/none.json", "cannot read");
    told("--train-tokens 64", "the network takes 48 at most");
    told("--from FOLDER/nowhere", "config.json");
    std::fs::write(folder.path().join("more.csv"), "review\n").unwrap();
    told("", "has a header but no rows");
}
