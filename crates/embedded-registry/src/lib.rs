//! An etcd v3 server for one machine, on `redb`: KV with transactions, watches, leases and compaction, so that a demo or a
//! small installation needs no etcd while every component keeps one client code path.
//!
//! ```text
//!   gRPC ── reads ──────────────► State (all in memory, multi-version) ◄── watchers pull from its history
//!     │                              ▲ apply            │ committed revision
//!     └── writes ── bounded queue ──► writer thread ── redb commit (fsync) ── answer
//! ```
//!
//! Invariants:
//! * A write is answered only after it is on disk, and no read or watch shows it earlier: readers read at the last
//!   committed revision. Writes that wait together are committed together.
//! * Keys, revisions, errors and their messages are etcd's, because clients match on them.
//! * A watcher holds a position in the history and no buffer of its own, so a slow one costs nothing; one that falls out
//!   of the history is cancelled with the compact revision, as by etcd.
//! * If the disk fails, the server stops: it never answers what it could not keep.
//!
//! Deliberately absent: clustering, authentication and TLS (bind it to loopback), nested transactions, snapshots, watch
//! fragments. Those who need them run etcd; nothing else changes.

mod config;
mod error;
mod lease;
mod mvcc;
mod ops;
mod server;
mod service;
mod state;
mod storage;
mod writer;

pub use config::Options;
pub use server::serve;

/// Generated code of etcd's protos.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod pb {
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub(crate) const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/etcd.binpb"));
}
