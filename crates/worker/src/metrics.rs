//! What this crate tells Prometheus.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use understudy_protocol::v1::{self, ResidencyState};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Stage {
    Manifest,
    Fetch,
    Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum StateLabel {
    Loading,
    Ready,
    Draining,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: StateLabel,
}

#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    versions: Family<StateLabels, Gauge>,
    seconds: Family<StageLabels, Histogram, fn() -> Histogram>,
    failures: Family<StageLabels, Counter>,
}

/// 10 ms to 11 minutes.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 17))
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            versions: Family::default(),
            seconds: Family::new_with_constructor(buckets as fn() -> Histogram),
            failures: Family::default(),
        };
        registry.register(
            "understudy_worker_versions",
            "Versions by state",
            metrics.versions.clone(),
        );
        registry.register_with_unit(
            "understudy_worker_load",
            "Time that each stage of making a version ready took when it succeeded",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "understudy_worker_load_failures",
            "Versions that could not be made ready, by the stage that failed; a retry counts again",
            metrics.failures.clone(),
        );
        metrics
    }

    pub(crate) fn show(&self, record: &[v1::Residency]) {
        for (state, label) in [
            (ResidencyState::Loading, StateLabel::Loading),
            (ResidencyState::Ready, StateLabel::Ready),
            (ResidencyState::Draining, StateLabel::Draining),
            (ResidencyState::Failed, StateLabel::Failed),
        ] {
            let count = record.iter().filter(|residency| residency.state() == state).count();
            let gauge = self.versions.get_or_create(&StateLabels { state: label });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn took(&self, stage: Stage, time: Duration) {
        self.seconds
            .get_or_create(&StageLabels { stage })
            .observe(time.as_secs_f64());
    }

    pub(crate) fn failed(&self, stage: Stage) {
        self.failures.get_or_create(&StageLabels { stage }).inc();
    }
}
