//! Which versions are here and which should be: the decisions, without IO or clock.
//!
//! ```text
//!             wanted                     loaded
//!   (absent) ───────► Waiting ──► Loading ─────► Ready ◄─────────┐ wanted again
//!      ▲                 ▲           │             │ not wanted  │
//!      │      time to    │           │ failed      ▼             │
//!      │      try again  └─ Failed ◄─┘          Draining ────────┘
//!      │                      │ not wanted         │ grace is over
//!      └──────────────────────┴──── freed ──── Freeing
//! ```
//!
//! Invariants:
//! * One version loads at a time, so that memory is bounded by what is wanted plus one.
//! * A version that is no longer wanted goes on serving until another wanted version of its model is ready, or the model
//!   has no route any more. So a route may jump from one version to another.
//! * A version of a route is never freed without having been announced as draining for the grace time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use tokio::time::Instant;
use understudy_protocol::v1::{self, ResidencyState};

#[cfg(test)]
mod tests;

const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A version of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) model: String,
    pub(crate) version: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.version)
    }
}

/// Why a version could not be made ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Trying again may help: what failed lies outside of the version itself.
    pub(crate) retry: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Loading,
    Ready,
    Draining { until: Instant },
    Freeing,
    Failed { retry_at: Option<Instant> },
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Failed attempts in a row, and why the last one failed.
    attempts: u32,
    reason: String,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Fetch and load it, then report [`Residency::loaded`] or [`Residency::failed`].
    Load(Id),
    /// It is announced as draining from now on.
    Drain(Id),
    /// It is ready again, having been draining.
    Revive(Id),
    /// Give it no more requests, free it when the last has ended, then report [`Residency::freed`].
    Free(Id),
}

#[derive(Debug)]
pub(crate) struct Residency {
    entries: BTreeMap<Id, Entry>,
    wanted: BTreeSet<Id>,
    grace: Duration,
}

impl Residency {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            entries: BTreeMap::new(),
            wanted: BTreeSet::new(),
            grace,
        }
    }

    pub(crate) fn want(&mut self, wanted: BTreeSet<Id>) {
        self.wanted = wanted;
    }

    pub(crate) fn loaded(&mut self, id: &Id) {
        if let Some(entry) = self.entries.get_mut(id) {
            *entry = Entry {
                state: State::Ready,
                attempts: 0,
                reason: String::new(),
            };
        }
    }

    pub(crate) fn failed(&mut self, id: &Id, failure: Failure, now: Instant) {
        if let Some(entry) = self.entries.get_mut(id) {
            let wait = RETRY_MIN.saturating_mul(1 << entry.attempts.min(10)).min(RETRY_MAX);
            entry.attempts += 1;
            entry.reason = failure.reason;
            entry.state = State::Failed {
                retry_at: failure.retry.then(|| now + wait),
            };
        }
    }

    pub(crate) fn freed(&mut self, id: &Id) {
        self.entries.remove(id);
    }

    /// Everything that has to be done now.
    pub(crate) fn advance(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let entries = &mut self.entries;
        for id in &self.wanted {
            entries.entry(id.clone()).or_insert(Entry {
                state: State::Waiting,
                attempts: 0,
                reason: String::new(),
            });
        }
        for (id, entry) in entries.iter_mut() {
            if matches!(entry.state, State::Draining { .. }) && self.wanted.contains(id) {
                entry.state = State::Ready;
                actions.push(Action::Revive(id.clone()));
            }
        }
        let served: BTreeSet<String> = self
            .wanted
            .iter()
            .filter(|id| entries.get(*id).is_some_and(|entry| entry.state == State::Ready))
            .map(|id| id.model.clone())
            .collect();
        let routed: BTreeSet<&String> = self.wanted.iter().map(|id| &id.model).collect();

        entries.retain(|id, entry| {
            self.wanted.contains(id) || !matches!(entry.state, State::Waiting | State::Failed { .. })
        });
        for (id, entry) in entries.iter_mut() {
            let wanted = self.wanted.contains(id);
            match entry.state {
                State::Ready if !wanted && (served.contains(&id.model) || !routed.contains(&id.model)) => {
                    entry.state = State::Draining {
                        until: now + self.grace,
                    };
                    actions.push(Action::Drain(id.clone()));
                }
                State::Draining { until } if until <= now => {
                    entry.state = State::Freeing;
                    actions.push(Action::Free(id.clone()));
                }
                State::Failed { retry_at: Some(at) } if at <= now => entry.state = State::Waiting,
                _ => {}
            }
        }
        if !entries.values().any(|entry| entry.state == State::Loading) {
            // What failed before goes last: it must not keep others waiting.
            let next = entries.iter_mut().filter(|(_, entry)| entry.state == State::Waiting);
            if let Some((id, entry)) = next.min_by_key(|(_, entry)| entry.attempts) {
                entry.state = State::Loading;
                actions.push(Action::Load(id.clone()));
            }
        }
        actions
    }

    /// When [`Self::advance`] will have something to do though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadlines = self.entries.values().filter_map(|entry| match entry.state {
            State::Draining { until } => Some(until),
            State::Failed { retry_at } => retry_at,
            State::Waiting | State::Loading | State::Ready | State::Freeing => None,
        });
        deadlines.min()
    }

    /// For the worker's record. While the process stops, what is ready drains and the rest is left out.
    pub(crate) fn record(&self, stopping: bool) -> Vec<v1::Residency> {
        let state = |entry: &Entry| match entry.state {
            State::Ready if !stopping => ResidencyState::Ready,
            State::Ready | State::Draining { .. } | State::Freeing => ResidencyState::Draining,
            State::Waiting | State::Loading => ResidencyState::Loading,
            State::Failed { .. } => ResidencyState::Failed,
        };
        let residencies = self.entries.iter().map(|(id, entry)| v1::Residency {
            model: id.model.clone(),
            version: id.version.clone(),
            state: state(entry).into(),
            reason: entry.reason.clone(),
        });
        residencies
            .filter(|residency| !stopping || residency.state() == ResidencyState::Draining)
            .collect()
    }
}
