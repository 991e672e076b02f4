//! What the router measures. Labels are names from the registry and constants of this program, never a client's words.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tonic::Code;

use crate::status::code_label;

/// An arm's version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ArmLabels {
    /// Model.
    pub model: String,
    /// Version that answers.
    pub version: String,
    /// Arm of the route.
    pub arm: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    version: String,
    arm: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    worker: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    model: String,
    outcome: &'static str,
}

type SecondsFamily = Family<ArmLabels, Histogram, fn() -> Histogram>;

/// All of the router's metrics.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: SecondsFamily,
    splits: Family<ArmLabels, Counter>,
    fallbacks: Family<ArmLabels, Counter>,
    rejected: Family<ReasonLabels, Counter>,
    retries: Family<ReasonLabels, Counter>,
    ejections: Family<WorkerLabels, Counter>,
    mirrored: Family<OutcomeLabels, Counter>,
    pairs: Family<ModelLabels, Counter>,
    disagreements: Family<ModelLabels, Counter>,
    sampled: Family<OutcomeLabels, Counter>,
    /// Requests that are open.
    pub in_flight: Gauge,
    /// Client connections that are open.
    pub connections: Gauge,
    /// 1 while all of the registry's watches stand.
    pub registry_connected: Gauge,
    /// Seconds since the registry was last connected; 0 while it is.
    pub state_age: Gauge,
    /// Workers that can be sent requests.
    pub workers: Gauge,
    /// Routes from the registry that were ignored for a lower epoch.
    pub stale_routes: Counter,
}

impl Metrics {
    /// Makes them and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("understudy_router");
        let seconds: SecondsFamily =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_25, 2.0, 18)));
        let metrics = Self {
            requests: Family::default(),
            seconds,
            splits: Family::default(),
            fallbacks: Family::default(),
            rejected: Family::default(),
            retries: Family::default(),
            ejections: Family::default(),
            mirrored: Family::default(),
            pairs: Family::default(),
            disagreements: Family::default(),
            sampled: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            registry_connected: Gauge::default(),
            state_age: Gauge::default(),
            workers: Gauge::default(),
            stale_routes: Counter::default(),
        };
        registry.register(
            "requests",
            "Requests that ended, by the answer's code",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request",
            "Time from a request's metadata to its answer's end",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "splits",
            "Requests that the split gave to the arm",
            metrics.splits.clone(),
        );
        registry.register(
            "fallbacks",
            "Requests that another arm served because this arm had no ready worker",
            metrics.fallbacks.clone(),
        );
        registry.register(
            "rejected",
            "Requests that the router answered itself",
            metrics.rejected.clone(),
        );
        registry.register(
            "retries",
            "Requests that were sent once more, by what went wrong",
            metrics.retries.clone(),
        );
        registry.register(
            "ejections",
            "Times that a worker was put aside for failures",
            metrics.ejections.clone(),
        );
        registry.register(
            "mirrored",
            "Requests chosen for mirroring, by what came of it: sent, too_large, no_place, busy, error",
            metrics.mirrored.clone(),
        );
        registry.register(
            "pairs",
            "Mirrored requests that both versions answered",
            metrics.pairs.clone(),
        );
        registry.register(
            "disagreements",
            "Answers of a candidate that differ from the stable version's, or failed where it did not",
            metrics.disagreements.clone(),
        );
        registry.register(
            "sampled_answers",
            "Answers sampled for a rollout, by what came of it: read, compressed, malformed, too_large, dropped",
            metrics.sampled.clone(),
        );
        registry.register("in_flight", "Requests that are open", metrics.in_flight.clone());
        registry.register(
            "connections",
            "Client connections that are open",
            metrics.connections.clone(),
        );
        registry.register(
            "registry_connected",
            "1 while the registry is connected",
            metrics.registry_connected.clone(),
        );
        registry.register_with_unit(
            "state_age",
            "Time since the registry was last connected",
            Unit::Seconds,
            metrics.state_age.clone(),
        );
        registry.register(
            "workers",
            "Workers that requests can be sent to",
            metrics.workers.clone(),
        );
        registry.register(
            "stale_routes",
            "Routes ignored for a lower epoch",
            metrics.stale_routes.clone(),
        );
        metrics
    }

    /// The metrics of one arm, looked up once.
    #[must_use]
    pub fn arm(&self, labels: &ArmLabels) -> ArmMetrics {
        ArmMetrics {
            requests: self.requests.clone(),
            ok: self.requests.get_or_create_owned(&request_labels(labels, Code::Ok)),
            seconds: self.seconds.get_or_create_owned(labels),
            splits: self.splits.get_or_create_owned(labels),
            fallbacks: self.fallbacks.get_or_create_owned(labels),
            labels: labels.clone(),
        }
    }

    /// The metrics of one model's rollouts, looked up once.
    #[must_use]
    pub fn observer(&self, model: &str) -> ObserverMetrics {
        let labels = ModelLabels {
            model: model.to_owned(),
        };
        let mirrored = |outcome| {
            let model = model.to_owned();
            self.mirrored.get_or_create_owned(&OutcomeLabels { model, outcome })
        };
        ObserverMetrics {
            pairs: self.pairs.get_or_create_owned(&labels),
            disagreements: self.disagreements.get_or_create_owned(&labels),
            mirrored: MirrorMetrics {
                sent: mirrored("sent"),
                too_large: mirrored("too_large"),
                no_place: mirrored("no_place"),
                busy: mirrored("busy"),
                error: mirrored("error"),
            },
            sampled: self.sampled.clone(),
            model: labels.model,
        }
    }

    /// Counts a request that the router answered itself.
    pub fn reject(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a further attempt.
    pub fn retry(&self, reason: &'static str) {
        self.retries.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a worker's ejection.
    pub fn eject(&self, worker: &str) {
        self.ejections
            .get_or_create(&WorkerLabels {
                worker: worker.to_owned(),
            })
            .inc();
    }

    /// Drops what is kept for a worker that is gone.
    pub fn forget_worker(&self, worker: &str) {
        self.ejections.remove(&WorkerLabels {
            worker: worker.to_owned(),
        });
    }
}

fn request_labels(labels: &ArmLabels, code: Code) -> RequestLabels {
    RequestLabels {
        model: labels.model.clone(),
        version: labels.version.clone(),
        arm: labels.arm.clone(),
        code: code_label(code),
    }
}

/// Metrics of what is learned during a model's rollouts.
#[derive(Debug)]
pub struct ObserverMetrics {
    model: String,
    sampled: Family<OutcomeLabels, Counter>,
    /// Requests chosen for mirroring.
    pub mirrored: MirrorMetrics,
    /// Mirrored requests that both versions answered.
    pub pairs: Counter,
    /// Answers that differ.
    pub disagreements: Counter,
}

impl ObserverMetrics {
    /// Counts a sampled answer.
    pub fn sampled(&self, outcome: &'static str) {
        let model = self.model.clone();
        self.sampled.get_or_create(&OutcomeLabels { model, outcome }).inc();
    }
}

/// Requests chosen for mirroring, by what came of it.
#[derive(Debug)]
pub struct MirrorMetrics {
    /// Both versions answered.
    pub sent: Counter,
    /// Request or answer were too large to be kept.
    pub too_large: Counter,
    /// There was no place, or no worker.
    pub no_place: Counter,
    /// The candidate was too busy.
    pub busy: Counter,
    /// The candidate failed.
    pub error: Counter,
}

/// Metrics of one arm.
#[derive(Debug)]
pub struct ArmMetrics {
    requests: Family<RequestLabels, Counter>,
    ok: Counter,
    seconds: Histogram,
    labels: ArmLabels,
    /// Requests that the split gave to the arm.
    pub splits: Counter,
    /// Requests that others served for it.
    pub fallbacks: Counter,
}

impl ArmMetrics {
    /// Counts a request that ended.
    pub fn ended(&self, code: Code, seconds: f64) {
        if code == Code::Ok {
            self.ok.inc();
        } else {
            self.requests.get_or_create(&request_labels(&self.labels, code)).inc();
        }
        self.seconds.observe(seconds);
    }
}
