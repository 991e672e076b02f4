//! What the routers know of rollouts, for Prometheus. Every router has all of it; only `leader` differs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use understudy_rollout::{
    gates::Report,
    scorecard::{ArmCard, Slice},
};

type Ratio = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct PhaseLabels {
    model: String,
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ArmLabels {
    model: String,
    arm: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct GateLabels {
    model: String,
    gate: String,
    /// Evidence for what: "worse" or "good".
    verdict: &'static str,
}

/// Metrics of rollouts.
#[derive(Debug)]
pub struct ControllerMetrics {
    /// 1 while this router decides.
    pub leader: Gauge,
    transitions: Family<PhaseLabels, Counter>,
    phase: Family<PhaseLabels, Ratio>,
    wanted: Family<ModelLabels, Ratio>,
    actual: Family<ModelLabels, Ratio>,
    errors: Family<ArmLabels, Ratio>,
    e_values: Family<GateLabels, Ratio>,
    thresholds: Family<GateLabels, Ratio>,
    last: Mutex<Measured>,
}

/// All gauges' values at one moment.
#[derive(Debug, Default)]
pub struct Measured {
    phase: BTreeMap<PhaseLabels, f64>,
    wanted: BTreeMap<ModelLabels, f64>,
    actual: BTreeMap<ModelLabels, f64>,
    errors: BTreeMap<ArmLabels, f64>,
    e_values: BTreeMap<GateLabels, f64>,
    thresholds: BTreeMap<GateLabels, f64>,
}

impl ControllerMetrics {
    /// Makes them and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("understudy_rollout");
        let metrics = Self {
            leader: Gauge::default(),
            transitions: Family::default(),
            phase: Family::default(),
            wanted: Family::default(),
            actual: Family::default(),
            errors: Family::default(),
            e_values: Family::default(),
            thresholds: Family::default(),
            last: Mutex::default(),
        };
        registry.register(
            "leader",
            "1 while this router decides on rollouts",
            metrics.leader.clone(),
        );
        registry.register(
            "transitions",
            "Transitions that this router wrote, by the phase that began",
            metrics.transitions.clone(),
        );
        registry.register("phase", "1 for the phase of the latest rollout", metrics.phase.clone());
        registry.register(
            "wanted_weight",
            "Share of the traffic that the candidate shall have",
            metrics.wanted.clone(),
        );
        registry.register(
            "actual_weight",
            "Share of the requests that the candidate got under the current route, on all routers",
            metrics.actual.clone(),
        );
        registry.register(
            "error_rate",
            "Server faults of the arm under the current route, on all routers, as a part of its requests",
            metrics.errors.clone(),
        );
        registry.register(
            "e_value",
            "Evidence of a gate that the candidate is worse, or good enough",
            metrics.e_values.clone(),
        );
        registry.register(
            "e_value_threshold",
            "From where on the evidence of a gate decides",
            metrics.thresholds.clone(),
        );
        metrics
    }

    /// Counts a transition.
    pub fn transition(&self, model: &str, phase: &'static str) {
        let model = model.to_owned();
        self.transitions.get_or_create(&PhaseLabels { model, phase }).inc();
    }

    /// Sets all gauges, and drops those of what is gone.
    pub fn set(&self, measured: Measured) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        set(&self.phase, &last.phase, &measured.phase);
        set(&self.wanted, &last.wanted, &measured.wanted);
        set(&self.actual, &last.actual, &measured.actual);
        set(&self.errors, &last.errors, &measured.errors);
        set(&self.e_values, &last.e_values, &measured.e_values);
        set(&self.thresholds, &last.thresholds, &measured.thresholds);
        *last = measured;
    }
}

fn set<L>(family: &Family<L, Ratio>, last: &BTreeMap<L, f64>, now: &BTreeMap<L, f64>)
where
    L: Clone + std::hash::Hash + Ord,
{
    for gone in last.keys().filter(|labels| !now.contains_key(labels)) {
        family.remove(gone);
    }
    for (labels, value) in now {
        family.get_or_create(labels).set(*value);
    }
}

impl Measured {
    /// A rollout's phase.
    pub fn phase(&mut self, model: &str, phase: &'static str) {
        let model = model.to_owned();
        self.phase.insert(PhaseLabels { model, phase }, 1.0);
    }

    /// The candidate's wanted share.
    pub fn wanted(&mut self, model: &str, weight_ppm: u32) {
        self.wanted.insert(of(model), f64::from(weight_ppm) / 1e6);
    }

    /// What the arms came to.
    pub fn arms(&mut self, model: &str, live: &Slice) {
        let all = live.stable.requests + live.candidate.requests;
        if all > 0 {
            self.actual.insert(of(model), ratio(live.candidate.requests, all));
        }
        for (arm, card) in [("stable", &live.stable), ("candidate", &live.candidate)] {
            if card.requests > 0 {
                let model = model.to_owned();
                self.errors.insert(ArmLabels { model, arm }, error_rate(card));
            }
        }
    }

    /// What the gates say.
    pub fn gates(&mut self, model: &str, reports: &[Report]) {
        for report in reports {
            let sides = [
                ("worse", report.e_worse, report.e_worse_threshold),
                ("good", report.e_good, report.e_good_threshold),
            ];
            for (verdict, value, threshold) in sides {
                let labels = GateLabels {
                    model: model.to_owned(),
                    gate: report.gate.clone(),
                    verdict,
                };
                self.e_values.insert(labels.clone(), value);
                self.thresholds.insert(labels, threshold);
            }
        }
    }
}

fn of(model: &str) -> ModelLabels {
    ModelLabels {
        model: model.to_owned(),
    }
}

/// Callers count once, however often they failed.
fn error_rate(card: &ArmCard) -> f64 {
    ratio(card.errors + card.erring_keys.estimate(), card.requests)
}

#[expect(clippy::cast_precision_loss, reason = "for people to look at")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
