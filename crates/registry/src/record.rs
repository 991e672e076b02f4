//! The records' places and rules.
//!
//! A record is checked where it enters the process and where it leaves it, so that the rest can trust it.

mod layout;
mod rules;

use prost::{Message, Name};
use understudy_protocol::{json, v1};

use crate::Error;

/// Weights of a route's arms sum to this.
pub const WEIGHT_SUM_PPM: u64 = 1_000_000;
/// Arms of a route.
pub const ARMS_MAX: usize = 32;
/// Bytes of a record in the registry: etcd takes 1.5 MiB a request.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// Steps of a rollout.
pub const STEPS_MAX: usize = 32;
/// Transitions that a rollout's record keeps.
pub const HISTORY_MAX: usize = 200;
/// Webhooks of a rollout.
pub const WEBHOOKS_MAX: usize = 8;

/// A kind of record that the registry holds.
pub trait Record: Message + Name + Default + Clone + PartialEq + 'static {
    /// The kind's folder below the prefix. Other kinds may lie in it, too.
    const FOLDER: &'static str;

    /// The key in [`crate::View::records`]: "sentiment", "sentiment/v1", "sentiment/router-1" or a worker's name.
    fn key(&self) -> String;

    /// The path below [`Self::FOLDER`] of the record with this key.
    fn path(key: &str) -> String;

    /// The key of a path below [`Self::FOLDER`], if it is of this kind.
    fn key_of(path: &str) -> Option<String>;

    /// Says what is wrong with the record, if anything.
    ///
    /// # Errors
    /// The problem, with the field's name.
    fn validate(&self) -> Result<(), String>;
}

impl Record for v1::Manifest {
    const FOLDER: &'static str = "models/";

    fn key(&self) -> String {
        format!("{}/{}", self.model, self.version)
    }

    fn path(key: &str) -> String {
        let (model, version) = key.split_once('/').unwrap_or((key, ""));
        format!("{model}/versions/{version}")
    }

    fn key_of(path: &str) -> Option<String> {
        let (model, version) = path.split_once("/versions/")?;
        (!model.contains('/') && !version.contains('/')).then(|| format!("{model}/{version}"))
    }

    fn validate(&self) -> Result<(), String> {
        rules::manifest(self)
    }
}

impl Record for v1::Route {
    const FOLDER: &'static str = "models/";

    fn key(&self) -> String {
        self.model.clone()
    }

    fn path(key: &str) -> String {
        format!("{key}/route")
    }

    fn key_of(path: &str) -> Option<String> {
        path.strip_suffix("/route")
            .filter(|model| !model.contains('/'))
            .map(str::to_owned)
    }

    fn validate(&self) -> Result<(), String> {
        rules::route(self)
    }
}

impl Record for v1::Worker {
    const FOLDER: &'static str = "workers/";

    fn key(&self) -> String {
        self.worker.clone()
    }

    fn path(key: &str) -> String {
        key.to_owned()
    }

    fn key_of(path: &str) -> Option<String> {
        (!path.contains('/')).then(|| path.to_owned())
    }

    fn validate(&self) -> Result<(), String> {
        rules::worker(self)
    }
}

impl Record for v1::Rollout {
    const FOLDER: &'static str = "models/";

    fn key(&self) -> String {
        self.model.clone()
    }

    fn path(key: &str) -> String {
        format!("{key}/rollout")
    }

    fn key_of(path: &str) -> Option<String> {
        path.strip_suffix("/rollout")
            .filter(|model| !model.contains('/'))
            .map(str::to_owned)
    }

    fn validate(&self) -> Result<(), String> {
        rules::rollout(self)
    }
}

impl Record for v1::Scorecard {
    const FOLDER: &'static str = "scorecards/";

    fn key(&self) -> String {
        format!("{}/{}", self.model, self.router)
    }

    fn path(key: &str) -> String {
        key.to_owned()
    }

    fn key_of(path: &str) -> Option<String> {
        let (_, router) = path.split_once('/')?;
        (!router.contains('/')).then(|| path.to_owned())
    }

    fn validate(&self) -> Result<(), String> {
        rules::scorecard(self)
    }
}

/// A record's path below the prefix.
pub(crate) fn full_path<R: Record>(key: &str) -> String {
    format!("{}{}", R::FOLDER, R::path(key))
}

/// Reads a record and checks it, also that it stands under its own key.
pub(crate) fn decode<R: Record>(key: &str, bytes: &[u8]) -> Result<R, Error> {
    let invalid = |reason: String| Error::Invalid {
        key: full_path::<R>(key),
        reason,
    };
    let record: R = json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    record.validate().map_err(invalid)?;
    if record.key() != key {
        return Err(invalid(format!(
            "the record under this key is that of {:?}",
            record.key()
        )));
    }
    Ok(record)
}

/// Writes a record after checking it.
pub(crate) fn encode<R: Record>(record: &R) -> Result<String, Error> {
    let invalid = |reason: String| Error::Invalid {
        key: full_path::<R>(&record.key()),
        reason,
    };
    record.validate().map_err(invalid)?;
    let json = layout::shorten(&json::to_string(record).map_err(|e| invalid(e.to_string()))?);
    if json.len() > RECORD_BYTES_MAX {
        return Err(invalid(format!(
            "has {} bytes as JSON, at most {RECORD_BYTES_MAX} are allowed",
            json.len()
        )));
    }
    Ok(json)
}

#[cfg(test)]
mod tests;
