//! Sends copies of requests to the candidate, and compares the answers.
//!
//! ```text
//!   answer ended well ─▶ place? ─▶ candidate ─▶ compare ─▶ ShadowCard, disagreements
//!                          │no        │ └ some: stable version once more, for the noise floor
//!                          ▼          ▼ too busy, or failed
//!                       counted     counted
//! ```
//!
//! A copy is sent after the client has its answer, so nothing here can delay it or make it fail. Copies take no part in what the data
//! plane learns of workers: no retry budget, no ejection, no latency, no load. Bounded in bytes and number by
//! [`Limits`](crate::observe::Limits), and in time by a deadline of their own; a candidate that answers none of them is left alone
//! but for a few each second. While a rollout is paused there are none.

mod compare;
mod send;

use std::{sync::Arc, time::Duration};

use understudy_protocol::v1::Disagreement;
use understudy_rollout::{
    scorecard::ShadowCard,
    split::{PPM, Splitter},
};

use self::{
    compare::Difference,
    send::{Failed, Sent, send},
};
use crate::observe::{Answer, Job, MirrorJob, Problem, Shared, Task, request_text};

/// Shortest deadline of a copy.
const DEADLINE_MIN: Duration = Duration::from_secs(10);
/// A copy may take this many times as long as the request took.
const DEADLINE_RATIO: f64 = 4.0;
/// Longest deadline of a copy, whatever the request took.
const DEADLINE_MAX: Duration = Duration::from_secs(600);
/// Characters of a text that are kept.
const TEXT_CHARACTERS_MAX: usize = 500;

/// What a route says of mirroring.
#[derive(Debug)]
pub struct Mirror {
    /// Index of the arm that is compared.
    pub arm: usize,
    /// Whether disagreements may be kept with the requests' text.
    pub keep_text: bool,
    sample: Splitter,
    noise: Splitter,
}

impl Mirror {
    /// Mirrors these shares, in parts per million. The seed decides which requests.
    #[must_use]
    pub fn new(arm: usize, sample_ppm: u32, noise_ppm: u32, keep_text: bool, seed: u64) -> Option<Self> {
        let splitter = |ppm: u32, seed| Splitter::new(&[PPM - ppm.min(PPM), ppm.min(PPM)], seed).ok();
        Some(Self {
            arm,
            keep_text,
            sample: splitter(sample_ppm, seed)?,
            noise: splitter(noise_ppm, seed.wrapping_add(1))?,
        })
    }

    /// Whether the next request is mirrored. Stratified at random as the split itself is, so no client can line up with it.
    #[must_use]
    pub fn chooses(&self) -> bool {
        self.sample.draw() == 1
    }

    /// Whether the next mirrored request also goes to the stable version once more.
    #[must_use]
    pub fn asks_again(&self) -> bool {
        self.noise.draw() == 1
    }
}

/// Mirrors one request.
pub async fn run(shared: Arc<Shared>, job: Job, request: MirrorJob, stable: Option<Answer>) {
    let MirrorJob { head, body, .. } = &request;
    let timeout = Duration::try_from_secs_f64(job.seconds * DEADLINE_RATIO).unwrap_or(DEADLINE_MAX);
    let timeout = timeout.clamp(DEADLINE_MIN, DEADLINE_MAX);
    let keep = Keep {
        shared: &shared,
        job: &job,
        request: &request,
    };
    let sent = send(&request.candidate, head, body, timeout, &shared).await;
    match &sent {
        Ok(_) => shared.copied(true),
        Err(Failed::NoWorker | Failed::Busy | Failed::Error(_)) => shared.copied(false),
        Err(Failed::TooLarge) => {}
    }
    let sent = match sent {
        Ok(sent) => sent,
        Err(Failed::NoWorker) => return shared.not_mirrored(Problem::NoPlace),
        Err(Failed::TooLarge) => return shared.not_mirrored(Problem::TooLarge),
        Err(Failed::Busy) => {
            shared.metrics.mirrored.busy.inc();
            return shared.shadow(|card| card.busy += 1);
        }
        Err(Failed::Error(problem)) => return keep.failed(stable.as_ref(), problem),
    };
    let candidate = sent.answer(job.task);
    let (Some(stable), Ok(candidate)) = (&stable, &candidate) else {
        if stable.is_some() && candidate.is_err_and(|problem| problem.is_fault()) {
            return keep.failed(stable.as_ref(), "an answer that cannot be read".to_owned());
        }
        return keep.pair(&sent, |_| Vec::new());
    };
    if let Err(problem) = compare::comparable(stable, candidate) {
        return keep.failed(Some(stable), problem);
    }
    // Only classifications have a noise floor; copies of generated texts would be load for nothing.
    let again = match (&request.stable, stable) {
        (Some(arm), Answer::Classes(_)) => send(arm, head, body, timeout, &shared).await.ok(),
        _ => None,
    };
    let again = again.and_then(|sent| sent.answer(job.task).ok());
    let again = again.filter(|again| compare::comparable(stable, again).is_ok());
    if let (Answer::Classes(answers), Task::Classify) = (candidate, job.task)
        && let [Some(only)] = &answers[..]
    {
        shared.pair_label(job.id, &only.label);
    }
    keep.pair(&sent, |card| {
        compare::count(card, shared.classes(), stable, candidate, again.as_ref())
    });
}

/// Where results go.
struct Keep<'a> {
    shared: &'a Shared,
    job: &'a Job,
    request: &'a MirrorJob,
}

impl Keep<'_> {
    fn pair(&self, sent: &Sent, compare: impl FnOnce(&mut ShadowCard) -> Vec<Difference>) {
        self.shared.metrics.mirrored.sent.inc();
        self.shared.metrics.pairs.inc();
        let mut differences = Vec::new();
        self.shared.shadow(|card| {
            card.pairs += 1;
            card.stable_latency.insert(self.job.seconds);
            card.candidate_latency.insert(sent.seconds);
            differences = compare(card);
        });
        for difference in differences {
            self.disagree(difference.index, difference.stable, difference.candidate);
        }
    }

    fn failed(&self, stable: Option<&Answer>, problem: String) {
        self.shared.metrics.mirrored.error.inc();
        self.shared.shadow(|card| card.candidate_errors += 1);
        let stable = stable.map_or_else(|| "answered".to_owned(), compare::describe);
        self.disagree(0, stable, problem);
    }

    fn disagree(&self, index: usize, stable: String, candidate: String) {
        let keep_text = self.job.slice.mirror.as_ref().is_some_and(|mirror| mirror.keep_text);
        let text = keep_text
            .then(|| request_text(self.job.task, &self.request.body, index))
            .flatten();
        self.shared.disagree(Disagreement {
            at: Some(std::time::SystemTime::now().into()),
            request_id: format!("{:016x}", self.job.id),
            text: text
                .map(|text| text.chars().take(TEXT_CHARACTERS_MAX).collect())
                .unwrap_or_default(),
            stable,
            candidate,
        });
    }
}
