//! Keys with their history, in memory. No IO.
//!
//! A change has a revision (the transaction's) and a place in it. At most one change of a key per revision. History from
//! `compacted` on is complete; before it only what is still the value of a key at `compacted`.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use prost::bytes::Bytes;

use crate::pb::mvccpb::KeyValue;

/// The revision of an empty store, as in etcd: the first write makes 2.
pub(crate) const FIRST_REVISION: i64 = 1;
/// Bytes that a change takes besides its key and value, about.
const CHANGE_OVERHEAD_BYTES: usize = 200;

/// A key was written or deleted.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    /// Place among the changes of its revision.
    pub(crate) sub: u32,
    pub(crate) deleted: bool,
    /// After the change; of a deleted one only key and revision.
    pub(crate) kv: KeyValue,
}

impl Change {
    pub(crate) fn revision(&self) -> i64 {
        self.kv.mod_revision
    }

    pub(crate) fn cost(&self) -> usize {
        self.kv.key.len() + self.kv.value.len() + CHANGE_OVERHEAD_BYTES
    }
}

/// etcd's way to name keys: one, a half-open range, or all from one on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keys {
    One(Bytes),
    Range(Bytes, Bytes),
    From(Bytes),
}

impl Keys {
    pub(crate) fn new(key: Bytes, range_end: Bytes) -> Self {
        match &range_end[..] {
            [] => Self::One(key),
            [0] => Self::From(key),
            _ => Self::Range(key, range_end),
        }
    }

    pub(crate) fn contains(&self, other: &[u8]) -> bool {
        match self {
            Self::One(key) => key == other,
            Self::Range(start, end) => &start[..] <= other && other < &end[..],
            Self::From(start) => &start[..] <= other,
        }
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            Self::One(key) => (Bound::Included(key), Bound::Included(key)),
            // Nothing; `BTreeMap` would panic on a reversed range.
            Self::Range(start, end) if start >= end => (Bound::Included(start), Bound::Excluded(start)),
            Self::Range(start, end) => (Bound::Included(start), Bound::Excluded(end)),
            Self::From(start) => (Bound::Included(start), Bound::Unbounded),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Mvcc {
    /// Each key's changes, oldest first.
    index: BTreeMap<Bytes, Vec<Arc<Change>>>,
    /// All changes from `compacted` on, oldest first.
    log: VecDeque<Arc<Change>>,
    revision: i64,
    compacted: i64,
    log_bytes: usize,
    bytes: usize,
}

impl Default for Mvcc {
    fn default() -> Self {
        Self {
            index: BTreeMap::new(),
            log: VecDeque::new(),
            revision: FIRST_REVISION,
            compacted: 0,
            log_bytes: 0,
            bytes: 0,
        }
    }
}

impl Mvcc {
    /// Rebuilds the store from its changes, oldest first.
    pub(crate) fn load(changes: impl Iterator<Item = Change>, revision: i64, compacted: i64) -> Self {
        let mut mvcc = Self {
            revision,
            compacted,
            ..Self::default()
        };
        for change in changes {
            mvcc.insert(Arc::new(change));
        }
        mvcc
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Bytes of everything that is kept, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, change: Arc<Change>) {
        self.bytes += change.cost();
        if change.revision() >= self.compacted {
            self.log_bytes += change.cost();
            self.log.push_back(Arc::clone(&change));
        }
        self.index.entry(change.kv.key.clone()).or_default().push(change);
    }

    /// The keys that lived at `revision`, in order.
    pub(crate) fn range(&self, keys: &Keys, revision: i64) -> impl Iterator<Item = &KeyValue> {
        self.index
            .range::<[u8], _>(keys.bounds())
            .filter_map(move |(_, history)| at(history, revision))
    }

    /// One key at `revision`, if it lived and that revision is kept.
    pub(crate) fn get(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        at(self.index.get(key)?, revision)
    }

    /// Changes of revisions from `from` to `to`, oldest first.
    pub(crate) fn changes(&self, from: i64, to: i64) -> impl Iterator<Item = &Arc<Change>> {
        let start = self.log.partition_point(|change| change.revision() < from);
        self.log
            .range(start..)
            .take_while(move |change| change.revision() <= to)
    }

    /// Begins a transaction; its changes share the next revision.
    pub(crate) fn write(&mut self) -> Writing<'_> {
        Writing {
            mvcc: self,
            changes: Vec::new(),
        }
    }

    /// Forgets history before `revision`. Returns the places of the changes that went.
    pub(crate) fn compact(&mut self, revision: i64) -> Vec<(i64, u32)> {
        self.compacted = revision;
        let mut dropped = Vec::new();
        let touched: Vec<Bytes> = {
            let upto = self.log.partition_point(|change| change.revision() <= revision);
            self.log.range(..upto).map(|change| change.kv.key.clone()).collect()
        };
        let before = self.log.partition_point(|change| change.revision() < revision);
        for change in self.log.drain(..before) {
            self.log_bytes -= change.cost();
        }
        for key in touched {
            let Some(history) = self.index.get_mut(&key) else {
                continue;
            };
            let mut keep_from = history
                .partition_point(|change| change.revision() <= revision)
                .saturating_sub(1);
            // A deletion at the compact revision itself stays: a watch may begin there.
            if history
                .get(keep_from)
                .is_some_and(|change| change.deleted && change.revision() < revision)
            {
                keep_from += 1;
            }
            for change in history.drain(..keep_from) {
                self.bytes -= change.cost();
                dropped.push((change.revision(), change.sub));
            }
            if history.is_empty() {
                self.index.remove(&key);
            }
        }
        dropped
    }

    /// The revision to compact at so that at most `changes` and `bytes` of history stay, if more are there.
    pub(crate) fn excess(&self, changes_max: usize, bytes_max: usize) -> Option<i64> {
        let mut excess_bytes = self.log_bytes.saturating_sub(bytes_max);
        let mut excess = self.log.len().saturating_sub(changes_max);
        let mut target = None;
        for change in &self.log {
            if excess == 0 && excess_bytes == 0 {
                break;
            }
            target = Some(change.revision() + 1);
            excess = excess.saturating_sub(1);
            excess_bytes = excess_bytes.saturating_sub(change.cost());
        }
        target
            .map(|revision| revision.min(self.revision))
            .filter(|revision| *revision > self.compacted)
    }
}

fn at(history: &[Arc<Change>], revision: i64) -> Option<&KeyValue> {
    let after = history.partition_point(|change| change.revision() <= revision);
    let change = history.get(after.checked_sub(1)?)?;
    (!change.deleted).then_some(&change.kv)
}

/// A transaction in progress. It cannot fail, so whatever may be refused is checked before.
pub(crate) struct Writing<'a> {
    mvcc: &'a mut Mvcc,
    changes: Vec<Arc<Change>>,
}

impl Writing<'_> {
    pub(crate) fn mvcc(&self) -> &Mvcc {
        self.mvcc
    }

    /// What reads in this transaction read at: its own changes, once it has some.
    pub(crate) fn revision(&self) -> i64 {
        self.mvcc.revision + i64::from(!self.changes.is_empty())
    }

    /// Returns the key's value before.
    pub(crate) fn put(&mut self, key: &Bytes, value: Bytes, lease: i64) -> Option<KeyValue> {
        let before = self.mvcc.get(key, i64::MAX).cloned();
        let revision = self.mvcc.revision + 1;
        let kv = KeyValue {
            key: before
                .as_ref()
                .map_or_else(|| Bytes::copy_from_slice(key), |kv| kv.key.clone()),
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            // Not a slice of the request's buffer, which would live as long as the value.
            value: Bytes::copy_from_slice(&value),
            lease,
        };
        self.push(false, kv);
        before
    }

    /// Returns what was deleted.
    pub(crate) fn delete(&mut self, keys: &Keys) -> Vec<KeyValue> {
        let before: Vec<KeyValue> = self.mvcc.range(keys, i64::MAX).cloned().collect();
        let mod_revision = self.mvcc.revision + 1;
        for kv in &before {
            self.push(
                true,
                KeyValue {
                    key: kv.key.clone(),
                    mod_revision,
                    ..KeyValue::default()
                },
            );
        }
        before
    }

    fn push(&mut self, deleted: bool, kv: KeyValue) {
        let sub = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        let change = Arc::new(Change { sub, deleted, kv });
        self.changes.push(Arc::clone(&change));
        self.mvcc.insert(change);
    }

    /// Ends the transaction.
    pub(crate) fn end(self) -> Vec<Arc<Change>> {
        self.mvcc.revision += i64::from(!self.changes.is_empty());
        self.changes
    }
}

#[cfg(test)]
mod tests;
