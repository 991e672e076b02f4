use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    labels: Vec<String>,
    truth: Vec<usize>,
    probabilities: Vec<Vec<f32>>,
    accuracy: f64,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    macro_f1: f64,
    macro_precision: f64,
    macro_recall: f64,
    roc_auc: f64,
    log_loss: f64,
    confusion: Vec<Vec<usize>>,
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

/// Values from scikit-learn: `fixtures/generate.py`.
#[test]
fn figures_as_scikit_learn() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../fixtures/metrics.json")).unwrap();
    assert!(cases.len() >= 3);
    for case in cases {
        let metrics = Metrics::measure(&case.labels, &case.truth, &case.probabilities).unwrap();
        assert_eq!(metrics.confusion, case.confusion);
        assert!(close(metrics.accuracy, case.accuracy));
        assert!(
            close(metrics.roc_auc.unwrap(), case.roc_auc),
            "{:?} {}",
            metrics.roc_auc,
            case.roc_auc
        );
        assert!(
            close(metrics.log_loss, case.log_loss),
            "{} {}",
            metrics.log_loss,
            case.log_loss
        );
        assert!(close(metrics.averages.f1, case.macro_f1));
        assert!(close(metrics.averages.precision, case.macro_precision));
        assert!(close(metrics.averages.recall, case.macro_recall));
        for (index, class) in metrics.classes.iter().enumerate() {
            assert!(close(class.scores.precision, case.precision[index]));
            assert!(close(class.scores.recall, case.recall[index]));
            assert!(close(class.scores.f1, case.f1[index]));
        }
    }
}

#[test]
fn one_class_has_no_area_and_nonsense_is_refused() {
    let labels = ["a".to_owned(), "b".to_owned()];
    let metrics = Metrics::measure(&labels, &[1], &[vec![0.4, 0.6]]).unwrap();
    assert_eq!((metrics.roc_auc, metrics.pr_auc, metrics.accuracy), (None, None, 1.0));
    assert_eq!(metrics.classes[1].pr_auc, Some(1.0));
    assert!(Metrics::measure(&labels, &[], &[]).is_err());
    assert!(Metrics::measure(&labels, &[2], &[vec![0.4, 0.6]]).is_err());
    assert!(Metrics::measure(&labels, &[0], &[vec![0.4]]).is_err());
    assert!(Metrics::measure(&labels, &[0], &[vec![f32::NAN, 0.6]]).is_err());
}

/// From `scripts/evaluation-reference.py`.
#[derive(Deserialize)]
struct Reference {
    cases: Vec<ReferenceCase>,
    mcnemar: Vec<Pairs>,
    holm: HolmCase,
    quantile: Quantile,
    bootstrap: Bootstrapped,
}

#[derive(Deserialize)]
struct ReferenceCase {
    truth: Vec<usize>,
    logits: Vec<Vec<f32>>,
    probabilities: Vec<Vec<f32>>,
    weights: Vec<u32>,
    figures: std::collections::HashMap<String, f64>,
    weighted: std::collections::HashMap<String, f64>,
    roc_auc: Vec<f64>,
    pr_auc: Vec<f64>,
    calibration: CalibrationCase,
    temperature: TemperatureCase,
    curves: Option<CurvesCase>,
}

#[derive(Deserialize)]
struct CalibrationCase {
    ece: f64,
    mce: f64,
    overconfidence: f64,
    /// Number, examples, confidence, accuracy, Wilson's interval.
    bins: Vec<[f64; 6]>,
}

#[derive(Deserialize)]
struct TemperatureCase {
    temperature: f64,
    before: f64,
    after: f64,
}

#[derive(Deserialize)]
struct CurvesCase {
    roc: Vec<(f64, f64)>,
    precision_recall: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Pairs {
    only_first: u64,
    only_second: u64,
    p: f64,
}

#[derive(Deserialize)]
struct HolmCase {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct Quantile {
    values: Vec<f64>,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct Bootstrapped {
    right: Vec<usize>,
    low: f64,
    high: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../fixtures/evaluation.json")).unwrap()
}

fn all_close(ours: &[(f64, f64)], theirs: &[(f64, f64)]) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        assert!(close(a.0, b.0) && close(a.1, b.1), "{a:?} {b:?}");
    }
}

#[test]
fn areas_weights_and_curves_as_scikit_learn() {
    let mut with_curves = 0;
    for case in reference().cases {
        let classes = case.roc_auc.len();
        let scored = Scored::new(classes, &case.truth, &case.probabilities).unwrap();
        for (name, value) in scored.figures(None).entries() {
            assert!(
                close(value, case.figures[name]),
                "{name} {value} {}",
                case.figures[name]
            );
        }
        for (name, value) in scored.figures(Some(&case.weights)).entries() {
            assert!(
                close(value, case.weighted[name]),
                "{name} {value} {}",
                case.weighted[name]
            );
        }
        for class in 0..classes {
            let (roc, pr) = scored.areas(class, None);
            assert!(close(roc.unwrap(), case.roc_auc[class]) && close(pr.unwrap(), case.pr_auc[class]));
        }
        if let Some(expected) = case.curves {
            let curves = scored.curves(1);
            all_close(&curves.roc, &expected.roc);
            // scikit-learn ends where everything is found first; ours goes on to the last threshold.
            all_close(
                &curves.precision_recall[..expected.precision_recall.len()],
                &expected.precision_recall,
            );
            with_curves += 1;
        }
    }
    assert_eq!(with_curves, 1);
}

#[test]
fn calibration_and_temperature_as_numpy_and_scipy() {
    for case in reference().cases {
        let ours = Calibration::measure(&case.truth, &case.probabilities);
        let theirs = case.calibration;
        assert!(close(ours.ece, theirs.ece) && close(ours.mce, theirs.mce));
        assert!(close(ours.overconfidence, theirs.overconfidence));
        assert_eq!(ours.bins.len(), theirs.bins.len());
        for (ours, theirs) in ours.bins.iter().zip(theirs.bins) {
            let values = [
                ours.from * CALIBRATION_BINS as f64,
                ours.examples as f64,
                ours.confidence,
                ours.accuracy,
                ours.interval.low,
                ours.interval.high,
            ];
            for (a, b) in values.into_iter().zip(theirs) {
                assert!(close(a, b), "{a} {b}");
            }
        }
        let fitted = Temperature::fit(&case.truth, &case.logits).unwrap();
        let expected = case.temperature;
        assert!(
            (fitted.temperature / expected.temperature - 1.0).abs() < 1e-4,
            "{fitted:?}"
        );
        assert!(close(fitted.log_loss_before, expected.before) && close(fitted.log_loss_after, expected.after));
        let again: Vec<Vec<f32>> = case.logits.iter().map(|row| fitted.apply(row)).collect();
        let again = Temperature::fit(&case.truth, &again).unwrap();
        assert!(
            (again.temperature - 1.0).abs() < 1e-4,
            "fitted twice, nothing is left to do"
        );
    }
    let all_right = Temperature::fit(&[0, 1], &[vec![1.0, 0.0], vec![0.0, 1.0]]).unwrap();
    assert!(all_right.temperature < 0.05, "the surest is the best: {all_right:?}");
    assert!(Temperature::fit(&[0], &[vec![f32::NAN, 0.0]]).is_err());
}

#[test]
fn paired_tests_as_statsmodels() {
    let reference = reference();
    for Pairs {
        only_first,
        only_second,
        p,
    } in reference.mcnemar
    {
        let pairs = Discordant {
            only_first,
            only_second,
        };
        assert!(
            (pairs.mcnemar() / p - 1.0).abs() < 1e-6,
            "{pairs:?} {} {p}",
            pairs.mcnemar()
        );
    }
    let none = Discordant {
        only_first: 0,
        only_second: 0,
    };
    assert_eq!(none.mcnemar().total_cmp(&1.0), std::cmp::Ordering::Equal);
    for (a, b) in holm(&reference.holm.p).into_iter().zip(reference.holm.adjusted) {
        assert!(close(a, b), "{a} {b}");
    }
}

#[test]
fn discordant_pairs_are_counted() {
    let row = |first: f32| vec![first, 1.0 - first];
    let a = Scored::new(2, &[0, 0, 1, 1], &[row(0.9), row(0.9), row(0.9), row(0.1)]).unwrap();
    let b = Scored::new(2, &[0, 0, 1, 1], &[row(0.9), row(0.2), row(0.9), row(0.3)]).unwrap();
    let pairs = Discordant::count(&a, &b);
    assert_eq!((pairs.only_first, pairs.only_second), (1, 0));
}

#[test]
fn bootstrap_intervals_as_numpy_and_scipy() {
    let reference = reference();
    let ours = percentile_interval(&reference.quantile.values, 0.95).unwrap();
    assert!(close(ours.low, reference.quantile.interval[0]) && close(ours.high, reference.quantile.interval[1]));
    assert_eq!(percentile_interval(&[1.0, f64::NAN], 0.95), None);

    let right = reference.bootstrap.right;
    let bootstrap = Bootstrap {
        resamples: 4_000,
        seed: 1,
    };
    let mean = |weights: &[u32]| {
        let hits: u32 = weights
            .iter()
            .zip(&right)
            .filter(|(_, right)| **right == 1)
            .map(|(w, _)| w)
            .sum();
        let all: u32 = weights.iter().sum();
        [f64::from(hits) / f64::from(all)]
    };
    let [replicates] = bootstrap.run(&Clusters::single(right.len()), mean);
    let ours = percentile_interval(&replicates, 0.95).unwrap();
    let width = reference.bootstrap.high - reference.bootstrap.low;
    assert!((ours.low - reference.bootstrap.low).abs() < 0.06 * width, "{ours:?}");
    assert!((ours.high - reference.bootstrap.high).abs() < 0.06 * width, "{ours:?}");
    assert_eq!(
        replicates,
        bootstrap.run(&Clusters::single(right.len()), mean)[0],
        "same seed, same draws"
    );
}

/// Copies tell nothing new: with them drawn together, the interval is as wide as without them.
#[test]
fn clusters_are_drawn_whole() {
    let share = |weights: &[u32]| {
        let all: u32 = weights.iter().sum();
        let hits: u32 = weights
            .iter()
            .enumerate()
            .filter(|(i, _)| i / 10 % 5 != 0)
            .map(|(_, w)| w)
            .sum();
        [f64::from(hits) / f64::from(all)]
    };
    let bootstrap = Bootstrap {
        resamples: 2_000,
        seed: 3,
    };
    let width = |clusters: &Clusters| {
        let [replicates] = bootstrap.run(clusters, share);
        let interval = percentile_interval(&replicates, 0.95).unwrap();
        interval.high - interval.low
    };
    let keys: Vec<String> = (0..1000).map(|i| (i / 10).to_string()).collect();
    let clusters = Clusters::by(keys.iter().map(String::as_str));
    assert_eq!(clusters.count(), 100);
    let ratio = width(&clusters) / width(&Clusters::single(1000));
    assert!((ratio - 10.0_f64.sqrt()).abs() < 0.3, "{ratio}");
}
