//! Traffic that nobody decides about: how many requests come, who sends them, how long they take and which fail. Both arms
//! live in it, so whatever happens to the service happens to both; a scenario says what is wrong with the candidate.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _, LogNormal};
use understudy_rollout::split::{PPM, Position, Splitter};

use crate::scenario::{Scenario, Traffic};

/// Median time of an answer, and the spread of its logarithm.
const LATENCY_MEDIAN: f64 = 0.02;
const LATENCY_SIGMA: f64 = 0.5;

/// Callers, where a scenario has any. Their traffic is as uneven as 1/rank.
const CALLERS: usize = 2_000;
/// One caller in so many sends what always fails half of the time.
const BROKEN_CALLER: usize = 100;
const BROKEN_CALLER_ERRORS: f64 = 0.5;

/// What one arm answered in one second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// Requests.
    pub(crate) requests: u64,
    /// Those that failed.
    pub(crate) errors: u64,
    /// Hashes of the callers that met an error; empty without callers.
    pub(crate) erring_callers: Vec<u64>,
    /// Seconds of those that did not fail.
    pub(crate) latencies: Vec<f64>,
}

/// One second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Second {
    /// The stable arm.
    pub(crate) stable: Answers,
    /// The candidate.
    pub(crate) candidate: Answers,
    /// Mirrored requests: the stable version's class, then the candidate's.
    pub(crate) pairs: Vec<(usize, usize)>,
}

/// A simulated service.
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    draw: ChaCha8Rng,
    second: u64,
    sent: u64,
    callers: Option<Callers>,
}

struct Callers {
    /// Cumulative shares.
    ends: Vec<f64>,
    keys: Vec<[u8; 8]>,
}

impl<'a> World<'a> {
    /// The same seed gives the same requests.
    pub(crate) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut draw = ChaCha8Rng::seed_from_u64(seed);
        let callers = scenario.affinity.then(|| {
            let total: f64 = (1..=CALLERS).map(|rank| 1.0 / rank as f64).sum();
            let mut end = 0.0;
            let ends = (1..=CALLERS).map(|rank| {
                end += 1.0 / rank as f64 / total;
                end
            });
            Callers {
                ends: ends.collect(),
                keys: (0..CALLERS).map(|_| draw.random()).collect(),
            }
        });
        Self {
            scenario,
            draw,
            second: 0,
            sent: 0,
            callers,
        }
    }

    /// Requests so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The next second, with this share of the traffic on the candidate.
    pub(crate) fn second(&mut self, candidate_ppm: u32, mirrored: f64) -> anyhow::Result<Second> {
        let time = self.second as f64;
        self.second += 1;
        let expected = self.scenario.traffic.rate(time);
        let requests = whole(expected) + u64::from(self.draw.random_bool(expected.fract()));
        self.sent += requests;
        let mut second = Second::default();
        match self.callers.take() {
            Some(callers) => {
                let splitter = Splitter::new(&[PPM - candidate_ppm, candidate_ppm], 0)?;
                self.by_callers(&callers, &splitter, requests, &mut second);
                self.callers = Some(callers);
            }
            None => {
                // As the splitter does it: within one of the exact share.
                let exact = |sent: u64| sent * u64::from(candidate_ppm) / u64::from(PPM);
                second.candidate.requests = exact(self.sent) - exact(self.sent - requests);
                second.stable.requests = requests - second.candidate.requests;
                let (stable, candidate) = self.error_rates(time);
                second.stable.errors = self.binomial(second.stable.requests, stable)?;
                second.candidate.errors = self.binomial(second.candidate.requests, candidate)?;
            }
        }
        self.answer(&mut second.stable, 1.0, time)?;
        self.answer(&mut second.candidate, self.scenario.latency_factor(time), time)?;
        let pairs = self.binomial(requests, mirrored)?;
        second.pairs = (0..pairs).map(|_| self.pair()).collect();
        Ok(second)
    }

    fn by_callers(&mut self, callers: &Callers, splitter: &Splitter, requests: u64, second: &mut Second) {
        let (stable, candidate) = self.error_rates(self.second as f64 - 1.0);
        for _ in 0..requests {
            let place: f64 = self.draw.random();
            let caller = callers.ends.partition_point(|&end| end < place).min(CALLERS - 1);
            let key = callers.keys[caller];
            let is_candidate = splitter.arm_at(Position::of_key("model", &key)) == 1;
            let (arm, usual) = match is_candidate {
                true => (&mut second.candidate, candidate),
                false => (&mut second.stable, stable),
            };
            let broken = (caller + 1) % BROKEN_CALLER == 0;
            arm.requests += 1;
            if self.draw.random_bool(if broken { BROKEN_CALLER_ERRORS } else { usual }) {
                arm.errors += 1;
                arm.erring_callers.push(u64::from_le_bytes(key));
            }
        }
    }

    fn error_rates(&self, time: f64) -> (f64, f64) {
        let base = self.scenario.errors_of_both(time);
        (base, (base * self.scenario.error_ratio).min(1.0))
    }

    fn answer(&mut self, answers: &mut Answers, factor: f64, time: f64) -> anyhow::Result<()> {
        let median = LATENCY_MEDIAN * self.scenario.traffic.slowness(time) * factor;
        let latency = LogNormal::new(median.ln(), LATENCY_SIGMA)?;
        let answered = answers.requests - answers.errors;
        answers.latencies = (0..answered).map(|_| latency.sample(&mut self.draw)).collect();
        Ok(())
    }

    fn pair(&mut self) -> (usize, usize) {
        let place: f64 = self.draw.random();
        let mut end = 0.0;
        let shares = self.scenario.classes;
        let stable = shares
            .iter()
            .position(|&(share, _)| {
                end += share;
                place < end
            })
            .unwrap_or(shares.len() - 1);
        let flips = self.draw.random_bool(shares[stable].1);
        let candidate = if flips { (stable + 1) % shares.len() } else { stable };
        (stable, candidate)
    }

    fn binomial(&mut self, trials: u64, probability: f64) -> anyhow::Result<u64> {
        Ok(Binomial::new(trials, probability)?.sample(&mut self.draw))
    }
}

impl Traffic {
    /// Requests a second.
    fn rate(self, time: f64) -> f64 {
        match self {
            Self::Steady(rate) => rate,
            Self::Bursty(rate) if is_burst(time) => rate * 4.0,
            Self::Bursty(rate) => rate / 4.0,
            Self::Diurnal(rate) => rate * (1.0 + 0.9 * wave(time)),
        }
    }

    /// By how much everything is slower than usual.
    fn slowness(self, time: f64) -> f64 {
        match self {
            Self::Steady(_) => 1.0,
            Self::Bursty(_) if is_burst(time) => 1.5,
            Self::Bursty(_) => 1.0,
            Self::Diurnal(_) => 1.0 + 0.5 * (1.0 + wave(time)),
        }
    }
}

/// A day of 20 minutes.
fn wave(time: f64) -> f64 {
    (time / 1_200.0 * std::f64::consts::TAU).sin()
}

/// The first 20 s of each 100.
fn is_burst(time: f64) -> bool {
    time % 100.0 < 20.0
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it saturates far above what a simulation counts"
)]
fn whole(value: f64) -> u64 {
    value as u64
}
