//! What a rollout shall do.

use understudy_protocol::v1;
use understudy_rollout::spec::{
    AgreementGate, ConfidenceGate, ErrorGate, Gates, LabelGate, LatencyGate, ShadowStage, Spec, Step, Strategy,
    TextGate,
};

use super::{Invalid, duration_from, duration_to};

/// Fills in what an operator left out: messages that are absent, and numbers that are 0 where 0 means nothing. So a
/// recorded spec is complete, and goes on meaning the same when the defaults change.
///
/// # Errors
/// If there is no such strategy.
pub fn complete(spec: &mut v1::RolloutSpec) -> Result<(), Invalid> {
    if spec.strategy == 0 {
        spec.strategy = v1::Strategy::Canary.into();
    }
    let strategy = strategy_from(spec.strategy)?;
    let defaults = to(&Spec::new("", "", strategy));
    if strategy == Strategy::Shadow {
        spec.shadow.get_or_insert_default();
    }
    if let Some(shadow) = &mut spec.shadow {
        let default = shadow_to(&ShadowStage::default());
        or(&mut shadow.sample_ppm, default.sample_ppm);
        or(&mut shadow.noise_ppm, default.noise_ppm);
        or(&mut shadow.hold, default.hold);
        or(&mut shadow.pairs_min, default.pairs_min);
    }
    or(&mut spec.steps, defaults.steps);
    for step in &mut spec.steps {
        let default = step_to(&Step::new(step.weight_ppm));
        or(&mut step.hold, default.hold);
        or(&mut step.requests_min, default.requests_min);
    }
    let default_gates = gates_to(&Gates::default());
    match &mut spec.gates {
        Some(gates) => complete_gates(gates, default_gates),
        absent => *absent = Some(default_gates),
    }
    or(&mut spec.progress_deadline, defaults.progress_deadline);
    or(&mut spec.watch, defaults.watch);
    or(&mut spec.standby, defaults.standby);
    Ok(())
}

fn complete_gates(gates: &mut v1::Gates, default: v1::Gates) {
    or(&mut gates.alpha, default.alpha);
    or(&mut gates.beta, default.beta);
    let (gate, default_gate) = (gates.errors.get_or_insert_default(), default.errors.unwrap_or_default());
    or(&mut gate.ratio_max, default_gate.ratio_max);
    or(&mut gate.negligible, default_gate.negligible);
    let (gate, default_gate) = (
        gates.latency.get_or_insert_default(),
        default.latency.unwrap_or_default(),
    );
    or(&mut gate.quantiles, default_gate.quantiles);
    or(&mut gate.increase_min, default_gate.increase_min);
    or(&mut gate.increase_max, default_gate.increase_max);
    let (gate, default_gate) = (
        gates.agreement.get_or_insert_default(),
        default.agreement.unwrap_or_default(),
    );
    or(&mut gate.agreement_min, default_gate.agreement_min);
    or(&mut gate.class_agreement_min, default_gate.class_agreement_min);
    let (gate, default_gate) = (
        gates.confidence.get_or_insert_default(),
        default.confidence.unwrap_or_default(),
    );
    or(&mut gate.drop_max, default_gate.drop_max);
    let (gate, default_gate) = (gates.text.get_or_insert_default(), default.text.unwrap_or_default());
    or(&mut gate.length_change_max, default_gate.length_change_max);
    or(&mut gate.grounding_drop_max, default_gate.grounding_drop_max);
    gates.labels.get_or_insert_default();
    gates.proof = gates.proof.or(default.proof);
}

fn or<T: Default + PartialEq>(value: &mut T, default: T) {
    if *value == T::default() {
        *value = default;
    }
}

/// Reads a complete spec.
///
/// # Errors
/// If it breaks a rule.
pub fn spec_from(spec: &v1::RolloutSpec) -> Result<Spec, Invalid> {
    let mut steps = Vec::with_capacity(spec.steps.len());
    for (index, step) in spec.steps.iter().enumerate() {
        steps.push(step_from(step).map_err(|invalid| invalid.within(&format!("steps[{index}]")))?);
    }
    let shadow = spec.shadow.as_ref().map(shadow_from).transpose();
    let spec = Spec {
        stable: spec.stable.clone(),
        candidate: spec.candidate.clone(),
        strategy: strategy_from(spec.strategy)?,
        shadow: shadow.map_err(|invalid| invalid.within("shadow"))?,
        steps,
        gates: gates_from(&spec.gates.clone().unwrap_or_default()),
        progress_deadline: duration_from(spec.progress_deadline.as_ref(), "progress_deadline")?,
        watch: duration_from(spec.watch.as_ref(), "watch")?,
        standby: duration_from(spec.standby.as_ref(), "standby")?,
    };
    match spec.check() {
        Ok(()) => Ok(spec),
        Err(invalid) => Err(Invalid::new(invalid.field, invalid.problem)),
    }
}

/// A spec for the registry, with what the pure crate has no use for.
#[must_use]
pub fn spec_to(spec: &Spec, webhooks: Vec<v1::Webhook>, keep_text: bool) -> v1::RolloutSpec {
    v1::RolloutSpec {
        webhooks,
        keep_text,
        ..to(spec)
    }
}

fn to(spec: &Spec) -> v1::RolloutSpec {
    v1::RolloutSpec {
        candidate: spec.candidate.clone(),
        stable: spec.stable.clone(),
        strategy: strategy_to(spec.strategy).into(),
        shadow: spec.shadow.as_ref().map(shadow_to),
        steps: spec.steps.iter().map(step_to).collect(),
        gates: Some(gates_to(&spec.gates)),
        progress_deadline: Some(duration_to(spec.progress_deadline)),
        watch: Some(duration_to(spec.watch)),
        standby: Some(duration_to(spec.standby)),
        webhooks: Vec::new(),
        keep_text: false,
    }
}

fn strategy_from(strategy: i32) -> Result<Strategy, Invalid> {
    let unknown = || Invalid::new("strategy", format!("{strategy} is not known to this software"));
    match v1::Strategy::try_from(strategy).map_err(|_| unknown())? {
        v1::Strategy::Unspecified => Err(Invalid::new("strategy", "is missing")),
        v1::Strategy::Canary => Ok(Strategy::Canary),
        v1::Strategy::BlueGreen => Ok(Strategy::BlueGreen),
        v1::Strategy::Shadow => Ok(Strategy::Shadow),
        v1::Strategy::Ab => Ok(Strategy::Ab),
    }
}

fn strategy_to(strategy: Strategy) -> v1::Strategy {
    match strategy {
        Strategy::Canary => v1::Strategy::Canary,
        Strategy::BlueGreen => v1::Strategy::BlueGreen,
        Strategy::Shadow => v1::Strategy::Shadow,
        Strategy::Ab => v1::Strategy::Ab,
    }
}

fn shadow_from(stage: &v1::ShadowStage) -> Result<ShadowStage, Invalid> {
    Ok(ShadowStage {
        sample_ppm: stage.sample_ppm,
        noise_ppm: stage.noise_ppm,
        hold: duration_from(stage.hold.as_ref(), "hold")?,
        pairs_min: stage.pairs_min,
    })
}

fn shadow_to(stage: &ShadowStage) -> v1::ShadowStage {
    v1::ShadowStage {
        sample_ppm: stage.sample_ppm,
        noise_ppm: stage.noise_ppm,
        hold: Some(duration_to(stage.hold)),
        pairs_min: stage.pairs_min,
    }
}

fn step_from(step: &v1::Step) -> Result<Step, Invalid> {
    Ok(Step {
        weight_ppm: step.weight_ppm,
        hold: duration_from(step.hold.as_ref(), "hold")?,
        requests_min: step.requests_min,
        manual: step.manual,
    })
}

fn step_to(step: &Step) -> v1::Step {
    v1::Step {
        weight_ppm: step.weight_ppm,
        hold: Some(duration_to(step.hold)),
        requests_min: step.requests_min,
        manual: step.manual,
    }
}

fn gates_from(gates: &v1::Gates) -> Gates {
    Gates {
        alpha: gates.alpha,
        beta: gates.beta,
        errors: gates.errors.filter(|gate| !gate.off).map(|gate| ErrorGate {
            ratio_max: gate.ratio_max,
            negligible: gate.negligible,
        }),
        latency: gates.latency.clone().filter(|gate| !gate.off).map(|gate| LatencyGate {
            quantiles: gate.quantiles,
            increase_min: gate.increase_min,
            increase_max: gate.increase_max,
        }),
        agreement: gates.agreement.filter(|gate| !gate.off).map(|gate| AgreementGate {
            agreement_min: gate.agreement_min,
            class_agreement_min: gate.class_agreement_min,
        }),
        confidence: gates.confidence.filter(|gate| !gate.off).map(|gate| ConfidenceGate {
            drop_max: gate.drop_max,
        }),
        text: gates.text.filter(|gate| !gate.off).map(|gate| TextGate {
            length_change_max: gate.length_change_max,
            grounding_drop_max: gate.grounding_drop_max,
        }),
        labels: gates.labels.filter(|gate| !gate.off).map(|gate| LabelGate {
            labels_min: gate.labels_min,
        }),
        // Records from before it could be absent left out that it was false.
        proof: gates.proof.unwrap_or_default(),
    }
}

fn gates_to(gates: &Gates) -> v1::Gates {
    v1::Gates {
        alpha: gates.alpha,
        beta: gates.beta,
        errors: Some(gates.errors.map_or_else(
            || v1::ErrorGate {
                off: true,
                ..Default::default()
            },
            |gate| v1::ErrorGate {
                off: false,
                ratio_max: gate.ratio_max,
                negligible: gate.negligible,
            },
        )),
        latency: Some(gates.latency.as_ref().map_or_else(
            || v1::LatencyGate {
                off: true,
                ..Default::default()
            },
            |gate| v1::LatencyGate {
                off: false,
                quantiles: gate.quantiles.clone(),
                increase_min: gate.increase_min,
                increase_max: gate.increase_max,
            },
        )),
        agreement: Some(gates.agreement.map_or_else(
            || v1::AgreementGate {
                off: true,
                ..Default::default()
            },
            |gate| v1::AgreementGate {
                off: false,
                agreement_min: gate.agreement_min,
                class_agreement_min: gate.class_agreement_min,
            },
        )),
        confidence: Some(gates.confidence.map_or_else(
            || v1::ConfidenceGate {
                off: true,
                ..Default::default()
            },
            |gate| v1::ConfidenceGate {
                off: false,
                drop_max: gate.drop_max,
            },
        )),
        text: Some(gates.text.map_or_else(
            || v1::TextGate {
                off: true,
                ..Default::default()
            },
            |gate| v1::TextGate {
                off: false,
                length_change_max: gate.length_change_max,
                grounding_drop_max: gate.grounding_drop_max,
            },
        )),
        labels: Some(gates.labels.map_or_else(
            || v1::LabelGate {
                off: true,
                ..Default::default()
            },
            |gate| v1::LabelGate {
                off: false,
                labels_min: gate.labels_min,
            },
        )),
        proof: Some(gates.proof),
    }
}
