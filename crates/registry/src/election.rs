//! One leader among the routers: who holds the key `controller/leader`.
//!
//! ```text
//!   read the key ──held──► watch it until it goes ─┐
//!     ▲    └──vacant──► grant lease ► create key   │
//!     │                      │ won        │ lost   │
//!     │            lead: renew every ttl/4 │       │
//!     │                      │ key or lease gone   │
//!     ├── revoke that lease ◄┴────────────┴────────┘
//!     └── back off ◄── no answer (a leader: none until shortly before the lease may end)
//! ```
//!
//! Invariants:
//! * A [`Fence`] is valid only while the lease is certainly alive by this machine's monotonic clock, with a margin. That
//!   clock may stand still while a machine is suspended, and a write may linger on the way; so every write of a leader
//!   also compares the key's create revision ([`Registry::commit`]), and one that comes too late changes nothing.
//! * A fence that was once invalid never becomes valid again: the next term has another create revision.
//! * Nothing waits for this: without a registry there is no leader, and no decision.

mod fence;

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, WatchOptions};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    Error, Registry,
    backoff::Backoff,
    client::CALL_TIMEOUT,
    lease::{Lease, TTL_MIN},
};
pub use fence::Fence;
use fence::Term;

/// Below the prefix.
const LEADER: &str = "controller/leader";
/// A lease is renewed this many times before it would end.
const RENEWALS: u32 = 4;
/// A leader stops acting when this part of its lease's time is left: for clocks that do not run equally fast.
const MARGIN: u32 = 8;
/// Between two tries to renew.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Who leads, as far as this process knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leadership {
    /// The leader's name; `None` if there is none, or the registry is away.
    pub leader: Option<String>,
    /// What this process's own writes must carry while it leads.
    pub ours: Option<Fence>,
}

/// The leader's key as it is written.
#[derive(Serialize, Deserialize)]
struct Holder {
    router: String,
}

/// Takes part in the election, from [`Registry::campaign`] on until it is dropped.
pub struct Candidacy {
    leadership: watch::Receiver<Leadership>,
    // Its drop tells the task to withdraw.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidacy {
    /// Who leads, and changes of it. A term's renewals are no change: [`Fence::is_valid`] knows them.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Leads no more, and lets another one lead at once. Dropping does the same without waiting.
    pub async fn withdraw(self) {
        drop(self.stop);
        if timeout(CALL_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("could not give up the leadership in time; the lease will expire");
        }
    }
}

impl Registry {
    /// Wants to lead under this name. While this process cannot renew its lease of `ttl` (whole seconds, at least 2),
    /// it does not lead, and after that time another one can.
    #[must_use]
    pub fn campaign(&self, name: &str, ttl: Duration) -> Candidacy {
        let (sender, leadership) = watch::channel(Leadership::default());
        let (stop, stopped) = oneshot::channel();
        let candidate = Candidate {
            registry: self.clone(),
            name: name.to_owned(),
            ttl: ttl.max(TTL_MIN),
            lease: None,
            backoff: Backoff::default(),
            answered: true,
            sender,
        };
        Candidacy {
            leadership,
            stop,
            task: tokio::spawn(candidate.run(stopped)),
        }
    }

    pub(crate) fn leader_path(&self) -> String {
        self.below_prefix(LEADER)
    }
}

struct Candidate {
    registry: Registry,
    name: String,
    ttl: Duration,
    /// The latest that was granted. It is kept here until it is revoked, for a key may be under it before we know.
    lease: Option<Lease>,
    backoff: Backoff,
    /// Since the latest failure.
    answered: bool,
    sender: watch::Sender<Leadership>,
}

/// The leader's key as it is read.
struct Seat {
    leader: String,
    create_revision: i64,
}

impl Candidate {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let Err(error) = tokio::select! {
                _ = &mut stopped => break,
                end = self.session() => end,
            };
            self.publish(Leadership::default());
            if std::mem::take(&mut self.answered) {
                tracing::warn!(router = %self.name, %error, "cannot see who leads; trying again");
            } else {
                tracing::debug!(router = %self.name, %error, "cannot see who leads");
            }
            let delay = self.backoff.next(rand::random());
            tokio::select! {
                _ = &mut stopped => break,
                () = sleep(delay) => {}
            }
        }
        // First for ourselves, then for the others.
        self.publish(Leadership::default());
        if let Err(error) = self.resign().await {
            tracing::warn!(router = %self.name, %error, "could not give up the leadership; the lease will expire");
        }
    }

    /// Takes part until there is no answer.
    async fn session(&mut self) -> Result<Infallible, Error> {
        loop {
            self.resign().await?;
            let (seat, revision) = self.read().await?;
            self.answered = true;
            match seat {
                Some(seat) => {
                    self.publish(Leadership {
                        leader: Some(seat.leader),
                        ours: None,
                    });
                    self.vacancy(revision).await?;
                }
                None => self.stand().await?,
            }
            self.backoff.reset();
        }
    }

    /// Ends the latest term, if it is not over.
    async fn resign(&mut self) -> Result<(), Error> {
        if let Some(lease) = &self.lease {
            lease.revoke().await?;
            self.lease = None;
        }
        Ok(())
    }

    async fn read(&self) -> Result<(Option<Seat>, i64), Error> {
        let path = self.registry.leader_path();
        let answer = self
            .registry
            .call(|client| async move { client.kv_client().get(path, None).await })
            .await?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let seat = answer.kvs().first().map(|kv| Seat {
            // Whatever is written there, the key is taken.
            leader: serde_json::from_slice::<Holder>(kv.value())
                .map_or_else(|_| "(unreadable)".to_owned(), |holder| holder.router),
            create_revision: kv.create_revision(),
        });
        Ok((seat, revision))
    }

    /// Waits until the key may have changed: at an event, or after a TTL, for a watch may be silent.
    async fn vacancy(&self, revision: i64) -> Result<(), Error> {
        let path = self.registry.leader_path();
        let options = WatchOptions::new().with_start_revision(revision + 1);
        let mut stream = self
            .registry
            .call(|client| async move { client.watch_client().watch(path, Some(options)).await })
            .await?;
        let change = async {
            loop {
                match stream.message().await {
                    Ok(Some(response)) if response.canceled() => {
                        let reason = format!("the watch was cancelled: {}", response.cancel_reason());
                        return Err(self.registry.unavailable(reason));
                    }
                    Ok(Some(response)) if response.events().is_empty() => {}
                    Ok(Some(_)) => return Ok(()),
                    Ok(None) => return Err(self.registry.unavailable("the watch ended".to_owned())),
                    Err(error) => return Err(self.registry.error(&error)),
                }
            }
        };
        timeout(self.ttl, change).await.unwrap_or(Ok(()))
    }

    /// Tries to take the seat, and keeps it for as long as possible.
    async fn stand(&mut self) -> Result<(), Error> {
        let lease = self.lease.insert(Lease::grant(&self.registry, self.ttl).await?);
        let path = self.registry.leader_path();
        let holder = Holder {
            router: self.name.clone(),
        };
        let value = serde_json::to_string_pretty(&holder).map_err(|error| Error::Invalid {
            key: LEADER.to_owned(),
            reason: error.to_string(),
        })?;
        let options = PutOptions::new().with_lease(lease.id());
        let txn = Txn::new()
            .when([Compare::create_revision(path.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(path, value, Some(options))]);
        let answer = self
            .registry
            .call(|client| async move { client.kv_client().txn(txn).await })
            .await?;
        if !answer.succeeded() {
            return Ok(());
        }
        let create_revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let term = Term::new(create_revision, usable_until(lease));
        self.publish(Leadership {
            leader: Some(self.name.clone()),
            ours: Some(term.fence()),
        });
        self.backoff.reset();
        tracing::info!(router = %self.name, "this router leads now");
        let end = self.lead(&term).await;
        drop(term);
        self.publish(Leadership::default());
        tracing::info!(router = %self.name, "this router leads no more");
        end
    }

    /// Renews until the seat is lost (`Ok`) or nothing is certain any more.
    async fn lead(&mut self, term: &Term) -> Result<(), Error> {
        loop {
            let Some(lease) = &mut self.lease else { return Ok(()) };
            sleep(lease.ttl() / RENEWALS).await;
            loop {
                let left = usable_until(lease).saturating_duration_since(Instant::now());
                match lease.renew(left.min(lease.ttl() / RENEWALS)).await {
                    Ok(true) => break,
                    Ok(false) => return Ok(()),
                    Err(error) if left <= RETRY_DELAY => return Err(error),
                    Err(_) => sleep(RETRY_DELAY).await,
                }
            }
            term.extend(usable_until(lease));
            // Somebody may have removed the key by hand. No answer says nothing about that.
            let limit = lease.ttl() / RENEWALS;
            if let Ok(Ok((seat, _))) = timeout(limit, self.read()).await
                && seat.is_none_or(|seat| seat.create_revision != term.create_revision())
            {
                return Ok(());
            }
        }
    }

    fn publish(&self, leadership: Leadership) {
        self.sender.send_if_modified(|current| {
            let changed = *current != leadership;
            *current = leadership;
            changed
        });
    }
}

fn usable_until(lease: &Lease) -> Instant {
    lease.lives_until() - lease.ttl() / MARGIN
}
