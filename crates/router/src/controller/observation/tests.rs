use understudy_rollout::{
    machine::{Phase, Stage},
    spec::{Spec, Strategy},
};

use super::*;
use crate::controller::record::{spec_to, status_to};

fn rollout() -> Rollout {
    let mut spec = Spec::new("v1", "v2", Strategy::Canary);
    spec.shadow = None;
    let mut rollout = Rollout::start(3, spec);
    (rollout.phase, rollout.route_epoch) = (
        Phase::Step {
            index: 1,
            stage: Stage::Baking,
        },
        7,
    );
    rollout
}

fn record(rollout: &Rollout) -> v1::Rollout {
    v1::Rollout {
        model: "m".into(),
        kind: v1::Kind::Analyst.into(),
        number: 3,
        generation: 1,
        spec: Some(spec_to(&rollout.spec, Vec::new(), false)),
        status: Some(status_to(rollout)),
        ..v1::Rollout::default()
    }
}

fn route() -> v1::Route {
    let arm = |name: &str, version: &str, weight_ppm| v1::Arm {
        name: name.into(),
        version: version.into(),
        weight_ppm,
    };
    v1::Route {
        model: "m".into(),
        kind: v1::Kind::Analyst.into(),
        epoch: 7,
        arms: vec![arm("stable", "v1", 950_000), arm("candidate", "v2", 50_000)],
        rollout: 3,
        ..v1::Route::default()
    }
}

fn card(router: &str, rollout: u64, epoch: u64, requests: u64) -> (String, v1::Scorecard) {
    let arm = |requests| {
        Some(v1::ArmCard {
            requests,
            ..v1::ArmCard::default()
        })
    };
    let card = v1::Scorecard {
        model: "m".into(),
        router: router.into(),
        rollout,
        epoch,
        slice: Some(v1::Slice {
            epoch,
            weight_ppm: 50_000,
            stable: arm(20 * requests),
            candidate: arm(requests),
        }),
        shadow: Some(v1::ShadowCard {
            pairs: requests,
            ..v1::ShadowCard::default()
        }),
        labels: Some(v1::LabelCard {
            both_right: requests,
            ..v1::LabelCard::default()
        }),
    };
    (format!("m/{router}"), card)
}

fn worker(name: &str, kind: v1::Kind, versions: &[(&str, ResidencyState)]) -> (String, v1::Worker) {
    let residency = |&(version, state): &(&str, ResidencyState)| v1::Residency {
        model: "m".into(),
        version: version.into(),
        state: state.into(),
        reason: "bad file".into(),
    };
    let worker = v1::Worker {
        worker: name.into(),
        kind: kind.into(),
        versions: versions.iter().map(residency).collect(),
        ..v1::Worker::default()
    };
    (name.into(), worker)
}

/// What r1 sees.
fn seen(route: &v1::Route, scorecards: &[(String, v1::Scorecard)], workers: &[(String, v1::Worker)]) -> Observation {
    let rollout = rollout();
    observe(&Seen {
        record: &record(&rollout),
        rollout: &rollout,
        route: Some(route),
        workers: &workers.iter().cloned().collect(),
        scorecards: &scorecards.iter().cloned().collect(),
        router: "r1",
        epoch: route.epoch,
    })
}

#[test]
fn only_the_rollouts_and_the_routes_own_counts_are_merged() {
    let mut broken = card("r5", 3, 7, 1_000);
    let latency = v1::Sketch {
        buckets: vec![1],
        ..v1::Sketch::default()
    };
    broken.1.slice.as_mut().unwrap().candidate.as_mut().unwrap().latency = Some(latency);
    let cards = [
        card("r1", 3, 7, 10),
        card("r2", 3, 7, 5),
        card("r3", 3, 6, 100),
        card("r4", 2, 7, 10_000),
        broken,
    ];
    let observation = seen(&route(), &cards, &[]);
    let live = &observation.live;
    assert_eq!((live.epoch, live.weight_ppm), (7, 50_000));
    assert_eq!((live.stable.requests, live.candidate.requests), (300, 15));
    assert_eq!(
        (observation.shadow.pairs, observation.labels.both_right),
        (1_115, 1_115)
    );
    assert_eq!(
        (observation.routers, observation.routers_current),
        (4, 3),
        "r3 serves an older route"
    );
}

#[test]
fn a_router_counts_itself_by_what_it_serves() {
    let behind = v1::Route { epoch: 7, ..route() };
    let rollout = rollout();
    let observation = observe(&Seen {
        record: &record(&rollout),
        rollout: &rollout,
        route: Some(&behind),
        workers: &BTreeMap::new(),
        scorecards: &[card("r1", 3, 7, 1)].into(),
        router: "r1",
        epoch: 6,
    });
    assert_eq!((observation.routers, observation.routers_current), (1, 0));
}

#[test]
fn workers_of_the_kind_are_counted() {
    use ResidencyState::{Draining, Failed, Loading, Ready};
    use v1::Kind::{Analyst, Scribe};
    let workers = [
        worker("a", Analyst, &[("v1", Ready), ("v2", Ready)]),
        worker("b", Analyst, &[("v1", Ready), ("v2", Failed)]),
        worker("c", Analyst, &[("v1", Draining), ("v2", Loading)]),
        worker("d", Scribe, &[("v1", Ready)]),
    ];
    let observation = seen(&route(), &[], &workers);
    let counts = (
        observation.workers,
        observation.stable_ready,
        observation.candidate_ready,
    );
    assert_eq!((counts, &observation.candidate_failed), ((3, 2, 1), &None));
    let failed = seen(&route(), &[], &workers[1..2]);
    assert_eq!(failed.candidate_failed.as_deref(), Some("b: bad file"));
    assert_eq!(seen(&route(), &[], &[]).candidate_failed, None);
}

#[test]
fn a_foreign_route_is_noticed() {
    assert!(!seen(&route(), &[], &[]).route_changed);
    let mut others = vec![v1::Route { epoch: 8, ..route() }, v1::Route { rollout: 0, ..route() }];
    let mut other = route();
    (other.arms[0].weight_ppm, other.arms[1].weight_ppm) = (900_000, 100_000);
    others.push(other);
    for other in others {
        assert!(seen(&other, &[], &[]).route_changed, "{other:?}");
    }
}
