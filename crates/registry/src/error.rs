//! What can go wrong between this process and the registry.

/// An error of a registry call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer, or the answer that it cannot serve now. A write may or may not have happened: read before you retry.
    #[error("the registry at {endpoints} does not answer ({reason}): is it running, and does --registry name it?")]
    Unavailable {
        /// Where it was looked for.
        endpoints: String,
        /// What the transport or the server said.
        reason: String,
    },
    /// The registry answered that it will not: credentials, permissions, a request that it does not accept.
    #[error("the registry refused: {0}")]
    Refused(String),
    /// The key is there already and its record is immutable.
    #[error("{0} exists already; published versions are immutable, so choose another name")]
    AlreadyExists(String),
    /// The record changed since it was read.
    #[error("{0} was changed by somebody else meanwhile; read it again and repeat the change")]
    Conflict(String),
    /// This process does not lead (any more), so nothing was written.
    #[error("this router does not lead; the one that does will go on")]
    NotLeader,
    /// A record that breaks its rules, in the registry or about to be written.
    #[error("{key} is not valid: {reason}")]
    Invalid {
        /// Key below the prefix.
        key: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// Options that cannot work.
    #[error("{0}")]
    Options(String),
}
