//! What a router counted, in the registry under its lease: gone soon after the router is.
//!
//! ```text
//!   grant lease ──► write what is not yet written ──► wait for a change, renew every ttl/3
//!        ▲                     ▲                              │
//!        │                     └──────────────────────────────┤
//!        └── back off ◄── lease lost, or no answer ───────────┘
//! ```
//!
//! Between two writes only a model's newest card is kept, so a slow registry costs detail in time, never memory.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, sleep, timeout},
};
use understudy_protocol::v1;

use crate::{
    Error, Registry,
    backoff::Backoff,
    client::CALL_TIMEOUT,
    lease::{Lease, TTL_MIN},
    record::{Record as _, encode, full_path},
};

/// Tries to write over what somebody else wrote.
const TAKEOVERS_MAX: usize = 3;

/// Writes a router's scorecards. Its drop removes them all.
pub struct ScorecardWriter {
    wanted: watch::Sender<Wanted>,
    // Its drop tells the task to withdraw.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// By the record's key.
type Wanted = BTreeMap<String, Entry>;

struct Entry {
    /// `None`: it shall go.
    card: Option<Arc<v1::Scorecard>>,
    /// Counts the changes of this entry.
    change: u64,
}

/// What is in the registry under the lease.
#[derive(Clone, Copy)]
struct Written {
    change: u64,
    mod_revision: i64,
}

impl ScorecardWriter {
    /// Writes the card soon, in place of the model's earlier one. Never waits.
    pub fn put(&self, card: v1::Scorecard) {
        self.change(card.key(), Some(Arc::new(card)));
    }

    /// Removes this writer's cards of a model soon. Never waits.
    pub fn remove(&self, model: &str) {
        let keys: Vec<String> = {
            let wanted = self.wanted.borrow();
            let of_model = |key: &&String| key.split_once('/').is_some_and(|(found, _)| found == model);
            wanted.keys().filter(of_model).cloned().collect()
        };
        for key in keys {
            self.change(key, None);
        }
    }

    fn change(&self, key: String, card: Option<Arc<v1::Scorecard>>) {
        self.wanted.send_if_modified(|wanted| {
            let entry = wanted.entry(key).or_insert(Entry { card: None, change: 0 });
            let changed = entry.card != card;
            entry.card = card;
            entry.change += u64::from(changed);
            changed
        });
    }

    /// Removes all cards now, by revoking the lease. If the registry is away the lease's end does it later.
    pub async fn withdraw(self) {
        drop(self.stop);
        if timeout(CALL_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("could not remove the scorecards in time; the lease will expire");
        }
    }
}

impl Registry {
    /// Keeps scorecards in the registry; they are gone `ttl` (whole seconds, at least 2) after this process stopped.
    #[must_use]
    pub fn scorecards(&self, ttl: Duration) -> ScorecardWriter {
        let (wanted, receiver) = watch::channel(Wanted::new());
        let (stop, stopped) = oneshot::channel();
        let writer = Writer {
            registry: self.clone(),
            ttl: ttl.max(TTL_MIN),
            wanted: receiver,
            written: BTreeMap::new(),
            lease: None,
            backoff: Backoff::default(),
            answered: true,
        };
        ScorecardWriter {
            wanted,
            stop,
            task: tokio::spawn(writer.run(stopped)),
        }
    }
}

struct Writer {
    registry: Registry,
    ttl: Duration,
    wanted: watch::Receiver<Wanted>,
    written: BTreeMap<String, Written>,
    lease: Option<Lease>,
    backoff: Backoff,
    /// Since the latest failure.
    answered: bool,
}

impl Writer {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let Err(error) = tokio::select! {
                _ = &mut stopped => break,
                end = self.session() => end,
            };
            if std::mem::take(&mut self.answered) {
                tracing::warn!(%error, "cannot write scorecards; trying again");
            } else {
                tracing::debug!(%error, "cannot write scorecards");
            }
            let delay = self.backoff.next(rand::random());
            tokio::select! {
                _ = &mut stopped => break,
                () = sleep(delay) => {}
            }
        }
        if let Some(lease) = &self.lease
            && let Err(error) = lease.revoke().await
        {
            tracing::warn!(%error, "could not remove the scorecards; the lease will expire");
        }
    }

    /// Writes for as long as there are answers.
    async fn session(&mut self) -> Result<Infallible, Error> {
        // The former lease, if it still lives, ends by itself: its keys are taken over.
        self.lease = None;
        self.written.clear();
        // A router without rollouts needs none.
        while self
            .wanted
            .borrow_and_update()
            .values()
            .all(|entry| entry.card.is_none())
        {
            changed(&mut self.wanted).await;
        }
        self.lease = Some(Lease::grant(&self.registry, self.ttl).await?);
        let mut tick = tokio::time::interval(self.ttl / 3);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.write_changes().await?;
            self.backoff.reset();
            self.answered = true;
            tokio::select! {
                () = changed(&mut self.wanted) => {}
                _ = tick.tick() => self.renew().await?,
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        // A second and a third try must fit into the lease.
        let limit = self.ttl / 3;
        let renewed = match &mut self.lease {
            Some(lease) => lease.renew(limit).await?,
            None => false,
        };
        if renewed {
            Ok(())
        } else {
            Err(self.registry.unavailable("the lease expired".to_owned()))
        }
    }

    async fn write_changes(&mut self) -> Result<(), Error> {
        let lease = self.lease.as_ref().map_or(0, Lease::id);
        let changed: Vec<_> = {
            let wanted = self.wanted.borrow_and_update();
            let is_new = |key: &String, entry: &Entry| self.written.get(key).map(|w| w.change) != Some(entry.change);
            wanted
                .iter()
                .filter(|(key, entry)| is_new(key, entry))
                .map(|(key, entry)| (key.clone(), entry.card.clone(), entry.change))
                .collect()
        };
        for (key, card, change) in changed {
            let known = self.written.get(&key).map_or(0, |written| written.mod_revision);
            let mod_revision = match card.as_deref().map(encode) {
                Some(Ok(value)) => self.put(&key, &value, known, lease).await?,
                Some(Err(error)) => {
                    tracing::error!(%error, "this scorecard is not written");
                    known
                }
                None => self.delete(&key, known).await?,
            };
            self.written.insert(key, Written { change, mod_revision });
        }
        Ok(())
    }

    /// Returns the record's new revision.
    async fn put(&self, key: &str, value: &str, known: i64, lease: i64) -> Result<i64, Error> {
        let path = self.registry.path::<v1::Scorecard>(key);
        let mut expected = known;
        for _ in 0..TAKEOVERS_MAX {
            let options = PutOptions::new().with_lease(lease);
            let look = TxnOp::get(path.clone(), Some(GetOptions::new().with_keys_only()));
            let txn = Txn::new()
                .when([Compare::mod_revision(path.clone(), CompareOp::Equal, expected)])
                .and_then([TxnOp::put(path.clone(), value, Some(options))])
                .or_else([look]);
            let answer = self
                .registry
                .call(|client| async move { client.kv_client().txn(txn).await })
                .await?;
            if answer.succeeded() {
                return Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision));
            }
            if known != 0 {
                tracing::warn!(
                    key,
                    "this router's scorecard was changed by somebody else and is written again: does \
                    another router have the same name?"
                );
            }
            expected = match answer.op_responses().first() {
                Some(TxnOpResponse::Get(get)) => get.kvs().first().map_or(0, etcd_client::KeyValue::mod_revision),
                _ => 0,
            };
        }
        Err(Error::Conflict(full_path::<v1::Scorecard>(key)))
    }

    /// Returns 0. A record that somebody else changed is theirs.
    async fn delete(&self, key: &str, known: i64) -> Result<i64, Error> {
        if known != 0 {
            let path = self.registry.path::<v1::Scorecard>(key);
            let txn = Txn::new()
                .when([Compare::mod_revision(path.clone(), CompareOp::Equal, known)])
                .and_then([TxnOp::delete(path, None)]);
            self.registry
                .call(|client| async move { client.kv_client().txn(txn).await })
                .await?;
        }
        Ok(0)
    }
}

async fn changed(wanted: &mut watch::Receiver<Wanted>) {
    if wanted.changed().await.is_err() {
        // The writer was dropped: the task is about to be told.
        std::future::pending::<()>().await;
    }
}
