use understudy_corpus::{Columns, Fractions, Labels, Limits, load_labelled_columns, split};

use super::*;
use crate::evaluate::answers::{Answered, LengthUnit};
use crate::train::tests::alone;

fn options(words: &[&str]) -> EvaluateOptions {
    #[derive(clap::Parser)]
    struct Evaluate {
        #[command(flatten)]
        options: EvaluateOptions,
    }
    <Evaluate as clap::Parser>::try_parse_from(["evaluate"].iter().chain(words))
        .unwrap()
        .options
}

/// Logits of which every tenth is wrong, twice as sure as they should be.
fn answered(truth: &[usize], unit: LengthUnit) -> Answered {
    let logits: Vec<Vec<f32>> = truth
        .iter()
        .enumerate()
        .map(|(example, &label)| {
            let said = if example % 10 == 0 { 1 - label } else { label };
            let sure = 2.0 * 9.0_f32.ln() / 2.0;
            if said == 1 {
                vec![-sure, sure]
            } else {
                vec![sure, -sure]
            }
        })
        .collect();
    Answered {
        probabilities: logits.iter().map(|row| crate::model::softmax(row)).collect(),
        logits,
        lengths: (0..truth.len()).map(|example| 20 + example % 3 * 60).collect(),
        unit,
        length_max: (unit == LengthUnit::Tokens).then_some(128),
    }
}

fn reading(folder: &Path) -> PathBuf {
    let data = folder.join("data.csv");
    let mut text = "review,label,split,stars,film\n".to_owned();
    for index in 0..400 {
        let (split, label) = (["val", "test"][index / 200], ["neg", "pos"][index % 2]);
        text += &format!("A review number {index},{label},{split},{},{}\n", index % 5, index / 8);
    }
    text += "For learning,pos,train,1,1\n";
    std::fs::write(&data, text).unwrap();
    data
}

#[test]
fn figures_slices_temperature_and_mistakes() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = reading(folder.path());
    let file = data.display().to_string();
    let options = options(&[
        "--baseline",
        "--data",
        &file,
        "--slice",
        "stars",
        "--slice",
        "film",
        "--cluster",
        "film",
        "--resamples",
        "200",
        "--mistakes",
        "3",
    ]);
    let parts = Reading {
        data: &data,
        selection: &options.selection,
        checkpoints: &[],
        columns: &options.columns,
        kept: ["stars", "film"].map(str::to_owned).to_vec(),
    }
    .read(None)
    .unwrap();
    assert_eq!(
        (parts.measured.len(), parts.validation.len(), parts.train.len()),
        (200, 200, 1)
    );
    let truth = parts.truth();
    let measured = answered(&truth, LengthUnit::Tokens);
    let known: Vec<usize> = parts.validation.iter().map(|example| example.label).collect();
    let held_out = answered(&known, LengthUnit::Tokens);
    let evaluation = Evaluation::measure(&parts, &measured, Some(&held_out), &options).unwrap();
    assert!((evaluation.metrics.accuracy - 0.9).abs() < 1e-12);
    let intervals = evaluation.intervals.as_ref().unwrap();
    let ends = intervals.figures["accuracy"];
    assert!(ends.low < 0.9 && ends.high > 0.9 && ends.low > 0.8, "{ends:?}");
    assert_eq!(intervals.clusters, 25);
    let tempered = evaluation.temperature.as_ref().unwrap();
    assert!(
        (tempered.fitted.temperature - 2.0).abs() < 1e-3,
        "{:?}",
        tempered.fitted
    );
    assert!(tempered.calibration.ece < 1e-3 && evaluation.calibration.ece > 0.05);
    let lengths: Vec<(&str, u64)> = evaluation
        .by_length
        .parts
        .iter()
        .map(|p| (p.name.as_str(), p.examples))
        .collect();
    assert_eq!(lengths, [("up to 64", 67), ("65 to 128 (longer ones are cut)", 133)]);
    let stars: Vec<&str> = evaluation.slices[0]
        .parts
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    assert_eq!(stars, ["0", "1", "2", "3", "4"]);
    let errors: u64 = evaluation.slices[0].parts.iter().map(|part| part.errors).sum();
    assert_eq!(errors, 20, "each is in one part");
    assert_eq!(evaluation.slices[1].parts.len(), 4, "films by quarters of their number");
    assert_eq!(evaluation.mistakes.len(), 3);
    assert!(evaluation.mistakes[0].line > 1 && evaluation.mistakes[0].truth != evaluation.mistakes[0].said);

    let text = show::tables(&evaluation);
    for wanted in [
        "90.00%",
        "25 groups of equal film",
        "temperature 2.000",
        "up to 64",
        "most confident mistakes",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
    let html = page::page(&evaluation, &measured, &parts).unwrap();
    for wanted in [
        "Confusion matrix",
        "Receiver operating",
        "Precision by recall",
        "Reliability",
        "By stars",
    ] {
        assert!(html.contains(wanted), "no {wanted:?}");
    }
    let json = serde_json::to_value(&evaluation).unwrap();
    assert!(
        json["accuracy"].is_number()
            && json["macro"]["f1"].is_number()
            && json["temperature"]["temperature"].is_number()
    );
}

/// Also where the file has texts that `train` leaves out.
#[test]
fn the_measured_part_is_what_train_set_aside() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.csv");
    let rows: String = (0..300)
        .map(|i| {
            format!(
                "A review{} {i},{}\n",
                [" with the number", ""][usize::from(i % 7 == 0)],
                ["neg", "pos"][i % 2]
            )
        })
        .collect();
    std::fs::write(&data, format!("review,label\n{rows}")).unwrap();
    let file = data.display().to_string();
    let trained = |name: &str, recipe: &str| {
        let checkpoint = folder.path().join(name);
        std::fs::create_dir(&checkpoint).unwrap();
        std::fs::write(checkpoint.join("recipe.toml"), recipe).unwrap();
        checkpoint
    };
    let [five, six] = ["seed = 5\ntest-share = 0.2\n", "seed = 6\n"].map(|recipe| trained(&recipe[..8], recipe));
    let labels = Labels::infer(["neg", "pos"]).unwrap();
    let test = |checkpoints: &[PathBuf], flags: &[&str]| {
        let options = options(&[&["--baseline", "--data", &file], flags].concat());
        let reading = Reading {
            data: &data,
            selection: &options.selection,
            checkpoints,
            columns: &options.columns,
            kept: Vec::new(),
        };
        Ok::<_, anyhow::Error>(reading.read(Some(&labels))?.measured)
    };
    let set_aside = |seed: u64, test: f64| {
        let set = load_labelled_columns(&data, &Columns::default(), None, &Limits::training()).unwrap();
        assert!(set.counts.too_short > 0);
        split(set.examples, Fractions { validation: 0.1, test }, seed)
            .unwrap()
            .test
    };
    assert_eq!(test(&[], &[]).unwrap(), set_aside(1, 0.1));
    assert_eq!(test(std::slice::from_ref(&five), &[]).unwrap(), set_aside(5, 0.2));
    assert_eq!(
        test(std::slice::from_ref(&five), &["--seed", "7"]).unwrap(),
        set_aside(7, 0.2)
    );
    let both = [five, six];
    let refused = test(&both, &[]).unwrap_err().to_string();
    assert!(
        refused.contains("seed 5, shares 0.1 and 0.2; seed 6, shares 0.1 and 0.1"),
        "{refused}"
    );
    assert_eq!(
        test(&both, &["--seed", "5", "--test-share", "0.3"]).unwrap(),
        set_aside(5, 0.3)
    );
}
