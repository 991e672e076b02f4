//! Labels of mirrored requests.
//!
//! Some models do not even agree with themselves (sampling, batching, another instruction set), so a part of the
//! mirrored requests is answered by the stable version twice. Where that shows any noise, a candidate is worse only if
//! it also differs from the stable version more often than the stable version from itself: a bet among the triples
//! where exactly one of the two second answers differs from the first.

use super::{
    Bar, Report,
    words::{count, percent, rate},
};
use crate::{
    scorecard::{ClassPairs, ShadowCard},
    spec::Gates,
    stats::{
        ln_mean,
        rate::{ln_above, ln_below, ln_more_often},
        ratio::{Events, ln_better},
    },
};

const ALPHA_PART: f64 = 0.01;

/// Rarer classes hold no promotion up.
const CLASS_PAIRS_MIN: u64 = 20;

/// A candidate that differs more often than the noise by this factor is not good for being no noisier.
const NOISE_RATIO_MAX: f64 = 1.5;

/// Flips that a report lists.
const FLIPS_MAX: usize = 3;

pub(super) fn reports(gates: &Gates, shadow: &ShadowCard, names: &[String]) -> Vec<Report> {
    let classes = &shadow.classes;
    let Some(gate) = gates.agreement.as_ref().filter(|_| classes.pairs() > 0) else {
        return Vec::new();
    };
    let noise = Noise::of(classes);
    let level = ALPHA_PART * gates.alpha / 2.0;
    let report = |gate: String, (pairs, agreements): (u64, u64), agreement_min: f64, level: f64, detail: String| {
        let (differing, most) = (pairs - agreements.min(pairs), 1.0 - agreement_min);
        Report::new(
            gate,
            Bar::e_value(ln_above(differing, pairs, most).min(noise.ln_worse), level),
            Bar::e_value(ln_mean(&[ln_below(differing, pairs, most), noise.ln_good]), gates.beta),
            detail,
        )
    };
    let all = (classes.pairs(), classes.agreements());
    let mut reports = vec![report(
        "agreement".to_owned(),
        all,
        gate.agreement_min,
        level,
        words(classes, gate.agreement_min, names),
    )];
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let level = level / classes.classes().max(1) as f64;
    for class in 0..classes.classes() {
        let (pairs, agreements) = classes.row(class);
        let detail = format!(
            "{} agree; {} at least",
            rate(agreements, pairs),
            percent(gate.class_agreement_min)
        );
        let report = report(
            match names.get(class) {
                Some(name) => format!("agreement {name}"),
                None => format!("agreement class {class}"),
            },
            (pairs, agreements),
            gate.class_agreement_min,
            level,
            detail,
        );
        if pairs >= CLASS_PAIRS_MIN || report.verdict == super::Verdict::Worse {
            reports.push(report);
        }
    }
    reports
}

/// What the triples say.
struct Noise {
    /// That the candidate differs more often; infinite without noise, which then excuses nothing.
    ln_worse: f64,
    /// That it differs no more often, by a margin.
    ln_good: f64,
}

impl Noise {
    fn of(classes: &ClassPairs) -> Self {
        let (candidate, noise) = (classes.only_candidate, classes.only_noise);
        let halves = Events {
            weight: 0.5,
            candidate,
            stable: noise,
        };
        Self {
            ln_worse: if noise == 0 {
                f64::INFINITY
            } else {
                ln_more_often(candidate, noise)
            },
            ln_good: ln_better(&[halves], NOISE_RATIO_MAX),
        }
    }
}

fn words(classes: &ClassPairs, agreement_min: f64, names: &[String]) -> String {
    let mut text = format!(
        "{} agree; {} at least",
        rate(classes.agreements(), classes.pairs()),
        percent(agreement_min)
    );
    if let Some(kappa) = classes.kappa() {
        text += &format!("; kappa {kappa:.2}");
    }
    if let Some(difference) = classes.probability_difference.mean() {
        text += &format!("; mean |Δp| {difference:.3}");
    }
    if let Some(distance) = classes.jensen_shannon_distance() {
        text += &format!("; Jensen–Shannon {distance:.3}");
    }
    let flips: Vec<String> = classes
        .flips()
        .iter()
        .take(FLIPS_MAX)
        .map(|((stable, candidate), times)| {
            let [stable, candidate] = [stable, candidate].map(|&class| name(class, names));
            format!("{stable}→{candidate} {}", count(*times))
        })
        .collect();
    if !flips.is_empty() {
        text += &format!("; flips {}", flips.join(", "));
    }
    if classes.noise_triples > 0 {
        text += &format!(
            "; of {} asked twice the candidate alone differs in {}, the stable version from itself alone in {}",
            count(classes.noise_triples),
            count(classes.only_candidate),
            count(classes.only_noise)
        );
    }
    text
}

fn name(class: usize, names: &[String]) -> String {
    names.get(class).cloned().unwrap_or_else(|| class.to_string())
}
