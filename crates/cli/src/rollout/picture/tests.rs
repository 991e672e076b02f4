use understudy_protocol::v1::{
    ClassPairs, Distinct, Gates, LabelCard, Predictions, RolloutSpec, RolloutStatus, ShadowStage, Slice, Step, Strategy,
};

use super::*;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn transition(second: i64, from: Phase, to: Phase, step: u32, weight_ppm: u32, reason: &str) -> Transition {
    Transition {
        at: Some(prost_types::Timestamp {
            seconds: 1_785_000_000 + second,
            nanos: 0,
        }),
        rollout: 3,
        from: from.into(),
        to: to.into(),
        step,
        weight_ppm,
        by: "controller r1".into(),
        reason: reason.into(),
    }
}

fn rollout(phase: Phase, step: u32) -> Rollout {
    let step_of = |weight_ppm| Step {
        weight_ppm,
        hold: seconds(60),
        requests_min: 100,
        manual: false,
    };
    Rollout {
        model: "sentiment".into(),
        number: 3,
        labels: vec!["negative".into(), "positive".into()],
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
            gates: Some(Gates {
                proof: Some(true),
                ..Gates::default()
            }),
            progress_deadline: seconds(3600),
            steps: [10_000, 50_000, 250_000, 500_000].map(step_of).to_vec(),
            watch: seconds(600),
            standby: seconds(600),
            ..RolloutSpec::default()
        }),
        status: Some(RolloutStatus {
            phase: phase.into(),
            step,
            elapsed: seconds(12),
            ..RolloutStatus::default()
        }),
        history: vec![
            transition(0, Phase::Unspecified, Phase::Pending, 0, 0, "started"),
            transition(1, Phase::Pending, Phase::Loading, 0, 0, "v2 is not loaded yet"),
            transition(9, Phase::Loading, Phase::Shadow, 0, 0, "v2 is ready on 2 workers"),
            transition(75, Phase::Shadow, Phase::Shifting, 0, 10_000, "1000 pairs compared"),
            transition(76, Phase::Shifting, Phase::Baking, 0, 10_000, "2 routers serve it"),
            transition(136, Phase::Baking, Phase::Judging, 0, 10_000, "held for 60 s"),
            transition(
                140,
                Phase::Judging,
                Phase::Shifting,
                1,
                50_000,
                "130 requests at 1%, and no gate says worse",
            ),
            transition(141, Phase::Shifting, Phase::Baking, 1, 50_000, "2 routers serve it"),
        ],
        ..Rollout::default()
    }
}

fn sketch(milliseconds: &[(f64, u64)]) -> Option<Sketch> {
    let mut sketch = sketch::Sketch::default();
    for &(milliseconds, count) in milliseconds {
        for _ in 0..count {
            sketch.insert(milliseconds / 1e3);
        }
    }
    let (buckets, counts) = sketch.buckets().unzip();
    Some(Sketch {
        zeros: sketch.zeros(),
        buckets,
        counts,
    })
}

fn live() -> Live {
    let gate = |gate: &str, verdict: Verdict, e_worse, e_good, detail: &str| GateReport {
        gate: gate.into(),
        verdict: verdict.into(),
        e_worse,
        e_worse_threshold: 100.0,
        e_good,
        e_good_threshold: 20.0,
        detail: detail.into(),
    };
    let arm = |requests, errors, latency| {
        Some(ArmCard {
            requests,
            errors,
            latency,
            predictions: Some(Predictions::default()),
            ..ArmCard::default()
        })
    };
    let mut candidate = arm(1_204, 13, sketch(&[(8.4, 900), (21.0, 100)]));
    candidate.as_mut().unwrap().erring_keys = Some(Distinct {
        smallest_hashes: vec![1, 2],
    });
    Live {
        slice: Some(Slice {
            epoch: 9,
            weight_ppm: 50_000,
            stable: arm(22_876, 229, sketch(&[(8.0, 900), (120.0, 100)])),
            candidate,
        }),
        shadow: Some(ShadowCard {
            chosen: 1_040,
            busy: 30,
            candidate_errors: 10,
            pairs: 1_000,
            classes: Some(ClassPairs {
                confusion: vec![480, 12, 8, 500],
                noise_triples: 100,
                only_noise: 1,
                probability_difference: Some(Moments {
                    count: 1_000,
                    sum: 14.0,
                    sum_of_squares: 1.0,
                }),
                ..ClassPairs::default()
            }),
            ..ShadowCard::default()
        }),
        labels: Some(LabelCard::default()),
        gates: vec![
            gate(
                "errors",
                Verdict::Good,
                0.02,
                45.2,
                "1.1% of 1,204 against 1.0% of 22,876",
            ),
            gate(
                "latency p95",
                Verdict::Undecided,
                31.0,
                f64::NAN,
                "21 ms against 120 ms",
            ),
            gate("agreement", Verdict::Worse, f64::INFINITY, 0.3, "60.1% of 1,000"),
        ],
        routers: 2,
        routers_current: 2,
        stable_ready: 2,
        candidate_ready: 1,
        leader: "r1".into(),
        waiting_for: "the step's hold: 12 s of 60 s".into(),
        aborted_locally: false,
    }
}

/// Compares with a picture in `golden`, which is what a person would see. `UPDATE_GOLDEN=1` draws it anew.
fn expect(name: &str, view: &View<'_>, golden: &str) {
    console::set_colors_enabled(false);
    let drawn = view.draw();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rollout/picture/golden");
        std::fs::write(folder.join(name), drawn).unwrap();
        return;
    }
    assert!(drawn == golden, "golden/{name} should be\n{drawn}");
}

macro_rules! golden {
    ($name:literal, $view:expr) => {
        expect($name, $view, include_str!(concat!("golden/", $name)))
    };
}

fn view<'a>(rollout: &'a Rollout, live: &'a Live) -> View<'a> {
    View {
        rollout,
        live,
        rates: None,
        since: Duration::from_secs(2),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_785_000_000 + 155),
        width: usize::MAX,
    }
}

#[test]
fn a_step_that_bakes() {
    golden!("baking.txt", &view(&rollout(Phase::Baking, 1), &live()));
}

#[test]
fn a_narrow_terminal_cuts_lines_and_shows_rates() {
    let (rollout, live) = (rollout(Phase::Baking, 1), live());
    let view = View {
        rates: Some((190.04, 9.96)),
        width: 80,
        ..view(&rollout, &live)
    };
    for line in view.draw().lines() {
        assert!(measure_text_width(line) <= 80, "{line}");
    }
    golden!("narrow.txt", &view);
}

#[test]
fn the_shadow_stage_has_no_arms() {
    let mut rollout = rollout(Phase::Shadow, 0);
    rollout.history.truncate(3);
    let shadow = Live {
        slice: None,
        gates: live().gates.split_off(2),
        waiting_for: "compared pairs: 180 of 200".into(),
        ..live()
    };
    golden!("shadow.txt", &view(&rollout, &shadow));
}

#[test]
fn a_pause_shows_where_and_why() {
    let mut rollout = rollout(Phase::Paused, 1);
    let status = rollout.status.as_mut().unwrap();
    status.paused_phase = Phase::Judging.into();
    status.reason = "no progress for 1 h: it waits for requests of v2 at 5%: 31 of 100".into();
    let nobody = Live {
        leader: String::new(),
        ..live()
    };
    golden!("paused.txt", &view(&rollout, &nobody));
}

#[test]
fn what_was_rolled_back_shows_where_it_was_left() {
    let mut rollout = rollout(Phase::RolledBack, 0);
    let reason = "errors: 9.8% of 204 against 1.0% of 3,900";
    rollout.status.as_mut().unwrap().reason = reason.into();
    rollout.history.extend([
        transition(160, Phase::Baking, Phase::Paused, 1, 50_000, "lunch"),
        transition(170, Phase::Paused, Phase::RollingBack, 0, 0, reason),
        transition(
            171,
            Phase::RollingBack,
            Phase::RolledBack,
            0,
            0,
            "v1 answers everything",
        ),
    ]);
    golden!("rolled-back.txt", &view(&rollout, &Live::default()));
}

#[test]
fn a_blue_green_one_has_no_steps_and_labels_are_counted() {
    let mut rollout = rollout(Phase::Watching, 0);
    let spec = rollout.spec.as_mut().unwrap();
    (spec.shadow, spec.steps) = (None, vec![]);
    spec.strategy = Strategy::BlueGreen.into();
    rollout.history.truncate(1);
    rollout.history[0].by = "op\u{1b}[2J".into();
    let live = Live {
        labels: Some(LabelCard {
            both_right: 8,
            only_stable_right: 1,
            only_candidate_right: 1,
            candidate_right: 90,
            ..LabelCard::default()
        }),
        waiting_for: "the watch: 12 s of 10 min".into(),
        leader: "r1".into(),
        ..Live::default()
    };
    golden!("blue-green.txt", &view(&rollout, &live));
}

#[test]
fn nothing_but_a_name_can_be_drawn() {
    golden!("empty.txt", &view(&Rollout::default(), &Live::default()));
}

#[test]
fn a_manual_gate_names_the_command_that_opens_it() {
    let mut rollout = rollout(Phase::Judging, 1);
    rollout.spec.as_mut().unwrap().steps[1].manual = true;
    let live = Live {
        waiting_for: "an operator's promote: the step at 5% is manual".into(),
        aborted_locally: true,
        ..live()
    };
    let drawn = View {
        width: 80,
        ..view(&rollout, &live)
    }
    .draw();
    for said in [
        "phase      step 2 of 4 at 5%, waits for `rollout promote` for 14 s\n",
        "command    understudy rollout promote sentiment\n",
        "then       25%\n",
        "here       aborted on this router alone: ",
    ] {
        assert!(drawn.contains(said), "{said}{drawn}");
    }
}

#[test]
fn evidence_is_a_part_of_what_decides() {
    for (e, threshold, bar) in [
        (0.0, 256.0, "░░░░░░░░   0%"),
        (1.0, 256.0, "░░░░░░░░   0%"),
        (2.0, 256.0, "█░░░░░░░  12%"),
        (16.0, 256.0, "████░░░░  50%"),
        (255.0, 256.0, "███████░  99%"),
        (256.0, 256.0, "████████ 100%"),
        (f64::INFINITY, 256.0, "████████ 100%"),
        (f64::NAN, 256.0, "░░░░░░░░   0%"),
        (f64::NAN, f64::NAN, "░░░░░░░░   0%"),
        // A proved ratio, as of latency.
        (0.5, 0.667, "█████░░░  74%"),
        (0.67, 0.667, "████████ 100%"),
    ] {
        assert_eq!(evidence(e, threshold, true), bar);
    }
    assert_eq!(evidence(16.0, 256.0, false), " 50%");
}

#[test]
fn a_fact_is_wrapped_at_words() {
    console::set_colors_enabled(false);
    assert_eq!(
        fact("because", "one two three-and-four five", 20),
        ["because    one two", "           three-and-four", "           five"]
    );
    assert_eq!(fact("phase", "a b", usize::MAX), ["phase      a b"]);
}
