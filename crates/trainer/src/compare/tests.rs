use super::*;
use crate::train::tests::alone;

/// Answers that are right where `right` says so, with one confidence.
fn answers(truth: &[usize], right: impl Fn(usize) -> bool) -> Scored {
    let rows: Vec<Vec<f32>> = truth
        .iter()
        .enumerate()
        .map(|(example, &label)| {
            let said = if right(example) { label } else { 1 - label };
            if said == 1 { vec![0.2, 0.8] } else { vec![0.8, 0.2] }
        })
        .collect();
    Scored::new(2, truth, &rows).unwrap()
}

fn options(words: &[&str]) -> CompareOptions {
    #[derive(clap::Parser)]
    struct Compare {
        #[command(flatten)]
        options: CompareOptions,
    }
    let all = ["compare", "--data", "x.csv", "--resamples", "300"].iter().chain(words);
    <Compare as clap::Parser>::try_parse_from(all).unwrap().options
}

fn judged(names: &[&str], scored: &[Scored], clusters: &Clusters, extra: &[&str]) -> Comparison {
    let words: Vec<&str> = names.iter().chain(extra).copied().collect();
    let labels = Labels::infer(["pos", "neg"]).unwrap();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    judge(&options(&words), names, scored, &labels, clusters).unwrap()
}

#[test]
fn a_winner_is_named_only_where_it_is_shown_to_be_better_than_all() {
    let _turn = alone();
    let truth: Vec<usize> = (0..600).map(|i| i % 2).collect();
    let single = Clusters::single(600);
    let good = answers(&truth, |i| i % 20 != 0);
    let nearly = answers(&truth, |i| i % 20 != 0 && i != 7 && i != 13);
    let bad = answers(&truth, |i| i % 4 != 0);

    let two = judged(&["bad", "good"], &[bad.clone(), good.clone()], &single, &[]);
    assert_eq!(two.winner.as_deref(), Some("good"));
    assert_eq!(two.contestants[0].name, "good");
    assert_eq!(
        (two.pairs[0].discordant.only_first, two.pairs[0].discordant.only_second),
        (120, 0)
    );
    assert!(
        two.verdict.contains("good wins") && two.test.starts_with("McNemar"),
        "{}",
        two.verdict
    );
    let difference = &two.pairs[0].differences["accuracy"];
    assert!((difference.estimate - 0.2).abs() < 1e-12);
    let ends = difference.interval.unwrap();
    assert!(ends.low > 0.16 && ends.high < 0.24, "{ends:?}");

    let three = judged(&["good", "nearly", "bad"], &[good, nearly, bad], &single, &[]);
    assert_eq!(three.winner, None);
    assert!(
        three.verdict.starts_with(
            "no winner: good has the highest accuracy, but it is not shown to be better than nearly (p = 1.0000)"
        ) || three
            .verdict
            .contains("not shown to be better than nearly (p = 0.5000)"),
        "{}",
        three.verdict
    );
    assert!(three.verdict.contains("it is better than bad") && three.test.contains("Holm's adjustment for 3 pairs"));
    let text = show::tables(&three);
    assert!(text.contains("p, adjusted") && text.contains("+20.00 points"), "{text}");
    let html = page::page(&three).unwrap();
    assert!(html.contains("No winner is shown") && html.contains("at 0 they are equal"));
}

#[test]
fn clusters_take_away_evidence_that_is_none() {
    let _turn = alone();
    let truth: Vec<usize> = (0..600).map(|i| i % 2).collect();
    // The second is wrong on ten examples more, all of two films.
    let first = answers(&truth, |i| i % 20 != 0);
    let second = answers(&truth, |i| i % 20 != 0 && !(100..112).contains(&i));
    let films: Vec<String> = (0..600).map(|i| (i / 12).to_string()).collect();
    let by_film = Clusters::by(films.iter().map(String::as_str));
    let scored = [first, second];
    assert!(
        judged(&["a", "b"], &scored, &Clusters::single(600), &[])
            .winner
            .is_some()
    );
    let clustered = judged(&["a", "b"], &scored, &by_film, &["--cluster", "film"]);
    assert_eq!(clustered.winner, None);
    assert!(
        clustered
            .test
            .starts_with("paired bootstrap of 300 resamples of groups of equal film")
    );
    let by_f1 = judged(&["a", "b"], &scored, &Clusters::single(600), &["--by", "f1"]);
    assert!(by_f1.verdict.contains("macro F1") && by_f1.test.starts_with("paired bootstrap"));
    assert!(by_f1.pairs[0].p < 0.02, "{}", by_f1.pairs[0].p);
}

/// The texts tell nothing, the stars all.
#[test]
fn the_hybrid_wins_by_metadata() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&["baseline", "hybrid", "--metadata", "stars", "--cluster", "film"]);
    options.data = folder.path().join("data.csv");
    let row = |n: usize| {
        let (label, stars) = [("neg", 2), ("pos", 8)][n / 3 % 2];
        let split = ["train", "train", "test"][n % 3];
        format!("A review of film number {n},{label},{split},{stars},{}\n", n / 6)
    };
    let rows: String = (0..900).map(row).collect();
    std::fs::write(&options.data, format!("review,label,split,stars,film\n{rows}")).unwrap();
    let text = compare(&options).unwrap();
    assert!(text.contains("hybrid wins"), "{text}");

    options.metadata.columns = vec!["starz".to_owned()];
    let error = format!("{:#}", compare(&options).unwrap_err());
    assert!(error.contains("starz"), "{error}");
}
