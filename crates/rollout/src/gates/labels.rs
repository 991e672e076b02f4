//! Labels that come later.
//!
//! Requests that both versions answered are compared pair by pair: among those where exactly one was right, a candidate
//! that is no worse is the wrong one at most half of the time (McNemar 1947; here as an e-value, see
//! [`crate::stats::rate::ln_more_often`]). Requests that one version answered are compared like errors: a wrong label
//! is the candidate's with a probability that its share of the labelled requests gives. The two kinds are different
//! requests; the mean of their e-values is one.

use super::{
    Bar, Report,
    words::{count, rate, share},
};
use crate::{
    scorecard::LabelCard,
    spec::Gates,
    stats::{
        ln_mean,
        rate::{ln_below, ln_more_often},
        ratio::{Events, ln_better, ln_worse},
    },
};

const ALPHA_PART: f64 = 0.005;

/// A candidate that is wrong more often by this factor is worse ...
const RATIO_MAX: f64 = 1.5;

/// ... unless that is less than this share of the requests.
const NEGLIGIBLE: f64 = 0.02;

pub(super) fn report(gates: &Gates, labels: &LabelCard) -> Option<Report> {
    let gate = gates.labels.as_ref()?;
    let (stable, candidate) = (labels.only_stable_right, labels.only_candidate_right);
    let pairs = [labels.both_right, labels.both_wrong, stable, candidate];
    let pairs = pairs.into_iter().fold(0, u64::saturating_add);
    let of_stable = labels.stable_right.saturating_add(labels.stable_wrong);
    let of_candidate = labels.candidate_right.saturating_add(labels.candidate_wrong);
    let both = pairs > 0;
    let one = of_stable > 0 && of_candidate > 0;
    if !both && !one {
        return None;
    }
    let (mut worse, mut good, mut detail) = (Vec::new(), Vec::new(), Vec::new());
    if both {
        let discordant = Events {
            weight: 0.5,
            candidate: stable,
            stable: candidate,
        };
        worse.push(ln_more_often(stable, candidate));
        good.push(ln_mean(&[
            ln_better(&[discordant], RATIO_MAX),
            ln_below(stable, pairs, NEGLIGIBLE),
        ]));
        detail.push(format!(
            "of {} answered by both only the candidate is right in {}, only the stable version in {}",
            count(pairs),
            count(candidate),
            count(stable)
        ));
    }
    if one {
        let wrong = Events {
            weight: share(of_candidate, of_stable.saturating_add(of_candidate)),
            candidate: labels.candidate_wrong,
            stable: labels.stable_wrong,
        };
        worse.push(ln_worse(&[wrong]));
        good.push(ln_mean(&[
            ln_better(&[wrong], RATIO_MAX),
            ln_below(labels.candidate_wrong, of_candidate, NEGLIGIBLE),
        ]));
        detail.push(format!(
            "wrong {} against {}",
            rate(labels.candidate_wrong, of_candidate),
            rate(labels.stable_wrong, of_stable)
        ));
    }
    let labelled = pairs.saturating_add(of_stable).saturating_add(of_candidate);
    let mut proof = Bar::e_value(ln_mean(&good), gates.beta);
    if labelled < gate.labels_min {
        proof.value = proof.value.min(proof.threshold * share(labelled, gate.labels_min));
        detail.push(format!("{} labels of {}", count(labelled), count(gate.labels_min)));
    }
    Some(Report::new(
        "labels",
        Bar::e_value(ln_mean(&worse), ALPHA_PART * gates.alpha),
        proof,
        detail.join("; "),
    ))
}
