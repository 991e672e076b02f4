//! Uploads into a store that is a folder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::PathBuf, sync::Mutex};

use understudy_artifacts::{Cache, CacheOptions, Error, Uploaded, upload, uri_of_folder};

struct Fixture {
    temporary: tempfile::TempDir,
    store: String,
}

impl Fixture {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let store = uri_of_folder(&temporary.path().join("a store")).unwrap();
        fs::create_dir(temporary.path().join("source")).unwrap();
        Self { temporary, store }
    }

    fn source(&self) -> PathBuf {
        self.temporary.path().join("source")
    }

    async fn upload(&self, files: &[&str]) -> Result<Uploaded, Error> {
        upload(&self.store, "model/v1", &self.source(), files, |_, _| {}).await
    }

    fn stored(&self, uploaded: &Uploaded, path: &str) -> PathBuf {
        let folder = uploaded.uri.rsplit('/').next().unwrap();
        self.temporary.path().join("a store/model/v1").join(folder).join(path)
    }
}

#[tokio::test]
async fn small_large_and_empty_files_come_back_the_same() {
    let fixture = Fixture::new();
    // Above the size of one part, and not a multiple of it.
    let large: Vec<u8> = (0..20_000_003u32).map(|n| (n % 251) as u8).collect();
    fs::write(fixture.source().join("large"), &large).unwrap();
    fs::write(fixture.source().join("small"), "small").unwrap();
    fs::write(fixture.source().join("empty"), "").unwrap();
    let files = ["large", "small", "empty"];
    let reports = Mutex::new(Vec::new());
    let progress = |done, total| reports.lock().unwrap().push((done, total));
    let uploaded = upload(&fixture.store, "model/v1", &fixture.source(), &files, progress)
        .await
        .unwrap();
    assert_eq!(reports.lock().unwrap().last(), Some(&(20_000_008, 20_000_008)));
    assert!(reports.lock().unwrap().is_sorted());

    let folder = fixture.temporary.path().join("cache");
    let cache = Cache::open(CacheOptions {
        folder,
        bytes_max: None,
    })
    .unwrap();
    let tree = cache.fetch(&uploaded.uri, &uploaded.files, |_, _| {}).await.unwrap();
    assert!(fs::read(tree.path().join("large")).unwrap() == large);
    assert_eq!(fs::read(tree.path().join("small")).unwrap(), b"small");
    assert_eq!(fs::read(tree.path().join("empty")).unwrap(), b"");
}

#[tokio::test]
async fn the_same_again_is_the_same_and_another_content_goes_elsewhere() {
    let fixture = Fixture::new();
    fs::write(fixture.source().join("file"), "one").unwrap();
    let first = fixture.upload(&["file"]).await.unwrap();
    let written = fs::metadata(fixture.stored(&first, "file"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(fixture.upload(&["file"]).await.unwrap(), first);
    assert_eq!(
        fs::metadata(fixture.stored(&first, "file"))
            .unwrap()
            .modified()
            .unwrap(),
        written
    );

    fs::write(fixture.source().join("file"), "two").unwrap();
    let second = fixture.upload(&["file"]).await.unwrap();
    assert_ne!(second.uri, first.uri);
    assert_eq!(fs::read(fixture.stored(&first, "file")).unwrap(), b"one");
}

#[tokio::test]
async fn a_damaged_file_in_the_store_is_never_overwritten() {
    let fixture = Fixture::new();
    fs::write(fixture.source().join("file"), "one").unwrap();
    let uploaded = fixture.upload(&["file"]).await.unwrap();
    for damaged in ["eno", "longer"] {
        fs::write(fixture.stored(&uploaded, "file"), damaged).unwrap();
        let error = fixture.upload(&["file"]).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        assert_eq!(fs::read(fixture.stored(&uploaded, "file")).unwrap(), damaged.as_bytes());
    }
}

#[tokio::test]
async fn what_cannot_be_uploaded_is_refused_by_name() {
    let fixture = Fixture::new();
    let error = fixture.upload(&["absent"]).await.unwrap_err();
    assert!(
        matches!(error, Error::Local { .. }) && error.to_string().contains("absent"),
        "{error}"
    );
    fs::create_dir(fixture.source().join("folder")).unwrap();
    assert!(fixture.upload(&["folder"]).await.is_err());
    assert!(matches!(
        fixture.upload(&["../source/x"]).await,
        Err(Error::FileList { .. })
    ));
    fs::write(fixture.source().join("file"), "x").unwrap();
    for store in ["/no/uri", "http://host/x", "file://host/x"] {
        let result = upload(store, "model/v1", &fixture.source(), &["file"], |_, _| {}).await;
        assert!(matches!(result, Err(Error::Uri { .. })), "{store}");
    }
    let result = upload(&fixture.store, "../outside", &fixture.source(), &["file"], |_, _| {}).await;
    assert!(matches!(result, Err(Error::FileList { .. })));
}
