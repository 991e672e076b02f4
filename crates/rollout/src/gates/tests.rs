use super::*;
use crate::{
    distinct::Distinct,
    scorecard::{ArmCard, ClassPairs, LabelCard, Moments, ShadowCard},
    sketch::Sketch,
    spec::LabelGate,
};

fn report(evidence: &Evidence, gate: &str) -> Report {
    let reports = judge(&Gates::default(), evidence);
    let found = reports.iter().find(|report| report.gate == gate).cloned();
    found.unwrap_or_else(|| panic!("{gate} among {reports:?}"))
}

fn verdict(evidence: &Evidence, gate: &str) -> Verdict {
    report(evidence, gate).verdict
}

fn arm(requests: u64, errors: u64) -> ArmCard {
    ArmCard {
        requests,
        errors,
        ..ArmCard::default()
    }
}

fn slice(weight_ppm: u32, stable: ArmCard, candidate: ArmCard) -> Slice {
    Slice {
        epoch: 1,
        weight_ppm,
        stable,
        candidate,
    }
}

fn live(weight_ppm: u32, stable: ArmCard, candidate: ArmCard) -> Evidence {
    Evidence {
        live: slice(weight_ppm, stable, candidate),
        ..Evidence::default()
    }
}

/// An even spread about a median.
fn latency(count: u32, median: f64) -> Sketch {
    let mut sketch = Sketch::default();
    for place in 0..count {
        sketch.insert(median * (0.6 + 0.8 * f64::from(place) / f64::from(count)));
    }
    sketch
}

fn timed(requests: u32, median: f64) -> ArmCard {
    ArmCard {
        latency: latency(requests, median),
        ..arm(requests.into(), 0)
    }
}

fn moments(count: u64, mean: f64, deviation: f64) -> Moments {
    #[expect(clippy::cast_precision_loss)]
    let n = count as f64;
    Moments {
        count,
        sum: mean * n,
        sum_of_squares: (mean * mean + deviation * deviation) * n,
    }
}

fn mirrored(confusion: &[u64]) -> Evidence {
    Evidence {
        shadow: ShadowCard {
            pairs: confusion.iter().sum(),
            classes: ClassPairs {
                confusion: confusion.to_vec(),
                ..ClassPairs::default()
            },
            ..ShadowCard::default()
        },
        ..Evidence::default()
    }
}

#[test]
fn nothing_known_is_no_report() {
    assert_eq!(judge(&Gates::default(), &Evidence::default()), []);
    // Without both arms there is nothing to compare.
    for weight_ppm in [0, 1_000_000] {
        assert_eq!(
            judge(&Gates::default(), &live(weight_ppm, arm(100, 50), arm(100, 50))),
            []
        );
    }
}

#[test]
fn gates_that_are_off_say_nothing() {
    let off = Gates {
        errors: None,
        latency: None,
        agreement: None,
        confidence: None,
        text: None,
        labels: None,
        ..Gates::default()
    };
    let evidence = Evidence {
        shadow: mirrored(&[9, 1, 1, 9]).shadow,
        ..live(50_000, timed(100, 0.1), timed(100, 0.1))
    };
    assert_eq!(judge(&off, &evidence), []);
    assert_eq!(watch_report(&off, &[], &arm(10, 10)), None);
}

#[test]
fn no_traffic_is_no_failure() {
    // flagger #1801, #1035
    assert_eq!(judge(&Gates::default(), &live(50_000, arm(1_000, 10), arm(0, 0))), []);
    assert_eq!(
        verdict(&live(50_000, arm(19, 0), arm(1, 1)), "errors"),
        Verdict::Undecided
    );
}

#[test]
fn errors() {
    let evidence = live(50_000, arm(38_000, 380), arm(2_000, 44));
    let report = report(&evidence, "errors");
    assert_eq!(report.verdict, Verdict::Worse);
    assert_eq!(report.detail, "2.2% of 2,000 against 1.0% of 38,000");
    assert_eq!(
        verdict(&live(50_000, arm(19_000, 190), arm(1_000, 10)), "errors"),
        Verdict::Undecided
    );
    assert_eq!(
        verdict(&live(500_000, arm(50_000, 500), arm(50_000, 500)), "errors"),
        Verdict::Good
    );
    // None at all: there is no ratio, but the rate is negligible.
    assert_eq!(
        verdict(&live(500_000, arm(1_500, 0), arm(1_500, 0)), "errors"),
        Verdict::Good
    );
    assert_eq!(
        verdict(&live(500_000, arm(300, 0), arm(300, 0)), "errors"),
        Verdict::Undecided
    );
}

#[test]
fn an_incident_on_both_arms_is_no_evidence() {
    let calm = report(&live(50_000, arm(19_000, 19), arm(1_000, 1)), "errors");
    let incident = report(&live(50_000, arm(19_000, 9_500), arm(1_000, 500)), "errors");
    assert!(incident.e_worse < calm.e_worse.max(1.0), "{incident:?}");
    assert_eq!(
        incident.verdict,
        Verdict::Good,
        "as many of each is a proof of the ratio"
    );
}

#[test]
fn a_negligible_rate_is_good_whatever_the_ratio() {
    let report = report(&live(500_000, arm(100_000, 1), arm(100_000, 100)), "errors");
    assert_eq!(report.verdict, Verdict::Good, "{report:?}");
    // Callers hide how many requests failed, so there the ratio decides.
    let keys = |count: u64| ArmCard {
        erring_keys: Distinct::from_hashes((0..count).map(|key| key * 7_919).collect()),
        ..arm(100_000, 0)
    };
    assert_eq!(verdict(&live(500_000, keys(1), keys(100)), "errors"), Verdict::Worse);
}

#[test]
fn fallbacks_tell_neither_for_nor_against() {
    // The stable version lost its workers: the candidate served nearly everything, and met nearly all errors.
    let mut evidence = live(50_000, arm(1_000, 10), arm(19_000, 190));
    assert_eq!(verdict(&evidence, "errors"), Verdict::Worse);
    evidence.live.stable.fallbacks = 18_500;
    assert_ne!(verdict(&evidence, "errors"), Verdict::Worse);
    // The candidate had none: it served few requests, so few errors are no merit.
    let mut evidence = live(500_000, arm(10_000, 100), arm(500, 8));
    assert_eq!(verdict(&evidence, "errors"), Verdict::Good);
    evidence.live.candidate.fallbacks = 9_500;
    assert_ne!(verdict(&evidence, "errors"), Verdict::Good);
}

#[test]
fn slices_add_up() {
    let part = |epoch| Slice {
        epoch,
        ..slice(50_000, arm(9_500, 95), arm(500, 11))
    };
    let one = live(50_000, arm(9_500, 95), arm(500, 11));
    let four = Evidence {
        settled: vec![part(1), part(2), part(3)],
        live: part(4),
        ..Evidence::default()
    };
    assert_eq!(verdict(&one, "errors"), Verdict::Undecided);
    assert_eq!(verdict(&four, "errors"), Verdict::Worse);
}

#[test]
fn latencies() {
    let same = live(50_000, timed(19_000, 0.1), timed(1_000, 0.1));
    assert_eq!(verdict(&same, "latency p50"), Verdict::Good);
    assert_eq!(verdict(&same, "latency p95"), Verdict::Good);
    let slow = live(50_000, timed(9_500, 0.1), timed(500, 0.15));
    let report = report(&slow, "latency p50");
    assert_eq!(report.verdict, Verdict::Worse, "{report:?}");
    assert!(report.e_worse < 1.5, "the proved ratio is below the true one");
    // A tenth more is below the margin.
    let little = live(50_000, timed(190_000, 0.1), timed(10_000, 0.11));
    assert_eq!(verdict(&little, "latency p50"), Verdict::Good);
    let few = live(50_000, timed(190, 0.1), timed(10, 0.3));
    assert_eq!(verdict(&few, "latency p95"), Verdict::Undecided);
}

#[test]
fn a_busy_hour_is_no_slow_candidate() {
    // Most of the candidate's requests fell into it, most of the stable version's did not.
    let slices = [
        slice(10_000, timed(9_900, 0.1), timed(100, 0.1)),
        slice(500_000, timed(5_000, 0.3), timed(5_000, 0.3)),
    ];
    let evidence = Evidence {
        settled: slices.to_vec(),
        ..Evidence::default()
    };
    assert_eq!(verdict(&evidence, "latency p50"), Verdict::Good);
}

#[test]
fn good_latency_is_what_the_newest_slice_proves() {
    let fast = slice(10_000, timed(9_900, 0.1), timed(1_000, 0.1));
    let evidence = |newest: Slice| Evidence {
        settled: vec![fast.clone()],
        live: newest,
        ..Evidence::default()
    };
    let young = slice(500_000, timed(10, 0.1), timed(10, 0.1));
    assert_eq!(verdict(&evidence(young), "latency p50"), Verdict::Undecided);
    let overloaded = slice(500_000, timed(1_000, 0.1), timed(1_000, 0.4));
    assert_eq!(verdict(&evidence(overloaded), "latency p50"), Verdict::Worse);
}

#[test]
fn agreement() {
    let good = mirrored(&[95, 5, 5, 95]);
    assert_eq!(verdict(&good, "agreement"), Verdict::Good);
    assert_eq!(verdict(&good, "agreement class 1"), Verdict::Good);
    let swapped = mirrored(&[0, 20, 20, 0]);
    assert_eq!(verdict(&swapped, "agreement"), Verdict::Worse);
    let report = report(&good, "agreement");
    assert!(
        report
            .detail
            .starts_with("95.0% of 200 agree; 75.0% at least; kappa 0.90;"),
        "{}",
        report.detail
    );
    assert!(report.detail.contains("flips 0→1 5, 1→0 5"), "{}", report.detail);
    let named = Evidence {
        class_names: vec!["negative".into(), "positive".into()],
        ..good
    };
    assert_eq!(verdict(&named, "agreement positive"), Verdict::Good);
    let report = self::report(&named, "agreement");
    let flips = "flips negative→positive 5, positive→negative 5";
    assert!(report.detail.contains(flips), "{}", report.detail);
}

#[test]
fn a_class_of_its_own_is_found() {
    // 88% agree in all, but class 2 is always called 0.
    let evidence = mirrored(&[200, 0, 0, 0, 200, 0, 50, 0, 0]);
    assert_ne!(verdict(&evidence, "agreement"), Verdict::Worse);
    assert_eq!(verdict(&evidence, "agreement class 2"), Verdict::Worse);
    // A class that is rare holds nothing up.
    let rare = judge(&Gates::default(), &mirrored(&[200, 0, 0, 0, 200, 0, 1, 0, 2]));
    assert!(rare.iter().all(|report| report.verdict == Verdict::Good), "{rare:?}");
}

#[test]
fn noise_excuses_disagreement_unless_the_candidate_differs_more() {
    let mut evidence = mirrored(&[50, 50, 50, 50]);
    assert_eq!(verdict(&evidence, "agreement"), Verdict::Worse);
    let classes = &mut evidence.shadow.classes;
    (classes.noise_triples, classes.only_candidate, classes.only_noise) = (100, 26, 24);
    assert_eq!(verdict(&evidence, "agreement"), Verdict::Undecided);
    let classes = &mut evidence.shadow.classes;
    (classes.only_candidate, classes.only_noise) = (45, 4);
    assert_eq!(verdict(&evidence, "agreement"), Verdict::Worse);
    // As noisy as itself is good enough.
    let classes = &mut evidence.shadow.classes;
    (classes.noise_triples, classes.only_candidate, classes.only_noise) = (4_000, 1_000, 1_000);
    assert_eq!(verdict(&evidence, "agreement"), Verdict::Good);
}

#[test]
fn failures_in_shadow() {
    let shadow = |pairs, candidate_errors| Evidence {
        shadow: ShadowCard {
            pairs,
            candidate_errors,
            ..ShadowCard::default()
        },
        ..Evidence::default()
    };
    assert_eq!(verdict(&shadow(200, 0), "errors in shadow"), Verdict::Good);
    assert_eq!(verdict(&shadow(150, 50), "errors in shadow"), Verdict::Worse);
    assert_eq!(verdict(&shadow(0, 10), "errors in shadow"), Verdict::Worse);
    assert_eq!(verdict(&shadow(180, 20), "errors in shadow"), Verdict::Undecided);
}

#[test]
fn means() {
    let shadow = |difference: f64| {
        let mut evidence = mirrored(&[100, 0, 0, 100]);
        evidence.shadow.classes.confidence_difference = moments(200, difference, 0.1);
        evidence
    };
    assert_eq!(verdict(&shadow(0.0), "confidence in shadow"), Verdict::Good);
    assert_eq!(verdict(&shadow(-0.2), "confidence in shadow"), Verdict::Worse);
    assert_eq!(verdict(&shadow(-0.1), "confidence in shadow"), Verdict::Undecided);
    let answered = |mean: f64| {
        let mut evidence = live(500_000, arm(500, 0), arm(500, 0));
        evidence.live.stable.predictions.confidence = moments(500, 0.9, 0.1);
        evidence.live.candidate.predictions.confidence = moments(500, mean, 0.1);
        evidence
    };
    assert_eq!(verdict(&answered(0.89), "confidence"), Verdict::Good);
    assert_eq!(verdict(&answered(0.7), "confidence"), Verdict::Worse);
}

#[test]
fn texts() {
    let shadow = |log_ratio: f64, grounding: f64| {
        let mut evidence = Evidence::default();
        evidence.shadow.pairs = 300;
        evidence.shadow.texts.log_length_ratio = moments(300, log_ratio, 0.3);
        evidence.shadow.texts.grounding_difference = moments(300, grounding, 0.2);
        evidence
    };
    let same = shadow(0.0, 0.0);
    assert_eq!(verdict(&same, "length in shadow"), Verdict::Good);
    assert_eq!(verdict(&same, "grounding in shadow"), Verdict::Good);
    assert_eq!(verdict(&shadow(0.7, 0.0), "length in shadow"), Verdict::Worse);
    assert_eq!(verdict(&shadow(-0.7, 0.0), "length in shadow"), Verdict::Worse);
    assert_eq!(verdict(&shadow(0.0, -0.3), "grounding in shadow"), Verdict::Worse);
    let mut answered = live(500_000, arm(500, 0), arm(500, 0));
    answered.live.stable.predictions.tokens = moments(500, 100.0, 30.0);
    answered.live.candidate.predictions.tokens = moments(500, 180.0, 30.0);
    let longer = report(&answered, "length");
    assert_eq!(longer.verdict, Verdict::Worse);
    assert!(
        longer.detail.starts_with("80.0% longer on the mean of 500"),
        "{}",
        longer.detail
    );
    // Of a classification they are the request's own.
    answered.live.stable.predictions.classes = vec![1, 2];
    assert!(
        judge(&Gates::default(), &answered)
            .iter()
            .all(|report| report.gate != "length")
    );
}

#[test]
fn equal_values_are_enough_but_a_few_are_not() {
    let evidence = |count| {
        let mut evidence = Evidence::default();
        evidence.shadow.texts.grounding_difference = moments(count, 0.0, 0.0);
        evidence
    };
    assert_eq!(judge(&Gates::default(), &evidence(10)), []);
    assert_eq!(verdict(&evidence(100), "grounding in shadow"), Verdict::Good);
}

#[test]
fn labels() {
    let labels = |labels: LabelCard| Evidence {
        labels,
        ..Evidence::default()
    };
    let pairs = |only_stable_right, only_candidate_right| LabelCard {
        both_right: 900,
        only_stable_right,
        only_candidate_right,
        both_wrong: 50,
        ..LabelCard::default()
    };
    assert_eq!(verdict(&labels(pairs(0, 0)), "labels"), Verdict::Good);
    assert_eq!(verdict(&labels(pairs(60, 10)), "labels"), Verdict::Worse);
    assert_eq!(verdict(&labels(pairs(10, 60)), "labels"), Verdict::Good);
    let unpaired = |candidate_wrong| LabelCard {
        stable_right: 9_000,
        stable_wrong: 1_000,
        candidate_right: 9_000,
        candidate_wrong,
        ..LabelCard::default()
    };
    assert_eq!(verdict(&labels(unpaired(1_000)), "labels"), Verdict::Good);
    assert_eq!(verdict(&labels(unpaired(2_000)), "labels"), Verdict::Worse);
    let wanting = Gates {
        labels: Some(LabelGate { labels_min: 2_000 }),
        ..Gates::default()
    };
    let report = &judge(&wanting, &labels(pairs(0, 0)))[0];
    assert_eq!(report.verdict, Verdict::Undecided);
    assert!(report.detail.ends_with("950 labels of 2,000"), "{}", report.detail);
}

#[test]
fn after_the_promotion_only_gross_failures_count() {
    let settled = [slice(500_000, arm(10_000, 100), arm(10_000, 100))];
    let watched = |errors| watch_report(&Gates::default(), &settled, &arm(1_000, errors)).map(|report| report.verdict);
    assert_eq!(watched(10), Some(Verdict::Undecided));
    assert_eq!(watched(25), Some(Verdict::Undecided));
    assert_eq!(watched(120), Some(Verdict::Worse));
    assert_eq!(watch_report(&Gates::default(), &settled, &arm(0, 0)), None);
    // Nothing known of the stable version.
    let alone = |errors| watch_report(&Gates::default(), &[], &arm(1_000, errors)).map(|report| report.verdict);
    assert_eq!(alone(20), Some(Verdict::Undecided));
    assert_eq!(alone(250), Some(Verdict::Worse));
}

#[test]
fn split() {
    let e =
        |weight_ppm, stable, candidate| sample_ratio_mismatch(&[slice(weight_ppm, arm(stable, 0), arm(candidate, 0))]);
    assert!(sample_ratio_mismatch(&[]) <= 1.0);
    assert!(e(50_000, 95_000, 5_000) < 1.0);
    // Heavy callers.
    assert!(e(50_000, 93_500, 6_500) < 1.0);
    assert!(e(50_000, 1_800, 200) > 20.0);
    assert!(e(50_000, 10_000, 0) > 1e6);
    assert!(e(250_000, 0, 1_000) > 1e6, "all traffic on the candidate");
}

#[test]
fn a_verdict_is_that_a_number_reached_its_threshold() {
    let many = [
        live(50_000, arm(38_000, 380), arm(2_000, 44)),
        live(500_000, timed(1_000, 0.1), timed(1_000, 0.2)),
        mirrored(&[0, 20, 20, 0]),
        mirrored(&[95, 5, 5, 95]),
        live(500_000, arm(u64::MAX, u64::MAX), arm(u64::MAX, 0)),
        live(1, arm(u64::MAX, 0), arm(u64::MAX, u64::MAX)),
    ];
    for report in many.iter().flat_map(|evidence| judge(&Gates::default(), evidence)) {
        assert_eq!(
            report.verdict == Verdict::Worse,
            report.e_worse >= report.e_worse_threshold,
            "{report:?}"
        );
        if report.verdict == Verdict::Good {
            assert!(report.e_good >= report.e_good_threshold, "{report:?}");
        }
        assert!(report.e_worse.is_finite() && report.e_good.is_finite(), "{report:?}");
    }
}
