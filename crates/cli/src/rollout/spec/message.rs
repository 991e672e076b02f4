//! A draft as the message that starts it.

use std::time::Duration;

use understudy_protocol::v1;
use understudy_rollout::spec::{Gates, Strategy};

use super::Draft;

impl From<Draft> for v1::RolloutSpec {
    /// Complete: nothing is left to the router's defaults, which may be of another version.
    fn from(draft: Draft) -> Self {
        let Draft {
            spec,
            webhooks,
            keep_text,
        } = draft;
        let shadow = spec.shadow.map(|shadow| v1::ShadowStage {
            sample_ppm: shadow.sample_ppm,
            noise_ppm: shadow.noise_ppm,
            hold: time(shadow.hold),
            pairs_min: shadow.pairs_min,
        });
        let steps = spec.steps.iter().map(|step| v1::Step {
            weight_ppm: step.weight_ppm,
            hold: time(step.hold),
            requests_min: step.requests_min,
            manual: step.manual,
        });
        let strategy = match spec.strategy {
            Strategy::Canary => v1::Strategy::Canary,
            Strategy::BlueGreen => v1::Strategy::BlueGreen,
            Strategy::Shadow => v1::Strategy::Shadow,
            Strategy::Ab => v1::Strategy::Ab,
        };
        Self {
            candidate: spec.candidate,
            // The router sees which one serves when it begins, also if the rollout supersedes another.
            stable: String::new(),
            strategy: strategy.into(),
            shadow,
            steps: steps.collect(),
            gates: Some(gates(spec.gates)),
            progress_deadline: time(spec.progress_deadline),
            watch: time(spec.watch),
            standby: time(spec.standby),
            webhooks,
            keep_text,
        }
    }
}

/// Every time is less than a year.
fn time(time: Duration) -> Option<prost_types::Duration> {
    time.try_into().ok()
}

fn gates(gates: Gates) -> v1::Gates {
    let errors = gates.errors.map_or(
        v1::ErrorGate {
            off: true,
            ..v1::ErrorGate::default()
        },
        |gate| v1::ErrorGate {
            off: false,
            ratio_max: gate.ratio_max,
            negligible: gate.negligible,
        },
    );
    let latency = gates.latency.map_or(
        v1::LatencyGate {
            off: true,
            ..v1::LatencyGate::default()
        },
        |gate| v1::LatencyGate {
            off: false,
            quantiles: gate.quantiles,
            increase_min: gate.increase_min,
            increase_max: gate.increase_max,
        },
    );
    let agreement = gates.agreement.map_or(
        v1::AgreementGate {
            off: true,
            ..v1::AgreementGate::default()
        },
        |gate| v1::AgreementGate {
            off: false,
            agreement_min: gate.agreement_min,
            class_agreement_min: gate.class_agreement_min,
        },
    );
    let confidence = gates.confidence.map_or(
        v1::ConfidenceGate {
            off: true,
            ..v1::ConfidenceGate::default()
        },
        |gate| v1::ConfidenceGate {
            off: false,
            drop_max: gate.drop_max,
        },
    );
    let text = gates.text.map_or(
        v1::TextGate {
            off: true,
            ..v1::TextGate::default()
        },
        |gate| v1::TextGate {
            off: false,
            length_change_max: gate.length_change_max,
            grounding_drop_max: gate.grounding_drop_max,
        },
    );
    let labels = gates.labels.map_or(
        v1::LabelGate {
            off: true,
            ..v1::LabelGate::default()
        },
        |gate| v1::LabelGate {
            off: false,
            labels_min: gate.labels_min,
        },
    );
    v1::Gates {
        alpha: gates.alpha,
        beta: gates.beta,
        errors: Some(errors),
        latency: Some(latency),
        agreement: Some(agreement),
        confidence: Some(confidence),
        text: Some(text),
        labels: Some(labels),
        proof: Some(gates.proof),
    }
}
