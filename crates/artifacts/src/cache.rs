//! The local cache.
//!
//! ```text
//! lock                          held shared by a fetch, exclusive by a clean-up
//! blobs/sha256/ab/<digest>      one file's content, read-only
//! blobs/sha256/ab/<digest>.verified   time and inode of the blob when it was hashed
//! blobs/sha256/ab/<digest>.lock       held by the process that downloads it
//! trees/<digest of the list>/…  a version's folder: hard links to blobs
//! trees/<digest>.lock           held shared while the folder is in use; its time is that of the last use
//! …/.tmp-…                      unfinished
//! ```
//!
//! Invariants, whenever the process is killed:
//! * A blob or tree gets its name by one rename, after its content was hashed and synced. So a name means complete.
//! * A blob that is not as its `.verified` file says (another time, inode or no such file) is hashed again before use;
//!   one that fails is downloaded again and replaced, and trees that hold the old inode are built anew.
//! * What begins with `.tmp-` belongs to a fetch. Clean-up holds the lock alone, so then it is nobody's and is removed.
//! * Locks are `flock`s: the kernel frees them with their process.
//!
//! Deliberately absent: noticing bits that rot without the file's time changing; the loader's own checks are for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{Error, File, file::digest_of_list, store::Store};

mod blob;
mod cleanup;
#[cfg(test)]
mod tests;
mod tree;

/// Files downloaded at the same time by one fetch.
const DOWNLOADS_MAX: usize = 4;
/// Attempts for one file; each attempt's requests are retried inside the store's client too.
const ATTEMPTS_MAX: u32 = 4;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// How often a fetch looks whether another process has finished the blob that it waits for.
const BLOB_LOCK_POLL: Duration = Duration::from_millis(50);
const TEMPORARY: &str = ".tmp-";

/// Settings of a [`Cache`].
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// Its folder, made if absent. Several processes may share one.
    pub folder: PathBuf,
    /// Bytes above which the least recently used trees that nobody uses are removed. A fetch may exceed it only by what is in
    /// use and what it fetches itself. `None`: nothing is removed.
    pub bytes_max: Option<u64>,
}

/// A local cache of versions' files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache {
    layout: Arc<Layout>,
}

/// A version's folder in the cache, complete. It is not removed while this value lives.
#[derive(Debug, Clone)]
pub struct Tree {
    path: PathBuf,
    _in_use: Arc<fs::File>,
}

impl Tree {
    /// The folder that holds the files under their relative paths. They are shared and read-only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Tree {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug)]
struct Layout {
    folder: PathBuf,
    blobs: PathBuf,
    trees: PathBuf,
    bytes_max: Option<u64>,
}

/// Calls the user's function with the sum over concurrent downloads.
struct Progress<F> {
    done: AtomicU64,
    total: u64,
    report: F,
}

impl<F: Fn(u64, u64)> Progress<F> {
    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.report)(done, self.total);
    }

    fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Cache {
    /// Opens a cache, and removes what killed processes left in it and what exceeds its bound.
    ///
    /// # Errors
    /// [`Error::Local`] if the folder cannot be made or used.
    pub fn open(options: CacheOptions) -> Result<Self, Error> {
        let CacheOptions { folder, bytes_max } = options;
        let layout = Layout {
            blobs: folder.join("blobs").join("sha256"),
            trees: folder.join("trees"),
            folder,
            bytes_max,
        };
        for folder in [&layout.blobs, &layout.trees] {
            fs::create_dir_all(folder).map_err(Error::local("cannot make the cache folder", folder))?;
        }
        layout.clean_up(0, &BTreeSet::new())?;
        Ok(Self {
            layout: Arc::new(layout),
        })
    }

    /// Answers with a folder that holds exactly `files` under their relative paths, each with its digest checked, and
    /// downloads from `uri` what is not in the cache. `progress` is called with (bytes done, bytes in total).
    ///
    /// Dropping the future stops the downloads and leaves nothing unfinished behind.
    ///
    /// # Errors
    /// [`Error`]; transient failures of the store were retried before.
    pub async fn fetch(
        &self,
        uri: &str,
        files: &[File],
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Tree, Error> {
        File::check_list(files)?;
        let store = Store::open(uri)?;
        let layout = &self.layout;
        // Files with one content are one blob.
        let wanted: BTreeMap<String, File> = files.iter().map(|f| (f.sha256.clone(), f.clone())).collect();

        let (shared, missing) = {
            let (layout, wanted) = (Arc::clone(layout), wanted.clone());
            blocking(move || {
                let needed = wanted
                    .values()
                    .filter(|f| !layout.blob(&f.sha256).exists())
                    .map(|f| f.size_bytes)
                    .sum();
                layout.clean_up(needed, &wanted.keys().cloned().collect())?;
                let shared = Arc::new(layout.lock_shared()?);
                let mut missing = Vec::new();
                for file in wanted.into_values() {
                    if !layout.has_blob(&file)? {
                        missing.push(file);
                    }
                }
                layout.check_room(missing.iter().map(|f| f.size_bytes).sum())?;
                Ok((shared, missing))
            })
            .await?
        };

        let total = wanted.values().map(|f| f.size_bytes).sum();
        let here = total - missing.iter().map(|f| f.size_bytes).sum::<u64>();
        let progress = Progress {
            done: AtomicU64::new(0),
            total,
            report: progress,
        };
        progress.add(here);
        futures::stream::iter(missing)
            .map(|file| self.fetch_blob(&store, file, &shared, &progress))
            .buffer_unordered(DOWNLOADS_MAX)
            .try_collect::<()>()
            .await?;

        let (layout, files) = (Arc::clone(layout), files.to_vec());
        blocking(move || {
            let tree = layout.tree(&digest_of_list(&files), &files);
            drop(shared);
            tree
        })
        .await
    }

    async fn fetch_blob<F: Fn(u64, u64)>(
        &self,
        store: &Store,
        file: File,
        shared: &Arc<fs::File>,
        progress: &Progress<F>,
    ) -> Result<(), Error> {
        let guard = self.lock_blob(&file.sha256, shared).await?;
        // Another process may have been faster.
        let (layout, wanted) = (Arc::clone(&self.layout), file.clone());
        if blocking(move || layout.has_blob(&wanted)).await? {
            progress.add(file.size_bytes);
            return Ok(());
        }
        let mut backoff = BACKOFF_MIN;
        for attempt in 1.. {
            let mut done = 0;
            let report = |bytes| {
                done += bytes;
                progress.add(bytes);
            };
            match blob::download(&self.layout, store, &file, guard.clone(), report).await {
                Ok(()) => break,
                Err(error) if error.is_transient() && attempt < ATTEMPTS_MAX => {
                    progress.take_back(done);
                    tracing::info!(attempt, %error, "a download is tried again");
                    tokio::time::sleep(backoff).await;
                    backoff *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until no other fetch, of this process or another, downloads the blob.
    async fn lock_blob(&self, digest: &str, shared: &Arc<fs::File>) -> Result<blob::Guard, Error> {
        let path = self.layout.blob_sibling(digest, "lock");
        let lock = blocking(move || {
            let folder = path.parent().unwrap_or(&path);
            fs::create_dir_all(folder).map_err(Error::local("cannot make", folder))?;
            open_lock(&path)
        })
        .await?;
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(blob::Guard {
                        _shared: Arc::clone(shared),
                        _blob: Arc::new(lock),
                    });
                }
                Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(BLOB_LOCK_POLL).await,
                Err(fs::TryLockError::Error(error)) => {
                    return Err(Error::local("cannot lock", self.layout.blob_sibling(digest, "lock"))(
                        error,
                    ));
                }
            }
        }
    }
}

impl Layout {
    fn blob(&self, digest: &str) -> PathBuf {
        self.blobs.join(digest.get(..2).unwrap_or("__")).join(digest)
    }

    fn blob_sibling(&self, digest: &str, suffix: &str) -> PathBuf {
        self.blob(digest).with_extension(suffix)
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    fn lock_shared(&self) -> Result<fs::File, Error> {
        let path = self.lock_path();
        let lock = open_lock(&path)?;
        lock.lock_shared().map_err(Error::local("cannot lock", path))?;
        Ok(lock)
    }

    /// Better one clear error before the download than one in its middle.
    fn check_room(&self, needed: u64) -> Result<(), Error> {
        match self.free_bytes() {
            Some(free) if free < needed => Err(Error::DiskFull {
                folder: self.folder.clone(),
                needed,
                free,
            }),
            _ => Ok(()),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.folder).ok()?;
        disk.blocks_available().checked_mul(disk.fragment_size())
    }
}

/// Lock files are never written: only their lock and their time mean something.
fn open_lock(path: &Path) -> Result<fs::File, Error> {
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::local("cannot open", path))
}

fn touch(file: &fs::File, path: &Path) -> Result<(), Error> {
    file.set_modified(SystemTime::now())
        .map_err(Error::local("cannot set the time of", path))
}

/// Makes renames in a folder survive a power cut.
fn sync_folder(path: &Path) -> Result<(), Error> {
    fs::File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::local("cannot sync", path))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::local("cannot finish work on", "the cache")(
            std::io::Error::other(error),
        )),
    }
}
