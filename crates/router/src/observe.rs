//! What a router learns of a rollout from the requests that pass.
//!
//! ```text
//!   request ─▶ arm ─▶ answer passes ─▶ Outcome ─▶ SliceCounts (atomics, one short lock)
//!      └ some: Capture keeps references to frames ─▶ bounded queue ─▶ one task: decode ─▶ predictions, labels
//!                                                                      └ mirrored ones ─▶ `mirror`
//! ```
//!
//! Invariants: a model without a rollout pays one check of an `Option`. Nothing here delays an answer: what finds no place in a
//! bounded queue is counted and let go. A request counts in the slice of the route that it was split by, so one that ends after the
//! next route was taken over counts nowhere that is still read. Requests that chose their version themselves (pins), and copies
//! from another router, do not count: they are no random sample.

mod capture;
mod count;
mod decode;
mod frames;
mod rest;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use understudy_protocol::v1::Disagreement;
use understudy_rollout::scorecard::{LabelCard, ShadowCard, Slice};

pub use capture::{Capture, Job, MirrorJob};
pub use capture::{caller, format_id};
pub use count::{Observed, Side, SliceCounts};
pub use decode::{Answer, Classes, Task, TextAnswer, Undecodable, decode, request_text};
pub use frames::{Frames, Limits, Problem};

use self::rest::Rest;
use crate::{labels::Labels, metrics::ObserverMetrics, mirror};

pub use crate::labels::Labelled;

/// Jobs that may wait for the observer's task; further ones are dropped and counted.
const JOBS_MAX: usize = 256;
/// One answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Disagreements that are kept; the newest win.
const DISAGREEMENTS_MAX: usize = 1_000;

/// What this router counts for one model's rollout. Lives from the first route with that rollout's number to the last; its
/// slice begins anew with each route.
#[derive(Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What outlives the observer until its last job is done.
#[derive(Debug)]
pub struct Shared {
    rollout: u64,
    slice: ArcSwap<SliceCounts>,
    /// Known from the first answer on.
    classes: OnceLock<Classes>,
    tally: ShadowTally,
    shadow: Mutex<ShadowCard>,
    labels: Mutex<Labels>,
    disagreements: Mutex<VecDeque<Disagreement>>,
    /// The rollout is paused: nothing is mirrored.
    paused: AtomicBool,
    rest: Rest,
    /// Metrics of the model.
    pub metrics: ObserverMetrics,
    limits: Arc<Limits>,
}

/// Counts that are made while requests pass.
#[derive(Debug, Default)]
struct ShadowTally {
    chosen: AtomicU64,
    too_large: AtomicU64,
    no_place: AtomicU64,
}

impl Observer {
    /// Begins to count, and starts the task that decodes answers; that ends with the observer.
    #[must_use]
    pub fn new(rollout: u64, metrics: ObserverMetrics, limits: Arc<Limits>) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(JOBS_MAX);
        let shared = Arc::new(Shared {
            rollout,
            slice: ArcSwap::from_pointee(SliceCounts::default()),
            classes: OnceLock::new(),
            tally: ShadowTally::default(),
            shadow: Mutex::default(),
            labels: Mutex::default(),
            disagreements: Mutex::default(),
            paused: AtomicBool::new(false),
            rest: Rest::new(Instant::now()),
            metrics,
            limits,
        });
        let own = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                own.take(job);
            }
        });
        Self { shared, jobs }
    }

    /// Bounds over all models.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.shared.limits)
    }

    /// From now on requests count in this slice.
    pub fn begin(&self, slice: Arc<SliceCounts>) {
        self.shared.slice.store(slice);
    }

    /// Says whether the rollout is paused. Weights stay then, and clients go on to count; but nobody waits for comparisons, so
    /// copies would be load for nothing.
    pub fn set_paused(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::Relaxed);
    }

    /// The rollout's number.
    #[must_use]
    pub fn rollout(&self) -> u64 {
        self.shared.rollout
    }

    /// The epoch of the route that counts now.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.slice.load().epoch
    }

    /// What was counted: under the route that is served now, and for mirrored requests and labels since the rollout began.
    #[must_use]
    pub fn scorecard(&self) -> (Slice, ShadowCard, LabelCard) {
        let tally = &self.shared.tally;
        // What the chosen ones came to is read first, so that the parts are never more than the whole.
        let parts = [&tally.too_large, &tally.no_place].map(|count| count.load(Ordering::Relaxed));
        let mut shadow = lock(&self.shared.shadow).clone();
        [shadow.too_large, shadow.no_place] = [shadow.too_large + parts[0], shadow.no_place + parts[1]];
        shadow.chosen = tally.chosen.load(Ordering::Relaxed);
        let labels = lock(&self.shared.labels).card();
        (self.shared.slice.load().card(), shadow, labels)
    }

    /// Mirrored requests on which the candidate differed, newest first.
    #[must_use]
    pub fn disagreements(&self, limit: usize) -> Vec<Disagreement> {
        let kept = lock(&self.shared.disagreements);
        kept.iter().rev().take(limit).cloned().collect()
    }

    /// Takes the label that turned out to be right for a request.
    #[must_use]
    pub fn label(&self, request_id: &str, label: &str) -> Labelled {
        match capture::parse_id(request_id) {
            Some(id) => lock(&self.shared.labels).label(id, label),
            None => Labelled::Unknown,
        }
    }
}

impl Shared {
    /// Decodes an answer and counts it; hands a mirrored request on.
    fn take(self: &Arc<Self>, mut job: Job) {
        let answer = decode(job.task, &job.frames);
        if let Err(problem) = &answer {
            tracing::debug!(%problem, task = ?job.task, "sampled answer not read");
        }
        if job.counted {
            self.metrics
                .sampled(answer.as_ref().map_or_else(|problem| problem.label(), |_| "read"));
        }
        if let Ok(Answer::Classes(answers)) = &answer {
            self.learn_classes(job.side, &job.slice, answers);
            if let [Some(only)] = &answers[..] {
                lock(&self.labels).remember(job.id, job.side, &only.label);
            }
        }
        if let (true, Ok(answer)) = (job.counted, &answer) {
            job.slice.predicted(job.side, answer, self.classes.get());
        }
        if let Some(mirror) = job.mirror.take() {
            let task = mirror::run(Arc::clone(self), job, mirror, answer.ok());
            tokio::spawn(task);
        }
    }

    /// Classes are numbered as the stable version orders them; a candidate is asked only where no stable version serves.
    fn learn_classes(&self, side: Side, slice: &SliceCounts, answers: &[Option<decode::Classification>]) {
        if side == Side::Stable || slice.is_candidate_alone() {
            let first = answers.iter().flatten().find(|answer| !answer.probabilities.is_empty());
            if let Some(first) = first {
                self.classes.get_or_init(|| Classes::of(first));
            }
        }
    }

    /// Whether requests are mirrored now.
    fn mirrors(&self) -> bool {
        !self.paused.load(Ordering::Relaxed)
    }

    /// Whether the candidate answers no copy, so that it is left alone for a moment.
    fn candidate_rests(&self, now: Instant) -> bool {
        self.rest.is_on(now)
    }

    /// A copy was answered, or not.
    pub fn copied(&self, answered: bool) {
        if answered {
            self.rest.answered();
        } else {
            self.rest.failed(Instant::now());
        }
    }

    /// Counts a request that was chosen for mirroring and not sent.
    pub fn not_mirrored(&self, problem: Problem) {
        let (tally, mirrored) = (&self.tally, &self.metrics.mirrored);
        let (count, metric) = match problem {
            Problem::TooLarge => (&tally.too_large, &mirrored.too_large),
            Problem::NoPlace => (&tally.no_place, &mirrored.no_place),
        };
        count.fetch_add(1, Ordering::Relaxed);
        metric.inc();
    }

    /// Where an answer's frames are kept.
    #[must_use]
    pub fn answer_frames(&self) -> Frames {
        Frames::new(ANSWER_BYTES_MAX, Arc::clone(&self.limits))
    }

    /// The classes, once an answer named them.
    #[must_use]
    pub fn classes(&self) -> Option<&Classes> {
        self.classes.get()
    }

    /// Counts something of mirrored requests.
    pub fn shadow(&self, count: impl FnOnce(&mut ShadowCard)) {
        count(&mut lock(&self.shadow));
    }

    /// The candidate's label of a request that the stable version answered.
    pub fn pair_label(&self, id: u64, label: &str) {
        lock(&self.labels).pair(id, label);
    }

    /// Keeps a disagreement.
    pub fn disagree(&self, disagreement: Disagreement) {
        self.metrics.disagreements.inc();
        let mut kept = lock(&self.disagreements);
        if kept.len() == DISAGREEMENTS_MAX {
            kept.pop_front();
        }
        kept.push_back(disagreement);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
