use super::*;

fn problem(change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = Spec::new("v1", "v2", Strategy::Canary);
    change(&mut spec);
    spec.check().unwrap_err().to_string()
}

#[test]
fn the_defaults_of_every_strategy_are_valid() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Shadow, Strategy::Ab] {
        Spec::new("v1", "v2", strategy).check().unwrap();
    }
    let weights: Vec<u32> = Spec::new("v1", "v2", Strategy::Canary)
        .steps
        .iter()
        .map(|step| step.weight_ppm)
        .collect();
    assert_eq!(weights, [10_000, 50_000, 250_000, 500_000]);
}

#[test]
fn fields_are_named_as_in_the_protocol() {
    for (found, wanted) in [
        (problem(|s| s.candidate.clear()), "candidate: name the version on trial"),
        (
            problem(|s| s.candidate = "v1".to_owned()),
            "candidate: v1 serves already; name another version",
        ),
        (
            problem(|s| s.stable.clear()),
            "stable: name the version that serves now",
        ),
        (problem(|s| s.steps.clear()), "steps: 0 steps; a canary has 1 to 32"),
        (
            problem(|s| s.steps[2].weight_ppm = 50_000),
            "steps[2].weight_ppm: 5% is not above the step before, 5%; weights must ascend",
        ),
        (
            problem(|s| s.steps[3].weight_ppm = 1_000_000),
            "steps[3].weight_ppm: 100% is not from 0.0001% to 99.9999%; the promotion to 100% follows the last step by itself",
        ),
        (
            problem(|s| s.steps[0].hold = Duration::from_secs(31 * 86_400)),
            "steps[0].hold: must be at most 30 days",
        ),
        (
            problem(|s| {
                s.shadow = Some(ShadowStage {
                    sample_ppm: 0,
                    ..ShadowStage::default()
                })
            }),
            "shadow.sample_ppm: 0% is not from 0.0001% to 100%",
        ),
        (
            problem(|s| s.strategy = Strategy::BlueGreen),
            "steps: only the strategies canary and ab have steps; leave them out, or choose canary",
        ),
        (
            problem(|s| s.strategy = Strategy::Ab),
            "steps: 4 steps; the strategy ab has exactly one, its fixed weight",
        ),
        (
            problem(|s| (s.strategy, s.shadow) = (Strategy::Shadow, None)),
            "shadow: the strategy shadow needs this stage",
        ),
        (
            problem(|s| s.gates.alpha = 0.5),
            "gates.alpha: 0.5 is not between 0 and 0.5",
        ),
        (
            problem(|s| s.gates.beta = f64::NAN),
            "gates.beta: NaN is not between 0 and 0.5",
        ),
        (
            problem(|s| s.gates.latency.as_mut().unwrap().quantiles.push(95.0)),
            "gates.latency.quantiles[2]: 95 is not between 0 and 1",
        ),
        (
            problem(|s| s.gates.errors.as_mut().unwrap().ratio_max = 1.0),
            "gates.errors.ratio_max: 1 is not between 1 and 1000000",
        ),
        (
            problem(|s| s.progress_deadline = Duration::ZERO),
            "progress_deadline: must be from 1 second to 30 days",
        ),
    ] {
        assert_eq!(found, wanted);
    }
}
