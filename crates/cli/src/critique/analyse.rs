//! Classifies the reviews of a file and adds them up.
//!
//! Invariants: at most [`STREAMS_MAX`] × [`STREAM_REVIEWS`] reviews are in memory. Answers are added in the order of the file,
//! so that the same file gives the same statistics. A stream holds few reviews, so that a version that is to go is not held
//! for long, and what is lost with a worker is little: only what was not answered is sent again.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt as _, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Request, Status, metadata::MetadataMap};
use understudy_corpus::{
    clean,
    statistics::{Classified, Statistics, Summary},
};
use understudy_protocol::v1::{
    Classification, ClassifyStreamRequest, Refusal, analyst_client::AnalystClient,
    classify_stream_response::Result as Answered,
};

use crate::{
    output::{Output, duration, thousands},
    problem::sentence,
    retry::Retry,
    router::Transport,
    texts::{TextFile, is_correct},
};

/// Streams in flight.
const STREAMS_MAX: usize = 8;
/// Reviews of one stream.
const STREAM_REVIEWS: usize = 128;
/// Longest text in characters, by the contract.
const CHARACTERS_MAX: usize = 10_000;
/// Refusals that are shown one by one; more are only counted.
const REFUSALS_SHOWN: u64 = 5;
/// Between two lines about the progress where there is no bar.
const REMARK_EVERY: Duration = Duration::from_secs(30);

/// Classifies through the router.
pub(super) struct Analyst {
    pub(super) client: AnalystClient<Transport>,
    pub(super) metadata: MetadataMap,
    /// Longest wait for an answer.
    pub(super) patience: Duration,
}

/// What is known of the reviews.
#[derive(Debug)]
pub(super) struct Analysis {
    pub(super) summary: Summary,
    pub(super) run: Run,
}

/// How the reviews were classified.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Run {
    pub(super) rows: u64,
    pub(super) classified: u64,
    pub(super) refused: Refused,
    /// Classified by their beginning, because they have more tokens than the model takes.
    pub(super) truncated: u64,
    /// Of the reviews that have a right answer beside them.
    pub(super) accuracy: Option<Accuracy>,
    /// Reviews that each version answered.
    pub(super) versions: BTreeMap<String, u64>,
    pub(super) seconds: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Refused {
    pub(super) empty: u64,
    pub(super) too_long: u64,
    pub(super) other: u64,
}

impl Refused {
    pub(super) fn total(self) -> u64 {
        self.empty + self.too_long + self.other
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Accuracy {
    pub(super) judged: u64,
    pub(super) correct: u64,
    pub(super) share: f64,
}

struct Review {
    /// Without tags and entities.
    text: String,
    truth: Option<String>,
    line: u64,
    /// Bytes of the file that it took.
    bytes: u64,
}

type Answer = Result<Classification, Refusal>;

impl Analyst {
    pub(super) async fn run(&self, input: TextFile, limit: Option<u64>, output: &Output) -> anyhow::Result<Analysis> {
        let started = Instant::now();
        let progress = Progress {
            bar: output.bar(input.bytes, "{bar:30} {percent:>3}%  {msg}  {eta} left"),
            output,
            started,
            reviews: Cell::new(0),
            remarked: Cell::new(started),
        };
        let segments = stream::iter(Segments {
            input,
            left: limit.unwrap_or(u64::MAX),
            end: 0,
        });
        let progress = &progress;
        let answered = segments
            .map(|reviews| async move {
                let reviews = reviews?;
                let answers = self.classify(&reviews, progress).await?;
                anyhow::Ok((reviews, answers))
            })
            .buffered(STREAMS_MAX);
        let mut answered = std::pin::pin!(answered);
        let mut sum = Sum::default();
        while let Some(segment) = answered.next().await {
            let (reviews, answers) = segment?;
            for (review, answer) in reviews.iter().zip(answers) {
                sum.add(review, answer, output)?;
            }
        }
        progress.bar.finish_and_clear();
        sum.finish(started.elapsed())
    }

    async fn classify(&self, reviews: &[Review], progress: &Progress<'_>) -> anyhow::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(reviews.len());
        let mut retry = Retry::new();
        while answers.len() < reviews.len() {
            let before = answers.len();
            if let Err(status) = self.stream(reviews, &mut answers, progress).await {
                if answers.len() > before {
                    retry.progress();
                }
                let next = retry.wait(status).await;
                next.map_err(|status| anyhow::anyhow!(sentence(&status)))?;
            }
        }
        Ok(answers)
    }

    /// One stream for what has no answer yet.
    async fn stream(
        &self,
        reviews: &[Review],
        answers: &mut Vec<Answer>,
        progress: &Progress<'_>,
    ) -> Result<(), Status> {
        let open = reviews[answers.len()..].iter();
        let requests: Vec<_> = open
            .map(|review| ClassifyStreamRequest {
                text: review.text.clone(),
            })
            .collect();
        let mut request = Request::new(stream::iter(requests));
        *request.metadata_mut() = self.metadata.clone();
        let late = |_| Status::deadline_exceeded("");
        let mut client = self.client.clone();
        let opened = timeout(self.patience, client.classify_stream(request));
        let mut incoming = opened.await.map_err(late)??.into_inner();
        while let Some(review) = reviews.get(answers.len()) {
            let answer = timeout(self.patience, incoming.message()).await.map_err(late)??;
            let answer = answer.ok_or_else(|| Status::unavailable("the stream ended before its last answer"))?;
            answers.push(match answer.result {
                Some(Answered::Classification(classification)) => Ok(classification),
                Some(Answered::Refusal(refusal)) => Err(refusal),
                None => return Err(Status::internal("an answer has neither classification nor refusal")),
            });
            progress.step(review);
        }
        Ok(())
    }
}

/// The file in pieces of one stream each.
struct Segments {
    input: TextFile,
    left: u64,
    end: u64,
}

impl Segments {
    fn next_segment(&mut self) -> anyhow::Result<Vec<Review>> {
        let mut reviews = Vec::with_capacity(STREAM_REVIEWS);
        while self.left > 0 && reviews.len() < STREAM_REVIEWS {
            let Some(row) = self.input.next_row()? else { break };
            self.left -= 1;
            reviews.push(Review {
                text: sendable(clean(&row.text)),
                truth: row.truth,
                line: row.line,
                bytes: row.end - self.end,
            });
            self.end = row.end;
        }
        Ok(reviews)
    }
}

impl Iterator for Segments {
    type Item = anyhow::Result<Vec<Review>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_segment() {
            Ok(reviews) if reviews.is_empty() => None,
            reviews => Some(reviews),
        }
    }
}

/// What is too long is refused all the same, and need not travel as a whole.
fn sendable(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(CHARACTERS_MAX + 1) {
        text.truncate(end);
    }
    text
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress<'a> {
    bar: ProgressBar,
    output: &'a Output,
    started: Instant,
    reviews: Cell<u64>,
    remarked: Cell<Instant>,
}

impl Progress<'_> {
    fn step(&self, review: &Review) {
        self.reviews.set(self.reviews.get() + 1);
        self.bar.inc(review.bytes);
        let reviews = self.reviews.get();
        let rate = || reviews as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        if reviews.is_multiple_of(8) {
            self.bar
                .set_message(format!("{} reviews, {:.0}/s", thousands(reviews), rate()));
        }
        if !self.output.is_interactive() && self.remarked.get().elapsed() >= REMARK_EVERY {
            self.remarked.set(Instant::now());
            let done = self.bar.position() as f64 / self.bar.length().unwrap_or_default().max(1) as f64;
            let left = self
                .started
                .elapsed()
                .mul_f64((1.0 / done.max(1e-9) - 1.0).clamp(0.0, 1e6));
            self.output.remark(format_args!(
                "{} reviews, {:.0}/s, about {} left",
                thousands(reviews),
                rate(),
                duration(left)
            ));
        }
    }
}

#[derive(Default)]
struct Sum {
    /// With the names of the classes, once an answer told them.
    statistics: Option<(Vec<String>, Statistics)>,
    run: Run,
}

impl Sum {
    fn add(&mut self, review: &Review, answer: Answer, output: &Output) -> anyhow::Result<()> {
        self.run.rows += 1;
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                let why = self.refused(review, &refusal);
                if self.run.refused.total() <= REFUSALS_SHOWN {
                    output.warning(format_args!("line {} was refused: {why}", review.line));
                }
                return Ok(());
            }
        };
        let labels = || {
            answer
                .probabilities
                .iter()
                .map(|class| class.label.clone())
                .collect::<Vec<_>>()
        };
        let (labels, statistics) = self
            .statistics
            .get_or_insert_with(|| (labels(), Statistics::new(labels())));
        let label = labels.iter().position(|label| *label == answer.label).with_context(|| {
            format!(
                "version {} answers {:?}, but the version before it knows only {}: run it again when one version answers",
                answer.version,
                answer.label,
                labels.join(", ")
            )
        })?;
        let added = statistics.add(&Classified {
            text: &review.text,
            label,
            confidence: f64::from(answer.confidence),
        });
        added.with_context(|| format!("version {} gave an answer that cannot be", answer.version))?;
        self.run.classified += 1;
        self.run.truncated += u64::from(answer.truncated);
        if let Some(truth) = &review.truth {
            let accuracy = self.run.accuracy.get_or_insert_default();
            accuracy.judged += 1;
            accuracy.correct += u64::from(is_correct(truth, &answer));
        }
        *self.run.versions.entry(answer.version).or_default() += 1;
        Ok(())
    }

    fn refused(&mut self, review: &Review, refusal: &Refusal) -> String {
        let refused = &mut self.run.refused;
        if review.text.trim().is_empty() {
            refused.empty += 1;
            "it is empty".to_owned()
        } else if review.text.chars().count() > CHARACTERS_MAX {
            refused.too_long += 1;
            format!("it has more than {} characters", thousands(CHARACTERS_MAX as u64))
        } else {
            refused.other += 1;
            refusal.message.clone()
        }
    }

    fn finish(mut self, took: Duration) -> anyhow::Result<Analysis> {
        ensure!(self.run.rows > 0, "the file has no reviews");
        let Some((_, statistics)) = self.statistics else {
            bail!("none of the {} reviews could be classified", thousands(self.run.rows));
        };
        self.run.seconds = took.as_secs_f64();
        if let Some(accuracy) = &mut self.run.accuracy {
            accuracy.share = accuracy.correct as f64 / accuracy.judged as f64;
        }
        Ok(Analysis {
            summary: statistics.summary(),
            run: self.run,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_texts_stay_too_long_when_they_are_cut() {
        assert_eq!(sendable("é".repeat(CHARACTERS_MAX)).chars().count(), CHARACTERS_MAX);
        assert_eq!(sendable("é".repeat(50_000)).chars().count(), CHARACTERS_MAX + 1);
    }
}
