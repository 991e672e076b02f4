//! Means: confidence, length, grounding.

use super::{
    Bar, Report,
    words::{count, percent},
};
use crate::{
    scorecard::{Moments, Predictions, ShadowCard, Slice},
    spec::Gates,
    stats::mean::Difference,
};

const CONFIDENCE_ALPHA_PART: f64 = 0.005;
const TEXT_ALPHA_PART: f64 = 0.005;

/// Standard deviations below this part of the margin are not believed.
const DEVIATION_MIN: f64 = 0.1;

pub(super) fn reports(gates: &Gates, slices: &[&Slice], shadow: &ShadowCard) -> Vec<Report> {
    let mut reports = Vec::new();
    let values = |of: fn(&Predictions) -> &Moments| {
        let arms = slices.iter().map(move |slice| (&slice.stable, &slice.candidate));
        arms.map(move |(stable, candidate)| (of(&stable.predictions), of(&candidate.predictions)))
    };
    if let Some(gate) = &gates.confidence {
        let level = Levels::of(gates, CONFIDENCE_ALPHA_PART / 2.0);
        let deviation = DEVIATION_MIN * gate.drop_max;
        let pairs = &shadow.classes.confidence_difference;
        let mirrored = Difference::of(pairs, deviation).map(|mean| (mean, pairs.count));
        let answered = Difference::between(values(|p| &p.confidence), deviation);
        let answered = answered.map(|mean| (mean, counted(values(|p| &p.confidence))));
        for (gate_name, known) in [("confidence in shadow", mirrored), ("confidence", answered)] {
            reports.extend(known.map(|(mean, values)| {
                let margin = format!("a fall of {:.3} is worse", gate.drop_max);
                level.fall(gate_name, mean, gate.drop_max, &words(mean.estimate(), values, &margin))
            }));
        }
    }
    if let Some(gate) = &gates.text {
        let level = Levels::of(gates, TEXT_ALPHA_PART / 3.0);
        let margin = gate.length_change_max.ln_1p();
        let pairs = &shadow.texts.log_length_ratio;
        let mirrored = Difference::of(pairs, DEVIATION_MIN * margin).map(|mean| (mean, pairs.count));
        // Of classifications tokens are the request's, the same for both versions.
        let is_text = slices.iter().all(|slice| slice.stable.predictions.classes.is_empty());
        let answered = Difference::of_ratio(values(|p| &p.tokens).filter(|_| is_text), DEVIATION_MIN * margin);
        let answered = answered.map(|mean| (mean, counted(values(|p| &p.tokens))));
        for (gate_name, known) in [("length in shadow", mirrored), ("length", answered)] {
            reports.extend(known.map(|(mean, values)| {
                let limit = format!("a change by {} is worse", percent(gate.length_change_max));
                let change = percent(mean.estimate().exp_m1());
                let detail = format!("{change} longer on the mean of {}; {limit}", count(values));
                level.change(gate_name, mean, margin, detail)
            }));
        }
        let pairs = &shadow.texts.grounding_difference;
        if let Some(mean) = Difference::of(pairs, DEVIATION_MIN * gate.grounding_drop_max) {
            let margin = format!("a fall of {:.3} is worse", gate.grounding_drop_max);
            let detail = words(mean.estimate(), pairs.count, &margin);
            reports.push(level.fall("grounding in shadow", mean, gate.grounding_drop_max, &detail));
        }
    }
    reports
}

struct Levels {
    alpha: f64,
    beta: f64,
}

impl Levels {
    fn of(gates: &Gates, part: f64) -> Self {
        Self {
            alpha: part * gates.alpha,
            beta: gates.beta,
        }
    }

    /// Worse below −margin, good above.
    fn fall(&self, gate: &str, mean: Difference, margin: f64, detail: &str) -> Report {
        Report::new(
            gate,
            Bar::e_value(mean.ln_below(-margin, self.alpha), self.alpha),
            Bar::e_value(mean.ln_above(-margin, self.beta), self.beta),
            detail.to_owned(),
        )
    }

    /// Worse outside of ±margin, good within.
    fn change(&self, gate: &str, mean: Difference, margin: f64, detail: String) -> Report {
        let alpha = self.alpha / 2.0;
        let outside = mean.ln_above(margin, alpha).max(mean.ln_below(-margin, alpha));
        let within = mean.ln_below(margin, self.beta).min(mean.ln_above(-margin, self.beta));
        Report::new(
            gate,
            Bar::e_value(outside, alpha),
            Bar::e_value(within, self.beta),
            detail,
        )
    }
}

fn counted<'a>(values: impl Iterator<Item = (&'a Moments, &'a Moments)>) -> u64 {
    values.fold(0, |sum, (_, candidate)| sum.saturating_add(candidate.count))
}

fn words(difference: f64, values: u64, margin: &str) -> String {
    format!("{difference:+.3} on the mean of {}; {margin}", count(values))
}
