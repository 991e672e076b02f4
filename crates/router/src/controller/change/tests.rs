use std::time::Duration;

use understudy_rollout::{
    machine::{Command, Observation, Stage},
    spec::{Spec, Strategy},
};

use super::*;
use crate::controller::record::{rollout_from, spec_to};

fn route(epoch: u64, arms: &[(&str, &str, u32)]) -> v1::Route {
    let arm = |&(name, version, weight_ppm): &(&str, &str, u32)| v1::Arm {
        name: name.into(),
        version: version.into(),
        weight_ppm,
    };
    v1::Route {
        model: "m".into(),
        kind: v1::Kind::Analyst.into(),
        epoch,
        arms: arms.iter().map(arm).collect(),
        pinning: v1::Pinning::Denied.into(),
        ..v1::Route::default()
    }
}

fn record(rollout: &Rollout) -> v1::Rollout {
    v1::Rollout {
        model: "m".into(),
        kind: v1::Kind::Analyst.into(),
        number: rollout.number,
        generation: 5,
        spec: Some(spec_to(&rollout.spec, Vec::new(), true)),
        status: Some(status_to(rollout)),
        ..v1::Rollout::default()
    }
}

fn rollout(phase: Phase, route_epoch: u64) -> Rollout {
    let mut rollout = Rollout::start(3, Spec::new("v1", "v2", Strategy::Canary));
    (rollout.phase, rollout.route_epoch) = (phase, route_epoch);
    rollout
}

fn before<'a>(record: &'a v1::Rollout, route: &'a v1::Route) -> Before<'a> {
    Before {
        record,
        route: Some(route),
        route_changed: false,
        served_epoch: 0,
        by: "anna",
        at: SystemTime::UNIX_EPOCH,
    }
}

fn step(index: usize, stage: Stage) -> Phase {
    Phase::Step { index, stage }
}

fn to(rollout: &Rollout, phase: Phase) -> Advance {
    let transition = understudy_rollout::machine::Transition {
        from: rollout.phase.clone(),
        to: phase.clone(),
        reason: "because".into(),
    };
    let mut rollout = rollout.clone();
    rollout.phase = phase;
    Advance {
        rollout,
        transitions: vec![transition],
    }
}

#[test]
fn a_change_of_the_plan_is_a_new_route_and_anything_else_is_none() {
    let (at, one) = (rollout(Phase::Pending, 0), route(7, &[("main", "v1", 1_000_000)]));
    let loading = change(&before(&record(&at), &one), to(&at, Phase::Loading));
    let expected = v1::Route {
        rollout: 3,
        ..route(8, &[("stable", "v1", 1_000_000), ("candidate", "v2", 0)])
    };
    assert_eq!(loading.route.as_ref(), Some(&expected), "pinning and kind stay");
    assert_eq!((loading.rollout.route_epoch, loading.record.generation), (8, 6));
    assert_eq!(rollout_from(&loading.record), Ok(loading.rollout.clone()));

    let shadow = change(&before(&loading.record, &expected), to(&loading.rollout, Phase::Shadow));
    let mirrored = shadow.route.as_ref().unwrap();
    let settings = mirrored.shadow.as_ref().unwrap();
    assert_eq!(
        (mirrored.epoch, &*settings.arm, settings.keep_text),
        (9, "candidate", true)
    );

    let shifting = change(
        &before(&shadow.record, mirrored),
        to(&shadow.rollout, step(1, Stage::Shifting)),
    );
    let split = shifting.route.as_ref().unwrap();
    assert_eq!((split.arms[1].weight_ppm, &split.shadow), (50_000, &mirrored.shadow));
    let last = shifting.record.history.last().unwrap();
    assert_eq!(
        (last.weight_ppm, last.step, &*last.by, last.to()),
        (50_000, 1, "anna", v1::Phase::Shifting)
    );

    let baking = change(
        &before(&shifting.record, split),
        to(&shifting.rollout, step(1, Stage::Baking)),
    );
    assert_eq!((baking.route, baking.rollout.route_epoch), (None, 10));

    let mut promoted = v1::Route {
        shadow: None,
        ..split.clone()
    };
    (promoted.arms[0].weight_ppm, promoted.arms[1].weight_ppm) = (0, 1_000_000);
    let standby = rollout(Phase::Standby, 10);
    let done = change(&before(&record(&standby), &promoted), to(&standby, Phase::Done));
    let expected = route(11, &[("stable", "v2", 1_000_000)]);
    assert_eq!(
        done.route,
        Some(expected),
        "the next rollout's stable version, of no rollout"
    );
}

#[test]
fn an_epoch_is_above_the_served_one() {
    let (at, one) = (rollout(Phase::Pending, 0), route(7, &[("stable", "v1", 1_000_000)]));
    let record = record(&at);
    let restored = Before {
        served_epoch: 40,
        ..before(&record, &one)
    };
    assert_eq!(change(&restored, to(&at, Phase::Loading)).route.unwrap().epoch, 41);
}

#[test]
fn a_pause_leaves_a_foreign_route_alone_and_resuming_sets_it_again() {
    let baking = rollout(step(0, Stage::Baking), 7);
    let foreign = route(9, &[("stable", "v9", 1_000_000)]);
    let record = record(&baking);
    let changed = Before {
        route_changed: true,
        ..before(&record, &foreign)
    };
    let observation = Observation {
        route_changed: true,
        ..Observation::default()
    };
    let paused = change(&changed, baking.advance(&observation, Duration::ZERO));
    assert!(
        matches!(paused.rollout.phase, Phase::Paused { .. }),
        "{:?}",
        paused.rollout.phase
    );
    assert_eq!((paused.route, paused.rollout.route_epoch), (None, 7));
    let resumed = paused.rollout.command(Command::Resume, &observation).unwrap();
    let resumed = change(
        &Before {
            route_changed: true,
            ..before(&paused.record, &foreign)
        },
        resumed,
    );
    let route = resumed.route.unwrap();
    assert_eq!((route.epoch, resumed.rollout.route_epoch), (10, 10));
    assert_eq!((&*route.arms[0].version, route.arms[1].weight_ppm), ("v1", 10_000));
}

#[test]
fn the_history_is_bounded_and_keeps_the_newest() {
    let baking = rollout(step(0, Stage::Baking), 7);
    let mut record = record(&baking);
    record.history = vec![v1::Transition::default(); HISTORY_MAX];
    let judging = to(&baking, step(0, Stage::Judging));
    let changed = change(&before(&record, &route(7, &[])), judging);
    assert_eq!(changed.record.history.len(), HISTORY_MAX);
    assert_eq!(changed.record.history.last().unwrap().by, "anna");
}
