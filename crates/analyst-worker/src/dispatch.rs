//! The queue between async callers and engine threads: [`crate::batch`] behind a lock.
//!
//! An engine that finds work takes it at once; work waits only while every engine is busy. A caller holds a [`Ticket`]
//! for each text, and dropping it (a lost connection, a passed deadline) takes the text out of the queue there and then,
//! so that it costs neither room nor engine time.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    batch::{Budget, Queue, Taken, Waiting},
    error::Failure,
    held::Held,
    metrics::{Dropped, Metrics, Stage, Version},
};

/// A text for an engine.
pub struct Job<H> {
    /// The version that must answer; held until the answer is there.
    pub held: H,
    /// Its names, for metrics.
    pub version: Arc<Version>,
    /// The text's tokens.
    pub ids: Vec<u32>,
    /// When its caller gives up.
    pub deadline: Option<Instant>,
    /// When it came into the queue.
    pub since: Instant,
    /// Where its probabilities go.
    pub reply: oneshot::Sender<Result<Vec<f32>, Failure>>,
}

/// Room that a call takes up.
#[derive(Debug)]
pub struct Room {
    /// Texts.
    pub _texts: OwnedSemaphorePermit,
    /// Tokens.
    pub _tokens: OwnedSemaphorePermit,
}

/// The queue, shared by callers and engines.
pub struct Dispatch<H> {
    state: Mutex<State<H>>,
    work: Condvar,
    budget: Budget,
    metrics: Metrics,
}

/// A text in the queue. Its call's room is given back when the last of the call's texts has left.
struct Queued<H> {
    job: Job<H>,
    _room: Arc<Room>,
}

struct State<H> {
    queue: Queue<Queued<H>>,
    idle_engines: usize,
    closed: bool,
}

impl<H: Held> Dispatch<H> {
    /// An empty queue.
    #[must_use]
    pub fn new(budget: Budget, metrics: Metrics) -> Self {
        let state = State {
            queue: Queue::default(),
            idle_engines: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            budget,
            metrics,
        }
    }

    /// Puts a call's texts into the queue, all at once.
    pub fn push(self: &Arc<Self>, jobs: Vec<Job<H>>, room: Room) -> Vec<Ticket<H>> {
        let many = jobs.len() > 1;
        let room = Arc::new(room);
        let mut state = self.lock();
        let tickets = jobs
            .into_iter()
            .map(|job| {
                self.metrics.queued(&job.version, job.ids.len());
                // Two loads of the same version are two groups, and a group's address is not used again while one of
                // its texts holds it.
                let group = std::ptr::from_ref(job.held.loaded()).addr();
                let (tokens, deadline) = (job.ids.len(), job.deadline);
                let place = state.queue.push(Waiting {
                    group,
                    tokens,
                    deadline,
                    item: Queued {
                        job,
                        _room: Arc::clone(&room),
                    },
                });
                Ticket {
                    dispatch: Arc::clone(self),
                    place,
                }
            })
            .collect();
        drop(state);
        if many {
            self.work.notify_all();
        } else {
            self.work.notify_one();
        }
        tickets
    }

    /// Waits for work; `None` once the queue is closed and empty.
    pub fn next(&self) -> Option<Vec<Job<H>>> {
        loop {
            let (taken, closed) = self.wait();
            for late in taken.expired {
                let job = late.item.job;
                self.leave(&job);
                self.metrics.dropped(&job.version, Dropped::Expired);
                // The caller has an alarm of its own and may be gone already.
                let _ = job.reply.send(Err(Failure::Expired));
            }
            let batch: Vec<_> = taken.batch.into_iter().map(|text| text.item.job).collect();
            for job in &batch {
                self.leave(job);
                self.metrics.stage(&job.version, Stage::Wait, job.since.elapsed());
            }
            if !batch.is_empty() {
                return Some(batch);
            }
            if closed {
                return None;
            }
        }
    }

    fn wait(&self) -> (Taken<Queued<H>>, bool) {
        let mut state = self.lock();
        state.idle_engines += 1;
        loop {
            let idle_engines = state.idle_engines;
            let taken = state.queue.take(self.budget, idle_engines, Instant::now());
            if !taken.batch.is_empty() || !taken.expired.is_empty() || state.closed {
                state.idle_engines -= 1;
                return (taken, state.closed);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets engines finish what waits and end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    fn leave(&self, job: &Job<H>) {
        self.metrics.unqueued(&job.version, job.ids.len());
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's hold on a text in the queue.
pub struct Ticket<H: Held> {
    dispatch: Arc<Dispatch<H>>,
    place: u64,
}

impl<H: Held> Drop for Ticket<H> {
    fn drop(&mut self) {
        let left = self.dispatch.lock().queue.remove(self.place);
        if let Some(Waiting {
            deadline,
            item: Queued { job, _room },
            ..
        }) = left
        {
            self.dispatch.leave(&job);
            let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
            let reason = if late { Dropped::Expired } else { Dropped::Cancelled };
            self.dispatch.metrics.dropped(&job.version, reason);
        }
    }
}
