//! Puts a version's files into a store.
//!
//! The folder's name holds the digest of the file list. So one place only ever gets one content: publishing twice is
//! the same as once, and two publishers who race for one name write to two places (the registry then takes one manifest).

use std::path::{Path as FsPath, PathBuf};

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, WriteMultipart, path::Path};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::{
    Error, File,
    file::{check_path, digest_of_list, hex},
    store::Store,
};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Smallest part of a multipart upload; a file below it goes up in one request.
const PART_BYTES_MIN: u64 = 8 << 20;
/// Stores take at most 10,000 parts.
const PARTS_MAX: u64 = 9_000;
/// Parts in flight of one file.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// What [`upload`] put into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The folder that holds the files: a manifest's `artifact_uri`.
    pub uri: String,
    /// The files, in the order that they were given.
    pub files: Vec<File>,
}

/// Uploads files of a folder to `store_uri`/`prefix`/(digest of the list).
///
/// A file that is there already with the same content is left alone, one with another content is never overwritten.
/// `progress` is called with (bytes done, bytes in total).
///
/// # Errors
/// [`Error`]; what was uploaded before stays, and a second call goes on from there.
pub async fn upload(
    store_uri: &str,
    prefix: &str,
    folder: &FsPath,
    files: &[impl AsRef<str>],
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<Uploaded, Error> {
    check_path(prefix).map_err(|reason| Error::FileList {
        path: prefix.to_owned(),
        reason,
    })?;
    let mut list = Vec::with_capacity(files.len());
    for path in files {
        let path = path.as_ref();
        check_path(path).map_err(|reason| Error::FileList {
            path: path.to_owned(),
            reason,
        })?;
        list.push(hash_file(path, &folder.join(path)).await?);
    }
    File::check_list(&list)?;

    let digest = digest_of_list(&list);
    let uri = format!("{}/{prefix}/{}", store_uri.trim_end_matches('/'), &digest[..16]);
    let store = Store::open(&uri)?;
    let total = list.iter().map(|file| file.size_bytes).sum();
    let mut before = 0;
    progress(0, total);
    for file in &list {
        upload_file(&store, file, folder.join(&file.path), |done| {
            progress(before + done, total)
        })
        .await?;
        before += file.size_bytes;
        progress(before, total);
    }
    Ok(Uploaded { uri, files: list })
}

async fn upload_file(
    store: &Store,
    file: &File,
    source: PathBuf,
    progress: impl Fn(u64) + Send + Sync,
) -> Result<(), Error> {
    let location = store.location(&file.path);
    let uri = store.uri_of(&file.path);
    let failed = |error| Error::store(uri.clone(), error);
    match store.objects.head(&location).await {
        Ok(_) => return check_existing(store, file, &location).await,
        Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(failed(error)),
    }

    let mut reader = open(&source).await?;
    let mut hash = Sha256::new();
    let mut size = 0u64;
    if file.size_bytes <= PART_BYTES_MIN {
        let mut content = Vec::new();
        while let Some(chunk) = next_chunk(&mut reader, &source).await? {
            size += chunk.len() as u64;
            if size > file.size_bytes {
                return Err(Error::Changed { path: source });
            }
            content.extend_from_slice(&chunk);
        }
        hash.update(&content);
        if size != file.size_bytes || hex(&hash.finalize()) != file.sha256 {
            return Err(Error::Changed { path: source });
        }
        let create = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        return match store.objects.put_opts(&location, content.into(), create).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => check_existing(store, file, &location).await,
            Err(error) => Err(failed(error)),
        };
    }

    let upload = store.objects.put_multipart(&location).await.map_err(failed)?;
    let part = usize::try_from(file.size_bytes.div_ceil(PARTS_MAX).max(PART_BYTES_MIN)).unwrap_or(usize::MAX);
    let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
    let sent = async {
        while let Some(chunk) = next_chunk(&mut reader, &source).await? {
            upload.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await.map_err(failed)?;
            hash.update(&chunk);
            size += chunk.len() as u64;
            upload.put(chunk);
            progress(size.min(file.size_bytes));
        }
        if size != file.size_bytes || hex(&hash.finalize()) != file.sha256 {
            return Err(Error::Changed { path: source.clone() });
        }
        Ok(())
    };
    if let Err(error) = sent.await {
        if let Err(abort) = upload.abort().await {
            tracing::warn!(uri, error = %abort, "parts of an unfinished upload may be left in the store");
        }
        return Err(error);
    }
    upload.finish().await.map(drop).map_err(failed)
}

/// What is in the store already must be what would have been put there.
async fn check_existing(store: &Store, file: &File, location: &Path) -> Result<(), Error> {
    let uri = store.uri_of(&file.path);
    let object = store
        .objects
        .get(location)
        .await
        .map_err(|error| Error::store(uri.clone(), error))?;
    if object.meta.size != file.size_bytes {
        return Err(Error::Conflict { uri });
    }
    let mut hash = Sha256::new();
    let mut stream = object.into_stream();
    while let Some(chunk) = stream.next().await {
        hash.update(chunk.map_err(|error| Error::store(uri.clone(), error))?);
    }
    if hex(&hash.finalize()) == file.sha256 {
        Ok(())
    } else {
        Err(Error::Conflict { uri })
    }
}

async fn hash_file(path: &str, source: &FsPath) -> Result<File, Error> {
    let mut reader = open(source).await?;
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    while let Some(chunk) = next_chunk(&mut reader, source).await? {
        hash.update(&chunk);
        size_bytes += chunk.len() as u64;
    }
    Ok(File {
        path: path.to_owned(),
        sha256: hex(&hash.finalize()),
        size_bytes,
    })
}

async fn open(path: &FsPath) -> Result<tokio::fs::File, Error> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(Error::local("cannot open", path))?;
    let metadata = file.metadata().await.map_err(Error::local("cannot read", path))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(Error::local("cannot upload", path)(std::io::Error::other(
            "it is not a regular file",
        )))
    }
}

async fn next_chunk(reader: &mut tokio::fs::File, path: &FsPath) -> Result<Option<Bytes>, Error> {
    let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
    let read = reader
        .read_buf(&mut chunk)
        .await
        .map_err(Error::local("cannot read", path))?;
    Ok((read > 0).then(|| chunk.freeze()))
}
