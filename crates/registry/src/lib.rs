//! The control plane's truth, in etcd: typed records, compare-and-swap, watches and leases.
//!
//! Keys, below a prefix (default `/understudy/v1/`); values are protobuf JSON, so `etcdctl get` shows readable text:
//!
//! | key | record | written by |
//! | --- | --- | --- |
//! | `models/{model}/versions/{version}` | [`v1::Manifest`] | [`Registry::create_manifest`], once |
//! | `models/{model}/route` | [`v1::Route`] | [`Registry::put_route`], compare-and-swap |
//! | `models/{model}/rollout` | [`v1::Rollout`] | [`Registry::commit`], compare-and-swap, with the route |
//! | `workers/{worker}` | [`v1::Worker`] | [`Registry::announce`], under a lease |
//! | `scorecards/{model}/{router}` | [`v1::Scorecard`] | [`Registry::scorecards`], under a lease |
//! | `controller/leader` | the leader's name | [`Registry::campaign`], under a lease |
//!
//! Invariants:
//! * A record that is handed out is valid ([`Record::validate`]); a bad value in the registry is reported, never used.
//! * Every write compares `mod_revision`; a leader's also the create revision of its key ([`Fence`]).
//! * Nothing here ends because the registry is away: [`Registry::connect`] makes no round trip, [`Follow`],
//!   [`Announcement`], [`Candidacy`] and [`ScorecardWriter`] try again for ever with jittered backoff, and a follower keeps
//!   what it last knew.
//!
//! Deliberately absent: a last-known-good file (the router's own), and any notion of what records mean.

mod announce;
mod backoff;
mod client;
mod commit;
mod config;
mod election;
mod error;
mod follow;
mod lease;
mod record;
mod scorecards;

pub use announce::Announcement;
pub use client::{Listing, Registry, Stored};
pub use commit::Commit;
pub use config::RegistryOptions;
pub use election::{Candidacy, Fence, Leadership};
pub use error::Error;
pub use follow::{Follow, View};
pub use record::{ARMS_MAX, HISTORY_MAX, RECORD_BYTES_MAX, Record, STEPS_MAX, WEBHOOKS_MAX, WEIGHT_SUM_PPM};
pub use scorecards::ScorecardWriter;
pub use understudy_protocol::v1;
