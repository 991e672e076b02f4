//! The state on disk: every kept change, the leases, and how far history was compacted, in one `redb` file.
//!
//! A commit is one `redb` transaction with an fsync; after a kill at any moment the file is at one commit or the next.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use prost::Message as _;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::{
    lease::Leases,
    mvcc::{Change, FIRST_REVISION, Mvcc},
    pb::mvccpb::{Event, event::EventType},
    state::State,
};

/// Changes by revision and place, as encoded `mvccpb.Event`.
const CHANGES: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("changes");
/// Seconds granted, by lease.
const LEASES: TableDefinition<'_, i64, i64> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_REVISION: &str = "revision";
const META_COMPACTED: &str = "compacted";
const META_CLUSTER: &str = "cluster";

/// Name of the file in the data folder.
pub(crate) const FILE: &str = "registry.redb";
/// Layout of the file. A higher one is refused.
const FORMAT: i64 = 1;
/// Bytes of the file that redb caches: everything is in memory already.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Something to be made durable.
#[derive(Debug, PartialEq)]
pub(crate) enum Mutation {
    Change(Arc<Change>),
    Grant { id: i64, ttl_s: i64 },
    Revoke { id: i64 },
    Compact { revision: i64, dropped: Vec<(i64, u32)> },
}

pub(crate) struct Storage {
    database: Database,
}

/// What the disk held.
pub(crate) struct Loaded {
    pub(crate) storage: Storage,
    pub(crate) state: State,
    /// Made once, so that clients can tell installations apart.
    pub(crate) cluster: i64,
}

/// Opens or makes the file in `folder`. Leases get their whole time again from `now` on.
pub(crate) fn open(folder: &Path, now: Instant) -> anyhow::Result<Loaded> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(FILE);
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(&path)
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                anyhow::anyhow!("{} is in use: another registry runs on this folder", path.display())
            }
            other => anyhow::Error::new(other).context(format!(
                "cannot open {}; if it is damaged, restore the folder from a backup",
                path.display()
            )),
        })?;
    // The file's name, too, must survive a power cut.
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .context("cannot sync the data folder")?;
    let storage = Storage { database };
    let cluster = storage.prepare()?;
    let state = storage
        .load(now)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Loaded {
        storage,
        state,
        cluster,
    })
}

impl Storage {
    /// Makes the tables of a new file; checks the format of an old one.
    fn prepare(&self) -> anyhow::Result<i64> {
        let write = self.database.begin_write()?;
        let cluster = {
            write.open_table(CHANGES)?;
            write.open_table(LEASES)?;
            let mut meta = write.open_table(META)?;
            let format = meta.get(META_FORMAT)?.map(|format| format.value());
            match format {
                None => drop(meta.insert(META_FORMAT, FORMAT)?),
                Some(FORMAT) => {}
                Some(newer) => anyhow::bail!(
                    "the data was written by another Understudy (format {newer}, this one knows {FORMAT}); use that one"
                ),
            }
            let cluster = meta.get(META_CLUSTER)?.map(|cluster| cluster.value());
            match cluster {
                Some(cluster) => cluster,
                None => {
                    let cluster = rand::random_range(1..=i64::MAX);
                    meta.insert(META_CLUSTER, cluster)?;
                    cluster
                }
            }
        };
        write.commit()?;
        Ok(cluster)
    }

    fn load(&self, now: Instant) -> anyhow::Result<State> {
        let read = self.database.begin_read()?;
        let meta = read.open_table(META)?;
        let number = |name: &str| anyhow::Ok(meta.get(name)?.map(|number| number.value()));
        let revision = number(META_REVISION)?.unwrap_or(FIRST_REVISION);
        let compacted = number(META_COMPACTED)?.unwrap_or(0);

        let mut leases = Leases::default();
        for lease in read.open_table(LEASES)?.iter()? {
            let (id, ttl_s) = lease?;
            leases.load(id.value(), ttl_s.value(), now);
        }
        let mut changes = Vec::new();
        for change in read.open_table(CHANGES)?.iter()? {
            let (place, event) = change?;
            let (revision, sub) = place.value();
            let event = Event::decode(event.value()).with_context(|| format!("change {revision}.{sub} is damaged"))?;
            let deleted = event.r#type() == EventType::Delete;
            let kv = event.kv.filter(|kv| kv.mod_revision == revision);
            let kv = kv.with_context(|| format!("change {revision}.{sub} is damaged"))?;
            changes.push(Change { sub, deleted, kv });
        }
        let mvcc = Mvcc::load(changes.into_iter(), revision, compacted);
        let all = crate::mvcc::Keys::From(prost::bytes::Bytes::new());
        for kv in mvcc.range(&all, revision).filter(|kv| kv.lease != 0) {
            leases.attach(kv.lease, &kv.key);
        }
        Ok(State {
            mvcc,
            leases,
            committed: revision,
        })
    }

    /// Makes mutations durable, all or none.
    pub(crate) fn commit(&self, mutations: &[Mutation], revision: i64) -> anyhow::Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut changes = write.open_table(CHANGES)?;
            let mut leases = write.open_table(LEASES)?;
            let mut meta = write.open_table(META)?;
            for mutation in mutations {
                match mutation {
                    Mutation::Change(change) => {
                        let kind = if change.deleted {
                            EventType::Delete
                        } else {
                            EventType::Put
                        };
                        let event = Event {
                            r#type: kind.into(),
                            kv: Some(change.kv.clone()),
                            prev_kv: None,
                        };
                        changes.insert((change.revision(), change.sub), event.encode_to_vec().as_slice())?;
                    }
                    Mutation::Grant { id, ttl_s } => drop(leases.insert(id, ttl_s)?),
                    Mutation::Revoke { id } => drop(leases.remove(id)?),
                    Mutation::Compact { revision, dropped } => {
                        for place in dropped {
                            changes.remove(place)?;
                        }
                        meta.insert(META_COMPACTED, revision)?;
                    }
                }
            }
            meta.insert(META_REVISION, revision)?;
        }
        write.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
