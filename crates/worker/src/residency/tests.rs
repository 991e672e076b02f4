use super::*;

const GRACE: Duration = Duration::from_secs(2);

fn id(text: &str) -> Id {
    let (model, version) = text.split_once('/').unwrap();
    Id {
        model: model.into(),
        version: version.into(),
    }
}

struct Sim {
    residency: Residency,
    now: Instant,
}

impl Sim {
    fn new() -> Self {
        Self {
            residency: Residency::new(GRACE),
            now: Instant::now(),
        }
    }

    fn want(&mut self, wanted: &[&str]) -> Vec<Action> {
        self.residency.want(wanted.iter().map(|text| id(text)).collect());
        self.step()
    }

    fn step(&mut self) -> Vec<Action> {
        let actions = self.residency.advance(self.now);
        assert_eq!(self.residency.advance(self.now), [], "a second look finds nothing new");
        actions
    }

    fn loaded(&mut self, text: &str) -> Vec<Action> {
        self.residency.loaded(&id(text));
        self.step()
    }

    fn failed(&mut self, text: &str, retry: bool) -> Vec<Action> {
        self.residency.failed(
            &id(text),
            Failure {
                reason: "because".into(),
                retry,
            },
            self.now,
        );
        self.step()
    }

    fn freed(&mut self, text: &str) -> Vec<Action> {
        self.residency.freed(&id(text));
        self.step()
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.step()
    }

    fn states(&self) -> Vec<String> {
        let record = self.residency.record(false);
        let short = |state: ResidencyState| {
            state
                .as_str_name()
                .trim_start_matches("RESIDENCY_STATE_")
                .to_lowercase()
        };
        record
            .iter()
            .map(|r| format!("{}/{} {}", r.model, r.version, short(r.state())))
            .collect()
    }
}

#[test]
fn a_swap_keeps_the_old_version_until_the_new_one_is_ready() {
    let mut sim = Sim::new();
    assert_eq!(sim.want(&["m/v1"]), [Action::Load(id("m/v1"))]);
    assert_eq!(sim.loaded("m/v1"), []);
    assert_eq!(sim.want(&["m/v2"]), [Action::Load(id("m/v2"))]);
    assert_eq!(sim.states(), ["m/v1 ready", "m/v2 loading"]);
    assert_eq!(sim.loaded("m/v2"), [Action::Drain(id("m/v1"))]);
    assert_eq!(sim.states(), ["m/v1 draining", "m/v2 ready"]);
    assert_eq!(sim.pass(GRACE / 2), []);
    assert_eq!(sim.pass(GRACE / 2), [Action::Free(id("m/v1"))]);
    assert_eq!(sim.states(), ["m/v1 draining", "m/v2 ready"]);
    sim.freed("m/v1");
    assert_eq!(sim.states(), ["m/v2 ready"]);
}

#[test]
fn a_failed_version_leaves_the_old_one_serving() {
    let mut sim = Sim::new();
    sim.want(&["m/v1"]);
    sim.loaded("m/v1");
    sim.want(&["m/v2"]);
    assert_eq!(sim.failed("m/v2", false), []);
    assert_eq!(sim.pass(Duration::from_secs(3600)), []);
    assert_eq!(sim.states(), ["m/v1 ready", "m/v2 failed"]);
    // Back to v1: the failure is forgotten, and wanting v2 once more tries once more.
    assert_eq!(sim.want(&["m/v1"]), []);
    assert_eq!(sim.states(), ["m/v1 ready"]);
    assert_eq!(sim.want(&["m/v1", "m/v2"]), [Action::Load(id("m/v2"))]);
}

#[test]
fn fetch_failures_are_retried_ever_more_slowly() {
    let mut sim = Sim::new();
    sim.want(&["m/v1"]);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(sim.failed("m/v1", true), []);
        assert_eq!(sim.residency.deadline(), Some(sim.now + Duration::from_secs(seconds)));
        assert_eq!(sim.pass(Duration::from_secs(seconds)), [Action::Load(id("m/v1"))]);
        assert_eq!(sim.residency.record(false)[0].reason, "because");
    }
    sim.loaded("m/v1");
    assert_eq!(sim.residency.record(false)[0].reason, "");
}

#[test]
fn one_loads_at_a_time_and_failures_go_last() {
    let mut sim = Sim::new();
    assert_eq!(sim.want(&["a/v1", "b/v1", "c/v1"]), [Action::Load(id("a/v1"))]);
    assert_eq!(sim.failed("a/v1", true), [Action::Load(id("b/v1"))]);
    assert_eq!(sim.pass(Duration::from_secs(1)), []);
    assert_eq!(sim.loaded("b/v1"), [Action::Load(id("c/v1"))]);
    assert_eq!(sim.loaded("c/v1"), [Action::Load(id("a/v1"))]);
}

#[test]
fn a_version_wanted_again_during_its_grace_never_stopped_serving() {
    let mut sim = Sim::new();
    sim.want(&["m/v1"]);
    sim.loaded("m/v1");
    sim.want(&["m/v1", "m/v2"]);
    sim.loaded("m/v2");
    assert_eq!(sim.want(&["m/v2"]), [Action::Drain(id("m/v1"))]);
    // v1 is ready before v2 goes.
    assert_eq!(
        sim.want(&["m/v1"]),
        [Action::Revive(id("m/v1")), Action::Drain(id("m/v2"))]
    );
    assert_eq!(sim.pass(GRACE), [Action::Free(id("m/v2"))]);
}

#[test]
fn a_version_wanted_again_after_its_grace_is_loaded_anew() {
    let mut sim = Sim::new();
    sim.want(&["m/v1"]);
    sim.loaded("m/v1");
    assert_eq!(sim.want(&[]), [Action::Drain(id("m/v1"))]);
    assert_eq!(sim.pass(GRACE), [Action::Free(id("m/v1"))]);
    assert_eq!(sim.want(&["m/v1"]), []);
    assert_eq!(sim.freed("m/v1"), [Action::Load(id("m/v1"))]);
}

#[test]
fn a_version_that_is_loaded_too_late_drains() {
    let mut sim = Sim::new();
    sim.want(&["m/v1"]);
    assert_eq!(sim.want(&[]), []);
    assert_eq!(sim.loaded("m/v1"), [Action::Drain(id("m/v1"))]);
    sim.want(&["n/v1"]);
    sim.want(&[]);
    assert_eq!(sim.failed("n/v1", true), []);
    assert!(!sim.states().iter().any(|state| state.starts_with('n')));
}

#[test]
fn a_stopping_worker_announces_only_what_drains() {
    let mut sim = Sim::new();
    sim.want(&["a/v1", "b/v1"]);
    sim.loaded("a/v1");
    let record = sim.residency.record(true);
    assert_eq!(record.len(), 1);
    assert_eq!(record[0].state(), ResidencyState::Draining);
}
