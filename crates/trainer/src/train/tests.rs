//! Whole runs on generated reviews, in seconds.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::Parser;
use tempfile::TempDir;
use understudy_distilbert::{Classifier, Precision};

use super::*;
use crate::curve::Point;
use crate::evaluate::{EvaluateOptions, evaluate};
use crate::model::softmax;

#[derive(Parser)]
#[command(args_override_self = true)]
struct Train {
    #[command(flatten)]
    options: TrainOptions,
}

#[derive(Parser)]
struct Evaluate {
    #[command(flatten)]
    options: EvaluateOptions,
}

/// libtorch has one random generator and one number of threads: runs take turns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reviews whose feeling hangs on one word in eight, with an unlabelled file beside them.
fn reviews(count: usize) -> TempDir {
    let good = ["superb", "charming", "gripping", "tender"];
    let bad = ["dreadful", "tedious", "clumsy", "hollow"];
    let plain = [
        "film", "story", "actor", "scene", "music", "camera", "ending", "dialogue",
    ];
    let (mut labelled, mut unlabelled) = ("review,sentiment\n".to_owned(), "review\n".to_owned());
    for index in 0..count {
        let word = |list: &[&'static str], salt: usize| list[(index * 7919 + salt * 104_729) / 7 % list.len()];
        let (label, feeling) = if index % 2 == 0 {
            ("positive", &good)
        } else {
            ("negative", &bad)
        };
        let text = format!(
            "The {} with {} number {index} was {} and its {} had a {} {}",
            word(&plain, 1),
            word(&plain, 2),
            word(feeling, 3),
            word(&plain, 4),
            word(&plain, 5),
            word(&plain, 6)
        );
        let (file, end) = if index % 4 < 3 {
            (&mut labelled, format!(",{label}"))
        } else {
            (&mut unlabelled, String::new())
        };
        writeln!(file, "{text}{end}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.csv"), labelled).unwrap();
    std::fs::write(folder.path().join("more.csv"), unlabelled).unwrap();
    folder
}

const SMALL: &str = "--vocab-size 180 --dim 16 --layers 1 --heads 2 --hidden-dim 32 --max-tokens 48 --train-tokens 32 \
                     --batch-size 8 --learning-rate 0.01 --threads 1";

pub(crate) fn run(folder: &Path, output: &str, flags: &str, stop: bool) -> anyhow::Result<Outcome> {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut words = vec![
        "train".to_owned(),
        "--data".into(),
        at("data.csv"),
        "--output".into(),
        at(output),
        "--runs".into(),
        at("runs"),
    ];
    words.extend(
        SMALL
            .split_whitespace()
            .chain(flags.split_whitespace())
            .map(|word| word.replace("FOLDER", &at(""))),
    );
    let signal = Stop::default();
    if stop {
        signal.set();
    }
    train(Train::try_parse_from(words)?.options, &World::alone(), &signal)
}

fn error(folder: &Path, output: &str, flags: &str) -> String {
    format!("{:#}", run(folder, output, flags, false).unwrap_err())
}

#[test]
fn learns_and_writes_a_checkpoint_that_serving_reads() {
    let _turn = alone();
    let folder = reviews(640);
    let output = folder.path().join("out");
    assert_eq!(
        run(folder.path(), "out", "--epochs 4", false).unwrap(),
        Outcome::Finished
    );
    let card = card::read(&output).unwrap().unwrap();
    assert!(card.metrics["accuracy"] > 0.95, "{:?}", card.metrics);
    assert_eq!(card.labels, ["NEGATIVE", "POSITIVE"]);
    let profile = card.reference_profile.unwrap();
    assert_eq!(profile.examples, profile.confidence_histogram.iter().sum::<u64>());
    assert!(card.lineage.unwrap().data_sha256.contains_key("data.csv"));
    assert!(!state::path(&output).exists());

    let checkpoint = Checkpoint::open(&output).unwrap();
    let classifier = Classifier::load(&checkpoint, understudy_distilbert::Device::Cpu, Precision::Fp32).unwrap();
    for example in &card.golden_examples {
        let ids = checkpoint.tokenizer().encode(&example.text).unwrap().ids;
        let answer = softmax(&classifier.logits(&[&ids]).unwrap()[0]);
        for (told, served) in example.probabilities.iter().zip(&answer) {
            assert!((told - served).abs() < 1e-5, "{}: {told} {served}", example.text);
        }
    }

    let data = folder.path().join("data.csv").display().to_string();
    let told = |extra: &[&str]| {
        let words = ["evaluate", "--data", &data, "--split", "validation", "--json"];
        let words = words.iter().chain(extra).copied();
        let options = Evaluate::try_parse_from(words).unwrap().options;
        serde_json::from_str::<serde_json::Value>(&evaluate(&options).unwrap()).unwrap()["accuracy"]
            .as_f64()
            .unwrap()
    };
    let checkpoint = output.display().to_string();
    assert!((told(&[&checkpoint, "--write-card"]) - card.metrics["accuracy"]).abs() < 1e-9);
    assert!(told(&["--baseline"]) > 0.95 && told(&["--baseline=hybrid"]) > 0.95);
    assert_eq!(card::read(&output).unwrap().unwrap().metrics, card.metrics);

    assert!(error(folder.path(), "out", "").contains("holds a checkpoint already"));
    assert!(error(folder.path(), "out", "--resume").contains("is finished"));
    let from = "--from FOLDER/out --epochs 0.5 --learning-rate 0.0001 --precision bf16";
    assert_eq!(run(folder.path(), "next", from, false).unwrap(), Outcome::Finished);
    let next = card::read(&folder.path().join("next")).unwrap().unwrap();
    assert!(next.metrics["accuracy"] > 0.95);
    assert_eq!(next.lineage.unwrap().parent, "out");
    std::fs::write(
        folder.path().join("data.csv"),
        "review,label\nA review of twenty characters,mixed\n",
    )
    .unwrap();
    assert!(error(folder.path(), "other", "--from FOLDER/out").contains("unknown label \"mixed\""));
}

#[test]
fn a_run_stopped_at_every_step_ends_as_if_it_had_not_been() {
    let _turn = alone();
    let folder = reviews(160);
    let flags = "--epochs 1.5 --evaluate-every 7 --distil-from baseline --temperature 2 --unlabelled FOLDER/more.csv";
    assert_eq!(run(folder.path(), "whole", flags, false).unwrap(), Outcome::Finished);

    let resumed = format!("{flags} --resume");
    let mut stops = 0;
    while run(folder.path(), "parts", &resumed, true).unwrap() == Outcome::Interrupted {
        stops += 1;
        assert!(stops < 100);
        if stops == 3 {
            assert!(error(folder.path(), "parts", &format!("{resumed} --dropout 0.3")).contains("`dropout = 0.1`"));
            assert!(error(folder.path(), "parts", flags).contains("an unfinished run already"));
        }
    }
    assert!(stops > 20, "it stopped only {stops} times");
    for file in ["model.safetensors", "tokenizer.json", "understudy.json"] {
        let [whole, parts] = ["whole", "parts"].map(|run| std::fs::read(folder.path().join(run).join(file)).unwrap());
        assert!(whole == parts, "{file} differs");
    }
    // Tracked as two runs, with the same losses at the same steps.
    let runs = std::fs::read_dir(folder.path().join("runs")).unwrap();
    let losses: Vec<Vec<(u64, f64)>> = runs
        .map(|run| {
            let lines = std::fs::read_to_string(run.unwrap().path().join("metrics.jsonl")).unwrap();
            let lines = lines
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines
                .filter_map(|line| Some((line["step"].as_u64()?, line["values"]["train/loss"].as_f64()?)))
                .collect()
        })
        .collect();
    assert_eq!(losses.len(), 2);
    assert!(losses[0] == losses[1] && losses[0].len() > 20, "{losses:?}");
}

/// The value of a key in the run's training.json.
fn told(folder: &Path, output: &str, key: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(folder.join(output).join("training.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[key].take()
}

#[test]
fn parts_of_a_step_add_up_to_the_whole() {
    let _turn = alone();
    let folder = reviews(160);
    let fixed = "--dropout 0 --classifier-dropout 0 --group-by-length false --class-weights balanced --epochs 1";
    run(folder.path(), "whole", fixed, false).unwrap();
    let parts = format!("{fixed} --batch-size 2 --gradient-accumulation 4");
    run(folder.path(), "parts", &parts, false).unwrap();
    let [whole, parts] = ["whole", "parts"].map(|output| {
        let curve: Vec<Point> = serde_json::from_value(told(folder.path(), output, "train_loss")).unwrap();
        curve
    });
    assert!(whole.len() > 10 && whole.len() == parts.len());
    for (a, b) in whole.iter().zip(&parts) {
        assert!(
            (a.loss - b.loss).abs() < 1e-4 && a.learning_rate == b.learning_rate,
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn training_ends_when_patience_does_and_the_latest_checkpoints_stay() {
    let _turn = alone();
    let folder = reviews(160);
    // A rate this low changes no answer, so nothing gets better after the first evaluation.
    let flags = "--epochs 20 --learning-rate 1e-12 --patience 2 --keep-checkpoints 2 --best-by f1 --sample-size 40 \
                 --schedule cosine --layer-decay 0.9 --label-smoothing 0.1 --focal-gamma 2 --clip 0";
    run(folder.path(), "out", flags, false).unwrap();
    let output = folder.path().join("out");
    assert_eq!(told(folder.path(), "out", "stopped_early"), true);
    let steps = told(folder.path(), "out", "steps").as_u64().unwrap();
    let history: Vec<Evaluation> = serde_json::from_value(told(folder.path(), "out", "history")).unwrap();
    let best: Evaluation = serde_json::from_value(told(folder.path(), "out", "best")).unwrap();
    assert_eq!(steps, best.step + 10, "two epochs of five batches of 8 after the best");
    assert!(history.len() < 20);
    let mut kept: Vec<String> = std::fs::read_dir(output.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, [format!("step-{:08}", steps - 5), format!("step-{steps:08}")]);
    assert!(Checkpoint::open(&output.join("checkpoints").join(&kept[0])).is_ok());
}

#[test]
fn a_checkpoint_teaches_a_smaller_one() {
    let _turn = alone();
    let folder = reviews(640);
    run(folder.path(), "teacher", "--epochs 6", false).unwrap();
    let flags = "--distil-from FOLDER/teacher --label-weight 0 --unlabelled FOLDER/more.csv --dim 8 --epochs 8";
    run(folder.path(), "student", flags, false).unwrap();
    let card = card::read(&folder.path().join("student")).unwrap().unwrap();
    assert!(card.metrics["accuracy"] > 0.95, "{:?}", card.metrics);
}

#[test]
fn teachers_together_teach_pieces_and_hidden_states_and_the_result_is_small() {
    let _turn = alone();
    let folder = reviews(640);
    run(folder.path(), "teacher", "--epochs 6", false).unwrap();
    let flags = "--distil-from baseline,naive-bayes,hybrid,FOLDER/teacher --baseline-strength 1 --pieces 1 --hidden-weight 1 \
                 --unlabelled FOLDER/more.csv --epochs 3 --store fp16";
    run(folder.path(), "student", flags, false).unwrap();
    let [teacher, student] = ["teacher", "student"].map(|name| folder.path().join(name));
    let card = card::read(&student).unwrap().unwrap();
    assert!(card.metrics["accuracy"] > 0.95, "{:?}", card.metrics);

    let size = |folder: &Path| std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    assert!(
        size(&student) * 10 < size(&teacher) * 6,
        "half the size, but for the header"
    );
    let config = std::fs::read_to_string(student.join("config.json")).unwrap();
    assert!(config.contains("float16"), "{config}");
    let checkpoint = Checkpoint::open(&student).unwrap();
    let classifier = Classifier::load(&checkpoint, understudy_distilbert::Device::Cpu, Precision::Fp32).unwrap();
    let example = &card.golden_examples[0];
    let ids = checkpoint.tokenizer().encode(&example.text).unwrap().ids;
    let answer = softmax(&classifier.logits(&[&ids]).unwrap()[0]);
    assert!((answer[0] - example.probabilities[0]).abs() < 1e-5);

    // The student has learnt to judge such texts by vectors that point the same way.
    let text = "The film with story number 7 was superb and its actor had a scene music";
    let vector = |folder: &Path| {
        let model = Model::load(&Checkpoint::open(folder).unwrap(), |_| {}, Device::Cpu).unwrap();
        let ids = model.tokenizer.encode(text).unwrap().ids;
        model.hidden(&[&ids]).unwrap().remove(0)
    };
    let (a, b) = (vector(&teacher), vector(&student));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    assert!(cosine > 0.5, "{cosine}");

    let narrow = "--distil-from FOLDER/teacher --hidden-weight 1 --dim 8";
    assert!(error(folder.path(), "other", narrow).contains("as wide as the student"));
    assert!(error(folder.path(), "third", "--distil-from baseline --hidden-weight 1").contains("no hidden states"));
}

#[test]
fn lora_trains_a_few_parameters_is_resumed_and_merges() {
    let _turn = alone();
    let folder = reviews(640);
    let at = |name: &str| folder.path().join(name);
    run(folder.path(), "base", "--epochs 1.5", false).unwrap();
    let base = card::read(&at("base")).unwrap().unwrap().metrics["log_loss"];
    let flags = "--from FOLDER/base --lora --epochs 4 --learning-rate 0.02 --lora-rank 4 --lora-targets q_lin,v_lin,word_embeddings";
    assert_eq!(run(folder.path(), "whole", flags, false).unwrap(), Outcome::Finished);
    let tuned = card::read(&at("whole")).unwrap().unwrap().metrics["log_loss"];
    assert!(tuned < 0.9 * base, "{base} became {tuned}");

    // What was frozen is as it was.
    let weights = |name: &str| -> std::collections::HashMap<String, tch::Tensor> {
        tch::Tensor::read_safetensors(at(name).join("model.safetensors"))
            .unwrap()
            .into_iter()
            .collect()
    };
    let (before, after) = (weights("base"), weights("whole"));
    for (name, tensor) in &before {
        let trained = [
            "q_lin.weight",
            "v_lin.weight",
            "word_embeddings.weight",
            "classifier.weight",
            "classifier.bias",
        ];
        let changes = trained.iter().any(|end| name.ends_with(end)) && !name.starts_with("pre_");
        assert_eq!(tensor != &after[name], changes, "{name}");
    }

    let resumed = format!("{flags} --resume");
    let mut stops = 0;
    while run(folder.path(), "parts", &resumed, stops < 5).unwrap() == Outcome::Interrupted {
        stops += 1;
    }
    assert_eq!(stops, 5);
    let options = crate::lora::MergeOptions {
        base: at("base"),
        adapter: at("parts/adapter"),
        output: at("merged"),
    };
    crate::lora::merge(&options).unwrap();
    for run in ["parts", "merged"] {
        let [whole, other] = ["whole", run].map(|run| std::fs::read(at(run).join("model.safetensors")).unwrap());
        assert!(whole == other, "{run} differs");
    }
    assert!(
        crate::lora::merge(&options)
            .unwrap_err()
            .to_string()
            .contains("holds a checkpoint already")
    );
    assert!(error(folder.path(), "other", "--lora").contains("needs --from"));
    assert!(error(folder.path(), "other", "--lora --lora-targets query").contains("no \"query\""));
}

#[test]
fn bad_data_and_recipes_are_told_before_any_work() {
    let folder = reviews(40);
    let data = folder.path().join("data.csv");
    let told = |text: &str, flags: &str, reason: &str| {
        std::fs::write(&data, text).unwrap();
        let error = error(folder.path(), "out", flags);
        assert!(error.contains(reason), "{error}");
    };
    told("review,label\n", "", "has a header but no rows");
    told(
        "body,label\nx,1\n",
        "",
        "among: body, label; name the right one with --text-column",
    );
    told(
        "body,label\nx,1\n",
        "--text-column body --label-column stars",
        "no column \"stars\" among: body, label",
    );
    told("", "", "it is empty");
    told("\u{89}PNG\r\n\u{1a}\n\u{0}\u{0}", "", "it is no text");
    let long = format!("review,label\n{},1\n", "a long review ".repeat(75_000));
    told(&long, "", "a text of 1050000 bytes");
    // The one positive review is for the test, so that only the other class is left to learn.
    let rows = ["train", "train", "val"].map(|split| format!("A review for {split} of twenty characters,0,{split}\n"));
    let one = format!(
        "review,label,split\n{}Another one of twenty characters,1,test\n",
        rows.concat()
    );
    told(&one, "", "of one class only: NEGATIVE");
    told(
        "review,label\nA review of twenty characters,1\n",
        "",
        "two or more distinct labels",
    );
    told(
        "review,label\nA review of twenty characters,1\nAnother one of twenty,0\n",
        "",
        "nothing to validate on",
    );
    told("", "--epochs 0", "epochs is 0");
    told("", "--from FOLDER/nowhere", "config.json");
    if !understudy_distilbert::cuda_available() {
        told("", "--device cuda", "take --device cpu");
    }
}
