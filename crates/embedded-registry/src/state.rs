//! The whole state: keys, leases, and how far they are on disk. No IO; time is an argument.

use std::{sync::Arc, time::Instant};

use crate::{
    error::Error,
    lease::Leases,
    mvcc::{Change, Keys, Mvcc},
    ops,
    pb::{
        etcdserverpb::{
            CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
            RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
        },
        mvccpb::{Event, event::EventType},
    },
    storage::Mutation,
};

/// Changes that stay readable and watchable; older ones are compacted.
const HISTORY_CHANGES_MAX: usize = 20_000;
/// Bytes of them, about.
const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Compaction waits until the history exceeds its bounds by one part in this many, or it would run with every write.
const HISTORY_SLACK: usize = 10;
/// Leases that end in one step.
const EXPIRE_MAX: usize = 256;

/// A request that may change the state.
#[derive(Debug)]
pub(crate) enum Command {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant { id: i64, ttl_s: i64 },
    Revoke { id: i64 },
}

/// The answer to a command.
#[derive(Debug)]
pub(crate) enum Reply {
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Compacted { revision: i64 },
    Granted { id: i64, ttl_s: i64, revision: i64 },
    Revoked { revision: i64 },
}

/// What a watcher gets in one step.
#[derive(Debug, PartialEq)]
pub(crate) enum Watched {
    /// Events, and where to go on.
    Events { events: Vec<Event>, next: i64 },
    /// The position is no longer in the history.
    Compacted { revision: i64 },
}

/// What a watcher asks for.
#[derive(Debug, Clone)]
pub(crate) struct Interest {
    pub(crate) keys: Keys,
    pub(crate) puts: bool,
    pub(crate) deletes: bool,
    pub(crate) previous: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) mvcc: Mvcc,
    pub(crate) leases: Leases,
    /// The last revision on disk: what readers read at.
    pub(crate) committed: i64,
}

impl State {
    /// Carries a command out and notes what must be on disk before it is answered.
    pub(crate) fn apply(&mut self, command: &Command, now: Instant, notes: &mut Vec<Mutation>) -> Result<Reply, Error> {
        match command {
            Command::Put(request) => {
                ops::check_put_against(&self.mvcc, &self.leases, request)?;
                let mut writing = self.mvcc.write();
                let response = ops::put(&mut writing, &mut self.leases, request);
                note(writing.end(), notes);
                Ok(Reply::Put(response))
            }
            Command::Delete(request) => {
                let mut writing = self.mvcc.write();
                let response = ops::delete(&mut writing, &mut self.leases, request);
                note(writing.end(), notes);
                Ok(Reply::Delete(response))
            }
            Command::Txn(request) => {
                let succeeded = request.compare.iter().all(|compare| ops::holds(&self.mvcc, compare));
                let branch = if succeeded { &request.success } else { &request.failure };
                ops::check_branch_against(&self.mvcc, &self.leases, branch)?;
                let mut writing = self.mvcc.write();
                let responses = ops::carry_out(&mut writing, &mut self.leases, branch);
                let header = Some(ResponseHeader {
                    revision: writing.revision(),
                    ..ResponseHeader::default()
                });
                note(writing.end(), notes);
                Ok(Reply::Txn(TxnResponse {
                    header,
                    succeeded,
                    responses: responses?,
                }))
            }
            Command::Compact(request) => {
                if request.revision <= self.mvcc.compacted() {
                    return Err(Error::Compacted);
                }
                // Not beyond what readers can see.
                if request.revision > self.committed {
                    return Err(Error::FutureRevision);
                }
                self.compact(request.revision, notes);
                Ok(Reply::Compacted {
                    revision: self.mvcc.revision(),
                })
            }
            Command::Grant { id, ttl_s } => {
                let ttl_s = self.leases.grant(*id, *ttl_s, now)?;
                notes.push(Mutation::Grant { id: *id, ttl_s });
                Ok(Reply::Granted {
                    id: *id,
                    ttl_s,
                    revision: self.mvcc.revision(),
                })
            }
            Command::Revoke { id } => {
                self.revoke(*id, notes)?;
                Ok(Reply::Revoked {
                    revision: self.mvcc.revision(),
                })
            }
        }
    }

    fn revoke(&mut self, id: i64, notes: &mut Vec<Mutation>) -> Result<(), Error> {
        let keys = self.leases.revoke(id)?;
        let mut writing = self.mvcc.write();
        for key in keys {
            writing.delete(&Keys::One(key));
        }
        note(writing.end(), notes);
        notes.push(Mutation::Revoke { id });
        Ok(())
    }

    /// Ends the leases whose time is over.
    pub(crate) fn expire(&mut self, now: Instant, notes: &mut Vec<Mutation>) {
        for id in self.leases.expired(now, EXPIRE_MAX) {
            tracing::info!(lease = format_args!("{id:x}"), "lease expired");
            // It was listed just now.
            let _ = self.revoke(id, notes);
        }
    }

    /// Keeps the history within its bounds.
    pub(crate) fn trim(&mut self, notes: &mut Vec<Mutation>) {
        let slack = |max: usize| max + max / HISTORY_SLACK;
        if self
            .mvcc
            .excess(slack(HISTORY_CHANGES_MAX), slack(HISTORY_BYTES_MAX))
            .is_none()
        {
            return;
        }
        if let Some(revision) = self.mvcc.excess(HISTORY_CHANGES_MAX, HISTORY_BYTES_MAX) {
            self.compact(revision.min(self.committed), notes);
        }
    }

    fn compact(&mut self, revision: i64, notes: &mut Vec<Mutation>) {
        let dropped = self.mvcc.compact(revision);
        notes.push(Mutation::Compact { revision, dropped });
    }

    /// Reads at the last revision on disk.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        ops::range(&self.mvcc, request, self.committed)
    }

    /// The events from revision `from` on that are on disk, about `bytes_max` of them, whole revisions.
    pub(crate) fn watch(&self, interest: &Interest, from: i64, bytes_max: usize) -> Watched {
        if from < self.mvcc.compacted() {
            return Watched::Compacted {
                revision: self.mvcc.compacted(),
            };
        }
        let mut events = Vec::new();
        let (mut bytes, mut last) = (0, from - 1);
        for change in self.mvcc.changes(from, self.committed) {
            if bytes >= bytes_max && change.revision() > last {
                return Watched::Events { events, next: last + 1 };
            }
            last = change.revision();
            let wanted = if change.deleted {
                interest.deletes
            } else {
                interest.puts
            };
            if wanted && interest.keys.contains(&change.kv.key) {
                let event = self.event(change, interest.previous);
                bytes += change.cost() + event.prev_kv.as_ref().map_or(0, |kv| kv.value.len());
                events.push(event);
            }
        }
        Watched::Events {
            events,
            next: from.max(self.committed + 1),
        }
    }

    fn event(&self, change: &Change, previous: bool) -> Event {
        let kind = if change.deleted {
            EventType::Delete
        } else {
            EventType::Put
        };
        let before = || self.mvcc.get(&change.kv.key, change.revision() - 1).cloned();
        Event {
            r#type: kind.into(),
            kv: Some(change.kv.clone()),
            prev_kv: if previous { before() } else { None },
        }
    }
}

fn note(changes: Vec<Arc<Change>>, notes: &mut Vec<Mutation>) {
    notes.extend(changes.into_iter().map(Mutation::Change));
}

#[cfg(test)]
mod tests;
