//! What can go wrong with a checkpoint or the engine.

use std::path::{Path, PathBuf};

/// Errors of this crate. Each says what to do about it, as far as that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the checkpoint cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The checkpoint cannot be served as it is.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// `config.json` is not one that this network can follow.
    #[error("config.json: {0}")]
    Config(String),
    /// A text could not be tokenised.
    #[error("tokeniser: {0}")]
    Tokenizer(String),
    /// The caller's batch is not one that the network takes; nothing was computed.
    #[error("{0}")]
    Input(String),
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Engine(String),
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
        Error::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn checkpoint(path: &Path, reason: impl Into<String>) -> Error {
        Error::Checkpoint {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// Keeps the first line only: what follows is a C++ backtrace.
    pub(crate) fn engine(what: &str) -> Error {
        Error::Engine(what.lines().next().unwrap_or("unknown error").to_owned())
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Error {
        Error::engine(&error.to_string())
    }
}
