//! The last known good state on disk, so that a router that starts while the registry is away serves at once.
//!
//! The file is a SHA-256 of the rest in hexadecimal, a line feed, and JSON. It is replaced by writing a temporary file,
//! fsync, rename, fsync of the folder: a kill at any moment leaves the old or the new one. A file that cannot be
//! read is reported and ignored.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use understudy_protocol::{json, v1};
use understudy_registry::Record;

use super::known::{Known, KnownWorker};

const FORMAT: u64 = 1;
const FILE: &str = "last-known-good.json";
/// A larger file is none of ours.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A file that cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says so.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was not written by this software, or not wholly.
    #[error("{path} is not a last known good state ({problem}); it is ignored and will be replaced")]
    Corrupt {
        /// File.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// Reads the state, if there is one.
///
/// # Errors
/// If there is a file that cannot be used.
pub fn load(folder: &Path) -> Result<Option<Known>, Error> {
    let path = folder.join(FILE);
    let io = |source| Error::Io {
        path: path.clone(),
        source,
    };
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if metadata.len() > BYTES_MAX => return Err(io(io::Error::other("too large"))),
        Ok(_) => {}
    }
    let text = fs::read(&path).map_err(io)?;
    decode(&text)
        .map(Some)
        .map_err(|problem| Error::Corrupt { path, problem })
}

/// Writes the state.
///
/// # Errors
/// If the folder cannot be written.
pub fn save(folder: &Path, text: &[u8]) -> Result<(), Error> {
    let (path, temporary) = (folder.join(FILE), folder.join(format!("{FILE}.tmp")));
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })
}

/// The file's content. Workers' vanishing is not in it: who starts from a file knows nothing of that.
///
/// # Errors
/// If a record is no JSON.
pub fn encode(known: &Known) -> Result<Vec<u8>, String> {
    let record = |text: Result<String, json::Error>| -> Result<serde_json::Value, String> {
        serde_json::from_str(&text.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    };
    let routes: Vec<_> = known
        .routes
        .values()
        .map(|r| record(json::to_string(r)))
        .collect::<Result<_, _>>()?;
    let workers: Vec<_> = known
        .workers
        .values()
        .map(|w| record(json::to_string(&w.record)))
        .collect::<Result<_, _>>()?;
    let body = serde_json::json!({
        "format": FORMAT,
        "routes": routes,
        "workers": workers,
        "aborted": known.aborted,
    })
    .to_string();
    Ok(format!("{}\n{body}\n", digest(body.as_bytes())).into_bytes())
}

fn decode(text: &[u8]) -> Result<Known, String> {
    let line = text.iter().position(|&b| b == b'\n').ok_or("no checksum")?;
    let body = text[line + 1..].strip_suffix(b"\n").ok_or("cut off")?;
    if digest(body).as_bytes() != &text[..line] {
        return Err("wrong checksum".to_owned());
    }
    let body: serde_json::Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    if body["format"] != FORMAT {
        return Err(format!("format {} instead of {FORMAT}", body["format"]));
    }
    let workers = records::<v1::Worker>(&body["workers"])?.into_iter();
    let mut aborted = BTreeMap::new();
    // Absent in files of software that knew no aborts.
    for (model, epoch) in body["aborted"].as_object().into_iter().flatten() {
        aborted.insert(
            model.clone(),
            epoch.as_u64().ok_or("an aborted route without its epoch")?,
        );
    }
    Ok(Known {
        aborted,
        routes: records(&body["routes"])?,
        workers: workers
            .map(|(name, record)| (name, KnownWorker { record, vanished: None }))
            .collect(),
    })
}

fn records<R: Record>(values: &serde_json::Value) -> Result<BTreeMap<String, R>, String> {
    let mut records = BTreeMap::new();
    for value in values.as_array().ok_or("a list is missing")? {
        let record: R = json::from_slice(value.to_string().as_bytes()).map_err(|e| e.to_string())?;
        record.validate()?;
        records.insert(record.key(), record);
    }
    Ok(records)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let arm = v1::Arm {
            name: "stable".into(),
            version: "v1".into(),
            weight_ppm: 1_000_000,
        };
        let route = v1::Route {
            model: "m".into(),
            kind: 1,
            epoch: 4,
            arms: vec![arm],
            ..v1::Route::default()
        };
        let record = v1::Worker {
            worker: "w".into(),
            kind: 1,
            address: "http://127.0.0.1:1".into(),
            ..v1::Worker::default()
        };
        Known {
            routes: [("m".to_owned(), route)].into(),
            workers: [("w".to_owned(), KnownWorker { record, vanished: None })].into(),
            aborted: [("m".to_owned(), 4)].into(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()).unwrap(), None);
        save(&folder.path().join("new"), &encode(&known()).unwrap()).unwrap();
        assert_eq!(load(&folder.path().join("new")).unwrap(), Some(known()));
    }

    #[test]
    fn a_damaged_file_is_an_error_wherever_the_damage_is() {
        let folder = tempfile::tempdir().unwrap();
        let good = encode(&known()).unwrap();
        for cut in 0..good.len() {
            save(folder.path(), &good[..cut]).unwrap();
            assert!(load(folder.path()).is_err(), "cut at {cut}");
            let mut flipped = good.clone();
            flipped[cut] ^= 4;
            save(folder.path(), &flipped).unwrap();
            assert!(load(folder.path()).is_err(), "flipped at {cut}");
        }
    }
}
