//! Leases and the keys that live by them. Time is an argument.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use prost::bytes::Bytes;

use crate::error::Error;

/// As etcd with its default timing: shorter ones are granted as this.
const TTL_MIN_S: i64 = 2;
/// As etcd.
const TTL_MAX_S: i64 = 9_000_000_000;
/// Leases that live at once.
const LEASES_MAX: usize = 10_000;

#[derive(Debug)]
struct Lease {
    ttl_s: i64,
    deadline: Instant,
    keys: BTreeSet<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: HashMap<i64, Lease>,
}

/// What a client may ask about a lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    pub(crate) remaining_s: i64,
    pub(crate) granted_s: i64,
    pub(crate) keys: Vec<Bytes>,
}

fn ttl(ttl_s: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl_s).unwrap_or_default())
}

impl Leases {
    /// Returns the time granted. The caller chooses an id that is free where the client left it open.
    pub(crate) fn grant(&mut self, id: i64, ttl_s: i64, now: Instant) -> Result<i64, Error> {
        if ttl_s > TTL_MAX_S {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.exists(id) {
            return Err(Error::LeaseExists);
        }
        if self.by_id.len() >= LEASES_MAX {
            return Err(Error::TooManyRequests);
        }
        let ttl_s = ttl_s.max(TTL_MIN_S);
        self.load(id, ttl_s, now);
        Ok(ttl_s)
    }

    /// Puts back a lease after a restart, with its whole time ahead: nobody could renew it meanwhile.
    pub(crate) fn load(&mut self, id: i64, ttl_s: i64, now: Instant) {
        self.by_id.insert(
            id,
            Lease {
                ttl_s,
                deadline: now + ttl(ttl_s),
                keys: BTreeSet::new(),
            },
        );
    }

    pub(crate) fn exists(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn attach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    pub(crate) fn detach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Returns the keys that go with it, in order.
    pub(crate) fn revoke(&mut self, id: i64) -> Result<BTreeSet<Bytes>, Error> {
        self.by_id
            .remove(&id)
            .map(|lease| lease.keys)
            .ok_or(Error::LeaseNotFound)
    }

    /// Returns the time that it lives from now on. One that is over is not brought back, even if its keys still stand.
    pub(crate) fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        let lease = self.by_id.get_mut(&id).filter(|lease| lease.deadline > now)?;
        lease.deadline = now + ttl(lease.ttl_s);
        Some(lease.ttl_s)
    }

    pub(crate) fn time_to_live(&self, id: i64, now: Instant) -> Option<TimeToLive> {
        let lease = self.by_id.get(&id)?;
        let remaining = lease.deadline.saturating_duration_since(now).as_secs();
        Some(TimeToLive {
            remaining_s: i64::try_from(remaining).unwrap_or(i64::MAX),
            granted_s: lease.ttl_s,
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Those whose time is over, at most `max`.
    pub(crate) fn expired(&self, now: Instant, max: usize) -> Vec<i64> {
        self.by_id
            .iter()
            .filter(|(_, lease)| lease.deadline <= now)
            .map(|(id, _)| *id)
            .take(max)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life() {
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        let mut leases = Leases::default();
        assert_eq!(leases.grant(7, 10, start), Ok(10));
        assert_eq!(leases.grant(8, 0, start), Ok(TTL_MIN_S));
        assert_eq!(leases.grant(7, 10, start), Err(Error::LeaseExists));
        assert_eq!(leases.grant(9, TTL_MAX_S + 1, start), Err(Error::LeaseTtlTooLarge));
        assert_eq!(leases.grant(9, TTL_MAX_S, start), Ok(TTL_MAX_S));
        let key = Bytes::from_static(b"k");
        leases.attach(7, &key);
        assert_eq!(leases.renew(7, after(5)), Some(10));
        assert_eq!(
            leases.time_to_live(7, after(6)),
            Some(TimeToLive {
                remaining_s: 9,
                granted_s: 10,
                keys: vec![key.clone()]
            })
        );
        assert_eq!(leases.expired(after(14), 10), [8]);
        assert_eq!(leases.renew(7, after(15)), None, "its time is over");
        assert_eq!(leases.revoke(7), Ok(BTreeSet::from([key])));
        assert_eq!(leases.revoke(7), Err(Error::LeaseNotFound));
        assert_eq!(leases.ids(), [8, 9]);
    }
}
