use understudy_protocol::v1::{GateReport, Gates, RolloutStatus, Slice, Transition};

use super::*;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn rollout(phase: Phase, step: u32) -> Rollout {
    let step_of = |weight_ppm| Step {
        weight_ppm,
        hold: seconds(60),
        requests_min: 100,
        manual: false,
    };
    Rollout {
        number: 1,
        spec: Some(RolloutSpec {
            candidate: "v2".into(),
            stable: "v1".into(),
            strategy: Strategy::Canary.into(),
            shadow: Some(ShadowStage {
                sample_ppm: 100_000,
                hold: seconds(60),
                pairs_min: 200,
                ..ShadowStage::default()
            }),
            steps: [10_000, 500_000].map(step_of).to_vec(),
            gates: Some(Gates {
                proof: Some(true),
                ..Gates::default()
            }),
            progress_deadline: seconds(3600),
            watch: seconds(600),
            standby: seconds(600),
            ..RolloutSpec::default()
        }),
        status: Some(RolloutStatus {
            phase: phase.into(),
            step,
            stalled: seconds(60),
            ..RolloutStatus::default()
        }),
        history: vec![Transition {
            at: Some(prost_types::Timestamp {
                seconds: 1_000,
                nanos: 0,
            }),
            rollout: 1,
            to: Phase::Shifting.into(),
            ..Transition::default()
        }],
        ..Rollout::default()
    }
}

fn live(requests: u64) -> Live {
    let gate = |gate: &str, verdict: Verdict| GateReport {
        gate: gate.into(),
        verdict: verdict.into(),
        ..GateReport::default()
    };
    let arm = |requests| {
        Some(ArmCard {
            requests,
            ..ArmCard::default()
        })
    };
    Live {
        slice: Some(Slice {
            stable: arm(1_000 - requests),
            candidate: arm(requests),
            ..Slice::default()
        }),
        gates: vec![
            gate("errors", Verdict::Good),
            gate("latency p95", Verdict::Undecided),
            gate("agreement", Verdict::Undecided),
            gate("labels", Verdict::Undecided),
        ],
        ..Live::default()
    }
}

fn forecast<'a>(rollout: &'a Rollout, live: &'a Live, rate: Option<f64>) -> Forecast<'a> {
    Forecast {
        rollout,
        live,
        rate,
        elapsed: Duration::from_secs(20),
    }
}

#[test]
fn what_comes_next() {
    let mut manual = rollout(Phase::Judging, 1);
    manual.spec.as_mut().unwrap().steps[1].manual = true;
    let mut open = manual.clone();
    open.status.as_mut().unwrap().approved = true;
    let proof = "proof of latency p95, agreement → 100%";
    for (rollout, requests, then) in [
        (rollout(Phase::Loading, 0), 0, "shadow".to_owned()),
        (
            rollout(Phase::Shadow, 0),
            0,
            "pairs (0 of 200) → proof of agreement → 1%".to_owned(),
        ),
        (
            rollout(Phase::Baking, 0),
            38,
            "requests of v2 (38 of 100) → 50%".to_owned(),
        ),
        (rollout(Phase::Baking, 0), 100, "50%".to_owned()),
        (rollout(Phase::Judging, 0), 38, "50%".to_owned()),
        (
            rollout(Phase::Baking, 1),
            38,
            format!("requests of v2 (38 of 100) → {proof}"),
        ),
        (rollout(Phase::Judging, 1), 38, proof.to_owned()),
        (rollout(Phase::Judging, 1), 100, "100%".to_owned()),
        (manual.clone(), 38, format!("`rollout promote` → {proof}")),
        (manual, 100, proof.to_owned()),
        (open, 100, "100%".to_owned()),
        (
            rollout(Phase::Promoting, 0),
            0,
            "10 min of watching → 10 min on standby".to_owned(),
        ),
        (
            rollout(Phase::Watching, 0),
            0,
            "10 min on standby → v1 is unloaded".to_owned(),
        ),
        (rollout(Phase::Standby, 0), 0, "v1 is unloaded".to_owned()),
    ] {
        let live = live(requests);
        assert_eq!(
            forecast(&rollout, &live, None).then(),
            Some(then),
            "{:?} {requests}",
            rollout.phase()
        );
    }
    for phase in [Phase::Paused, Phase::Done, Phase::RollingBack] {
        assert_eq!(forecast(&rollout(phase, 0), &live(0), None).then(), None, "{phase:?}");
    }
}

#[test]
fn the_time_left_is_of_holds_and_of_requests() {
    let left = |phase, step, requests, rate| {
        let (rollout, live) = (rollout(phase, step), live(requests));
        forecast(&rollout, &live, rate).left().unwrap()
    };
    let rest = "; then 20 min watched and on standby";
    // 40 s of hold, and 60 s of the next one.
    let enough = format!("at least 1 min 40 s to 100% at 1000 requests/s{rest}");
    assert_eq!(left(Phase::Baking, 0, 38, Some(1000.0)), enough);
    // 62 requests of 1% of 10/s take longer than the hold.
    let slow = format!("at least 12 min to 100% at 10 requests/s{rest}");
    assert_eq!(left(Phase::Baking, 0, 38, Some(10.0)), slow);
    let unknown = format!("at least 1 min 40 s to 100% by the holds alone{rest}");
    assert_eq!(left(Phase::Baking, 0, 38, None), unknown);
    assert_eq!(
        left(Phase::Judging, 1, 38, Some(0.0)),
        "it needs requests, and none come"
    );
    assert_eq!(left(Phase::Watching, 0, 0, Some(0.0)), "20 min until v1 is unloaded");
    let loading = format!("at least 3 min to 100% by the holds alone{rest}");
    assert_eq!(left(Phase::Loading, 0, 0, None), loading);
}

#[test]
fn the_deadline_is_told_where_it_runs() {
    let live = live(0);
    for (phase, runs) in [
        (Phase::Loading, true),
        (Phase::Shadow, false),
        (Phase::Shifting, true),
        (Phase::Baking, false),
        (Phase::Judging, true),
        (Phase::Watching, false),
        (Phase::Paused, false),
    ] {
        let said = forecast(&rollout(phase, 0), &live, None).deadline();
        let expected = "pauses in 59 min if it gets no further; traffic stays as it is";
        assert_eq!(said.as_deref(), runs.then_some(expected), "{phase:?}");
    }
}

#[test]
fn a_rate_is_counted_since_the_route_was_set() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let (mut rollout, live) = (rollout(Phase::Baking, 0), live(10));
    assert_eq!(rate(&rollout, &live, at(1_050)), Some(20.0));
    assert_eq!(rate(&rollout, &live, at(1_001)), None, "too soon");
    assert_eq!(rate(&rollout, &live, at(900)), None, "clocks differ");
    rollout.number = 2;
    assert_eq!(rate(&rollout, &live, at(1_050)), None, "of another rollout");
}

#[test]
fn a_plan_says_what_it_takes() {
    let spec = rollout(Phase::Pending, 0).spec.unwrap();
    assert_eq!(
        outline(&spec),
        "plan: shadow with 10% of the requests → 1% → 50% → 100%\n\
         time: at least 3 min, longer with less than 167 requests/s; at 100% 10 min watched and 10 min on standby"
    );
}
