//! Each function against an independent implementation.

use serde_json::Value;
use understudy_rollout::{
    scorecard::{ClassPairs, Moments},
    stats::{
        mean::Difference,
        quantile, rate,
        ratio::{self, Events},
        shares,
    },
};

fn cases(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn slices(case: &Value) -> Vec<Events> {
    let slices = list(&case["slices"]).iter().map(|slice| Events {
        weight: number(&slice[0]),
        candidate: count(&slice[1]),
        stable: count(&slice[2]),
    });
    slices.collect()
}

fn moments(value: &Value) -> Moments {
    Moments {
        count: count(&value["count"]),
        sum: number(&value["sum"]),
        sum_of_squares: number(&value["sum_of_squares"]),
    }
}

#[track_caller]
fn close(ours: f64, theirs: &Value, case: &Value) {
    let theirs = number(theirs);
    assert!(
        (ours - theirs).abs() <= 1e-7 * theirs.abs().max(1.0),
        "{ours} for {theirs}: {case}"
    );
}

#[test]
fn likelihood_ratios() {
    for case in cases("likelihood_ratio") {
        close(ratio::ln_worse(&slices(&case)), &case["worse"], &case);
        close(ratio::ln_better(&slices(&case), 1.5), &case["better"], &case);
    }
}

#[test]
fn bets_with_a_horizon() {
    for case in cases("horizon_bet") {
        close(
            ratio::ln_horizon_bet(&slices(&case), number(&case["target"])).exp(),
            &case["e"],
            &case,
        );
    }
}

#[test]
fn rates() {
    for case in cases("rate") {
        let (k, n, null) = (count(&case["count"]), count(&case["all"]), number(&case["null"]));
        close(rate::ln_above(k, n, null), &case["above"], &case);
        // A rate of 0 is one of the alternatives; SciPy has one of nearly 0, which with k > 0 is as good as impossible.
        close(rate::ln_below(k, n, null), &case["below"], &case);
        close(rate::upper_bound(k, n, 0.01), &case["upper_bound"], &case);
    }
}

#[test]
fn which_differs_more_often() {
    for case in cases("more_often") {
        let (first, second) = (count(&case["first"]), count(&case["second"]));
        close(rate::ln_more_often(first, second), &case["ln_e"], &case);
        // An e-value is never more than one over the exact test's p-value: looking at any time costs something.
        if first > second {
            let e = rate::ln_more_often(first, second).exp();
            assert!(e <= 2.0 / number(&case["p_two_sided"]), "{case}");
        }
    }
}

#[test]
fn ranks_about_a_quantile() {
    for case in cases("ranks") {
        let ours = quantile::ranks(number(&case["p"]), count(&case["all"]), number(&case["alpha"]));
        let theirs: Vec<Option<u64>> = list(&case["ranks"]).iter().map(Value::as_u64).collect();
        assert_eq!(vec![ours.lower, ours.upper], theirs, "{case}");
    }
}

#[test]
fn means() {
    for case in cases("mean") {
        let mean = Difference::of(&moments(&case["values"]), 0.0).unwrap();
        close(mean.estimate(), &case["estimate"], &case);
        on_the_right_side(mean, &case);
    }
}

#[test]
fn differences_of_means() {
    for case in cases("difference") {
        let arms: Vec<(Moments, Moments)> = list(&case["slices"])
            .iter()
            .map(|arms| (moments(&arms[0]), moments(&arms[1])))
            .collect();
        let difference = Difference::between(arms.iter().map(|(stable, candidate)| (stable, candidate)), 0.0).unwrap();
        close(difference.estimate(), &case["estimate"], &case);
        on_the_right_side(difference, &case);
    }
}

fn on_the_right_side(difference: Difference, case: &Value) {
    let (null, alpha) = (number(&case["null"]), number(&case["alpha"]));
    let (above, below) = (difference.ln_above(null, alpha), difference.ln_below(null, alpha));
    let (side, other) = if case["is_above"] == true {
        (above, below)
    } else {
        (below, above)
    };
    close(side, &case["ln_e"], case);
    assert!(other <= 0.0, "{case}");
}

/// The sequence as FACTS and the paper write it ends where the e-value reaches 1/alpha.
#[test]
fn means_are_the_asymptotic_confidence_sequence() {
    for (n, alpha) in [(50_u32, 0.05_f64), (500, 0.01), (20_000, 0.0005)] {
        let (n, variance) = (f64::from(n), 0.09);
        let rho = ((-2.0 * alpha.ln() + (-2.0 * alpha.ln()).ln_1p()) / 500.0).sqrt();
        let inner = n * rho * rho + 1.0;
        let half_width = (variance * 2.0 * inner / (n * rho).powi(2) * (inner.sqrt() / alpha).ln()).sqrt();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let values = Moments {
            count: n as u64,
            sum: 0.4 * n,
            sum_of_squares: variance * (n - 1.0) + 0.16 * n,
        };
        let mean = Difference::of(&values, 0.0).unwrap();
        let e = mean.ln_above(0.4 - half_width, alpha);
        assert!((e + alpha.ln()).abs() < 1e-9, "{e}");
    }
}

#[test]
fn shares_of_the_arms() {
    for case in cases("shares") {
        let ours = shares::ln_bayes_factor(
            count(&case["count"]),
            count(&case["all"]),
            number(&case["null"]),
            number(&case["wanted"]),
            number(&case["concentration"]),
        );
        close(ours, &case["ln_e"], &case);
    }
}

#[test]
fn pairs_of_labels() {
    for case in cases("pairs_of_labels") {
        let pairs = ClassPairs {
            confusion: list(&case["confusion"]).iter().map(count).collect(),
            ..ClassPairs::default()
        };
        close(pairs.kappa().unwrap(), &case["kappa"], &case);
        close(
            pairs.jensen_shannon_distance().unwrap(),
            &case["jensen_shannon_distance"],
            &case,
        );
    }
}
