//! The versions that answer requests now.
//!
//! Readers take one snapshot each and never wait. The reconciler is the only writer. Whoever holds a [`Resident`] keeps
//! the version alive: removal only takes it out of the snapshot.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use understudy_artifacts::Tree;
use understudy_protocol::{
    metadata,
    status::{bad_request, reason},
};

use crate::residency::Id;

/// A version that is ready to answer. Cheap to clone; while one lives, the version is not freed.
pub struct Resident<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    loaded: T,
    id: Id,
    /// Its files stay in the cache.
    _tree: Tree,
    draining: AtomicBool,
    expired: CancellationToken,
}

impl<T> Clone for Resident<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> Deref for Resident<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner.loaded
    }
}

impl<T> std::fmt::Debug for Resident<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resident({})", self.inner.id)
    }
}

impl<T> Resident<T> {
    pub(crate) fn new(id: Id, loaded: T, tree: Tree) -> Self {
        let (draining, expired) = (AtomicBool::new(false), CancellationToken::new());
        Self {
            inner: Arc::new(Inner {
                loaded,
                id,
                _tree: tree,
                draining,
                expired,
            }),
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.inner.id.model
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.inner.id.version
    }

    /// Puts the version into an answer's metadata, or an error's.
    pub fn stamp(&self, metadata: &mut MetadataMap) {
        // Names are ASCII: `name::check` saw them.
        if let Ok(value) = MetadataValue::try_from(self.version()) {
            metadata.insert(metadata::VERSION, value);
        }
    }

    /// Resolves when this version has drained for longer than the drain timeout. Long streams end then, with
    /// [`Self::expired_status`].
    pub async fn expired(&self) {
        self.inner.expired.cancelled().await;
    }

    /// The end of a stream that outlived its version: opening it again meets the new one.
    #[must_use]
    pub fn expired_status(&self) -> Status {
        let message = format!("{} is no longer served here; open the stream again", self.inner.id);
        let mut status = reason(Code::Unavailable, message, "DRAINING");
        self.stamp(status.metadata_mut());
        status
    }

    pub(crate) fn expire(&self) {
        self.inner.expired.cancel();
    }

    /// True if nobody else holds it.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }
}

/// The versions that answer requests now.
pub struct Versions<T> {
    /// In the order of their names. A few, so a scan beats hashing a key that would have to be built first.
    residents: ArcSwap<Vec<Resident<T>>>,
    /// The process is about to end.
    closed: AtomicBool,
}

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self {
            residents: ArcSwap::default(),
            closed: AtomicBool::new(false),
        }
    }
}

impl<T> Versions<T> {
    /// The version that a request's metadata asks for: `understudy-model` and `understudy-version`, each of which may be
    /// absent where that leaves one choice. Takes no lock.
    ///
    /// # Errors
    /// UNAVAILABLE with reason `VERSION_NOT_RESIDENT` or `DRAINING`: another worker may answer. INVALID_ARGUMENT if the
    /// metadata leaves more than one choice.
    pub fn resolve(&self, metadata: &MetadataMap) -> Result<Resident<T>, Status> {
        let text = |key: &'static str| match metadata.get(key).map(MetadataValue::to_str) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(bad_request(key, "must be ASCII text")),
        };
        let (model, version) = (text(metadata::MODEL)?, text(metadata::VERSION)?);
        if self.closed.load(Ordering::Relaxed) {
            return Err(reason(Code::Unavailable, "this worker is shutting down", "DRAINING"));
        }
        let residents = self.residents.load();
        let fits = |resident: &&Resident<T>| {
            model.is_none_or(|model| resident.model() == model)
                && version.is_none_or(|version| resident.version() == version)
        };
        let mut chosen = None;
        let mut ambiguous = false;
        for resident in residents.iter().filter(fits) {
            let stays = |r: &Resident<T>| !r.inner.draining.load(Ordering::Relaxed);
            match chosen {
                None => chosen = Some(resident),
                // One that drains is only the answer if nothing else is.
                Some(other) if !stays(other) && stays(resident) => (chosen, ambiguous) = (Some(resident), false),
                Some(other) => ambiguous |= stays(other) == stays(resident),
            }
        }
        match chosen {
            Some(resident) if !ambiguous => Ok(resident.clone()),
            Some(_) => {
                let key = if model.is_none() && several_models(&residents) {
                    metadata::MODEL
                } else {
                    metadata::VERSION
                };
                Err(bad_request(
                    key,
                    &format!("this worker holds several: name one of {}", names(&residents)),
                ))
            }
            None => {
                let asked = format!("{}/{}", model.unwrap_or("*"), version.unwrap_or("*"));
                let message = format!("this worker does not hold {asked}; it holds {}", names(&residents));
                Err(reason(Code::Unavailable, message, "VERSION_NOT_RESIDENT"))
            }
        }
    }

    /// All of them, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Resident<T>> {
        self.residents.load().to_vec()
    }

    pub(crate) fn insert(&self, resident: Resident<T>) {
        let mut residents = self.all();
        residents.retain(|other| other.inner.id != resident.inner.id);
        residents.push(resident);
        residents.sort_by(|a, b| a.inner.id.cmp(&b.inner.id));
        self.residents.store(Arc::new(residents));
    }

    pub(crate) fn set_draining(&self, id: &Id, draining: bool) {
        if let Some(resident) = self.residents.load().iter().find(|resident| resident.inner.id == *id) {
            resident.inner.draining.store(draining, Ordering::Relaxed);
        }
    }

    pub(crate) fn remove(&self, id: &Id) -> Option<Resident<T>> {
        let mut residents = self.all();
        let at = residents.iter().position(|resident| resident.inner.id == *id)?;
        let removed = residents.remove(at);
        self.residents.store(Arc::new(residents));
        Some(removed)
    }

    /// No request gets a version any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

fn several_models<T>(residents: &[Resident<T>]) -> bool {
    residents.windows(2).any(|pair| pair[0].model() != pair[1].model())
}

fn names<T>(residents: &[Resident<T>]) -> String {
    let names: Vec<_> = residents.iter().map(|resident| resident.inner.id.to_string()).collect();
    if names.is_empty() {
        "nothing yet".to_owned()
    } else {
        names.join(", ")
    }
}
