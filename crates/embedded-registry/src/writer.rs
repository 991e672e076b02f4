//! The thread that owns the disk: takes commands from a bounded queue, carries those that wait out together, commits them
//! with one fsync, and only then answers.

use std::{
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use crate::{
    error::Error,
    state::{Command, Reply, State},
    storage::Storage,
};

/// Commands that wait for the disk.
const QUEUE_MAX: usize = 1024;
/// Commands of one commit.
const BATCH_MAX: usize = 256;
/// How late a lease may end.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// The state as readers share it.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<RwLock<State>>);

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(RwLock::new(state)))
    }

    // A panic under the lock would be a bug in this crate; what is on disk is right in any case.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

struct Request {
    command: Command,
    reply: oneshot::Sender<Result<Reply, Error>>,
}

/// Gives commands to the writer.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: SyncSender<Request>,
    committed: watch::Receiver<i64>,
}

/// The writer's own end.
pub(crate) struct Thread {
    queue: Receiver<Request>,
    committed: watch::Sender<i64>,
    state: Shared,
    storage: Storage,
}

pub(crate) fn channel(state: Shared, storage: Storage) -> (Writer, Thread) {
    let (queue, receiver) = sync_channel(QUEUE_MAX);
    let (sender, committed) = watch::channel(state.read().committed);
    (
        Writer { queue, committed },
        Thread {
            queue: receiver,
            committed: sender,
            state,
            storage,
        },
    )
}

impl Writer {
    /// Returns when the command is carried out and on disk.
    pub(crate) async fn carry_out(&self, command: Command) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .try_send(Request { command, reply })
            .map_err(|error| match error {
                TrySendError::Full(_) => Error::TooManyRequests,
                TrySendError::Disconnected(_) => Error::Stopped,
            })?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// The last revision on disk, and its changes.
    pub(crate) fn committed(&self) -> watch::Receiver<i64> {
        self.committed.clone()
    }
}

impl Thread {
    /// Works until every [`Writer`] is gone.
    ///
    /// # Errors
    /// If the disk fails. What was not answered by then is not known to be kept.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        loop {
            let mut batch = match self.queue.recv_timeout(EXPIRY_INTERVAL) {
                Ok(request) => vec![request],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            batch.extend(self.queue.try_iter().take(BATCH_MAX - batch.len()));
            self.step(batch)?;
        }
    }

    fn step(&self, batch: Vec<Request>) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut notes = Vec::new();
        let mut answers = Vec::with_capacity(batch.len());
        let revision = {
            let mut state = self.state.write();
            for Request { command, reply } in batch {
                answers.push((reply, state.apply(&command, now, &mut notes)));
            }
            state.expire(now, &mut notes);
            state.trim(&mut notes);
            state.mvcc.revision()
        };
        if !notes.is_empty() {
            self.storage.commit(&notes, revision)?;
            self.state.write().committed = revision;
            self.committed.send_replace(revision);
        }
        for (reply, answer) in answers {
            // A caller that went away does not need it.
            let _ = reply.send(answer);
        }
        Ok(())
    }
}
