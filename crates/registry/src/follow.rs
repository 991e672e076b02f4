//! Copies of a kind's records that keep themselves up to date.
//!
//! ```text
//!   list all pages at one revision ──► watch from the next ──► apply events
//!          ▲                                  │
//!          └──── back off (jittered) ◄────────┘ stream ended, cancelled (compaction), silent,
//!                                               or at a lower revision than known (restored cluster)
//! ```
//!
//! Every new stream begins with a listing: that is right after a compaction, a restored cluster and a long outage alike,
//! and the records are few. What was known stays in view while the registry is away.

mod state;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use etcd_client::{EventType, WatchOptions, WatchResponse};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use crate::{Error, Registry, backoff::Backoff, client::prefix_end, record::Record};
use state::State;

/// A stream this quiet is asked for its progress.
const QUIET_MAX: Duration = Duration::from_secs(15);
/// A stream that does not answer this long after it was asked is given up.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Bytes of a watch response; etcd fragments those above its request limit.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a follower knows.
#[derive(Debug, Clone)]
pub struct View<R> {
    /// Valid records by key: "sentiment", "sentiment/v1" or a worker's name. Where the registry holds a bad value, the last
    /// good one.
    pub records: BTreeMap<String, R>,
    /// The registry's revision that wrote each of these records: what a compare-and-swap of it must name.
    pub mod_revisions: BTreeMap<String, i64>,
    /// Why a key's value in the registry cannot be used.
    pub problems: BTreeMap<String, String>,
    /// Keys whose value in the registry cannot be used.
    pub invalid: usize,
    /// The registry's revision that this view shows.
    pub revision: i64,
    /// Whether changes reach this view now.
    pub connected: bool,
    /// Whether the registry was ever listed.
    pub synced: bool,
}

/// A kind's records, kept up to date in the background until the last clone is dropped.
pub struct Follow<R> {
    view: watch::Receiver<Arc<View<R>>>,
    _task: Arc<AbortOnDrop>,
}

impl<R> Clone for Follow<R> {
    fn clone(&self) -> Self {
        Self {
            view: self.view.clone(),
            _task: Arc::clone(&self._task),
        }
    }
}

pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<R: Record> Follow<R> {
    pub(crate) fn start(registry: Registry) -> Self {
        let state = State::<R>::default();
        let (sender, view) = watch::channel(Arc::new(state.view()));
        let follower = Follower {
            registry,
            state,
            sender,
        };
        let task = tokio::spawn(follower.run());
        Self {
            view,
            _task: Arc::new(AbortOnDrop(task.abort_handle())),
        }
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> Arc<View<R>> {
        Arc::clone(&self.view.borrow())
    }

    /// Waits for a view that this clone has not yet waited for. A clone made before a change sees it.
    pub async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            // Only when the runtime shuts down under us: nothing will ever change.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the registry was listed once. The caller bounds it in time.
    pub async fn synced(&mut self) -> Arc<View<R>> {
        while !self.view.borrow_and_update().synced {
            self.changed().await;
        }
        self.view()
    }
}

struct Follower<R> {
    registry: Registry,
    state: State<R>,
    sender: watch::Sender<Arc<View<R>>>,
}

impl<R: Record> Follower<R> {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let was = Instant::now();
            let Err(end) = self.session().await;
            if self.state.disconnected() {
                self.publish();
                backoff.reset();
                tracing::warn!(folder = R::FOLDER, reason = %end, "lost the registry; going on with what is known");
            } else {
                tracing::debug!(folder = R::FOLDER, reason = %end, after = ?was.elapsed(), "registry not reached");
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    /// Lists, then watches until something ends it.
    async fn session(&mut self) -> Result<std::convert::Infallible, Error> {
        let page = self.registry.pages::<R>().await?;
        let next = page.revision + 1;
        let values = page.values.iter().map(|(key, kv)| (key.as_str(), kv.into()));
        if self.state.listed(values, page.revision) {
            tracing::warn!(
                folder = R::FOLDER,
                revision = page.revision,
                "the registry was restored to an earlier state"
            );
        }
        let folder = self.registry.folder::<R>();
        let options = WatchOptions::new()
            .with_range(prefix_end(folder.as_bytes()))
            .with_start_revision(next)
            .with_progress_notify()
            .with_fragment();
        let mut stream = self
            .registry
            .call(|client| async move {
                let mut watch = client.watch_client().max_decoding_message_size(EVENT_BYTES_MAX);
                watch.watch(folder, Some(options)).await
            })
            .await?;
        self.publish();

        let mut asked = false;
        loop {
            let patience = if asked { SILENT_MAX } else { QUIET_MAX };
            let response = match tokio::time::timeout(patience, stream.message()).await {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => return Err(self.registry.unavailable("the watch ended".to_owned())),
                Ok(Err(error)) => return Err(self.registry.error(&error)),
                Err(_) if asked => return Err(self.registry.unavailable("the watch is silent".to_owned())),
                Err(_) => {
                    stream
                        .request_progress()
                        .await
                        .map_err(|error| self.registry.error(&error))?;
                    asked = true;
                    continue;
                }
            };
            asked = false;
            self.respond(&response)?;
        }
    }

    /// Takes in one response; an error means: list again.
    fn respond(&mut self, response: &WatchResponse) -> Result<(), Error> {
        // Before `created`: a watch that could not be created is answered with both.
        if response.canceled() {
            let reason = match response.compact_revision() {
                0 => response.cancel_reason().to_owned(),
                compacted => format!("the history up to revision {compacted} is gone"),
            };
            return Err(self.registry.unavailable(format!("the watch was cancelled: {reason}")));
        }
        let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
        if revision < self.state.revision() {
            let known = self.state.revision();
            return Err(self
                .registry
                .unavailable(format!("it is at revision {revision}, and was at {known}")));
        }
        let mut changed = false;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            if let Some(key) = self.registry.key_of::<R>(kv.key()) {
                let value = (event.event_type() == EventType::Put).then(|| kv.into());
                self.state.changed(&key, value);
                changed = true;
            }
        }
        self.state.reached(revision);
        if changed {
            self.publish();
        }
        Ok(())
    }

    fn publish(&self) {
        self.sender.send_replace(Arc::new(self.state.view()));
    }
}
