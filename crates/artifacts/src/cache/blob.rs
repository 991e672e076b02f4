//! One file's content: is it here and whole, and if not, how it gets here.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use object_store::{GetResultPayload, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::{io::AsyncReadExt as _, sync::mpsc};

use super::{Layout, TEMPORARY, sync_folder};
use crate::{Error, File, file::hex, store::Store};

/// Bytes read from a disk at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks between the network and the disk.
const CHUNKS_AHEAD_MAX: usize = 8;

/// Keeps clean-up and other downloads of one blob away. It lives as long as the thread that writes, also when the fetch
/// itself was dropped.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) _shared: Arc<fs::File>,
    pub(super) _blob: Arc<fs::File>,
}

impl Layout {
    /// True if the blob is here and whole. Hashes it only if that was not done since it was last written.
    pub(super) fn has_blob(&self, file: &File) -> Result<bool, Error> {
        let path = self.blob(&file.sha256);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::local("cannot look at", path)(error)),
        };
        if !metadata.is_file() || metadata.len() != file.size_bytes {
            tracing::warn!(
                ?path,
                "a cached file has another size than it should, and is fetched again"
            );
            return Ok(false);
        }
        let marker = self.blob_sibling(&file.sha256, "verified");
        if fs::read(&marker).is_ok_and(|text| text == fingerprint(&metadata).as_bytes()) {
            return Ok(true);
        }
        let found = hash(&path).map_err(Error::local("cannot read", &path))?;
        if found != file.sha256 {
            tracing::warn!(?path, "a cached file is corrupt, and is fetched again");
            return Ok(false);
        }
        self.mark_verified(&file.sha256)?;
        Ok(true)
    }

    /// Needs no sync: a marker that is lost or torn only costs another hash.
    fn mark_verified(&self, digest: &str) -> Result<(), Error> {
        let path = self.blob(digest);
        let marker = self.blob_sibling(digest, "verified");
        let metadata = fs::symlink_metadata(&path).map_err(Error::local("cannot look at", path))?;
        let folder = marker.parent().unwrap_or(&marker);
        let write = || {
            let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
            temporary.write_all(fingerprint(&metadata).as_bytes())?;
            temporary.persist(&marker).map_err(|error| error.error)
        };
        write().map(drop).map_err(Error::local("cannot write", &marker))
    }

    fn write_blob(&self, uri: &str, file: &File, mut chunks: mpsc::Receiver<Bytes>) -> Result<(), Error> {
        let path = self.blob(&file.sha256);
        let folder = path.parent().unwrap_or(&path);
        let failed = |error: io::Error| self.write_error(error, &path, file.size_bytes);
        // Removed when dropped.
        let mut temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(folder)
            .map_err(failed)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        while let Some(chunk) = chunks.blocking_recv() {
            size += chunk.len() as u64;
            if size > file.size_bytes {
                break;
            }
            hash.update(&chunk);
            temporary.write_all(&chunk).map_err(failed)?;
        }
        if size != file.size_bytes {
            return Err(Error::Size {
                uri: uri.to_owned(),
                expected: file.size_bytes,
                found: size,
            });
        }
        let found = hex(&hash.finalize());
        if found != file.sha256 {
            return Err(Error::Digest {
                uri: uri.to_owned(),
                expected: file.sha256.clone(),
                found,
            });
        }
        publish(temporary, &path).map_err(failed)?;
        sync_folder(folder)?;
        self.mark_verified(&file.sha256)
    }

    fn write_error(&self, error: io::Error, path: &Path, needed: u64) -> Error {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let free = self.free_bytes().unwrap_or(0);
            return Error::DiskFull {
                folder: self.folder.clone(),
                needed,
                free,
            };
        }
        Error::local("cannot write", path)(error)
    }
}

/// Downloads one blob under its name. Bytes pass through a short channel to a thread that hashes and writes.
pub(super) async fn download(
    layout: &Arc<Layout>,
    store: &Store,
    file: &File,
    guard: Guard,
    mut report: impl FnMut(u64),
) -> Result<(), Error> {
    let uri = store.uri_of(&file.path);
    let object = match store.objects.get(&store.location(&file.path)).await {
        Ok(object) => object,
        Err(error) => return Err(Error::store(uri, error)),
    };
    if object.meta.size != file.size_bytes {
        return Err(Error::Size {
            uri,
            expected: file.size_bytes,
            found: object.meta.size,
        });
    }

    let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD_MAX);
    let writer = {
        let (layout, uri, file) = (Arc::clone(layout), uri.clone(), file.clone());
        tokio::task::spawn_blocking(move || {
            let result = layout.write_blob(&uri, &file, receiver);
            drop(guard);
            result
        })
    };
    let mut stream = match object.payload {
        // The store's own stream of a local file has chunks of 8 KiB, each a hop to another thread.
        GetResultPayload::File(source, _) => read_file(source),
        GetResultPayload::Stream(stream) => stream,
    };
    let mut lost = None;
    loop {
        match stream.try_next().await {
            Ok(Some(chunk)) => {
                report(chunk.len() as u64);
                if chunks.send(chunk).await.is_err() {
                    break; // The writer knows why.
                }
            }
            Ok(None) => break,
            Err(error) => {
                lost = Some(Error::store(uri.clone(), error));
                break;
            }
        }
    }
    drop(chunks);
    let written = match writer.await {
        Ok(written) => written,
        Err(error) => Err(Error::local("cannot write", layout.blob(&file.sha256))(
            io::Error::other(error),
        )),
    };
    // A lost stream looks to the writer like a short file.
    lost.map_or(written, Err)
}

fn read_file(source: fs::File) -> futures::stream::BoxStream<'static, object_store::Result<Bytes>> {
    let failed = |source: io::Error| object_store::Error::Generic {
        store: "file",
        source: source.into(),
    };
    let source = tokio::fs::File::from_std(source);
    Box::pin(futures::stream::try_unfold(source, move |mut source| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let read = source.read_buf(&mut chunk).await.map_err(failed)?;
        Ok((read > 0).then(|| (chunk.freeze(), source)))
    }))
}

fn publish(mut temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.flush()?;
    let file = temporary.as_file();
    // Trees share the inode: a write through one of them would spoil all.
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()?;
    temporary.persist(path).map(drop).map_err(|error| error.error)
}

/// Changes with every write to the file and with its replacement.
fn fingerprint(metadata: &fs::Metadata) -> String {
    format!("{}.{:09} {}\n", metadata.mtime(), metadata.mtime_nsec(), metadata.ino())
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}
