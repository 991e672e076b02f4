//! What every worker does, whatever its engine: hold the versions that the routes name, and change them without a failed
//! request.
//!
//! ```text
//!             routes (watched)                      requests
//!                   │                                   │
//!   residency.rs ◄──┘  decides, pure            versions.rs: one lock-free look-up each
//!        │ actions          ▲ events                    ▲
//!        ▼                  │                           │ insert, remove
//!   reconciler.rs ──► load.rs: manifest → fetch → verify → load on a thread of its own
//!        │
//!        └──► registry record under a lease, health, metrics
//! ```
//!
//! A binary implements [`Loader`], calls [`Worker::start`], resolves each request's version by [`Versions::resolve`] and
//! hands its services, with an [`Edge`] around each, to [`Worker::serve`].
//!
//! Deliberately absent: deciding which versions are wanted (routes do), batching and queues (each engine's own), cutting
//! off work that does not end (a stream is told by [`Resident::expired`]; a thread in an engine cannot be stopped).

mod config;
mod edge;
mod error;
mod faults;
mod load;
mod loader;
mod manifest;
mod metrics;
mod reconciler;
mod residency;
mod serve;
mod shutdown;
mod versions;
mod worker;

pub use config::WorkerOptions;
pub use edge::{Arrival, Calls, Edge, Refused, is_shadow, undecodable, within};
pub use error::Error;
pub use faults::{FaultSpec, Faults};
pub use loader::{LoadError, Loader};
pub use manifest::{GoldenExample, Manifest, ManifestError};
pub use shutdown::shutdown_signal;
pub use versions::{Resident, Versions};
pub use worker::Worker;
