//! Removes leftovers and, above the cache's bound, the least recently used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{Layout, TEMPORARY, open_lock};
use crate::Error;

impl Layout {
    /// Removes leftovers, and then as much as lets `coming` bytes fit below the bound; blobs in `keep` stay. Does nothing
    /// while a fetch is under way, in this process or another: that fetch, or the next, will.
    pub(super) fn clean_up(&self, coming: u64, keep: &BTreeSet<String>) -> Result<(), Error> {
        let path = self.lock_path();
        let lock = open_lock(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(()),
            Err(fs::TryLockError::Error(error)) => return Err(Error::local("cannot lock", path)(error)),
        }
        let mut blobs = self.sweep()?;
        if let Some(limit) = self.bytes_max {
            self.shrink(&mut blobs, limit.saturating_sub(coming), keep)?;
        }
        Ok(())
    }

    /// Removes what unfinished fetches left, and answers with the blobs.
    fn sweep(&self) -> Result<BTreeMap<String, u64>, Error> {
        let mut blobs = BTreeMap::new();
        for (path, name) in list(&self.trees)? {
            if name.starts_with(TEMPORARY) {
                remove(&path)?;
            }
        }
        for (folder, _) in list(&self.blobs)? {
            for (path, name) in list(&folder)? {
                if name.starts_with(TEMPORARY) || name.ends_with(".lock") {
                    remove(&path)?;
                } else if let Some(digest) = name.strip_suffix(".verified") {
                    if !self.blob(digest).exists() {
                        remove(&path)?;
                    }
                } else if let Ok(metadata) = fs::symlink_metadata(&path) {
                    blobs.insert(name, metadata.len());
                }
            }
        }
        Ok(blobs)
    }

    fn shrink(&self, blobs: &mut BTreeMap<String, u64>, limit: u64, keep: &BTreeSet<String>) -> Result<(), Error> {
        self.drop_unlinked(blobs, limit, keep)?;
        for (_, path) in self.trees_by_last_use()? {
            if blobs.values().sum::<u64>() <= limit {
                return Ok(());
            }
            let lock_path = path.with_extension("lock");
            let lock = open_lock(&lock_path)?;
            if lock.try_lock().is_err() {
                continue; // In use.
            }
            tracing::info!(
                ?path,
                "a version's files are removed from the cache, to keep its size bound"
            );
            self.remove_tree(&path)?;
            remove(&lock_path)?;
            self.drop_unlinked(blobs, limit, keep)?;
        }
        let bytes: u64 = blobs.values().sum();
        if bytes > limit {
            tracing::warn!(
                bytes,
                limit,
                "the cache stays above its bound: the rest is in use or wanted"
            );
        }
        Ok(())
    }

    /// Removes blobs that no tree holds, until the bound is met.
    fn drop_unlinked(
        &self,
        blobs: &mut BTreeMap<String, u64>,
        limit: u64,
        keep: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let mut bytes: u64 = blobs.values().sum();
        let candidates: Vec<_> = blobs.keys().filter(|digest| !keep.contains(*digest)).cloned().collect();
        for digest in candidates {
            if bytes <= limit {
                break;
            }
            let path = self.blob(&digest);
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.nlink() > 1) {
                continue;
            }
            remove(&path)?;
            remove(&self.blob_sibling(&digest, "verified"))?;
            bytes -= blobs.remove(&digest).unwrap_or(0);
        }
        Ok(())
    }

    fn trees_by_last_use(&self) -> Result<Vec<(SystemTime, PathBuf)>, Error> {
        let mut trees: Vec<_> = list(&self.trees)?
            .into_iter()
            .filter(|(path, _)| path.extension().is_none() && path.is_dir())
            .map(|(path, _)| {
                let lock = path.with_extension("lock");
                let used = fs::metadata(lock).and_then(|metadata| metadata.modified());
                (used.unwrap_or(SystemTime::UNIX_EPOCH), path)
            })
            .collect();
        trees.sort();
        Ok(trees)
    }
}

fn list(folder: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let failed = || Error::local("cannot list", folder);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        entries.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(entries)
}

/// Removes a file or folder; one that is gone is as good.
fn remove(path: &Path) -> Result<(), Error> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let result = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::local("cannot remove", path)(error)),
        _ => Ok(()),
    }
}
