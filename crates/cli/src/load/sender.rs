//! The callers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tonic::{Code, Request, metadata::MetadataMap};
use understudy_protocol::{
    metadata,
    v1::{ClassifyRequest, analyst_client::AnalystClient},
};

use crate::{
    router::Transport,
    texts::{Row, is_correct},
};

/// Requests of one run: what bounds the memory that their records take (about 500 MB).
const REQUESTS_MAX: u64 = 10_000_000;
/// Rest after a failed request, so that a dead platform is not met by a busy loop.
const FAILURE_REST: Duration = Duration::from_millis(10);

/// How soon a caller that waits for its turn sees that the load ends.
const TURN_POLL: Duration = Duration::from_millis(100);

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Since the load began.
    pub(super) start: Duration,
    pub(super) latency: Duration,
    pub(super) code: Code,
    pub(super) version: Option<Arc<str>>,
    pub(super) arm: Option<Arc<str>>,
    /// Whether the answer is the file's, if the file has one.
    pub(super) correct: Option<bool>,
}

/// What all callers share.
#[derive(Debug)]
pub(super) struct Load {
    rows: Vec<Row>,
    metadata: MetadataMap,
    timeout: Duration,
    requests_max: u64,
    /// Requests per second.
    rate: Option<f64>,
    started: Instant,
    next: AtomicU64,
    answered: AtomicU64,
    stopped: AtomicBool,
}

impl Load {
    pub(super) fn new(
        rows: Vec<Row>,
        metadata: MetadataMap,
        timeout: Duration,
        requests: Option<u64>,
        rate: Option<f64>,
    ) -> Self {
        Self {
            rows,
            metadata,
            timeout,
            requests_max: requests.unwrap_or(REQUESTS_MAX).min(REQUESTS_MAX),
            rate,
            started: Instant::now(),
            next: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.answered() >= self.requests_max
    }

    /// Callers finish the request that they are at.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits for the time of a request; false if the load ends before. Late ones are sent at once, so that the rate holds on
    /// average.
    async fn turn(&self, number: u64) -> bool {
        let Some(rate) = self.rate else { return true };
        let Ok(due) = Duration::try_from_secs_f64(number as f64 / rate) else {
            return false;
        };
        while let Some(wait) = due.checked_sub(self.elapsed()).filter(|wait| !wait.is_zero()) {
            if self.stopped.load(Ordering::Relaxed) {
                return false;
            }
            tokio::time::sleep(wait.min(TURN_POLL)).await;
        }
        true
    }

    /// Sends until there is nothing left to send.
    pub(super) async fn send(self: Arc<Self>, mut client: AnalystClient<Transport>) -> Vec<Record> {
        let mut records = Vec::new();
        let mut names = Names::default();
        while !self.stopped.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests_max {
                break;
            }
            if !self.turn(number).await {
                break;
            }
            let row = &self.rows[usize::try_from(number % self.rows.len() as u64).unwrap_or_default()];
            let mut request = Request::new(ClassifyRequest { text: row.text.clone() });
            *request.metadata_mut() = self.metadata.clone();
            request.set_timeout(self.timeout);
            let start = self.elapsed();
            let result = client.classify(request).await;
            let latency = self.elapsed() - start;
            let (code, map) = match &result {
                Ok(response) => (Code::Ok, response.metadata()),
                Err(status) => (status.code(), status.metadata()),
            };
            let (version, arm) = (names.get(map, metadata::VERSION), names.get(map, metadata::ARM));
            let answer = result.ok().and_then(|response| response.into_inner().classification);
            let correct = answer
                .zip(row.truth.as_ref())
                .map(|(answer, truth)| is_correct(truth, &answer));
            records.push(Record {
                start,
                latency,
                code,
                version,
                arm,
                correct,
            });
            self.answered.fetch_add(1, Ordering::Relaxed);
            if code != Code::Ok {
                tokio::time::sleep(FAILURE_REST).await;
            }
        }
        records
    }
}

/// Each name once, however many records bear it.
#[derive(Debug, Default)]
struct Names(HashMap<String, Arc<str>>);

impl Names {
    fn get(&mut self, map: &MetadataMap, key: &str) -> Option<Arc<str>> {
        let name = map.get(key)?.to_str().ok()?;
        if let Some(known) = self.0.get(name) {
            return Some(known.clone());
        }
        let known: Arc<str> = name.into();
        self.0.insert(name.to_owned(), known.clone());
        Some(known)
    }
}
