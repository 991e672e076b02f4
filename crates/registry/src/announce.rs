//! A worker's record, kept in the registry under a lease.
//!
//! ```text
//!   grant lease ──► put (compare-and-swap) ──► every ttl/3: renew, and check that the record is still ours
//!        ▲                  ▲                        │            │
//!        │                  └── set() or record lost ┘            │
//!        └────────────── back off ◄──── lease lost, or no answer ─┘
//! ```
//!
//! A record of the same name that somebody else wrote is taken over: after a crash it is this worker's own, whose lease
//! has not yet expired. Two living workers of one name take it from each other, and both log that.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, timeout},
};
use understudy_protocol::v1;

use crate::{
    Error, Registry,
    backoff::Backoff,
    client::CALL_TIMEOUT,
    follow::AbortOnDrop,
    lease::{self, Lease},
    record::{Record as _, encode},
};

/// A worker's record in the registry. Dropping it stops the renewal, and the record goes when its lease expires.
pub struct Announcement {
    // First, so that a drop does not look like a withdrawal.
    _abort: AbortOnDrop,
    worker: watch::Sender<v1::Worker>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Announcement {
    pub(crate) fn start(registry: Registry, worker: v1::Worker, ttl: Duration) -> Self {
        let (sender, receiver) = watch::channel(worker);
        let (stop, stopped) = oneshot::channel();
        let announcer = Announcer {
            registry,
            worker: receiver,
            ttl: ttl.max(lease::TTL_MIN),
            lease: AtomicI64::new(0),
        };
        let task = tokio::spawn(announcer.run(stopped));
        let abort = AbortOnDrop(task.abort_handle());
        Self {
            worker: sender,
            stop: Some(stop),
            task,
            _abort: abort,
        }
    }

    /// Replaces the record.
    pub fn set(&self, worker: v1::Worker) {
        self.worker.send_if_modified(|current| {
            let changed = *current != worker;
            *current = worker;
            changed
        });
    }

    /// Removes the record now, by revoking its lease. If the registry is away the lease's end does it later.
    pub async fn withdraw(mut self) {
        drop(self.stop.take());
        // A call in progress, and the revocation.
        if timeout(2 * CALL_TIMEOUT, &mut self.task).await.is_err() {
            tracing::warn!("could not withdraw from the registry in time; the lease will expire");
        }
    }
}

struct Announcer {
    registry: Registry,
    worker: watch::Receiver<v1::Worker>,
    ttl: Duration,
    /// The latest that was granted; 0 for none.
    lease: AtomicI64,
}

/// What is in the registry.
struct Held {
    lease: Lease,
    mod_revision: i64,
}

impl Announcer {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        self.announce(&mut stopped).await;
        // Also when stopped half-way: the record may be there before its writer knows.
        let lease = self.lease.load(Ordering::Relaxed);
        if lease != 0
            && let Err(error) = lease::revoke(&self.registry, lease).await
        {
            tracing::warn!(%error, "could not withdraw from the registry; the lease will expire");
        }
    }

    /// Returns when stopped.
    async fn announce(&mut self, stopped: &mut oneshot::Receiver<()>) {
        let mut backoff = Backoff::default();
        loop {
            let held = tokio::select! {
                _ = &mut *stopped => return,
                held = self.hold() => held,
            };
            let kept = match held {
                Ok(held) => {
                    backoff.reset();
                    self.keep(held, stopped).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = kept else { return };
            tracing::warn!(worker = %self.worker.borrow().worker, %error, "cannot announce this worker; trying again");
            tokio::select! {
                _ = &mut *stopped => return,
                () = tokio::time::sleep(backoff.next(rand::random())) => {}
            }
        }
    }

    /// Gets a lease and puts the record under it.
    async fn hold(&self) -> Result<Held, Error> {
        let lease = Lease::grant(&self.registry, self.ttl).await?;
        self.lease.store(lease.id(), Ordering::Relaxed);
        let mod_revision = self.put(lease.id()).await?;
        Ok(Held { lease, mod_revision })
    }

    /// Renews until told to stop (`Ok`) or until the lease is lost.
    async fn keep(&mut self, mut held: Held, stopped: &mut oneshot::Receiver<()>) -> Result<(), Error> {
        let mut tick = tokio::time::interval(self.ttl / 3);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut *stopped => return Ok(()),
                changed = self.worker.changed() => {
                    if changed.is_err() {
                        // Dropped without `withdraw`: the lease ends by itself.
                        return Ok(());
                    }
                    held.mod_revision = self.put(held.lease.id()).await?;
                }
                _ = tick.tick() => {
                    self.renew(&mut held.lease).await?;
                    if !self.is_ours(&held).await? {
                        tracing::warn!(worker = %self.worker.borrow().worker, "the record of this worker was changed by \
                            somebody else and is written again: does another worker have the same name?");
                        held.mod_revision = self.put(held.lease.id()).await?;
                    }
                }
            }
        }
    }

    async fn renew(&self, lease: &mut Lease) -> Result<(), Error> {
        // Not longer than a third of the TTL: a second and a third try must fit into the lease.
        if lease.renew((self.ttl / 3).min(CALL_TIMEOUT)).await? {
            Ok(())
        } else {
            Err(self.registry.unavailable("the lease expired".to_owned()))
        }
    }

    /// Whether the record is as it was written last.
    async fn is_ours(&self, held: &Held) -> Result<bool, Error> {
        let path = self.path();
        let compare = Compare::mod_revision(path, CompareOp::Equal, held.mod_revision);
        let answer = self
            .registry
            .call(|client| async move { client.kv_client().txn(Txn::new().when([compare])).await })
            .await?;
        Ok(answer.succeeded())
    }

    /// Writes the record over whatever is there.
    async fn put(&self, lease: i64) -> Result<i64, Error> {
        let value = encode(&*self.worker.borrow())?;
        let path = self.path();
        let get = path.clone();
        let answer = self
            .registry
            .call(|client| async move { client.kv_client().get(get, None).await })
            .await?;
        let found = answer.kvs().first().map_or(0, etcd_client::KeyValue::mod_revision);
        let txn = Txn::new()
            .when([Compare::mod_revision(path.clone(), CompareOp::Equal, found)])
            .and_then([TxnOp::put(path, value, Some(PutOptions::new().with_lease(lease)))]);
        let answer = self
            .registry
            .call(|client| async move { client.kv_client().txn(txn).await })
            .await?;
        if !answer.succeeded() {
            return Err(Error::Conflict(format!(
                "{}{}",
                v1::Worker::FOLDER,
                self.worker.borrow().worker
            )));
        }
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    fn path(&self) -> String {
        self.registry.path::<v1::Worker>(&self.worker.borrow().worker)
    }
}
