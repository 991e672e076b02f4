//! The gates on made-up rollouts, by the code that decides real ones. `make simulate` does the same at length.

use understudy_rollout::{
    distinct::Distinct,
    gates::{Report, Verdict, judge},
    scorecard::{ArmCard, Evidence, Slice},
    spec::Gates,
};

/// Draws from a seed (SplitMix64).
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    #[expect(clippy::cast_precision_loss)]
    pub(crate) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.part() < p
    }

    /// How many of `n` happen, by jumps between them.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn of_many(&mut self, n: u64, p: f64) -> u64 {
        let (mut at, mut hits) = (0_u64, 0);
        loop {
            at = at.saturating_add(((1.0 - self.part()).ln() / (-p).ln_1p()) as u64 + 1);
            if at > n {
                return hits;
            }
            hits += 1;
        }
    }
}

const BASE: f64 = 0.01;

/// Canary requests until the errors gate says `wanted` and nothing else before, looked at each 25 of them.
fn after(wanted: Verdict, draws: &mut Draws, (ratio, most): (f64, u64), base: impl Fn(u64) -> f64) -> Option<u64> {
    const LOOK: u64 = 25;
    let mut live = Slice {
        epoch: 1,
        weight_ppm: 50_000,
        ..Slice::default()
    };
    while live.candidate.requests < most {
        let base = base(live.candidate.requests);
        live.candidate.requests += LOOK;
        live.candidate.errors += draws.of_many(LOOK, base * ratio);
        live.stable.requests += LOOK * 19;
        live.stable.errors += draws.of_many(LOOK * 19, base);
        let evidence = Evidence {
            live: live.clone(),
            ..Evidence::default()
        };
        // A promotion asks for "good" once; a rollback comes at any time, also after it.
        match errors(&evidence) {
            verdict if verdict == wanted => return Some(live.candidate.requests),
            Verdict::Worse => return None,
            Verdict::Good | Verdict::Undecided => {}
        }
    }
    None
}

fn errors(evidence: &Evidence) -> Verdict {
    let reports = judge(&Gates::default(), evidence);
    let errors = |report: &&Report| report.gate == "errors";
    reports
        .iter()
        .find(errors)
        .map_or(Verdict::Undecided, |report| report.verdict)
}

struct Outcome {
    share: f64,
    median: u64,
}

fn rolled_back(runs: u32, ratio: f64, most: u64, base: impl Fn(u64) -> f64 + Copy) -> Outcome {
    outcome(Verdict::Worse, runs, (ratio, most), base)
}

fn outcome(wanted: Verdict, runs: u32, (ratio, most): (f64, u64), base: impl Fn(u64) -> f64 + Copy) -> Outcome {
    let mut draws = Draws::of(1);
    let mut when: Vec<u64> = (0..runs)
        .filter_map(|_| after(wanted, &mut draws, (ratio, most), base))
        .collect();
    when.sort_unstable();
    #[expect(clippy::cast_precision_loss)]
    let outcome = Outcome {
        share: when.len() as f64 / f64::from(runs),
        median: when.get(when.len() / 2).copied().unwrap_or(most),
    };
    println!(
        "ratio {ratio}: {:.2}% of {runs} within {most}, median {}",
        outcome.share * 100.0,
        outcome.median
    );
    outcome
}

#[test]
fn twice_the_errors_are_rolled_back_within_2000_canary_requests() {
    let outcome = rolled_back(6_000, 2.0, 2_000, |_| BASE);
    assert!(outcome.share >= 0.95, "{}", outcome.share);
    assert!(outcome.median <= 1_200, "{}", outcome.median);
}

#[test]
fn many_times_the_errors_are_rolled_back_at_once() {
    assert!(rolled_back(1_000, 3.0, 2_000, |_| BASE).median <= 500);
    assert!(rolled_back(1_000, 10.0, 2_000, |_| BASE).median <= 75);
}

#[test]
fn no_worse_is_rolled_back_no_more_often_than_alpha() {
    // 200,000 requests of both arms.
    let outcome = rolled_back(3_000, 1.0, 10_000, |_| BASE);
    assert!(outcome.share <= 0.05, "{}", outcome.share);
}

#[test]
fn one_and_a_half_times_the_errors_are_found_good_no_more_often_than_beta() {
    let outcome = outcome(Verdict::Good, 2_000, (1.5, 10_000), |_| BASE);
    assert!(outcome.share <= 0.05, "{}", outcome.share);
}

#[test]
fn no_worse_is_found_good() {
    let outcome = outcome(Verdict::Good, 1_000, (1.0, 10_000), |_| BASE);
    assert!(outcome.share >= 0.85, "{}", outcome.share);
}

#[test]
fn a_shared_incident_rolls_back_no_more_often_than_alpha() {
    let incident = |at: u64| if (1_000..1_400).contains(&at) { 0.3 } else { BASE };
    let outcome = rolled_back(1_000, 1.0, 4_000, incident);
    assert!(outcome.share <= 0.05, "{}", outcome.share);
}

/// Callers: uneven traffic, and one in a hundred sends what fails half of the time. With affinity they stay on their
/// arm.
#[test]
fn heavy_and_broken_callers_tell_against_no_arm() {
    let runs = 400;
    let mut draws = Draws::of(3);
    let mut rolled_back = 0;
    for _ in 0..runs {
        let callers: Vec<u64> = (0..1_000).map(|_| draws.next()).collect();
        let broken: Vec<bool> = callers.iter().map(|_| draws.chance(0.01)).collect();
        let mut evidence = Evidence::default();
        let mut is_worse = false;
        for (epoch, weight_ppm) in (1..).zip([10_000, 50_000, 250_000, 500_000]) {
            let mut slice = Slice {
                epoch,
                weight_ppm,
                ..Slice::default()
            };
            for request in 0..8_000 {
                // Squared: the first callers send most.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let caller = (draws.part().powi(2) * 1_000.0) as usize;
                let on_candidate = ((callers[caller] >> 32) * 1_000_000) >> 32 < u64::from(weight_ppm);
                let fails = draws.chance(if broken[caller] { 0.5 } else { 0.002 });
                let arm = if on_candidate {
                    &mut slice.candidate
                } else {
                    &mut slice.stable
                };
                arm.requests += 1;
                if fails {
                    arm.erring_keys.insert(callers[caller]);
                }
                if request % 500 == 499 {
                    evidence.live = slice.clone();
                    is_worse |= errors(&evidence) == Verdict::Worse;
                }
            }
            evidence.settled.push(slice);
            evidence.live = Slice::default();
        }
        rolled_back += u32::from(is_worse);
    }
    let share = f64::from(rolled_back) / f64::from(runs);
    println!("callers: {share}");
    assert!(share <= 0.05, "{share}");
}

#[test]
fn a_caller_that_errs_in_every_slice_counts_once() {
    let slice = |epoch, weight_ppm, keys: std::ops::Range<u64>| Slice {
        epoch,
        weight_ppm,
        stable: ArmCard {
            requests: 1_000,
            ..ArmCard::default()
        },
        candidate: ArmCard {
            requests: 100,
            erring_keys: Distinct::from_hashes(keys.collect()),
            ..ArmCard::default()
        },
    };
    let once = Evidence {
        settled: vec![slice(1, 250_000, 0..4)],
        ..Evidence::default()
    };
    let again = Evidence {
        settled: vec![slice(1, 250_000, 0..4), slice(2, 500_000, 0..4)],
        ..Evidence::default()
    };
    let e = |evidence: &Evidence| judge(&Gates::default(), evidence)[0].e_worse;
    assert!(e(&once) > 1.0);
    assert!((e(&once) - e(&again)).abs() < 1e-9, "{} {}", e(&once), e(&again));
}
