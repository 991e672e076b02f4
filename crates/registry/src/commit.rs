//! Several records in one transaction: all are written, or none.

use std::time::Instant;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use understudy_protocol::v1;

use crate::{
    Error, Fence, Registry,
    record::{Record, encode, full_path},
};

/// Records to be written together, each with the `mod_revision` that it must have until then (0: absent).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// A model's rollout.
    pub rollout: Option<(v1::Rollout, i64)>,
    /// A model's route.
    pub route: Option<(v1::Route, i64)>,
}

/// A record as the transaction takes it.
struct Entry {
    /// Below the prefix.
    name: String,
    path: String,
    value: String,
    expected: i64,
}

impl Registry {
    /// Writes all if nothing differs, and with a fence only while this process leads. Returns the revision, which is
    /// then the `mod_revision` of each.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Conflict`] with the first record that changed meanwhile, [`Error::Invalid`]: nothing
    /// was written. Or those of any call: [`Error::Unavailable`] does not say whether it was.
    pub async fn commit(&self, fence: Option<&Fence>, commit: &Commit) -> Result<i64, Error> {
        if fence.is_some_and(|fence| !fence.is_valid(Instant::now())) {
            return Err(Error::NotLeader);
        }
        let mut entries = Vec::new();
        if let Some((rollout, expected)) = &commit.rollout {
            entries.push(self.entry(rollout, *expected)?);
        }
        if let Some((route, expected)) = &commit.route {
            entries.push(self.entry(route, *expected)?);
        }

        let leader = self.leader_path();
        let fencing = fence.map(|f| Compare::create_revision(leader.clone(), CompareOp::Equal, f.create_revision()));
        let unchanged = |e: &Entry| Compare::mod_revision(e.path.clone(), CompareOp::Equal, e.expected);
        let compares: Vec<Compare> = fencing.into_iter().chain(entries.iter().map(unchanged)).collect();
        let puts: Vec<TxnOp> = entries
            .iter()
            .map(|e| TxnOp::put(e.path.clone(), e.value.clone(), None))
            .collect();
        // If it fails: what differs.
        let look = |path: &String| TxnOp::get(path.clone(), Some(GetOptions::new().with_keys_only()));
        let paths = std::iter::once(&leader).chain(entries.iter().map(|e| &e.path));
        let gets: Vec<TxnOp> = paths.map(look).collect();
        let txn = Txn::new().when(compares).and_then(puts).or_else(gets);
        let answer = self
            .call(|client| async move { client.kv_client().txn(txn).await })
            .await?;
        if answer.succeeded() {
            return Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision));
        }

        let found = answer.op_responses();
        let mut found = found.iter().map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first(),
            _ => None,
        });
        let create_revision = found.next().flatten().map_or(0, etcd_client::KeyValue::create_revision);
        if fence.is_some_and(|fence| fence.create_revision() != create_revision) {
            return Err(Error::NotLeader);
        }
        let changed = entries
            .into_iter()
            .zip(found)
            .find(|(entry, kv)| kv.map_or(0, etcd_client::KeyValue::mod_revision) != entry.expected);
        Err(Error::Conflict(
            changed.map_or_else(|| "the registry".to_owned(), |(entry, _)| entry.name),
        ))
    }

    fn entry<R: Record>(&self, record: &R, expected: i64) -> Result<Entry, Error> {
        Ok(Entry {
            name: full_path::<R>(&record.key()),
            path: self.path::<R>(&record.key()),
            value: encode(record)?,
            expected,
        })
    }
}
