use std::{io, path::PathBuf};

/// Why files could not be uploaded or fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URI names no store that this software knows.
    #[error(
        "{uri:?} is not an artifact store: {reason}; use file:///absolute/folder, s3://bucket/folder, \
         gs://bucket/folder or az://container/folder"
    )]
    Uri {
        /// As it was given.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file list holds something that must not be fetched or uploaded.
    #[error("the file list is not valid: {path:?} {reason}")]
    FileList {
        /// The entry.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The store has no such file.
    #[error("{uri} does not exist; was the version's upload finished, and is the store the same one?")]
    Missing {
        /// The file.
        uri: String,
    },
    /// The store refused.
    #[error("access to {uri} was refused; check this process's credentials for the store: {source}")]
    Denied {
        /// The file.
        uri: String,
        /// The store's words.
        source: object_store::Error,
    },
    /// A file is not as long as its list says.
    #[error("{uri} has {found} bytes where {expected} were published; it was cut or replaced: publish a new version")]
    Size {
        /// The file.
        uri: String,
        /// From the list.
        expected: u64,
        /// In the store.
        found: u64,
    },
    /// A file's content is not what its list says.
    #[error("{uri} has sha256 {found} where {expected} was published; it was replaced: publish a new version")]
    Digest {
        /// The file.
        uri: String,
        /// From the list.
        expected: String,
        /// Computed.
        found: String,
    },
    /// The store holds something else under the name.
    #[error("{uri} exists already with another content, which is not overwritten; remove it or choose another store")]
    Conflict {
        /// The file.
        uri: String,
    },
    /// A local file changed while it was uploaded.
    #[error("{path:?} changed while it was uploaded; upload again when nothing writes to it")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// No room in the cache.
    #[error(
        "the disk of the cache {folder:?} is full: {needed} bytes are needed, {free} are free; free some, lower the \
         cache's size limit or move the cache to another disk"
    )]
    DiskFull {
        /// The cache's folder.
        folder: PathBuf,
        /// Bytes of the files that are to be fetched.
        needed: u64,
        /// Bytes that this process may use.
        free: u64,
    },
    /// A local file or folder could not be read or written.
    #[error("{doing} {path:?}: {source}")]
    Local {
        /// E.g. "cannot open".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The store failed, after retries.
    #[error("{uri}: {source}")]
    Store {
        /// The file or folder.
        uri: String,
        /// The store's words.
        source: object_store::Error,
    },
}

impl Error {
    /// True if trying again cannot help, because what was asked for is itself wrong.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Uri { .. } | Self::FileList { .. })
    }

    /// True if an immediate second attempt may help.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Store {
                source: object_store::Error::Generic { .. },
                ..
            }
        )
    }

    pub(crate) fn store(uri: String, source: object_store::Error) -> Self {
        match source {
            object_store::Error::NotFound { .. } => Self::Missing { uri },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { uri, source }
            }
            source => Self::Store { uri, source },
        }
    }

    pub(crate) fn local(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Local { doing, path, source }
    }
}
