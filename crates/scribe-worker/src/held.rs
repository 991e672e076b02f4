//! Where a request's version comes from.
//!
//! In a process that is [`understudy_worker::Versions`], which follows the routes; tests of the service hold one version
//! and need no registry.

use std::future::Future;

use tonic::{Status, metadata::MetadataMap};
use understudy_worker::{Resident, Versions};

use crate::engine::Engine;

/// The versions that answer now.
pub trait Holder: Send + Sync + 'static {
    /// One of them.
    type Held: Held;

    /// The version that a request's metadata asks for.
    ///
    /// # Errors
    /// The status that the caller gets.
    fn resolve(&self, metadata: &MetadataMap) -> Result<Self::Held, Status>;

    /// All of them.
    fn all(&self) -> Vec<Self::Held>;
}

/// A version that answers; it is not freed while one of these lives.
pub trait Held: Clone + Send + Sync + 'static {
    /// What it computes with.
    type Loaded: Engine;

    /// What it computes with.
    fn loaded(&self) -> &Self::Loaded;
    /// Its model's name.
    fn model(&self) -> &str;
    /// Its own name.
    fn version(&self) -> &str;
    /// Resolves when work that holds it must end.
    fn expired(&self) -> impl Future<Output = ()> + Send;
    /// How that work ends.
    fn expired_status(&self) -> Status;
}

impl<E: Engine> Holder for Versions<E> {
    type Held = Resident<E>;

    fn resolve(&self, metadata: &MetadataMap) -> Result<Resident<E>, Status> {
        Versions::resolve(self, metadata)
    }

    fn all(&self) -> Vec<Resident<E>> {
        Versions::all(self)
    }
}

impl<E: Engine> Held for Resident<E> {
    type Loaded = E;

    fn loaded(&self) -> &E {
        self
    }

    fn model(&self) -> &str {
        Resident::model(self)
    }

    fn version(&self) -> &str {
        Resident::version(self)
    }

    async fn expired(&self) {
        Resident::expired(self).await;
    }

    fn expired_status(&self) -> Status {
        Resident::expired_status(self)
    }
}
