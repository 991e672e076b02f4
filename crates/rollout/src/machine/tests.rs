//! Random observations and commands, against what must hold whatever comes. Courses are told in `tests/scenarios`.

use std::time::Duration;

use proptest::prelude::*;

use super::{Advance, Command, Observation, Phase, Plan, Rollout, Stage, Transition};
use crate::{
    gates::Verdict,
    scorecard::Slice,
    spec::{self, Spec, Step},
    split::{PPM, Position, Splitter},
};

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    Look { seen: Seen, seconds: u64 },
    Say(Command),
}

/// Changes to what is seen.
#[derive(Debug, Clone)]
struct Seen {
    stable_ready: u32,
    candidate_ready: u32,
    failed: bool,
    routers: (u32, u32),
    route_changed: bool,
    /// Requests and errors since, of the stable version and of the candidate.
    requests: [u64; 2],
    errors: [u64; 2],
    /// Candidate's seconds.
    latency: f64,
    pairs: u64,
    disagreements: u64,
    labels: [u64; 2],
    /// The counts are of an older route.
    stale: bool,
}

fn seen() -> impl Strategy<Value = Seen> {
    let rarely = || prop::bool::weighted(0.02);
    (
        (0..4_u32, 0..4_u32, rarely(), rarely(), rarely()),
        prop_oneof![9 => Just((2, 2)), 1 => Just((1, 2)), 1 => Just((0, 0))],
        [0..3_000_u64, 0..3_000_u64],
        prop_oneof![6 => Just([0_u64; 2]), 1 => [0..100_u64, 0..100_u64]],
        prop_oneof![9 => Just(0.02), 1 => Just(0.2)],
        (0..400_u64, prop_oneof![5 => Just(0_u64), 1 => 0..400_u64]),
        prop_oneof![4 => Just([0_u64; 2]), 1 => [0..100_u64, 0..100_u64]],
    )
        .prop_map(|(few, routers, requests, errors, latency, pairs, labels)| Seen {
            stable_ready: few.0,
            candidate_ready: few.1,
            failed: few.2,
            routers,
            route_changed: few.3,
            requests,
            errors,
            latency,
            pairs: pairs.0,
            disagreements: pairs.1.min(pairs.0),
            labels,
            stale: few.4,
        })
}

fn event() -> impl Strategy<Value = Event> {
    let why = || "why".to_owned();
    let command = prop_oneof![
        4 => Just(Command::Resume),
        2 => Just(Command::Approve),
        1 => Just(Command::Pause { reason: why() }),
        1 => Just(Command::Promote),
        1 => Just(Command::Abort { reason: why() }),
        1 => Just(Command::Undo { reason: why() }),
        1 => Just(Command::Supersede { reason: why() }),
    ];
    prop_oneof![
        20 => (seen(), 0..90_u64).prop_map(|(seen, seconds)| Event::Look { seen, seconds }),
        1 => command.prop_map(Event::Say),
    ]
}

fn specs() -> impl Strategy<Value = Spec> {
    use crate::spec::Strategy::{Ab, BlueGreen, Canary, Shadow};
    let strategy = prop_oneof![5 => Just(Canary), 1 => Just(BlueGreen), 1 => Just(Shadow), 1 => Just(Ab)];
    let steps = prop::collection::btree_set(1..PPM, 1..5);
    (strategy, steps, any::<[bool; 3]>()).prop_map(|(strategy, weights, [shadow, manual, proof])| {
        let mut spec = Spec::new("v1", "v2", strategy);
        spec.shadow = spec.shadow.filter(|_| shadow || strategy == Shadow);
        spec.gates.proof = proof;
        if strategy == Canary {
            spec.steps = weights.into_iter().map(Step::new).collect();
            spec.steps[0].manual = manual;
        }
        spec.check().unwrap();
        spec
    })
}

/// A rollout with its route and what routers count.
struct World {
    rollout: Rollout,
    observation: Observation,
    epoch: u64,
}

impl World {
    fn new(spec: Spec) -> Self {
        Self {
            rollout: Rollout::start(1, spec),
            observation: Observation::default(),
            epoch: 0,
        }
    }

    fn see(&mut self, seen: &Seen) {
        let observation = &mut self.observation;
        (observation.stable_ready, observation.candidate_ready) = (seen.stable_ready, seen.candidate_ready);
        observation.candidate_failed = seen.failed.then(|| "out of memory".to_owned());
        (observation.routers_current, observation.routers) = seen.routers;
        observation.route_changed = seen.route_changed;
        let live = &mut observation.live;
        live.epoch = if seen.stale {
            self.epoch.saturating_sub(1)
        } else {
            self.epoch
        };
        for (arm, card) in [&mut live.stable, &mut live.candidate].into_iter().enumerate() {
            if self.rollout.candidate_weight_ppm() == [PPM, 0][arm] {
                continue;
            }
            card.requests += seen.requests[arm];
            card.errors += seen.errors[arm].min(seen.requests[arm]);
            for _ in 0..seen.requests[arm].min(5) {
                card.latency.insert([0.02, seen.latency][arm]);
            }
        }
        if self.rollout.plan().shadow.is_some() {
            observation.shadow.pairs += seen.pairs;
            for pair in 0..seen.pairs {
                let label = usize::from(pair < seen.disagreements);
                observation.shadow.classes.insert(0, label, 2);
            }
        }
        observation.labels.only_stable_right += seen.labels[0];
        observation.labels.only_candidate_right += seen.labels[1];
    }

    fn take(&mut self, advance: Advance) {
        let before = self.rollout.plan();
        let resumed = advance
            .transitions
            .iter()
            .any(|t| matches!(t.from, Phase::Paused { .. }));
        self.rollout = advance.rollout;
        if self.rollout.plan() != before || resumed {
            self.epoch += 1;
            self.rollout.route_epoch = self.epoch;
            self.observation.live = Slice {
                epoch: self.epoch,
                weight_ppm: self.rollout.candidate_weight_ppm(),
                ..Slice::default()
            };
        }
    }

    /// What an event makes of the rollout; nothing if the command is refused.
    fn meet(&mut self, event: &Event) -> Option<Advance> {
        match event {
            Event::Look { seen, seconds } => {
                self.see(seen);
                Some(self.rollout.advance(&self.observation, Duration::from_secs(*seconds)))
            }
            Event::Say(command) => self.rollout.command(command.clone(), &self.observation).ok(),
        }
    }
}

fn step_of(phase: &Phase) -> Option<(usize, Stage)> {
    match phase.unpaused() {
        Phase::Step { index, stage } => Some((*index, *stage)),
        _ => None,
    }
}

/// Whether a change of phase goes where it may.
fn allowed(spec: &Spec, transition: &Transition, by_force: bool) -> bool {
    let (from, to) = (transition.from.unpaused(), transition.to.unpaused());
    let last = spec.steps.len().checked_sub(1);
    match to {
        _ if from == to => true,
        Phase::Pending => false,
        Phase::Loading => *from == Phase::Pending,
        Phase::Shadow => *from == Phase::Loading,
        Phase::Step { index, stage } => match (step_of(from), stage) {
            (None, Stage::Shifting) => *index == 0 && matches!(from, Phase::Loading | Phase::Shadow),
            (Some((before, Stage::Judging)), Stage::Shifting) => *index == before + 1,
            (before, Stage::Baking) => before == Some((*index, Stage::Shifting)),
            (before, Stage::Judging) => before == Some((*index, Stage::Baking)),
            _ => false,
        },
        Phase::Promoting => by_force || step_of(from) == last.map(|last| (last, Stage::Judging)),
        Phase::Watching => *from == Phase::Promoting,
        Phase::Standby => *from == Phase::Watching,
        Phase::Done => *from == Phase::Standby || spec.strategy == spec::Strategy::Shadow,
        Phase::RollingBack { .. } => true,
        Phase::RolledBack { .. } => matches!(from, Phase::RollingBack { .. } | Phase::Pending | Phase::Loading),
        Phase::Superseded { .. } => !matches!(from, Phase::Promoting | Phase::Watching | Phase::Standby),
        Phase::Paused { .. } => false,
    }
}

fn sum(plan: Plan) -> u32 {
    plan.stable_ppm.unwrap_or(0) + plan.candidate_ppm.unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_comes_the_rules_hold(spec in specs(), events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new(spec);
        let mut over: Option<Rollout> = None;
        for event in &events {
            let before = world.rollout.clone();
            let Some(advance) = world.meet(event) else { continue };
            let after = &advance.rollout;
            let strategy = before.spec.strategy;

            prop_assert_eq!(sum(after.plan()), PPM, "weights sum");
            let mut at = before.phase.clone();
            for transition in &advance.transitions {
                prop_assert_eq!(&transition.from, &at, "transitions are a chain");
                at = transition.to.clone();
                prop_assert!(!transition.reason.is_empty());
                let by_force = matches!(event, Event::Say(Command::Promote))
                    || strategy == spec::Strategy::BlueGreen;
                prop_assert!(allowed(&before.spec, transition, by_force), "{:?}", transition);
            }
            prop_assert_eq!(&after.phase, &at, "a phase changes by transitions only");

            if let Some(end) = &over {
                prop_assert!(advance.transitions.is_empty() && after == end, "the end absorbs");
            }
            let (was, is) = (before.candidate_weight_ppm(), after.candidate_weight_ppm());
            if matches!(before.phase, Phase::RollingBack { .. }) {
                prop_assert!(is <= was, "never up again on the way back");
                let back = matches!(
                    after.phase,
                    Phase::RollingBack { .. } | Phase::RolledBack { .. } | Phase::Superseded { .. }
                );
                prop_assert!(back, "{:?}", after.phase);
            }
            let looked = matches!(event, Event::Look { .. });
            if looked && at == Phase::Promoting && before.phase != Phase::Promoting {
                let reports = before.reports(&world.observation);
                prop_assert!(reports.iter().all(|report| report.verdict != Verdict::Worse), "{:?}", reports);
            }
            if strategy == spec::Strategy::Shadow {
                prop_assert_eq!(is, 0, "comparing serves nobody");
            }
            world.take(advance);
            if world.rollout.is_over() {
                over = Some(world.rollout.clone());
            }
        }
    }

    #[test]
    fn the_same_look_again_changes_nothing(spec in specs(), events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new(spec);
        for event in &events {
            let plan = world.rollout.plan();
            let Some(advance) = world.meet(event) else { continue };
            if advance.rollout.plan() == plan && matches!(event, Event::Look { .. }) {
                let again = advance.rollout.advance(&world.observation, Duration::ZERO);
                prop_assert_eq!(&again.transitions, &[]);
                prop_assert_eq!(again.rollout, advance.rollout.clone());
            }
            world.take(advance);
        }
    }

    #[test]
    fn counts_of_an_older_route_are_as_none(
        spec in specs(), events in prop::collection::vec(event(), 1..60), last in seen(), seconds in 0..90_u64,
    ) {
        let mut world = World::new(spec);
        for event in &events {
            if let Some(advance) = world.meet(event) {
                world.take(advance);
            }
        }
        prop_assume!(world.epoch > 1);
        world.see(&Seen { stale: true, ..last });
        let time = Duration::from_secs(seconds);
        let none = Observation { live: Slice::default(), routers_current: 0, ..world.observation.clone() };
        prop_assert_eq!(world.rollout.advance(&world.observation, time), world.rollout.advance(&none, time));
    }

    #[test]
    fn a_greater_weight_takes_keys_from_stable_only(spec in specs(), seed: u64) {
        let keys: Vec<Position> = (0..200_u32).map(|key| Position::of_key("m", &key.to_le_bytes())).collect();
        let mut before = vec![false; keys.len()];
        for (index, _) in spec.steps.iter().enumerate() {
            let mut rollout = Rollout::start(1, spec.clone());
            rollout.phase = Phase::Step { index, stage: Stage::Shifting };
            let plan = rollout.plan();
            let splitter = Splitter::new(&[plan.stable_ppm.unwrap(), plan.candidate_ppm.unwrap()], seed).unwrap();
            let now: Vec<bool> = keys.iter().map(|&key| splitter.arm_at(key) == 1).collect();
            prop_assert!(before.iter().zip(&now).all(|(before, now)| !before || *now));
            before = now;
        }
    }

    #[test]
    fn time_alone_promotes_no_canary(
        weights in prop::collection::btree_set(1..PPM, 1..5), looks in prop::collection::vec((0..4_u32, 0..4_u32, 0..7_200_u64), 1..200),
    ) {
        let mut spec = Spec::new("v1", "v2", spec::Strategy::Canary);
        spec.shadow = None;
        spec.gates.proof = false;
        spec.steps = weights.into_iter().map(|weight| Step { requests_min: 0, ..Step::new(weight) }).collect();
        let mut world = World::new(spec);
        for (stable_ready, candidate_ready, seconds) in looks {
            let observation = &mut world.observation;
            (observation.stable_ready, observation.candidate_ready) = (stable_ready, candidate_ready);
            (observation.routers, observation.routers_current) = (1, 1);
            let mut advance = world.rollout.advance(&world.observation, Duration::from_secs(seconds));
            if let Ok(resumed) = advance.rollout.command(Command::Resume, &world.observation) {
                advance = resumed;
            }
            world.take(advance);
            let index = step_of(&world.rollout.phase).map_or(0, |(index, _)| index);
            prop_assert!(index == 0 && world.rollout.phase != Phase::Promoting, "{:?}", world.rollout.phase);
        }
    }
}

#[test]
fn random_events_reach_every_phase() {
    // Else the properties above would hold of nothing.
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let events = prop::collection::vec(event(), 120);
        let (spec, events) = (specs(), events).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(spec);
        for event in &events {
            let Some(advance) = world.meet(event) else { continue };
            reached.extend(advance.transitions.iter().map(|t| {
                let phase = format!("{:?}", t.to.unpaused());
                phase.split([' ', '{', ',']).next().unwrap_or_default().to_owned()
            }));
            reached.extend(
                advance
                    .transitions
                    .iter()
                    .filter_map(|t| step_of(&t.to))
                    .map(|step| format!("{}", step.0)),
            );
            world.take(advance);
        }
    }
    for phase in [
        "0",
        "1",
        "2",
        "Done",
        "Loading",
        "Promoting",
        "RolledBack",
        "RollingBack",
        "Shadow",
        "Standby",
        "Step",
        "Superseded",
        "Watching",
    ] {
        assert!(reached.contains(phase), "{phase} is not in {reached:?}");
    }
}
