//! Server faults: with clients, in shadow, and after the promotion.

use super::{
    Bar, Report, weight,
    words::{count, percent, rate, share},
};
use crate::{
    distinct::Distinct,
    scorecard::{ArmCard, ShadowCard, Slice},
    spec::Gates,
    stats::{
        ln_mean, ln_weighted_mean,
        rate::{ln_above, ln_below, upper_bound},
        ratio::{Events, ln_better, ln_horizon_bet, ln_worse},
    },
};

const ALPHA_PART: f64 = 0.94;
const SHADOW_ALPHA_PART: f64 = 0.005;
const WATCH_ALPHA_PART: f64 = 0.005;

/// The part of the likelihood ratios in `e_worse`. More decides great ratios sooner, less finds a ratio of 2 within the
/// horizon more often. Simulated at w = 5%, base 1%, alpha 0.05, a look at each 25 canary requests, 10,000 runs of
/// each, four seeds: a ratio of 2 is rolled back within 2,000 canary requests in 95.9 to 96.0% of runs (median 1,025),
/// of 3 after 400 and of 10 after 50 (medians), and one of 1 in 3.8 to 4.2% within 200,000 requests.
const LIKELIHOOD_PART: f64 = 0.1;

/// In shadow nothing is known of the stable version's faults on the same requests but that it had none, so only gross
/// failures count.
const GROSS_RATE: f64 = 0.1;

/// After the promotion: gross failures are from this ratio to the stable version's rate on.
const WATCH_RATIO: f64 = 3.0;

/// Both arms answer clients. Independent events are counted: a caller with an affinity key is split as a whole, so it
/// counts once, in the slice where it first met an error; otherwise a broken caller would tell against the arm that it
/// happens to be on again and again.
pub(super) fn with_clients(gates: &Gates, slices: &[&Slice]) -> Option<Report> {
    let gate = gates.errors.as_ref()?;
    let (stable, candidate) = (total(slices, |s| &s.stable), total(slices, |s| &s.candidate));
    if candidate.requests == 0 {
        return None;
    }
    let events = events(slices);
    let weighted = |weight: fn(&Slice) -> f64| -> Vec<Events> {
        let slices = slices.iter().zip(&events);
        slices
            .map(|(slice, &(stable, candidate))| Events {
                weight: weight(slice),
                candidate,
                stable,
            })
            .collect()
    };

    let level = ALPHA_PART * gates.alpha;
    let against = weighted(weight_with_stable_fallbacks);
    let bet = ln_horizon_bet(&against, 1.0 / ((1.0 - LIKELIHOOD_PART) * level));
    let mut worse = ln_weighted_mean(&[(LIKELIHOOD_PART, ln_worse(&against)), (1.0 - LIKELIHOOD_PART, bet)]);
    // A rate is known only where each error counts.
    let rate_known = candidate.callers == 0;
    if rate_known && share(candidate.errors, candidate.requests) <= gate.negligible {
        worse = worse.min(0.0);
    }

    // A bad candidate has both too great a ratio and too great a rate, so that each of the two is an e-value against
    // it.
    let ratio = ln_better(&weighted(weight_with_candidate_fallbacks), gate.ratio_max);
    let good = if rate_known {
        ln_mean(&[ratio, ln_below(candidate.errors, candidate.requests, gate.negligible)])
    } else {
        ratio
    };

    Some(Report::new(
        "errors",
        Bar::e_value(worse, level),
        Bar::e_value(good, gates.beta),
        format!("{} against {}", candidate.words(), stable.words()),
    ))
}

/// Mirrored requests that the candidate failed and the stable version did not.
pub(super) fn in_shadow(gates: &Gates, shadow: &ShadowCard) -> Option<Report> {
    let gate = gates.errors.as_ref()?;
    let all = shadow.pairs.saturating_add(shadow.candidate_errors);
    if all == 0 {
        return None;
    }
    let most = gate.negligible.max(GROSS_RATE);
    Some(Report::new(
        "errors in shadow",
        Bar::e_value(
            ln_above(shadow.candidate_errors, all, most),
            SHADOW_ALPHA_PART * gates.alpha,
        ),
        Bar::e_value(ln_below(shadow.candidate_errors, all, most), gates.beta),
        format!(
            "{} that the stable version answered; {} at most",
            rate(shadow.candidate_errors, all),
            percent(most)
        ),
    ))
}

/// After the promotion: gross failures only, since nothing runs beside the candidate any more and the times may differ.
/// Its rate is held against 3 times the most that the stable version's was (without any count of that, against the gross
/// rate); never `Good`, time decides that.
#[must_use]
pub fn watch_report(gates: &Gates, stable_settled: &[Slice], live: &ArmCard) -> Option<Report> {
    let gate = gates.errors.as_ref()?;
    let slices: Vec<&Slice> = stable_settled.iter().collect();
    let stable = total(&slices, |s| &s.stable);
    let level = WATCH_ALPHA_PART * gates.alpha;
    let known = upper_bound(stable.events(), stable.requests.max(1), level / 2.0);
    let most = if stable.requests == 0 {
        GROSS_RATE
    } else {
        (WATCH_RATIO * known).max(gate.negligible)
    };
    let mut candidate = Total::default();
    candidate.add(live);
    (candidate.requests > 0 && most < 1.0).then(|| {
        Report::new(
            "errors after the promotion",
            Bar::e_value(ln_above(candidate.events(), candidate.requests, most), level / 2.0),
            Bar::e_value(0.0, gates.beta),
            format!("{}; {} at most", candidate.words(), percent(most)),
        )
    })
}

/// Events per slice, of the stable version and of the candidate.
///
/// A caller is one event in all slices together. One in each slice, or on each day, would decide sooner and not hold alpha: where an
/// event falls must be open given all earlier ones, and a caller that erred on an arm once errs there again, since it stays.
fn events(slices: &[&Slice]) -> Vec<(u64, u64)> {
    let mut earlier = Distinct::default();
    let events = slices.iter().map(|slice| {
        let (stable, candidate) = (&slice.stable, &slice.candidate);
        let (stable_keys, candidate_keys) = stable.erring_keys.new_keys(&candidate.erring_keys, &earlier);
        earlier.merge(&stable.erring_keys);
        earlier.merge(&candidate.erring_keys);
        (
            stable.errors.saturating_add(stable_keys),
            candidate.errors.saturating_add(candidate_keys),
        )
    });
    events.collect()
}

/// The candidate's share at most: with what it took over from a stable version without workers.
fn weight_with_stable_fallbacks(slice: &Slice) -> f64 {
    let wanted = weight(slice);
    let fallbacks = slice.stable.fallbacks;
    wanted + (1.0 - wanted) * share(fallbacks, slice.stable.requests.saturating_add(fallbacks))
}

/// The candidate's share at least: without what it left to the stable version when it had no workers.
fn weight_with_candidate_fallbacks(slice: &Slice) -> f64 {
    let fallbacks = slice.candidate.fallbacks;
    weight(slice) * (1.0 - share(fallbacks, slice.candidate.requests.saturating_add(fallbacks)))
}

/// What reports say of an arm.
#[derive(Debug, Default)]
struct Total {
    requests: u64,
    errors: u64,
    callers: u64,
}

impl Total {
    fn add(&mut self, arm: &ArmCard) {
        self.requests = self.requests.saturating_add(arm.requests);
        self.errors = self.errors.saturating_add(arm.errors);
        self.callers = self.callers.saturating_add(arm.erring_keys.estimate());
    }

    fn events(&self) -> u64 {
        self.errors.saturating_add(self.callers)
    }

    fn words(&self) -> String {
        if self.callers == 0 {
            return rate(self.errors, self.requests);
        }
        let (errors, callers, requests) = (count(self.errors), count(self.callers), count(self.requests));
        if self.errors == 0 {
            format!("{callers} erring callers in {requests} requests")
        } else {
            format!("{callers} erring callers and {errors} errors of others in {requests} requests")
        }
    }
}

fn total(slices: &[&Slice], arm: fn(&Slice) -> &ArmCard) -> Total {
    let mut total = Total::default();
    for slice in slices {
        total.add(arm(slice));
    }
    total
}
