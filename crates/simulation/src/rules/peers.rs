//! The rules in use elsewhere, as their documentation configures them.

use super::{Decision, Rule};
use crate::world::Second;

/// Canary requests of a window.
const WINDOW: u64 = 200;
/// Canary requests after which a candidate that is still there is promoted.
const REQUESTS_MAX: u64 = 9_900;
/// Flagger's and Argo's usual example: success rate at least this.
const SUCCESS_MIN: f64 = 0.98;
/// And 99% of answers within this.
const P99_MAX: f64 = 0.1;
/// A z-test looks for this.
const Z_ALPHA_05: f64 = 1.645;
/// Kayenta's Mann–Whitney test has a confidence of 98%.
const Z_ALPHA_01: f64 = 2.326;

#[derive(Debug, Default, Clone)]
struct Counts {
    stable: (u64, u64),
    candidate: (u64, u64),
    stable_latencies: Vec<f64>,
    latencies: Vec<f64>,
}

impl Counts {
    fn add(&mut self, second: &Second) {
        self.stable.0 += second.stable.requests;
        self.stable.1 += second.stable.errors;
        self.candidate.0 += second.candidate.requests;
        self.candidate.1 += second.candidate.errors;
        self.stable_latencies.extend(&second.stable.latencies);
        self.latencies.extend(&second.candidate.latencies);
    }

    /// Adds a second; the window, if that filled it, after which it is empty.
    fn next_full(&mut self, second: &Second) -> Option<Self> {
        self.add(second);
        (self.candidate.0 >= WINDOW).then(|| std::mem::take(self))
    }
}

fn rate((requests, errors): (u64, u64)) -> f64 {
    errors as f64 / requests.max(1) as f64
}

/// The candidate's success rate and p99 in each window against fixed thresholds; rolled back at so many failures.
pub(crate) struct Windows {
    limit: u32,
    failures: u32,
    seen: u64,
    window: Counts,
}

impl Windows {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            failures: 0,
            seen: 0,
            window: Counts::default(),
        }
    }
}

impl Rule for Windows {
    fn see(&mut self, second: &Second) -> Option<Decision> {
        let mut window = self.window.next_full(second)?;
        self.seen += window.candidate.0;
        window.latencies.sort_by(f64::total_cmp);
        let p99 = window.latencies.get(window.latencies.len() * 99 / 100).copied();
        if 1.0 - rate(window.candidate) < SUCCESS_MIN || p99.unwrap_or(0.0) > P99_MAX {
            self.failures += 1;
        }
        if self.failures >= self.limit {
            return Some(Decision::RolledBack);
        }
        (self.seen >= REQUESTS_MAX).then_some(Decision::Promoted)
    }
}

/// Two proportions compared after each window, at 5% each time.
#[derive(Default)]
pub(crate) struct RepeatedZ {
    all: Counts,
    looked: u64,
}

impl Rule for RepeatedZ {
    fn see(&mut self, second: &Second) -> Option<Decision> {
        self.all.add(second);
        let (stable, candidate) = (self.all.stable, self.all.candidate);
        if candidate.0 < self.looked + WINDOW {
            return None;
        }
        self.looked = candidate.0;
        let pooled = rate((stable.0 + candidate.0, stable.1 + candidate.1));
        let spread = (pooled * (1.0 - pooled) * (1.0 / stable.0 as f64 + 1.0 / candidate.0 as f64)).sqrt();
        if spread > 0.0 && (rate(candidate) - rate(stable)) / spread > Z_ALPHA_05 {
            return Some(Decision::RolledBack);
        }
        (candidate.0 >= REQUESTS_MAX).then_some(Decision::Promoted)
    }
}

/// Error rates and mean latencies of windows, ranked, once, at the end.
#[derive(Default)]
pub(crate) struct MannWhitney {
    window: Counts,
    seen: u64,
    errors: [Vec<f64>; 2],
    latencies: [Vec<f64>; 2],
}

impl Rule for MannWhitney {
    fn see(&mut self, second: &Second) -> Option<Decision> {
        let window = self.window.next_full(second)?;
        self.seen += window.candidate.0;
        self.errors[0].push(rate(window.stable));
        self.errors[1].push(rate(window.candidate));
        self.latencies[0].push(mean(&window.stable_latencies));
        self.latencies[1].push(mean(&window.latencies));
        (self.seen >= REQUESTS_MAX).then(|| self.decide())
    }

    fn end(&mut self) -> Option<Decision> {
        (!self.errors[0].is_empty()).then(|| self.decide())
    }
}

impl MannWhitney {
    fn decide(&self) -> Decision {
        let higher = |[stable, candidate]: &[Vec<f64>; 2]| rank_z(stable, candidate) > Z_ALPHA_01;
        if higher(&self.errors) || higher(&self.latencies) {
            Decision::RolledBack
        } else {
            Decision::Promoted
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// How much higher the candidate's values are by rank, in standard deviations (normal approximation, ties shared).
fn rank_z(stable: &[f64], candidate: &[f64]) -> f64 {
    let (n, m) = (stable.len() as f64, candidate.len() as f64);
    let wins: f64 = candidate
        .iter()
        .flat_map(|c| {
            stable.iter().map(move |s| {
                if c > s {
                    1.0
                } else if c < s {
                    0.0
                } else {
                    0.5
                }
            })
        })
        .sum();
    let spread = (n * m * (n + m + 1.0) / 12.0).sqrt();
    if spread > 0.0 {
        (wins - n * m / 2.0) / spread
    } else {
        0.0
    }
}
