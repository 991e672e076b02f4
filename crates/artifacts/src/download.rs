//! Takes one file out of a store, e.g. a model that somebody else put there.

use std::path::Path as FsPath;

use futures::StreamExt as _;
use object_store::ObjectStoreExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::{Error, store::Store};

/// Downloads the file that a URI names, e.g. `s3://bucket/folder/model.gguf`, to a path on this machine.
///
/// `progress` is called with (bytes done, bytes in total). There is no digest to check it by: whoever publishes it makes one.
///
/// # Errors
/// [`Error`]; what was written by then stays.
pub async fn download(uri: &str, to: &FsPath, progress: impl Fn(u64, u64) + Send + Sync) -> Result<(), Error> {
    let store = Store::open(uri)?;
    let failed = |error| Error::store(uri.to_owned(), error);
    let object = store.objects.get(&store.itself()).await.map_err(failed)?;
    let total = object.meta.size;
    let local = || Error::local("cannot write", to);
    let mut file = tokio::fs::File::create(to).await.map_err(local())?;
    let mut done = 0;
    progress(done, total);
    let mut stream = object.into_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(failed)?;
        file.write_all(&chunk).await.map_err(local())?;
        done += chunk.len() as u64;
        progress(done, total);
    }
    file.flush().await.map_err(local())?;
    if done == total {
        Ok(())
    } else {
        Err(Error::Size {
            uri: uri.to_owned(),
            expected: total,
            found: done,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn one_file_comes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a b.gguf"), folder.path().join("copy"));
        let content: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        std::fs::write(&from, &content).unwrap();
        let uri = crate::uri_of_folder(&from).unwrap();
        assert_eq!(crate::path_of_uri(&uri), Some(from));
        assert_eq!(crate::path_of_uri("s3://bucket/a"), None);
        let last = Mutex::new((0, 0));
        download(&uri, &to, |done, total| *last.lock().unwrap() = (done, total))
            .await
            .unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), content);
        assert_eq!(last.into_inner().unwrap(), (300_000, 300_000));
        let missing = download(&format!("{uri}x"), &to, |_, _| {}).await.unwrap_err();
        assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    }
}
