//! What Prometheus sees of the analyst.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

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

/// Labels of finished calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
    #[prometheus(flatten)]
    version: Version,
    code: String,
}

/// Labels of a stage's latency.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageOf {
    #[prometheus(flatten)]
    version: Version,
    stage: Stage,
}

/// Where a text's time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Stage {
    /// Waiting for a tokenizer thread, and tokenising.
    Tokenise,
    /// Waiting for an engine.
    Wait,
    /// The batch's computation.
    Infer,
}

/// Labels of dropped work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedFor {
    #[prometheus(flatten)]
    version: Version,
    reason: Dropped,
}

/// Why a text left the queue without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Dropped {
    /// Its deadline passed.
    Expired,
    /// Its caller went away.
    Cancelled,
}

/// The analyst's figures.
#[derive(Debug, Clone)]
pub struct Metrics {
    calls: Family<Call, Counter>,
    queue_texts: Family<Version, Gauge>,
    queue_tokens: Family<Version, Gauge>,
    batch_texts: Family<Version, Histogram, fn() -> Histogram>,
    batch_tokens: Family<Version, Histogram, fn() -> Histogram>,
    tokens: Family<Version, Counter>,
    padding_tokens: Family<Version, Counter>,
    stages: Family<StageOf, Histogram, fn() -> Histogram>,
    dropped: Family<DroppedFor, Counter>,
    /// Engines that were started again after a panic.
    pub engine_restarts: Counter,
}

impl Metrics {
    /// Adds the analyst's figures to a process's registry.
    pub fn register(registry: &mut Registry) -> Self {
        // 1 to 1,024 texts; 8 to 16,384 tokens; 50 microseconds to 26 seconds.
        let texts: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 11));
        let tokens: fn() -> Histogram = || Histogram::new(exponential_buckets(8.0, 2.0, 12));
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_05, 2.0, 20));
        let metrics = Self {
            calls: Family::default(),
            queue_texts: Family::default(),
            queue_tokens: Family::default(),
            batch_texts: Family::new_with_constructor(texts),
            batch_tokens: Family::new_with_constructor(tokens),
            tokens: Family::default(),
            padding_tokens: Family::default(),
            stages: Family::new_with_constructor(seconds),
            dropped: Family::default(),
            engine_restarts: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("understudy_analyst");
        registry.register("requests", "Calls that ended, by gRPC code", metrics.calls.clone());
        registry.register(
            "queue_texts",
            "Texts that wait for an engine",
            metrics.queue_texts.clone(),
        );
        registry.register(
            "queue_tokens",
            "Tokens that wait for an engine",
            metrics.queue_tokens.clone(),
        );
        registry.register("batch_texts", "Texts in a batch", metrics.batch_texts.clone());
        registry.register(
            "batch_tokens",
            "Tokens in a batch, without padding",
            metrics.batch_tokens.clone(),
        );
        registry.register(
            "tokens",
            "Tokens of texts that engines computed",
            metrics.tokens.clone(),
        );
        registry.register(
            "padding_tokens",
            "Tokens that engines computed only to make rows equally long; the padding share is this by the sum of both",
            metrics.padding_tokens.clone(),
        );
        registry.register(
            "stage_seconds",
            "Time that a text spent in a stage",
            metrics.stages.clone(),
        );
        registry.register(
            "dropped",
            "Texts dropped from the queue before they cost engine time",
            metrics.dropped.clone(),
        );
        registry.register(
            "engine_restarts",
            "Engines started again after a panic",
            metrics.engine_restarts.clone(),
        );
        metrics
    }

    /// Counts a call that ended.
    pub fn call_ended(&self, method: &'static str, version: &Version, code: tonic::Code) {
        let (version, code) = (version.clone(), format!("{code:?}"));
        self.calls.get_or_create(&Call { method, version, code }).inc();
    }

    /// A text came into the queue.
    pub fn queued(&self, version: &Version, tokens: usize) {
        self.queue_texts.get_or_create(version).inc();
        self.queue_tokens.get_or_create(version).inc_by(signed(tokens));
    }

    /// A text left the queue.
    pub fn unqueued(&self, version: &Version, tokens: usize) {
        self.queue_texts.get_or_create(version).dec();
        self.queue_tokens.get_or_create(version).dec_by(signed(tokens));
    }

    /// A text was dropped from the queue.
    pub fn dropped(&self, version: &Version, reason: Dropped) {
        let version = version.clone();
        self.dropped.get_or_create(&DroppedFor { version, reason }).inc();
    }

    /// An engine begins a batch.
    pub fn batch(&self, version: &Version, texts: usize, tokens: usize, padding_tokens: usize) {
        self.batch_texts.get_or_create(version).observe(float(texts));
        self.batch_tokens.get_or_create(version).observe(float(tokens));
        self.tokens.get_or_create(version).inc_by(tokens as u64);
        self.padding_tokens.get_or_create(version).inc_by(padding_tokens as u64);
    }

    /// A text left a stage.
    pub fn stage(&self, version: &Version, stage: Stage, took: Duration) {
        let version = version.clone();
        self.stages
            .get_or_create(&StageOf { version, stage })
            .observe(took.as_secs_f64());
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "batches are far smaller than 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

impl understudy_worker::Calls for Metrics {
    const METHODS: &'static [&'static str] = &["Classify", "ClassifyBatch", "ClassifyStream", "GetModelInfo"];

    fn refused(&self, refused: &understudy_worker::Refused<'_>) {
        let version = Version {
            model: refused.model.to_owned(),
            version: refused.version.to_owned(),
            shadow: refused.shadow,
        };
        self.call_ended(refused.method, &version, refused.code);
    }
}
