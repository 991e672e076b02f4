//! A lease, and how long it lives for certain.

use std::time::{Duration, Instant};

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::time::timeout;
use tonic::Code;

use crate::{Error, Registry};

/// etcd grants no shorter lease with its default timing.
pub(crate) const TTL_MIN: Duration = Duration::from_secs(2);

/// What the client says when there is no such lease.
const GONE: &str = "lease not found";

pub(crate) struct Lease {
    registry: Registry,
    id: i64,
    ttl: Duration,
    lives_until: Instant,
    /// Opened at the first renewal, and anew after each that failed: a late answer must not be taken for the next one's.
    stream: Option<(LeaseKeeper, LeaseKeepAliveStream)>,
}

impl Lease {
    pub(crate) async fn grant(registry: &Registry, ttl: Duration) -> Result<Self, Error> {
        let seconds = i64::try_from(ttl.max(TTL_MIN).as_secs()).unwrap_or(i64::MAX);
        let asked = Instant::now();
        let answer = registry
            .call(|client| async move { client.lease_client().grant(seconds, None).await })
            .await?;
        let ttl = granted(answer.ttl());
        Ok(Self {
            registry: registry.clone(),
            id: answer.id(),
            ttl,
            lives_until: asked + ttl,
            stream: None,
        })
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// As the registry granted it.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Until when it is certainly alive: its time is counted from before the registry was asked, so this is never too
    /// late as long as both clocks run equally fast.
    pub(crate) fn lives_until(&self) -> Instant {
        self.lives_until
    }

    /// Says whether it is renewed; if not, it is gone for good. An error says nothing about it.
    pub(crate) async fn renew(&mut self, limit: Duration) -> Result<bool, Error> {
        let asked = Instant::now();
        let ttl = match timeout(limit, self.ask()).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(self.registry.unavailable("no answer to the lease's renewal".to_owned()));
            }
        };
        if ttl <= 0 {
            return Ok(false);
        }
        self.lives_until = asked + granted(ttl);
        Ok(true)
    }

    async fn ask(&mut self) -> Result<i64, Error> {
        let stream = match self.stream.take() {
            Some(stream) => Some(stream),
            None => self.open().await?,
        };
        let Some((mut keeper, mut answers)) = stream else {
            return Ok(0);
        };
        let answer = async {
            keeper.keep_alive().await?;
            answers.message().await
        };
        match answer.await {
            Ok(Some(answer)) => {
                self.stream = Some((keeper, answers));
                Ok(answer.ttl())
            }
            Ok(None) => Err(self.registry.unavailable("the lease's stream ended".to_owned())),
            Err(error) => Err(self.registry.error(&error)),
        }
    }

    /// `None` if the lease is gone.
    async fn open(&self) -> Result<Option<(LeaseKeeper, LeaseKeepAliveStream)>, Error> {
        let id = self.id;
        self.registry
            .call(|client| async move {
                match client.lease_client().keep_alive(id).await {
                    Err(etcd_client::Error::LeaseKeepAliveError(reason)) if reason == GONE => Ok(None),
                    other => other.map(Some),
                }
            })
            .await
    }

    /// Ends it now, with all keys under it.
    pub(crate) async fn revoke(&self) -> Result<(), Error> {
        revoke(&self.registry, self.id).await
    }
}

/// Ends a lease, if it is still there.
pub(crate) async fn revoke(registry: &Registry, id: i64) -> Result<(), Error> {
    registry
        .call(|client| async move {
            match client.lease_client().revoke(id).await {
                Err(etcd_client::Error::GRpcStatus(status)) if status.code() == Code::NotFound => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .await
}

fn granted(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
