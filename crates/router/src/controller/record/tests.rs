use std::time::Duration;

use proptest::prelude::*;
use understudy_rollout::{
    distinct::Distinct,
    scorecard::{ArmCard, LatencyMark, Moments, Predictions, ShadowCard, Slice},
    sketch::Sketch,
    spec::{ErrorGate, Gates, LatencyGate, Spec, Step, Strategy as Course},
};

use super::*;

fn course() -> impl Strategy<Value = Course> {
    prop_oneof![
        Just(Course::Canary),
        Just(Course::BlueGreen),
        Just(Course::Shadow),
        Just(Course::Ab)
    ]
}

fn time() -> impl Strategy<Value = Duration> {
    (0..1_000_000_u64, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn gates() -> impl Strategy<Value = Gates> {
    let errors = proptest::option::of(Just(ErrorGate {
        ratio_max: 2.0,
        negligible: 0.01,
    }));
    let latency = proptest::option::of(Just(LatencyGate {
        quantiles: vec![0.9],
        increase_min: 0.1,
        increase_max: 0.3,
    }));
    (errors, latency, any::<bool>(), any::<bool>()).prop_map(|(errors, latency, rest, proof)| {
        let all = Gates::default();
        Gates {
            alpha: 0.01,
            errors,
            latency,
            agreement: all.agreement.filter(|_| rest),
            confidence: all.confidence.filter(|_| rest),
            text: all.text.filter(|_| !rest),
            labels: all.labels.filter(|_| rest),
            proof,
            ..all
        }
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    (course(), gates(), time(), 1..8_u32, any::<bool>()).prop_map(|(course, gates, hold, steps, manual)| {
        let mut spec = Spec::new("v1", "v2", course);
        spec.gates = gates;
        spec.watch = hold;
        if course == Course::Canary {
            let step = |n: u32| Step {
                hold,
                manual,
                ..Step::new(n * 100_000)
            };
            spec.steps = (1..=steps).map(step).collect();
        }
        spec
    })
}

fn phase(steps: usize) -> impl Strategy<Value = Phase> {
    let stage = prop_oneof![Just(Stage::Shifting), Just(Stage::Baking), Just(Stage::Judging)];
    let step = (0..steps.max(1), stage).prop_map(move |(index, stage)| match steps {
        0 => Phase::Promoting,
        _ => Phase::Step { index, stage },
    });
    let running = prop_oneof![
        Just(Phase::Pending),
        Just(Phase::Loading),
        Just(Phase::Shadow),
        step,
        Just(Phase::Promoting),
        Just(Phase::Watching),
        Just(Phase::Standby),
    ];
    let paused = (running.clone(), ".{0,20}").prop_map(|(from, reason)| Phase::Paused {
        reason,
        from: Box::new(from),
    });
    prop_oneof![
        running,
        paused,
        Just(Phase::Done),
        (".{0,20}", 0..1_000_000_u32).prop_map(|(reason, candidate_ppm)| Phase::RollingBack { reason, candidate_ppm }),
        ".{0,20}".prop_map(|reason| Phase::RolledBack { reason }),
        ".{0,20}".prop_map(|reason| Phase::Superseded { reason }),
    ]
}

/// Of few digits: JSON is read to within the last of many.
fn moments() -> impl Strategy<Value = Moments> {
    (0..100_u64, any::<i16>(), any::<u16>()).prop_map(|(count, sum, squares)| Moments {
        count,
        sum: f64::from(sum) / 8.0,
        sum_of_squares: f64::from(squares) / 8.0,
    })
}

fn sketch() -> impl Strategy<Value = Sketch> {
    proptest::collection::vec(1e-6..100.0, 0..30).prop_map(|values| {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.insert(value));
        sketch
    })
}

fn arm() -> impl Strategy<Value = ArmCard> {
    let predictions = (proptest::collection::vec(0..50_u64, 0..4), moments(), moments());
    let keys = proptest::collection::vec(any::<u64>(), 0..20).prop_map(Distinct::from_hashes);
    (any::<[u64; 3]>(), keys, sketch(), predictions).prop_map(
        |([requests, errors, fallbacks], erring_keys, latency, p)| ArmCard {
            requests,
            errors,
            erring_keys,
            fallbacks,
            latency,
            predictions: Predictions {
                classes: p.0,
                confidence: p.1,
                tokens: p.2,
            },
        },
    )
}

fn slice() -> impl Strategy<Value = Slice> {
    (any::<u64>(), 0..1_000_000_u32, arm(), arm()).prop_map(|(epoch, weight_ppm, stable, candidate)| Slice {
        epoch,
        weight_ppm,
        stable,
        candidate,
    })
}

fn shadow() -> impl Strategy<Value = ShadowCard> {
    (
        any::<[u64; 6]>(),
        sketch(),
        moments(),
        proptest::collection::vec(0..9_u64, 9),
    )
        .prop_map(|(counts, latency, moments, confusion)| {
            let [chosen, too_large, no_place, busy, candidate_errors, pairs] = counts;
            let mut card = ShadowCard {
                chosen,
                too_large,
                no_place,
                busy,
                candidate_errors,
                pairs,
                candidate_latency: latency,
                ..ShadowCard::default()
            };
            card.classes.confusion = confusion;
            card.classes.confidence_difference = moments;
            card.texts.log_length_ratio = moments;
            card
        })
}

fn rollout() -> impl Strategy<Value = Rollout> {
    spec().prop_flat_map(|spec| {
        let settled = proptest::collection::vec(slice(), 0..3);
        let parts = (
            phase(spec.steps.len()),
            time(),
            time(),
            any::<(u64, u64, bool)>(),
            settled,
        );
        let mark = (any::<u64>(), sketch(), sketch()).prop_map(|(epoch, stable, candidate)| LatencyMark {
            epoch,
            stable,
            candidate,
        });
        let cards = (proptest::option::of(shadow()), proptest::option::of(mark));
        (parts, cards).prop_map(move |(parts, (settled_shadow, latency_mark))| {
            let (phase, elapsed, stalled, (number, route_epoch, approved), settled) = parts;
            Rollout {
                number,
                spec: spec.clone(),
                phase,
                elapsed,
                stalled,
                route_epoch,
                approved,
                settled,
                settled_shadow,
                latency_mark,
                class_names: vec!["negative".into(), "positive".into()],
            }
        })
    })
}

fn record(rollout: &Rollout) -> v1::Rollout {
    let weight_ppm = match rollout.phase {
        Phase::RollingBack { candidate_ppm, .. } => candidate_ppm,
        _ => 0,
    };
    v1::Rollout {
        model: "m".into(),
        kind: v1::Kind::Analyst.into(),
        number: rollout.number,
        generation: 1,
        spec: Some(spec_to(&rollout.spec, Vec::new(), false)),
        status: Some(status_to(rollout)),
        history: vec![v1::Transition {
            weight_ppm,
            ..v1::Transition::default()
        }],
        labels: rollout.class_names.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_also_through_json(rollout in rollout()) {
        let json = understudy_protocol::json::to_string(&record(&rollout)).unwrap();
        let read: v1::Rollout = understudy_protocol::json::from_slice(json.as_bytes()).unwrap();
        prop_assert_eq!(rollout_from(&read), Ok(rollout));
    }

    #[test]
    fn a_complete_spec_is_left_alone(spec in spec()) {
        let record = spec_to(&spec, Vec::new(), true);
        let mut completed = record.clone();
        complete(&mut completed).unwrap();
        // What is off needs no numbers; everything else stays.
        prop_assert_eq!(spec_from(&completed), Ok(spec));
        prop_assert_eq!(completed.steps, record.steps);
    }
}

#[test]
fn what_is_left_out_gets_its_default() {
    let mut spec = v1::RolloutSpec {
        candidate: "v2".into(),
        stable: "v1".into(),
        ..v1::RolloutSpec::default()
    };
    complete(&mut spec).unwrap();
    let expected = Spec {
        shadow: None,
        ..Spec::new("v1", "v2", Course::Canary)
    };
    assert_eq!(spec_from(&spec), Ok(expected.clone()));
    let mut partial = v1::RolloutSpec {
        candidate: "v2".into(),
        stable: "v1".into(),
        shadow: Some(v1::ShadowStage::default()),
        steps: vec![v1::Step {
            weight_ppm: 20_000,
            ..v1::Step::default()
        }],
        gates: Some(v1::Gates {
            alpha: 0.01,
            latency: Some(v1::LatencyGate {
                off: true,
                ..v1::LatencyGate::default()
            }),
            ..v1::Gates::default()
        }),
        ..v1::RolloutSpec::default()
    };
    complete(&mut partial).unwrap();
    let expected = Spec {
        shadow: Some(Default::default()),
        steps: vec![Step::new(20_000)],
        gates: Gates {
            alpha: 0.01,
            latency: None,
            ..Gates::default()
        },
        ..expected
    };
    assert_eq!(spec_from(&partial), Ok(expected));
}

#[test]
fn what_cannot_be_used_is_named() {
    let rollout = Rollout::start(1, Spec::new("v1", "v2", Course::Canary));
    let good = record(&rollout);
    let spoilt = |spoil: fn(&mut v1::Rollout)| {
        let mut record = good.clone();
        spoil(&mut record);
        rollout_from(&record).unwrap_err().field
    };
    fn spec(record: &mut v1::Rollout) -> &mut v1::RolloutSpec {
        record.spec.as_mut().unwrap()
    }
    fn status(record: &mut v1::Rollout) -> &mut v1::RolloutStatus {
        record.status.as_mut().unwrap()
    }
    assert_eq!(spoilt(|r| r.spec = None), "spec");
    assert_eq!(spoilt(|r| spec(r).strategy = 77), "spec.strategy");
    assert_eq!(spoilt(|r| spec(r).watch = None), "spec.watch");
    assert_eq!(
        spoilt(|r| spec(r).steps[1].hold.as_mut().unwrap().seconds = -1),
        "spec.steps[1].hold"
    );
    assert_eq!(spoilt(|r| status(r).phase = 99), "status.phase");
    assert_eq!(spoilt(|r| status(r).phase = v1::Phase::Paused.into()), "status.phase");
    assert_eq!(
        spoilt(|r| {
            status(r).phase = v1::Phase::Baking.into();
            status(r).step = 4;
        }),
        "status.phase"
    );
    let slice = |sketch: v1::Sketch| v1::Slice {
        candidate: Some(v1::ArmCard {
            latency: Some(sketch),
            ..v1::ArmCard::default()
        }),
        ..v1::Slice::default()
    };
    let mut bad = good.clone();
    status(&mut bad).settled = vec![slice(v1::Sketch {
        buckets: vec![1],
        ..v1::Sketch::default()
    })];
    assert_eq!(
        rollout_from(&bad).unwrap_err().field,
        "status.settled[0].candidate.latency"
    );
}
