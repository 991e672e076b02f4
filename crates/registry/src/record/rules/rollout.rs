//! A rollout's record: names, sizes, enums and numbers. Whether a spec makes sense as a whole is the rollout crate's to say.

use understudy_protocol::v1;

use super::{
    HISTORY_MAX, STEPS_MAX, WEBHOOKS_MAX, check_kind, check_length, check_name, check_share,
    scorecard::{check_shadow, check_slice},
};

/// Quantiles of a latency gate.
const QUANTILES_MAX: usize = 16;
/// Bytes of a reason, of a name of who did something, and of a webhook's URL.
const TEXT_BYTES_MAX: usize = 2_048;

pub(in crate::record) fn rollout(rollout: &v1::Rollout) -> Result<(), String> {
    check_name("model", &rollout.model)?;
    check_kind(rollout.kind)?;
    if rollout.number == 0 {
        return Err("number is missing; rollouts are counted from 1".to_owned());
    }
    check_spec(rollout.spec.as_ref().ok_or("spec is missing")?)?;
    check_status(rollout.status.as_ref().ok_or("status is missing")?)?;
    check_length("history", rollout.history.len(), HISTORY_MAX)?;
    for transition in &rollout.history {
        check_phase("history.from", transition.from)?;
        check_phase("history.to", transition.to)?;
        check_share("history.weight_ppm", transition.weight_ppm)?;
        check_text("history.by", &transition.by)?;
        check_text("history.reason", &transition.reason)?;
    }
    Ok(())
}

fn check_spec(spec: &v1::RolloutSpec) -> Result<(), String> {
    check_name("spec.candidate", &spec.candidate)?;
    check_name("spec.stable", &spec.stable)?;
    match v1::Strategy::try_from(spec.strategy) {
        Ok(v1::Strategy::Unspecified) => return Err("spec.strategy is missing".to_owned()),
        Ok(_) => {}
        Err(_) => return Err(format!("spec.strategy {} is not known to this software", spec.strategy)),
    }
    if let Some(shadow) = &spec.shadow {
        check_share("spec.shadow.sample_ppm", shadow.sample_ppm)?;
        check_share("spec.shadow.noise_ppm", shadow.noise_ppm)?;
        check_duration("spec.shadow.hold", shadow.hold.as_ref())?;
    }
    check_length("spec.steps", spec.steps.len(), STEPS_MAX)?;
    for step in &spec.steps {
        check_share("spec.steps.weight_ppm", step.weight_ppm)?;
        check_duration("spec.steps.hold", step.hold.as_ref())?;
    }
    if let Some(gates) = &spec.gates {
        check_gates(gates)?;
    }
    check_duration("spec.progress_deadline", spec.progress_deadline.as_ref())?;
    check_duration("spec.watch", spec.watch.as_ref())?;
    check_duration("spec.standby", spec.standby.as_ref())?;
    check_length("spec.webhooks", spec.webhooks.len(), WEBHOOKS_MAX)?;
    spec.webhooks.iter().try_for_each(check_webhook)
}

fn check_gates(gates: &v1::Gates) -> Result<(), String> {
    let mut numbers = vec![("alpha", gates.alpha), ("beta", gates.beta)];
    if let Some(gate) = &gates.errors {
        numbers.extend([
            ("errors.ratio_max", gate.ratio_max),
            ("errors.negligible", gate.negligible),
        ]);
    }
    if let Some(gate) = &gates.latency {
        check_length("spec.gates.latency.quantiles", gate.quantiles.len(), QUANTILES_MAX)?;
        numbers.extend(gate.quantiles.iter().map(|&quantile| ("latency.quantiles", quantile)));
        numbers.extend([
            ("latency.increase_min", gate.increase_min),
            ("latency.increase_max", gate.increase_max),
        ]);
    }
    if let Some(gate) = &gates.agreement {
        numbers.extend([
            ("agreement.agreement_min", gate.agreement_min),
            ("agreement.class_agreement_min", gate.class_agreement_min),
        ]);
    }
    if let Some(gate) = &gates.confidence {
        numbers.push(("confidence.drop_max", gate.drop_max));
    }
    if let Some(gate) = &gates.text {
        numbers.extend([
            ("text.length_change_max", gate.length_change_max),
            ("text.grounding_drop_max", gate.grounding_drop_max),
        ]);
    }
    match numbers
        .iter()
        .find(|(_, number)| !(0.0..).contains(number) || number.is_infinite())
    {
        Some((field, number)) => Err(format!("spec.gates.{field} must be a number from 0 on, not {number}")),
        None => Ok(()),
    }
}

fn check_webhook(webhook: &v1::Webhook) -> Result<(), String> {
    let url = &webhook.url;
    check_text("spec.webhooks.url", url)?;
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        return Err(format!(
            "spec.webhooks.url {url:?} must begin with http:// or https:// and name a host"
        ));
    }
    let name = &webhook.secret_env;
    let variable = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let digit_first = name.bytes().next().is_none_or(|b| b.is_ascii_digit());
    if digit_first || name.len() > TEXT_BYTES_MAX || !name.bytes().all(variable) {
        return Err(format!(
            "spec.webhooks.secret_env {name:?} must be the name of an environment variable of the routers"
        ));
    }
    Ok(())
}

fn check_status(status: &v1::RolloutStatus) -> Result<(), String> {
    check_phase("status.phase", status.phase)?;
    if status.phase == i32::from(v1::Phase::Unspecified) {
        return Err("status.phase is missing".to_owned());
    }
    check_phase("status.paused_phase", status.paused_phase)?;
    check_text("status.reason", &status.reason)?;
    check_duration("status.elapsed", status.elapsed.as_ref())?;
    check_duration("status.stalled", status.stalled.as_ref())?;
    check_length("status.settled", status.settled.len(), STEPS_MAX)?;
    for slice in &status.settled {
        check_slice("status.settled", slice)?;
    }
    status
        .settled_shadow
        .as_ref()
        .map_or(Ok(()), |card| check_shadow("status.settled_shadow", card))
}

fn check_phase(field: &str, phase: i32) -> Result<(), String> {
    match v1::Phase::try_from(phase) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{field} {phase} is not known to this software")),
    }
}

fn check_duration(field: &str, duration: Option<&prost_types::Duration>) -> Result<(), String> {
    match duration {
        Some(d) if d.seconds < 0 || !(0..1_000_000_000).contains(&d.nanos) => {
            Err(format!("{field} must not be negative"))
        }
        _ => Ok(()),
    }
}

fn check_text(field: &str, text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "{field} has {} bytes, at most {TEXT_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    Ok(())
}
