//! The seam between this crate and an engine.

use std::path::Path;

use understudy_protocol::v1;

use crate::Manifest;

/// Why a version cannot be loaded: its text goes to the operator, so it says what is wrong with which file.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// Makes a version ready to answer.
pub trait Loader: Send + Sync + 'static {
    /// A version that is ready to answer. When the last [`crate::Resident`] of it goes, it is dropped on a thread of its own.
    type Loaded: Send + Sync + 'static;

    /// The kind of models that it loads. Routes of other kinds are not this worker's.
    const KIND: v1::Kind;

    /// Hardware and engine for the worker's record, e.g. "cpu, 2 engines".
    fn description(&self) -> String;

    /// Loads, checks, warms up and runs the golden examples. Blocking: it is called on a thread of its own, never two at a
    /// time. The folder stays as it is while the version is resident, so files may be memory-mapped.
    ///
    /// # Errors
    /// What is wrong with the version; the worker announces it as failed and goes on with the others. A panic counts as one.
    fn load(&self, manifest: &Manifest, folder: &Path) -> Result<Self::Loaded, LoadError>;

    /// Called after a version was dropped: the place to give memory back to the system.
    fn freed(&self) {}
}
