//! What can be wrong with a data set.

use std::path::PathBuf;

/// Why data could not be used. The message says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, or its compressed stream is damaged.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No header names a column that is needed.
    #[error("{}: no column {wanted} among: {}{}", path.display(), found.join(", "), advice(*flag))]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The accepted names.
        wanted: String,
        /// The names that the file has.
        found: Vec<String>,
        /// The option that names another, if there is one.
        flag: Option<&'static str>,
    },
    /// A record is not CSV in UTF-8 or lacks fields.
    #[error("{}, line {line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the record begins, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A label that the model or the data set does not have.
    #[error("{}, line {line}: unknown label {found:?}; known are: {}", path.display(), known.join(", "))]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// Where the record begins, from 1.
        line: u64,
        /// The label as it stands there.
        found: String,
        /// The labels that would do.
        known: Vec<String>,
    },
    /// Nothing is left to work with.
    #[error("{}: {reason}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// Options or inputs that do not go together.
    #[error("{0}")]
    Invalid(String),
}

fn advice(flag: Option<&str>) -> String {
    flag.map_or_else(String::new, |flag| format!("; name the right one with {flag}"))
}
