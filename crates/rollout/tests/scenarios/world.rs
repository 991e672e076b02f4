//! The world around a rollout: its record, a route with epochs, routers that count, and time in steps of a second.

use std::time::Duration;

use understudy_rollout::{
    gates::Verdict,
    machine::{Advance, Command, Observation, Phase, Plan, Rollout, Stage},
    scorecard::{ArmCard, Slice},
    spec::Spec,
    split::Splitter,
};

const TICK: Duration = Duration::from_secs(1);

/// How often the record is written when only time passes.
const RECORD: Duration = Duration::from_secs(5);

/// What comes in, and how the versions answer it: stable first, then the candidate.
pub(crate) struct Traffic {
    /// Requests per second.
    pub rate: u64,
    pub errors: [f64; 2],
    pub latency: [Duration; 2],
    /// Share of mirrored requests on which both versions agree.
    pub agree: f64,
    /// Share of the candidate's requests that a faulty router gives to the stable version.
    pub astray: f64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            rate: 0,
            errors: [0.01, 0.01],
            latency: [Duration::from_millis(20); 2],
            agree: 0.98,
            astray: 0.0,
        }
    }
}

pub(crate) struct World {
    pub observation: Observation,
    rollout: Rollout,
    /// What the registry holds: at each transition, else at most 5 s old.
    record: Rollout,
    recorded: Duration,
    epoch: u64,
    splitter: Splitter,
    now: Duration,
    /// Per kind of event, its share of all that is still due: events come evenly, so that a scenario is the same each time.
    due: [f64; 7],
    story: String,
}

impl World {
    pub(crate) fn new(spec: Spec) -> Self {
        let rollout = Rollout::start(1, spec);
        let mut world = Self {
            observation: Observation {
                workers: 1,
                stable_ready: 1,
                routers: 1,
                routers_current: 1,
                ..Observation::default()
            },
            record: rollout.clone(),
            rollout,
            recorded: Duration::ZERO,
            epoch: 0,
            splitter: Splitter::new(&[1_000_000], 0).unwrap(),
            now: Duration::ZERO,
            due: [0.5; 7],
            story: String::new(),
        };
        world.settle();
        world
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.story.push_str(line);
        self.story.push('\n');
    }

    pub(crate) fn finish(self) -> String {
        self.story
    }

    /// Lets the controller look until nothing changes any more.
    pub(crate) fn settle(&mut self) {
        self.advance(Duration::ZERO);
    }

    fn advance(&mut self, mut elapsed: Duration) {
        for _ in 0..20 {
            let advance = self.rollout.advance(&self.observation, elapsed);
            elapsed = Duration::ZERO;
            if !self.apply(advance) {
                return;
            }
        }
        self.say("never comes to rest");
    }

    /// Writes what changed: record and route in one transaction. Whether there was anything.
    fn apply(&mut self, advance: Advance) -> bool {
        let before = self.rollout.plan();
        self.rollout = advance.rollout;
        let plan = self.rollout.plan();
        let resumed = advance
            .transitions
            .iter()
            .any(|t| matches!(t.from, Phase::Paused { .. }));
        if plan != before || (self.observation.route_changed && resumed) {
            self.write_route(plan);
        }
        for (place, transition) in advance.transitions.iter().enumerate() {
            let last = place + 1 == advance.transitions.len();
            let to = if last && plan != before {
                format!("  [{}]", route(plan))
            } else {
                String::new()
            };
            let to = format!("{}{to}", name(&transition.to));
            let line = format!(
                "{}  {} → {to}  {}",
                clock(self.now),
                name(&transition.from),
                transition.reason
            );
            self.say(&line);
        }
        if !advance.transitions.is_empty() || self.now >= self.recorded + RECORD {
            self.record = self.rollout.clone();
            self.recorded = self.now;
        }
        !advance.transitions.is_empty()
    }

    fn write_route(&mut self, plan: Plan) {
        let weights = [plan.stable_ppm.unwrap_or(0), plan.candidate_ppm.unwrap_or(0)];
        self.splitter = Splitter::new(&weights, 1).unwrap();
        self.epoch += 1;
        self.rollout.route_epoch = self.epoch;
        self.observation.route_changed = false;
        self.observation.live = Slice {
            epoch: self.epoch,
            weight_ppm: weights[1],
            ..Slice::default()
        };
    }

    pub(crate) fn command(&mut self, command: Command) {
        match self.rollout.command(command, &self.observation) {
            Ok(advance) => {
                if !self.apply(advance) {
                    self.say("nothing to do");
                }
                self.settle();
            }
            Err(refused) => self.say(&format!("refused: {refused}")),
        }
    }

    pub(crate) fn change_leader(&mut self) {
        self.rollout = self.record.clone();
        self.settle();
    }

    pub(crate) fn show(&mut self) {
        let waiting = self.rollout.waiting_for(&self.observation);
        self.say(&format!("waits for {waiting}"));
        for report in self.rollout.reports(&self.observation) {
            let verdict = match report.verdict {
                Verdict::Undecided => "undecided",
                Verdict::Good => "good",
                Verdict::Worse => "worse",
            };
            self.say(&format!("{}: {verdict}, {}", report.gate, report.detail));
        }
    }

    pub(crate) fn run(&mut self, traffic: &Traffic, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for _ in 0..traffic.rate {
                self.request(traffic);
            }
            self.now += TICK;
            self.advance(TICK);
        }
    }

    fn request(&mut self, traffic: &Traffic) {
        let mut arm = if self.epoch == 0 { 0 } else { self.splitter.draw() };
        if arm == 1 && self.comes(6, traffic.astray) {
            arm = 0;
        }
        // A candidate that is nowhere ready answers nothing: the stable version does.
        let fallback = arm == 1 && self.observation.candidate_ready == 0;
        let failed = self.comes(arm, traffic.errors[arm]);
        let number = self.observation.live.stable.requests + self.observation.live.candidate.requests;
        // From 0.8 to 1.2 of the usual.
        let spread = 0.8 + 0.4 * f64::from(u32::try_from(number * 37 % 101).unwrap()) / 100.0;
        let seconds = |arm: usize| traffic.latency[arm].as_secs_f64() * spread;
        let live = &mut self.observation.live;
        let card: &mut ArmCard = if arm == 0 {
            &mut live.stable
        } else {
            &mut live.candidate
        };
        if fallback {
            card.fallbacks += 1;
        } else {
            card.requests += 1;
            if failed {
                card.errors += 1;
            } else {
                card.latency.insert(seconds(arm));
            }
        }
        let Some((sample, noise)) = self.rollout.plan().shadow else {
            return;
        };
        if !self.comes(2, f64::from(sample) / 1e6) || self.observation.candidate_ready == 0 {
            return;
        }
        let differs = self.comes(3, 1.0 - traffic.agree);
        let twice = self.comes(4, f64::from(noise) / 1e6);
        let restless = twice && self.comes(5, 0.01);
        let shadow = &mut self.observation.shadow;
        shadow.chosen += 1;
        shadow.pairs += 1;
        shadow.stable_latency.insert(seconds(0));
        shadow.candidate_latency.insert(seconds(1));
        let stable = usize::from(shadow.pairs.is_multiple_of(2));
        shadow
            .classes
            .insert(stable, if differs { 1 - stable } else { stable }, 2);
        shadow.classes.noise_triples += u64::from(twice);
        shadow.classes.only_candidate += u64::from(twice && differs && !restless);
        shadow.classes.only_noise += u64::from(twice && restless && !differs);
    }

    fn comes(&mut self, kind: usize, share: f64) -> bool {
        self.due[kind] += share;
        let comes = self.due[kind] >= 1.0;
        self.due[kind] -= f64::from(u8::from(comes));
        comes
    }
}

fn name(phase: &Phase) -> String {
    match phase {
        Phase::Step { index, stage } => {
            let stage = match stage {
                Stage::Shifting => "shifting",
                Stage::Baking => "baking",
                Stage::Judging => "judging",
            };
            format!("step {} {stage}", index + 1)
        }
        Phase::Paused { from, .. } => format!("paused at {}", name(from)),
        Phase::Pending => "pending".to_owned(),
        Phase::Loading => "loading".to_owned(),
        Phase::Shadow => "shadow".to_owned(),
        Phase::Promoting => "promoting".to_owned(),
        Phase::Watching => "watching".to_owned(),
        Phase::Standby => "standby".to_owned(),
        Phase::Done => "done".to_owned(),
        Phase::RollingBack { .. } => "rolling back".to_owned(),
        Phase::RolledBack { .. } => "rolled back".to_owned(),
        Phase::Superseded { .. } => "superseded".to_owned(),
    }
}

fn route(plan: Plan) -> String {
    let arm = |name: &str, ppm: Option<u32>| ppm.map(|ppm| format!("{name} {}%", f64::from(ppm) / 1e4));
    let mut parts: Vec<String> = [arm("v1", plan.stable_ppm), arm("v2", plan.candidate_ppm)]
        .into_iter()
        .flatten()
        .collect();
    parts.extend(
        plan.shadow
            .map(|(sample, _)| format!("mirrored {}%", f64::from(sample) / 1e4)),
    );
    parts.join(", ")
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
