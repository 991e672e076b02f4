//! The queue between async callers and engine threads: [`crate::batch`] behind a lock.
//!
//! An engine that finds work takes it at once; work waits only while every engine is busy. A caller holds a [`Ticket`]
//! for each text, and dropping it (a lost connection, a passed deadline) takes the text out of the queue there and then,
//! so that it costs neither room nor engine time.
//!
//! Copies that no client waits for (shadow work) have a queue and an engine of their own. It takes from that queue only while
//! no other text waits and an engine is idle, so a client's text never finds an engine busy with a copy.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    batch::{Budget, Queue, Taken, Waiting},
    error::Failure,
    held::Held,
    metrics::{Dropped, Metrics, Stage, Version},
};

/// A client's text that waited for longer says that there is no capacity to spare.
const PRESSED_WAIT: Duration = Duration::from_millis(50);
/// The largest batch of copies, as a part of the largest batch: it shares the machine with what comes meanwhile.
const SHADOW_BATCH_DIVISOR: usize = 4;

/// What an engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// What clients wait for.
    Primary,
    /// Copies, from spare capacity.
    Shadow,
}

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
    /// There may be capacity to spare.
    spare: Condvar,
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
    shadow: Queue<Queued<H>>,
    /// Of those that compute what clients wait for.
    idle_engines: usize,
    closed: bool,
}

impl<H> State<H> {
    fn queue_of(&mut self, duty: Duty) -> &mut Queue<Queued<H>> {
        match duty {
            Duty::Primary => &mut self.queue,
            Duty::Shadow => &mut self.shadow,
        }
    }
}

impl<H: Held> Dispatch<H> {
    /// An empty queue.
    #[must_use]
    pub fn new(budget: Budget, metrics: Metrics) -> Self {
        let state = State {
            queue: Queue::default(),
            shadow: Queue::default(),
            idle_engines: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            spare: Condvar::new(),
            budget,
            metrics,
        }
    }

    /// Whether clients' texts wait so long that copies should not be taken in.
    pub fn is_pressed(&self) -> bool {
        let state = self.lock();
        let oldest = state.queue.oldest();
        oldest.is_some_and(|oldest| oldest.item.job.since.elapsed() > PRESSED_WAIT)
    }

    /// Puts a call's texts into the queue, all at once.
    pub fn push(self: &Arc<Self>, jobs: Vec<Job<H>>, room: Room) -> Vec<Ticket<H>> {
        let many = jobs.len() > 1;
        let shadow = jobs.iter().any(|job| job.version.shadow);
        let duty = if shadow { Duty::Shadow } else { Duty::Primary };
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
                let place = state.queue_of(duty).push(Waiting {
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
                    duty,
                    place,
                }
            })
            .collect();
        drop(state);
        if duty == Duty::Shadow {
            self.spare.notify_one();
        } else if many {
            self.work.notify_all();
        } else {
            self.work.notify_one();
        }
        tickets
    }

    /// Waits for work; `None` once the queue is closed and empty.
    pub fn next(&self, duty: Duty) -> Option<Vec<Job<H>>> {
        loop {
            let (taken, closed) = match duty {
                Duty::Primary => self.wait(),
                Duty::Shadow => self.wait_for_spare(),
            };
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
            if !state.shadow.is_empty() {
                self.spare.notify_one();
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_spare(&self) -> (Taken<Queued<H>>, bool) {
        let budget = Budget {
            tokens_max: self.budget.tokens_max / SHADOW_BATCH_DIVISOR,
            ..self.budget
        };
        let mut state = self.lock();
        loop {
            let is_spare = state.queue.is_empty() && state.idle_engines > 0;
            if is_spare || state.closed {
                let taken = state.shadow.take(budget, 1, Instant::now());
                if !taken.batch.is_empty() || !taken.expired.is_empty() || state.closed {
                    return (taken, state.closed);
                }
            }
            state = self.spare.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets engines finish what waits and end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.spare.notify_all();
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
    duty: Duty,
    place: u64,
}

impl<H: Held> Ticket<H> {
    /// No engine has taken the text yet.
    pub fn waits(&self) -> bool {
        self.dispatch.lock().queue_of(self.duty).contains(self.place)
    }
}

impl<H: Held> Drop for Ticket<H> {
    fn drop(&mut self) {
        let left = self.dispatch.lock().queue_of(self.duty).remove(self.place);
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
