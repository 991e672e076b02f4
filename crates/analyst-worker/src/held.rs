//! Where a request's version comes from.
//!
//! In a process that is [`understudy_worker::Versions`], which follows the routes; tests of the service hold one version
//! and need no registry.

use std::future::Future;

use tonic::{Status, metadata::MetadataMap};
use understudy_worker::{Resident, Versions};

use crate::model::Model;

/// The versions that answer now.
pub trait Holder: Send + Sync + 'static {
    /// One of them.
    type Held: Held;

    /// The version that a request's metadata asks for.
    ///
    /// # Errors
    /// The status that the caller gets.
    fn resolve(&self, metadata: &MetadataMap) -> Result<Self::Held, Status>;
}

/// A version that answers; it is not freed while one of these lives.
pub trait Held: Clone + Send + Sync + 'static {
    /// What it computes with.
    type Loaded: Model;

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

impl<M: Model> Holder for Versions<M> {
    type Held = Resident<M>;

    fn resolve(&self, metadata: &MetadataMap) -> Result<Resident<M>, Status> {
        Versions::resolve(self, metadata)
    }
}

impl<M: Model> Held for Resident<M> {
    type Loaded = M;

    fn loaded(&self) -> &M {
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
