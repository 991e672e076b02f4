#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    sync::Mutex,
};

use super::*;
use crate::{upload, uri_of_folder};

struct Fixture {
    _temporary: tempfile::TempDir,
    source: PathBuf,
    store: PathBuf,
    cache: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let [source, store, cache] = ["source", "store", "cache"].map(|name| temporary.path().join(name));
        fs::create_dir_all(source.join("nested")).unwrap();
        fs::create_dir_all(&store).unwrap();
        Self {
            _temporary: temporary,
            source,
            store,
            cache,
        }
    }

    fn write(&self, path: &str, content: &[u8]) {
        fs::write(self.source.join(path), content).unwrap();
    }

    async fn upload(&self, version: &str, files: &[&str]) -> crate::Uploaded {
        let store = uri_of_folder(&self.store).unwrap();
        upload(&store, &format!("model/{version}"), &self.source, files, |_, _| {})
            .await
            .unwrap()
    }

    async fn upload_two(&self) -> crate::Uploaded {
        self.write("config.json", b"{}");
        self.write("nested/weights", &vec![7; 3_000_000]);
        self.upload("v1", &["config.json", "nested/weights"]).await
    }

    fn cache(&self, bytes_max: Option<u64>) -> Cache {
        Cache::open(CacheOptions {
            folder: self.cache.clone(),
            bytes_max,
        })
        .unwrap()
    }

    /// Everything in the cache but lock files.
    fn cached(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.cache.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.to_string_lossy().ends_with("lock") {
                    names.push(path.strip_prefix(&self.cache).unwrap().display().to_string());
                }
            }
        }
        names.sort();
        names
    }
}

fn no_progress(_: u64, _: u64) {}

#[tokio::test]
async fn fetch_lays_out_what_was_uploaded() {
    let fixture = Fixture::new();
    let uploaded = fixture.upload_two().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tree = {
        let seen = Arc::clone(&seen);
        let progress = move |done, total| seen.lock().unwrap().push((done, total));
        fixture
            .cache(None)
            .fetch(&uploaded.uri, &uploaded.files, progress)
            .await
            .unwrap()
    };
    assert_eq!(fs::read(tree.path().join("config.json")).unwrap(), b"{}");
    assert_eq!(
        fs::read(tree.path().join("nested/weights")).unwrap(),
        vec![7; 3_000_000]
    );
    let mode = fs::metadata(tree.path().join("config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o444);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|(done, _)| *done).max(), Some(3_000_002));
    assert!(
        seen.iter().all(|(_, total)| *total == 3_000_002) && seen.len() > 3,
        "{seen:?}"
    );

    // The store may go now.
    fs::remove_dir_all(&fixture.store).unwrap();
    let again = fixture
        .cache(None)
        .fetch(&uploaded.uri, &uploaded.files, no_progress)
        .await
        .unwrap();
    assert_eq!(again.path(), tree.path());
}

#[tokio::test]
async fn a_changed_file_in_the_store_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new();
    let uploaded = fixture.upload_two().await;
    let cache = fixture.cache(None);
    let stored = fixture
        .store
        .join("model/v1")
        .join(uploaded.uri.rsplit('/').next().unwrap())
        .join("config.json");
    fs::write(&stored, "[]").unwrap();
    let only = &uploaded.files[..1];
    let error = cache.fetch(&uploaded.uri, only, no_progress).await.unwrap_err();
    assert!(
        matches!(error, Error::Digest { .. }) && error.to_string().contains("config.json"),
        "{error}"
    );
    fs::write(&stored, "{").unwrap();
    let error = cache.fetch(&uploaded.uri, only, no_progress).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Size {
                expected: 2,
                found: 1,
                ..
            }
        ),
        "{error}"
    );
    fs::remove_file(&stored).unwrap();
    let error = cache.fetch(&uploaded.uri, only, no_progress).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert_eq!(fixture.cached(), Vec::<String>::new());
    // And with the file back, all is well.
    fs::write(&stored, "{}").unwrap();
    cache.fetch(&uploaded.uri, &uploaded.files, no_progress).await.unwrap();
}

#[tokio::test]
async fn a_file_list_that_leaves_its_folder_is_refused() {
    let fixture = Fixture::new();
    let uploaded = fixture.upload_two().await;
    let mut files = uploaded.files.clone();
    files[0].path = "../../escaped".into();
    let error = fixture
        .cache(None)
        .fetch(&uploaded.uri, &files, no_progress)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::FileList { .. }) && error.is_permanent(),
        "{error}"
    );
    assert_eq!(fixture.cached(), Vec::<String>::new());
}

#[tokio::test]
async fn corruption_on_the_disk_is_noticed_and_mended() {
    let fixture = Fixture::new();
    let uploaded = fixture.upload_two().await;
    let cache = fixture.cache(None);
    let path = cache
        .fetch(&uploaded.uri, &uploaded.files, no_progress)
        .await
        .unwrap()
        .path()
        .to_owned();
    // File times may be as coarse as a clock tick.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (small, large) = (path.join("config.json"), path.join("nested/weights"));

    // Same size, written in place: the tree and the blob share it.
    fs::set_permissions(&small, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&small, "!!").unwrap();
    // Cut short.
    fs::set_permissions(&large, fs::Permissions::from_mode(0o644)).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&large)
        .unwrap()
        .set_len(5)
        .unwrap();
    let tree = cache.fetch(&uploaded.uri, &uploaded.files, no_progress).await.unwrap();
    assert_eq!(fs::read(tree.path().join("config.json")).unwrap(), b"{}");
    assert_eq!(
        fs::metadata(tree.path().join("nested/weights")).unwrap().len(),
        3_000_000
    );

    // A file that is gone from the tree, or is another one.
    fs::remove_file(&small).unwrap();
    fs::write(&small, "other").unwrap();
    let tree = cache.fetch(&uploaded.uri, &uploaded.files, no_progress).await.unwrap();
    assert_eq!(fs::read(tree.path().join("config.json")).unwrap(), b"{}");
}

#[tokio::test]
async fn a_blob_that_nobody_marked_is_hashed_before_use() {
    let fixture = Fixture::new();
    let uploaded = fixture.upload_two().await;
    let cache = fixture.cache(None);
    let good = &uploaded.files[0];
    let blob = cache.layout.blob(&good.sha256);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, "{}").unwrap();
    // Right content: used as it is, without the store.
    cache
        .fetch("file:///nowhere", &uploaded.files[..1], no_progress)
        .await
        .unwrap();
    let inode = fs::metadata(&blob).unwrap().ino();
    // Wrong content under the right name and size: fetched again.
    let other = cache.layout.blob(&uploaded.files[1].sha256);
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, vec![8; 3_000_000]).unwrap();
    let tree = cache.fetch(&uploaded.uri, &uploaded.files, no_progress).await.unwrap();
    assert_eq!(
        fs::read(tree.path().join("nested/weights")).unwrap(),
        vec![7; 3_000_000]
    );
    assert_eq!(fs::metadata(&blob).unwrap().ino(), inode);
}

#[tokio::test]
async fn concurrent_fetches_share_one_download() {
    let fixture = Fixture::new();
    let uploaded = fixture.upload_two().await;
    // Two handles are as two processes: locks belong to open files.
    let caches = [fixture.cache(None), fixture.cache(None)];
    let fetches = (0..8).map(|n| caches[n % 2].fetch(&uploaded.uri, &uploaded.files, no_progress));
    let trees = futures::future::try_join_all(fetches).await.unwrap();
    let inode = |tree: &Tree| fs::metadata(tree.path().join("nested/weights")).unwrap().ino();
    assert!(trees.iter().all(|tree| inode(tree) == inode(&trees[0])));
}

#[tokio::test]
async fn the_least_recently_used_goes_and_what_is_in_use_stays() {
    let fixture = Fixture::new();
    let mut versions = Vec::new();
    for version in ["v1", "v2", "v3", "v4"] {
        fixture.write("weights", version.repeat(500_000).as_bytes());
        versions.push(fixture.upload(version, &["weights"]).await);
    }
    let cache = fixture.cache(Some(2_500_000));
    let fetch = async |n: usize| {
        cache
            .fetch(&versions[n].uri, &versions[n].files, no_progress)
            .await
            .unwrap()
    };
    let here = |n: usize| cache.layout.blob(&versions[n].files[0].sha256).exists();
    let held = fetch(0).await;
    drop(fetch(1).await);
    drop(fetch(2).await);
    // v1 is the oldest, but in use: v2 had to go.
    assert_eq!([0, 1, 2].map(here), [true, false, true]);
    assert!(held.path().join("weights").exists());
    drop(held);
    drop(fetch(3).await);
    assert_eq!([0, 1, 2, 3].map(here), [false, false, true, true]);
    // What is in use may exceed the bound, and is not touched.
    let all = [fetch(0).await, fetch(1).await, fetch(2).await];
    assert!(all.iter().all(|tree| tree.path().join("weights").exists()));
    drop(all);
    drop(fixture.cache(Some(0)));
    assert_eq!(fixture.cached(), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_disk_is_told_before_the_download() {
    let fixture = Fixture::new();
    let mut uploaded = fixture.upload_two().await;
    uploaded.files[1].size_bytes = 1 << 60;
    let error = fixture
        .cache(None)
        .fetch(&uploaded.uri, &uploaded.files, no_progress)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::DiskFull { needed, .. } if needed > 1 << 60),
        "{error}"
    );
}

#[tokio::test]
async fn opening_removes_what_a_killed_process_left() {
    let fixture = Fixture::new();
    drop(fixture.cache(None));
    let leftovers = [
        "blobs/sha256/ab/.tmp-x",
        "blobs/sha256/ab/abc.verified",
        "trees/.tmp-y/file",
    ];
    for leftover in leftovers {
        let path = fixture.cache.join(leftover);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let other = fixture.cache(None);
    assert_eq!(fixture.cached(), Vec::<String>::new());
    // But not while a fetch is under way.
    let under_way = other.layout.lock_shared().unwrap();
    fs::write(fixture.cache.join(leftovers[0]), "x").unwrap();
    drop(fixture.cache(None));
    assert_eq!(fixture.cached(), [leftovers[0]]);
    drop(under_way);
}
