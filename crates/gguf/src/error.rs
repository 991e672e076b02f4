use std::{io, path::PathBuf};

/// Why a GGUF file was refused or could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a model that can be served.
    #[error("{path:?} cannot be served: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// What a writer was given fits no file.
    #[error("{path:?} was not written: {reason}")]
    Unwritable {
        /// The file that was to be.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file could not be read or written.
    #[error("{doing} {path:?}: {source}")]
    Local {
        /// E.g. "cannot open".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn local(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Local { doing, path, source }
    }
}

/// Why a check stopped; the path is added at the end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file is wrong.
    Bad(String),
    /// Reading failed.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) type Checked<T> = Result<T, Fault>;

/// The fault of a wrong file, as `format!`.
macro_rules! bad {
    ($($text:tt)*) => { $crate::error::Fault::Bad(format!($($text)*)) };
}
pub(crate) use bad;

/// Returns the fault of a wrong file unless a condition holds.
macro_rules! require {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::error::bad!($($text)*));
        }
    };
}
pub(crate) use require;
