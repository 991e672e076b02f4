//! The control plane's truth, in etcd: typed records, compare-and-swap, watches and leases.
//!
//! Keys, below a prefix (default `/understudy/v1/`); values are protobuf JSON, so `etcdctl get` shows readable text:
//!
//! | key | record | written by |
//! | --- | --- | --- |
//! | `models/{model}/versions/{version}` | [`v1::Manifest`] | [`Registry::create_manifest`], once |
//! | `models/{model}/route` | [`v1::Route`] | [`Registry::put_route`], compare-and-swap |
//! | `workers/{worker}` | [`v1::Worker`] | [`Registry::announce`], under a lease |
//!
//! Invariants:
//! * A record that is handed out is valid ([`Record::validate`]); a bad value in the registry is reported, never used.
//! * Every write compares `mod_revision`.
//! * Nothing here ends because the registry is away: [`Registry::connect`] makes no round trip, [`Follow`] and
//!   [`Announcement`] try again for ever with jittered backoff, and a follower keeps what it last knew.
//!
//! Deliberately absent: a last-known-good file (the router's own), and any notion of what records mean.

mod announce;
mod backoff;
mod client;
mod config;
mod error;
mod follow;
mod record;

pub use announce::Announcement;
pub use client::{Listing, Registry, Stored};
pub use config::RegistryOptions;
pub use error::Error;
pub use follow::{Follow, View};
pub use record::{ARMS_MAX, RECORD_BYTES_MAX, Record, WEIGHT_SUM_PPM};
pub use understudy_protocol::v1;
