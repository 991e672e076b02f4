//! Time to answer, by quantiles.
//!
//! The two arms of a slice answer requests of the same time, so they are compared within it: pooled over slices, a busy
//! hour at one weight and a quiet one at another would look like a difference between the versions (Simpson's paradox).
//! "Worse" is what any slice proves, or the newer part of the current one. "Good" is what the newer part of the newest slice
//! proves: a candidate that was fast at 1% of the traffic may not be at 50%, and one that leaks slows down meanwhile.
//!
//! The numbers are ratios that are proved, to be read against the spec: `e_worse` is the least ratio of the candidate's
//! quantile to the stable version's (threshold 1 + `increase_min`), `e_good` the least ratio of the stable version's to
//! the candidate's (threshold 1 / (1 + `increase_max`)).
//!
//! Values are taken as independent: callers with an affinity key whose requests all take long can mislead it.

use super::{
    Bar, Report,
    words::{percent, seconds},
};
use crate::{
    scorecard::{Recent, Slice},
    sketch::{RELATIVE_ERROR, Sketch},
    spec::Gates,
    stats::quantile::ranks,
};

const ALPHA_PART: f64 = 0.025;

pub(super) fn reports(gates: &Gates, slices: &[&Slice], recent: Option<&Recent>) -> Vec<Report> {
    let Some(gate) = &gates.latency else {
        return Vec::new();
    };
    let whole = slices
        .iter()
        .map(|slice| (&slice.stable.latency, &slice.candidate.latency));
    let known: Vec<(f64, Pair<'_>)> = (1_u32..)
        .map(f64::from)
        .zip(whole)
        .filter(|(_, (stable, candidate))| stable.count() > 0 && candidate.count() > 0)
        .collect();
    let Some(&(_, newest)) = known.last() else {
        return Vec::new();
    };
    let marks = recent.map_or(0, |recent| recent.marks);
    let recent = recent.map(|recent| (f64::from(marks), (&recent.stable, &recent.candidate)));
    let newer = recent.map_or(newest, |(_, newer)| newer);
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let level = ALPHA_PART * gates.alpha / gate.quantiles.len() as f64 / 2.0;
    let report = |&quantile: &f64| {
        let ratio = |over: &Sketch, under: &Sketch, level: f64| {
            Bounds::of(over, quantile, level / 2.0).least_ratio(Bounds::of(under, quantile, level / 2.0))
        };
        // Half of the level is for slices, half for newer parts; each slice and each mark has its share of it.
        let worse = known
            .iter()
            .chain(&recent)
            .map(|(place, (stable, candidate))| ratio(candidate, stable, level / (place * (place + 1.0))));
        let mark = f64::from(marks + 1);
        let good = ratio(newer.0, newer.1, gates.beta / (mark * (mark + 1.0)));
        let now = |latency: &Sketch| latency.quantile(quantile).unwrap_or_default();
        Report::new(
            format!("latency p{}", (quantile * 100_000.0).round() / 1000.0),
            Bar {
                value: worse.fold(0.0, f64::max),
                threshold: 1.0 + gate.increase_min,
            },
            Bar {
                value: good,
                threshold: 1.0 / (1.0 + gate.increase_max),
            },
            format!(
                "{} against {}; more than {} longer is worse",
                seconds(now(newest.1)),
                seconds(now(newest.0)),
                percent(gate.increase_min)
            ),
        )
    };
    gate.quantiles.iter().map(report).collect()
}

/// The stable version's latencies and the candidate's.
type Pair<'a> = (&'a Sketch, &'a Sketch);

/// Of a quantile.
struct Bounds {
    lower: f64,
    upper: f64,
}

impl Bounds {
    fn of(latency: &Sketch, quantile: f64, level: f64) -> Self {
        let ranks = ranks(quantile, latency.count(), level);
        let value = |rank: Option<u64>| rank.and_then(|rank| latency.rank_value(rank));
        Self {
            lower: value(ranks.lower).map_or(0.0, |value| value / (1.0 + RELATIVE_ERROR)),
            upper: value(ranks.upper).map_or(f64::INFINITY, |value| value / (1.0 - RELATIVE_ERROR)),
        }
    }

    fn least_ratio(&self, other: Self) -> f64 {
        if self.lower > 0.0 {
            (self.lower / other.upper.max(crate::sketch::SECONDS_MIN)).min(1e9)
        } else {
            0.0
        }
    }
}
