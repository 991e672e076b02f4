//! What Prometheus sees of the scribe.
//!
//! Calls and critiques are counted here as they end. What the engines do is read from their gauges when it is asked for
//! ([`Engines`]), so an engine's thread never waits for that.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    engine::{Engine as _, Finish, Gauges, Info},
    held::{Held as _, Holder},
};

const PREFIX: &str = "understudy_scribe";

/// Which version a figure is about, and for whom it worked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Version {
    /// Its model.
    pub model: String,
    /// Its name.
    pub version: String,
    /// Copies, whose answers no client sees, are counted apart.
    pub shadow: bool,
}

/// Which engine a figure is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EngineOf {
    model: String,
    version: String,
}

/// Labels of finished calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
    #[prometheus(flatten)]
    version: Version,
    code: String,
}

/// Labels of a stage's time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageOf {
    #[prometheus(flatten)]
    version: Version,
    stage: Stage,
}

/// Where a generation's time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Stage {
    Queue,
    Prompt,
    Decode,
}

/// Labels of checked claims.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClaimsOf {
    #[prometheus(flatten)]
    version: Version,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Verdict {
    Supported,
    Unsupported,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The scribe's figures.
#[derive(Debug, Clone)]
pub struct Metrics {
    calls: Family<Call, Counter>,
    first_text: Histograms<Version>,
    stages: Histograms<StageOf>,
    prompt_rate: Histograms<Version>,
    decode_rate: Histograms<Version>,
    attempts: Histograms<Version>,
    claims: Family<ClaimsOf, Counter>,
}

impl Metrics {
    /// Adds the scribe's figures to a process's registry.
    pub fn register(registry: &mut Registry) -> Self {
        // 1 millisecond to 17 minutes; 1 to 65,536 tokens a second; 1 to 8 attempts.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 21));
        let rates: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 17));
        let attempts: fn() -> Histogram = || Histogram::new((1..=8).map(f64::from));
        let metrics = Self {
            calls: Family::default(),
            first_text: Family::new_with_constructor(seconds),
            stages: Family::new_with_constructor(seconds),
            prompt_rate: Family::new_with_constructor(rates),
            decode_rate: Family::new_with_constructor(rates),
            attempts: Family::new_with_constructor(attempts),
            claims: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register("requests", "Calls that ended, by gRPC code", metrics.calls.clone());
        registry.register(
            "first_text_seconds",
            "From a call's arrival to its first piece of text",
            metrics.first_text.clone(),
        );
        registry.register(
            "stage_seconds",
            "Time that a generation spent in a stage",
            metrics.stages.clone(),
        );
        registry.register(
            "prompt_tokens_per_second",
            "Prompt tokens of a generation that were computed, by the time until its first token",
            metrics.prompt_rate.clone(),
        );
        registry.register(
            "decode_tokens_per_second",
            "Tokens of a generation after the first, by the time that they took",
            metrics.decode_rate.clone(),
        );
        registry.register(
            "critique_attempts",
            "Attempts that a critique took",
            metrics.attempts.clone(),
        );
        registry.register(
            "critique_claims",
            "Claims of delivered critiques, before unsupported sentences were marked or removed",
            metrics.claims.clone(),
        );
        metrics
    }

    /// Counts a call that ended.
    pub fn call_ended(&self, method: &'static str, version: &Version, code: tonic::Code) {
        let (version, code) = (version.clone(), format!("{code:?}"));
        self.calls.get_or_create(&Call { method, version, code }).inc();
    }

    /// A call got its first text.
    pub fn first_text(&self, version: &Version, after: Duration) {
        self.first_text.get_or_create(version).observe(after.as_secs_f64());
    }

    /// A generation ended.
    pub fn generated(&self, version: &Version, finish: &Finish) {
        let (usage, timings) = (&finish.usage, &finish.timings);
        for (stage, took) in [
            (Stage::Queue, timings.queue),
            (Stage::Prompt, timings.prompt),
            (Stage::Decode, timings.decode),
        ] {
            let version = version.clone();
            self.stages
                .get_or_create(&StageOf { version, stage })
                .observe(took.as_secs_f64());
        }
        let computed = usage.prompt.saturating_sub(usage.cached);
        if let Some(rate) = rate(computed, timings.prompt) {
            self.prompt_rate.get_or_create(version).observe(rate);
        }
        if let Some(rate) = rate(usage.completion.saturating_sub(1), timings.decode) {
            self.decode_rate.get_or_create(version).observe(rate);
        }
    }

    /// A critique was delivered.
    pub fn critique(&self, version: &Version, attempts: u32, supported: usize, unsupported: usize) {
        self.attempts.get_or_create(version).observe(f64::from(attempts));
        for (verdict, count) in [(Verdict::Supported, supported), (Verdict::Unsupported, unsupported)] {
            let version = version.clone();
            self.claims
                .get_or_create(&ClaimsOf { version, verdict })
                .inc_by(count as u64);
        }
    }
}

fn rate(tokens: u32, took: Duration) -> Option<f64> {
    (tokens > 0 && !took.is_zero()).then(|| f64::from(tokens) / took.as_secs_f64())
}

/// What the engines of the versions that answer now do and did.
pub struct Engines<V>(Arc<V>);

impl<V: Holder> Engines<V> {
    /// Adds their figures to a process's registry.
    pub fn register(versions: Arc<V>, registry: &mut Registry) {
        registry
            .sub_registry_with_prefix(PREFIX)
            .register_collector(Box::new(Self(versions)));
    }
}

impl<V> fmt::Debug for Engines<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engines")
    }
}

enum Sort {
    Gauge,
    Counter,
    /// A counter of microseconds, shown in seconds.
    Seconds,
}

struct Figure {
    name: &'static str,
    help: &'static str,
    sort: Sort,
    value: fn(&Info, &Gauges) -> u64,
}

const FIGURES: [Figure; 10] = [
    Figure {
        name: "queue_requests",
        help: "Generations that wait for a slot",
        sort: Sort::Gauge,
        value: |_, gauges| gauges.queued.load(Ordering::Relaxed),
    },
    Figure {
        name: "slots_busy",
        help: "Slots that generate",
        sort: Sort::Gauge,
        value: |_, gauges| gauges.slots_busy.load(Ordering::Relaxed),
    },
    Figure {
        name: "slots",
        help: "Generations that can run at once",
        sort: Sort::Gauge,
        value: |info, _| info.slots.into(),
    },
    Figure {
        name: "kv_cells_used",
        help: "Cells of the KV cache that hold a token",
        sort: Sort::Gauge,
        value: |_, gauges| gauges.kv_used.load(Ordering::Relaxed),
    },
    Figure {
        name: "kv_cells",
        help: "Cells of the KV cache",
        sort: Sort::Gauge,
        value: |_, gauges| gauges.kv_cells.load(Ordering::Relaxed),
    },
    Figure {
        name: "prompt_tokens",
        help: "Prompt tokens that were computed",
        sort: Sort::Counter,
        value: |_, gauges| gauges.prompt_tokens.load(Ordering::Relaxed),
    },
    Figure {
        name: "cached_prompt_tokens",
        help: "Prompt tokens that were found computed",
        sort: Sort::Counter,
        value: |_, gauges| gauges.cached_tokens.load(Ordering::Relaxed),
    },
    Figure {
        name: "decode_tokens",
        help: "Tokens that were generated",
        sort: Sort::Counter,
        value: |_, gauges| gauges.decode_tokens.load(Ordering::Relaxed),
    },
    Figure {
        name: "steps",
        help: "Calls of the model",
        sort: Sort::Counter,
        value: |_, gauges| gauges.steps.load(Ordering::Relaxed),
    },
    Figure {
        name: "busy_seconds",
        help: "Time in the model",
        sort: Sort::Seconds,
        value: |_, gauges| gauges.busy_micros.load(Ordering::Relaxed),
    },
];

impl<V: Holder> Collector for Engines<V> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let versions = self.0.all();
        for figure in FIGURES {
            let metric_type = match figure.sort {
                Sort::Gauge => MetricType::Gauge,
                Sort::Counter | Sort::Seconds => MetricType::Counter,
            };
            let mut family = encoder.encode_descriptor(figure.name, figure.help, None, metric_type)?;
            for held in &versions {
                let labels = EngineOf {
                    model: held.model().to_owned(),
                    version: held.version().to_owned(),
                };
                let metric = family.encode_family(&labels)?;
                let engine = held.loaded();
                let value = (figure.value)(engine.info(), engine.gauges());
                match figure.sort {
                    Sort::Gauge => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?,
                    Sort::Counter => ConstCounter::new(value).encode(metric)?,
                    Sort::Seconds => ConstCounter::new(Duration::from_micros(value).as_secs_f64()).encode(metric)?,
                }
            }
        }
        Ok(())
    }
}

impl understudy_worker::Calls for Metrics {
    const METHODS: &'static [&'static str] = &["Generate", "WriteCritique", "GetScribeInfo"];

    fn refused(&self, refused: &understudy_worker::Refused<'_>) {
        let version = Version {
            model: refused.model.to_owned(),
            version: refused.version.to_owned(),
            shadow: refused.shadow,
        };
        self.call_ended(refused.method, &version, refused.code);
    }
}
