//! What a follower knows, apart from how it learns it.

use std::collections::{BTreeMap, BTreeSet};

use etcd_client::KeyValue;

use super::View;
use crate::{
    Error,
    record::{Record, decode},
};

/// A key's value.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) mod_revision: i64,
}

impl<'a> From<&'a KeyValue> for Value<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        Self {
            bytes: kv.value(),
            mod_revision: kv.mod_revision(),
        }
    }
}

pub(super) struct State<R> {
    view: View<R>,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        let view = View {
            records: BTreeMap::new(),
            mod_revisions: BTreeMap::new(),
            problems: BTreeMap::new(),
            invalid: 0,
            revision: 0,
            connected: false,
            synced: false,
        };
        Self { view }
    }
}

impl<R: Record> State<R> {
    pub(super) fn view(&self) -> View<R> {
        self.view.clone()
    }

    pub(super) fn revision(&self) -> i64 {
        self.view.revision
    }

    /// Takes in everything at `revision`. Says whether that is lower than what was known: a restored cluster.
    pub(super) fn listed<'a>(&mut self, values: impl Iterator<Item = (&'a str, Value<'a>)>, revision: i64) -> bool {
        let mut keys = BTreeSet::new();
        for (key, value) in values {
            self.changed(key, Some(value));
            keys.insert(key);
        }
        self.view.records.retain(|key, _| keys.contains(key.as_str()));
        self.view.mod_revisions.retain(|key, _| keys.contains(key.as_str()));
        self.view.problems.retain(|key, _| keys.contains(key.as_str()));
        self.view.invalid = self.view.problems.len();
        self.view.connected = true;
        self.view.synced = true;
        let restored = revision < self.view.revision;
        self.view.revision = revision;
        restored
    }

    /// Takes in a key's new value, or that it is gone.
    pub(super) fn changed(&mut self, key: &str, value: Option<Value<'_>>) {
        match value.map(|value| Ok((decode::<R>(key, value.bytes)?, value.mod_revision))) {
            None => {
                self.view.records.remove(key);
                self.view.mod_revisions.remove(key);
                self.view.problems.remove(key);
            }
            Some(Ok((record, mod_revision))) => {
                self.view.records.insert(key.to_owned(), record);
                self.view.mod_revisions.insert(key.to_owned(), mod_revision);
                self.view.problems.remove(key);
            }
            Some(Err::<_, Error>(error)) => {
                let problem = error.to_string();
                if self.view.problems.get(key) != Some(&problem) {
                    let kept = self.view.records.contains_key(key);
                    tracing::error!(key, error = %problem, last_good_kept = kept, "bad record in the registry");
                    self.view.problems.insert(key.to_owned(), problem);
                }
            }
        }
        self.view.invalid = self.view.problems.len();
    }

    pub(super) fn reached(&mut self, revision: i64) {
        self.view.revision = self.view.revision.max(revision);
    }

    /// Says whether it was connected.
    pub(super) fn disconnected(&mut self) -> bool {
        std::mem::replace(&mut self.view.connected, false)
    }
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::Worker;

    use super::*;

    fn json(worker: &str, port: u16) -> Vec<u8> {
        format!(r#"{{"worker":"{worker}","kind":"KIND_ANALYST","address":"http://h:{port}"}}"#).into_bytes()
    }

    fn value(bytes: &[u8], mod_revision: i64) -> Value<'_> {
        Value { bytes, mod_revision }
    }

    fn addresses(state: &State<Worker>) -> Vec<String> {
        state.view().records.values().map(|w| w.address.clone()).collect()
    }

    #[test]
    fn listing_replaces_and_keeps_the_last_good() {
        let mut state = State::<Worker>::default();
        let (a, b) = (json("a", 1), json("b", 1));
        assert!(!state.listed([("a", value(&a, 8)), ("b", value(&b, 9))].into_iter(), 10));
        assert_eq!(addresses(&state), ["http://h:1", "http://h:1"]);
        // Gone from the registry: gone. Spoilt: the last good one stays. Never good: absent, and counted.
        assert!(!state.listed([("b", value(b"nonsense", 11)), ("c", value(b"{}", 12))].into_iter(), 12));
        let view = state.view();
        assert_eq!(view.records.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(view.mod_revisions, [("b".to_owned(), 9)].into());
        assert_eq!(view.problems.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(
            (view.invalid, view.revision, view.connected, view.synced),
            (2, 12, true, true)
        );
        // A restored cluster: its state is the truth, and events go on from there.
        assert!(state.listed([("a", value(&json("a", 2), 2))].into_iter(), 3));
        assert_eq!(
            (addresses(&state), state.revision()),
            (vec!["http://h:2".to_owned()], 3)
        );
    }

    #[test]
    fn events_change_and_outages_do_not() {
        let mut state = State::<Worker>::default();
        state.listed(std::iter::empty(), 1);
        state.changed("a", Some(value(&json("a", 1), 2)));
        state.changed("a", Some(value(b"nonsense", 3)));
        assert_eq!(
            (addresses(&state), state.view().invalid),
            (vec!["http://h:1".to_owned()], 1)
        );
        assert_eq!(
            state.view().mod_revisions["a"],
            2,
            "a compare-and-swap of what is known fails"
        );
        state.changed("a", Some(value(&json("a", 2), 4)));
        assert_eq!(
            (addresses(&state), state.view().invalid),
            (vec!["http://h:2".to_owned()], 0)
        );
        assert!(state.disconnected());
        assert!(!state.disconnected());
        assert_eq!(addresses(&state), ["http://h:2"]);
        state.changed("a", None);
        assert!(state.view().records.is_empty() && state.view().mod_revisions.is_empty());
    }
}
