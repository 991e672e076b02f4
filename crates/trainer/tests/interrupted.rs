//! Runs of the built program that end before their time: killed, or on a full disk.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up should fail")]

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const TRAIN: &str = "train --vocab-size 400 --dim 64 --layers 2 --hidden-dim 128 --max-tokens 64 --batch-size 16 \
                     --learning-rate 0.003 --threads 1 --device cpu --sample-size 2400 --evaluate-every 70";
const PRETRAIN: &str = "pretrain --vocab-size 400 --dim 64 --layers 2 --hidden-dim 128 --max-tokens 64 --train-tokens 64 \
                        --batch-size 16 --learning-rate 0.003 --dropout 0.1 --threads 1 --device cpu --evaluate-every 70";
/// Longer than any of these runs takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// Reviews whose feeling hangs on one word, too many to be learnt before the run is killed.
fn reviews() -> TempDir {
    let mut text = "review,sentiment\n".to_owned();
    for index in 0..3000_usize {
        let word = |list: &[&'static str], salt: usize| list[(index * 7919 + salt * 104_729) / 7 % list.len()];
        let plain = |salt| {
            word(
                &["film", "story", "actor", "scene", "music", "ending", "dialogue"],
                salt,
            )
        };
        let (label, feeling) = match index % 2 {
            0 => ("positive", word(&["superb", "charming", "gripping", "tender"], 3)),
            _ => ("negative", word(&["dreadful", "tedious", "clumsy", "hollow"], 3)),
        };
        let long = format!("and a {} ", plain(4)).repeat(index % 9);
        writeln!(
            text,
            "The {} with {} number {index} was {feeling} {long}in {},{label}",
            plain(1),
            plain(2),
            plain(5)
        )
        .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.csv"), text).unwrap();
    folder
}

fn command(folder: &Path, recipe: &str, output: &str, flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy-trainer"));
    command
        .args(recipe.split_whitespace().chain(flags.split_whitespace()))
        .arg("--data")
        .arg(folder.join("data.csv"))
        .arg("--output")
        .arg(folder.join(output))
        .arg("--runs")
        .arg(folder.join("runs"))
        .stderr(Stdio::piped());
    command
}

/// Runs to the end; whether it succeeded, and what it said.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// The step from which a run says that it goes on.
fn begun_from(said: &str) -> u64 {
    said.rsplit_once("from step ")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Waits until the state has been saved anew, then as long as is said, and kills. Returns what the run had said.
fn kill_after_a_save(mut child: Child, state: &Path, wait: Duration) -> String {
    let saved = || std::fs::metadata(state).and_then(|data| data.modified()).ok();
    let (before, begun) = (saved(), Instant::now());
    while saved() == before {
        assert!(begun.elapsed() < DEADLINE, "no state was saved");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(wait);
    // SIGKILL: nothing can be done about it.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it ended before it was killed");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

/// A curve without what the clock says.
fn report(file: &Path) -> serde_json::Value {
    fn forget_time(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.remove("seconds");
                fields.values_mut().for_each(forget_time);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(forget_time),
            _ => {}
        }
    }
    let mut report = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    forget_time(&mut report);
    report
}

/// Kills a run several times, goes on with it, and compares `files` and `curve` with those of a run that was left alone.
fn kill_and_compare(recipe: &str, kills: u64, steps_per_epoch: u64, files: &[&str], curve: &str) {
    let folder = reviews();
    let command = |output: &str, flags: &str| command(folder.path(), recipe, output, flags);
    let (done, said) = run(&mut command("whole", "--epochs 2"));
    assert!(done, "{said}");

    let resumed = "--epochs 2 --resume --save-every 0";
    let state = folder.path().join("parts/training.safetensors");
    let mut steps = Vec::new();
    for kill in 0..kills {
        // A state at each step, so that some kills come while it is written.
        let child = command("parts", resumed).spawn().unwrap();
        let wait = Duration::from_millis(40 + 97 * kill);
        steps.push(begun_from(&kill_after_a_save(child, &state, wait)));
    }
    let (done, said) = run(&mut command("parts", "--epochs 2 --resume --clip 0.3"));
    assert!(
        !done && said.contains("`clip = 1.0`"),
        "another recipe is refused: {said}"
    );
    let (done, said) = run(&mut command("parts", "--epochs 2 --resume"));
    assert!(done, "{said}");
    steps.push(begun_from(&said));
    assert!(steps.is_sorted() && steps[0] == 0, "{steps:?}");
    assert!(
        steps.iter().any(|step| step % steps_per_epoch != 0),
        "no kill was in mid-epoch: {steps:?}"
    );
    for file in files {
        let [whole, parts] = ["whole", "parts"].map(|run| std::fs::read(folder.path().join(run).join(file)).unwrap());
        assert!(whole == parts, "{file} differs");
    }
    let [whole, parts] = ["whole", "parts"].map(|run| report(&folder.path().join(run).join(curve)));
    assert_eq!(whole, parts);
    assert!(!state.exists());
    let tracked = std::fs::read_dir(folder.path().join("runs")).unwrap();
    assert_eq!(tracked.count(), 2, "what was killed and went on is one run");
}

#[test]
fn a_run_killed_in_mid_epoch_ends_as_if_it_had_not_been() {
    let files = ["model.safetensors", "tokenizer.json", "understudy.json"];
    kill_and_compare(TRAIN, 4, 2400 / 16, &files, "training.json");
}

#[test]
fn pretraining_killed_in_mid_epoch_ends_as_if_it_had_not_been() {
    // A tenth of the reviews is held out for validation, one for the test, and one of what is left to measure on.
    let files = ["model.safetensors", "tokenizer.json", "recipe.toml"];
    kill_and_compare(PRETRAIN, 2, 2160 / 16, &files, "pretraining.json");
}

/// A limit on the size of files stands for a full disk: both end a write with an error of the system, and it needs no root.
#[test]
fn a_full_disk_loses_no_checkpoint() {
    let folder = reviews();
    let output = folder.path().join("out");
    let (_, said) = run(&mut command(
        folder.path(),
        TRAIN,
        "out",
        "--epochs 1 --keep-checkpoints 0",
    ));
    assert!(output.join("understudy.json").exists(), "{said}");
    let model = output.join("model.safetensors");
    let before = std::fs::read(&model).unwrap();
    std::fs::remove_file(output.join("understudy.json")).unwrap();

    // The tokenizer still fits, a checkpoint does not.
    let limit = before.len() / 3 / 1024;
    let inner = command(folder.path(), TRAIN, "out", "--epochs 1 --keep-checkpoints 0 --resume");
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\""])
        .arg((limit * 2).to_string())
        .arg(inner.get_program())
        .args(inner.get_args());
    let (done, said) = run(&mut limited);
    assert!(!done);
    assert!(
        said.contains("no room to save the run") && said.contains("--resume"),
        "{said}"
    );
    assert!(said.contains("model"), "it says which file: {said}");
    assert_eq!(
        std::fs::read(&model).unwrap(),
        before,
        "the earlier checkpoint is whole"
    );
    let left: Vec<_> = std::fs::read_dir(&output)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(
        left.iter()
            .all(|path| path.extension().is_none_or(|end| end != "partial")),
        "{left:?}"
    );

    let (done, said) = run(&mut command(
        folder.path(),
        TRAIN,
        "out",
        "--epochs 1 --keep-checkpoints 0 --resume",
    ));
    assert!(done, "{said}");
    assert_eq!(std::fs::read(&model).unwrap(), before);
}
