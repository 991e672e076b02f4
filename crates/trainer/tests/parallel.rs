//! Several processes, started by `mpirun`, beside one: `make test-mpi`.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up should fail")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const TRAINER: &str = env!("CARGO_BIN_EXE_understudy-trainer");
/// By how much losses may differ.
const TOLERANCE: f64 = 1e-4;
const SHAPE: &str = "--vocab-size 300 --dim 64 --layers 1 --heads 2 --hidden-dim 64 --max-tokens 64 --train-tokens 64 \
                     --threads 1 --device cpu --precision fp32 --learning-rate 0.004";
/// 25 steps an epoch, the last of one batch with one review: most of three processes have none of it.
const REVIEWS: usize = 16 * 49 + 1;
const EPOCHS_OF_25: &str = "--batch-size 16 --gradient-accumulation 2 --evaluate-every 10";
/// Longer than any of these runs takes.
const DEADLINE: Duration = Duration::from_secs(300);

/// Reviews whose feeling hangs on one word, of various lengths.
fn reviews() -> TempDir {
    let mut text = "review,sentiment,split\n".to_owned();
    for index in 0..REVIEWS + 101 {
        let word = |list: &[&'static str], salt: usize| list[(index * 7919 + salt * 104_729) / 7 % list.len()];
        let plain = |salt| word(&["film", "story", "actor", "scene", "music", "ending"], salt);
        let (label, feeling) = match index % 2 {
            0 => ("positive", word(&["superb", "charming", "gripping"], 3)),
            _ => ("negative", word(&["dreadful", "tedious", "clumsy"], 3)),
        };
        let split = if index < REVIEWS { "train" } else { "val" };
        let long = format!("and a {} ", plain(4)).repeat(index % 9);
        writeln!(
            text,
            "The {} number {index} was {feeling} {long}in {},{label},{split}",
            plain(1),
            plain(2)
        )
        .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.csv"), text).unwrap();
    folder
}

fn mpirun(folder: &Path, words: &str) -> Command {
    let mut command = Command::new("mpirun");
    // There may be fewer processors, and the test may be run by root, as in a container.
    command.args(["--oversubscribe", "--bind-to", "none"]);
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.args(words.split_whitespace());
    command.current_dir(folder).stderr(Stdio::piped());
    command
}

/// The trainer in so many processes; 1: without mpirun.
fn command(folder: &Path, processes: usize, words: &str) -> Command {
    if processes > 1 {
        return mpirun(folder, &format!("-n {processes} {TRAINER} {words}"));
    }
    let mut command = Command::new(TRAINER);
    command.args(words.split_whitespace());
    command.current_dir(folder).stderr(Stdio::piped());
    command
}

/// Runs to the end; its exit code, and what it said.
fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn train(folder: &Path, processes: usize, output: &str, flags: &str) -> (Option<i32>, String) {
    let words = format!("train --data data.csv --output {output} {SHAPE} {EPOCHS_OF_25} {flags}");
    run(command(folder, processes, &words))
}

/// What was tracked of a run: each series by step.
fn tracked(folder: &Path, name: &str) -> BTreeMap<String, Vec<(u64, f64)>> {
    let output = command(folder, 1, &format!("runs show {name} --json"))
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["status"], "finished");
    serde_json::from_value(shown["series"].clone()).unwrap()
}

/// The biggest difference between two series of the same steps.
fn difference(one: &[(u64, f64)], other: &[(u64, f64)]) -> f64 {
    assert_eq!(one.len(), other.len());
    let pairs = one.iter().zip(other);
    pairs
        .map(|((step, one), (same, other))| {
            assert_eq!(step, same);
            (one - other).abs()
        })
        .fold(0.0, f64::max)
}

#[test]
fn several_processes_learn_as_one() {
    let folder = reviews();
    let names = ["", "one", "two", "three"];
    for (processes, name) in names.iter().enumerate().skip(1) {
        let (code, said) = train(
            folder.path(),
            processes,
            name,
            "--epochs 2 --dropout 0 --classifier-dropout 0",
        );
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(
            said.matches("parameters to train").count(),
            1,
            "one process speaks: {said}"
        );
    }
    assert_eq!(
        std::fs::read_dir(folder.path().join("runs")).unwrap().count(),
        3,
        "one tracks"
    );
    let one = tracked(folder.path(), "one");
    let losses = &one["train/loss"];
    assert_eq!(losses.len(), 50);
    assert!(
        losses[49].1 < 0.1 * losses[0].1,
        "there is something to learn: {losses:?}"
    );
    for name in ["two", "three"] {
        let several = tracked(folder.path(), name);
        for series in ["train/loss", "validation/log_loss", "validation/accuracy"] {
            let difference = difference(&one[series], &several[series]);
            println!("{name} processes: {series} differs by at most {difference:.1e}");
            assert!(difference < TOLERANCE, "{:?}\n{:?}", one[series], several[series]);
        }
        assert!(folder.path().join(name).join("understudy.json").exists());
    }
}

#[test]
fn several_processes_pretrain_as_one() {
    let folder = reviews();
    let losses = [1, 2, 3].map(|processes| {
        let words = format!(
            "pretrain --data data.csv --output {processes} {SHAPE} --batch-size 16 --evaluate-every 5 --epochs 1 --held-out 40"
        );
        let (code, said) = run(command(folder.path(), processes, &words));
        assert_eq!(code, Some(0), "{said}");
        let curve = std::fs::read(folder.path().join(processes.to_string()).join("pretraining.json")).unwrap();
        let curve: serde_json::Value = serde_json::from_slice(&curve).unwrap();
        let value = |of: &serde_json::Value, name: &str| of[name].as_f64().unwrap();
        let history = curve["history"].as_array().unwrap().iter();
        let losses: Vec<(u64, f64)> = history
            .flat_map(|told| ["train_loss", "loss"].map(|name| (told["step"].as_u64().unwrap(), value(told, name))))
            .collect();
        losses
    });
    assert!(
        losses[0].len() >= 16 && losses[0][0].1 > losses[0].last().unwrap().1 + 0.2,
        "{losses:?}"
    );
    for several in &losses[1..] {
        let difference = difference(&losses[0], several);
        println!("pretraining: losses differ by at most {difference:.1e}");
        assert!(difference < TOLERANCE, "{losses:?}");
    }
}

/// The processes that mpirun started on this machine, by number.
fn process_ids(mpirun: &Child) -> BTreeMap<usize, u32> {
    let id = mpirun.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let rank = |id: u32| -> Option<usize> {
        let environment = String::from_utf8(std::fs::read(format!("/proc/{id}/environ")).ok()?).ok()?;
        let mut values = environment.split('\0');
        values
            .find_map(|value| value.strip_prefix("OMPI_COMM_WORLD_RANK="))?
            .parse()
            .ok()
    };
    let ids = children.split_whitespace().map(|id| id.parse().unwrap());
    ids.filter_map(|id| Some((rank(id)?, id))).collect()
}

fn signal(name: &str, id: u32) {
    assert!(
        Command::new("kill")
            .args([name, &id.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// Starts a run of two processes and waits until it has saved its state once.
fn started(folder: &Path, output: &str, flags: &str) -> Child {
    let words = format!("train --data data.csv --output {output} {SHAPE} {EPOCHS_OF_25} --save-every 0 {flags}");
    let mut child = command(folder, 2, &words).spawn().unwrap();
    let (state, begun) = (folder.join(output).join("training.safetensors"), Instant::now());
    while !state.exists() {
        assert!(
            begun.elapsed() < DEADLINE && child.try_wait().unwrap().is_none(),
            "no state was saved"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn a_signal_to_any_process_stops_all_and_the_run_goes_on() {
    let folder = reviews();
    let (code, said) = train(folder.path(), 2, "whole", "--epochs 4");
    assert_eq!(code, Some(0), "{said}");
    let child = started(folder.path(), "parts", "--epochs 4");
    signal("-TERM", process_ids(&child)[&1]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("with --resume goes on"), "{said}");

    let (code, said) = train(folder.path(), 2, "parts", "--epochs 4 --resume");
    assert_eq!(code, Some(0), "{said}");
    let step = said.rsplit_once("from step ").unwrap().1.lines().next().unwrap();
    println!("stopped after {step} of 100 steps");
    assert!((1..100).contains(&step.parse().unwrap()), "{said}");
    let [whole, parts] =
        ["whole", "parts"].map(|run| std::fs::read(folder.path().join(run).join("model.safetensors")).unwrap());
    assert!(whole == parts, "the interrupted run came out differently");
}

#[test]
fn a_process_that_fails_ends_the_run() {
    let folder = reviews();
    let path = folder.path();
    let more = "A film of which there is nothing to be said,positive,val\n";
    let data = std::fs::read_to_string(path.join("data.csv")).unwrap();
    std::fs::write(path.join("other.csv"), data + more).unwrap();
    let [first, second] =
        ["data", "other"].map(|data| format!("-n 1 {TRAINER} train --data {data}.csv --output failed {SHAPE}"));
    let (code, said) = run(mpirun(path, &format!("{first} : {second}")));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("error in process 1 of 2") && said.contains("all must see the same files"),
        "{said}"
    );
    assert!(!path.join("failed/config.json").exists());

    let child = started(path, "killed", "--epochs 1000");
    signal("-KILL", process_ids(&child)[&1]);
    assert!(!child.wait_with_output().unwrap().status.success());
}
