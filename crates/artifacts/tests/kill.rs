//! A process that fetches, evicts and is killed at any moment leaves a cache that works and holds nothing corrupt.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use understudy_artifacts::{Cache, CacheOptions, File, Uploaded, upload, uri_of_folder};

const CHILD: &str = "UNDERSTUDY_TEST_KILL_FOLDER";
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
const FILES: [&str; 3] = ["config.json", "nested/weights", "shared"];
const KILLS: usize = 40;
/// Room for two of the three versions, so that the children evict all the time.
const BYTES_MAX: u64 = 5_000_000;

fn open(folder: &Path) -> Cache {
    Cache::open(CacheOptions {
        folder: folder.join("cache"),
        bytes_max: Some(BYTES_MAX),
    })
    .unwrap()
}

fn write_version(folder: &Path, version: &str) {
    let source = folder.join(version);
    fs::create_dir_all(source.join("nested")).unwrap();
    fs::write(source.join("config.json"), version).unwrap();
    fs::write(source.join("nested/weights"), version.repeat(900_000)).unwrap();
    fs::write(source.join("shared"), "the same in all".repeat(20_000)).unwrap();
}

async fn upload_version(folder: &Path, version: &str) -> Uploaded {
    let store = uri_of_folder(&folder.join("store")).unwrap();
    upload(&store, version, &folder.join(version), &FILES, |_, _| {})
        .await
        .unwrap()
}

/// Not a test of its own: the child of the next one.
#[tokio::test]
async fn child_fetches_until_it_is_killed() {
    let Some(folder) = env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let mut versions = Vec::new();
    for version in VERSIONS {
        versions.push(upload_version(&folder, version).await);
    }
    for n in 0.. {
        let Uploaded { uri, files } = &versions[n % versions.len()];
        let cache = open(&folder);
        cache.fetch(uri, files, |_, _| {}).await.unwrap();
    }
}

#[tokio::test]
async fn killed_at_any_moment() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let mut versions = Vec::new();
    for version in VERSIONS {
        write_version(folder, version);
        versions.push(upload_version(folder, version).await);
    }
    let mut random = StdRng::seed_from_u64(8);
    let mut interrupted = 0;
    for _ in 0..KILLS {
        let mut children: Vec<_> = (0..2)
            .map(|_| {
                Command::new(env::current_exe().unwrap())
                    .args(["--exact", "child_fetches_until_it_is_killed"])
                    .env(CHILD, folder)
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        thread::sleep(Duration::from_micros(random.random_range(20_000..160_000)));
        for child in &mut children {
            // Once it ended by itself, a fetch has failed.
            assert!(child.try_wait().unwrap().is_none(), "a fetch failed");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        interrupted += usize::from(has_leftovers(&folder.join("cache")));
        check_trees(&folder.join("cache/trees"), &versions);
    }
    assert!(
        interrupted > 0,
        "no kill has met a fetch at work: the test proves nothing"
    );

    let start = Instant::now();
    let cache = open(folder);
    assert!(!has_leftovers(&folder.join("cache")));
    for (Uploaded { uri, files }, version) in versions.iter().zip(VERSIONS) {
        let tree = cache.fetch(uri, files, |_, _| {}).await.unwrap();
        check_tree(tree.path(), version);
    }
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "a dead process's lock was waited for"
    );
}

/// A tree with its name is complete, at any time and before anything is mended.
fn check_trees(trees: &Path, versions: &[Uploaded]) {
    let Ok(entries) = fs::read_dir(trees) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(".tmp-") || name.ends_with(".lock") {
            continue;
        }
        let version = fs::read_to_string(path.join("config.json")).unwrap();
        assert!(VERSIONS.contains(&version.as_str()));
        let sizes = |files: &[File]| files.iter().map(|file| file.size_bytes).sum::<u64>();
        assert!(sizes(&versions[0].files) > 2_000_000);
        check_tree(&path, &version);
    }
}

fn check_tree(tree: &Path, version: &str) {
    assert_eq!(fs::read_to_string(tree.join("config.json")).unwrap(), version);
    assert!(fs::read_to_string(tree.join("nested/weights")).unwrap() == version.repeat(900_000));
    assert!(fs::read_to_string(tree.join("shared")).unwrap() == "the same in all".repeat(20_000));
}

fn has_leftovers(folder: &Path) -> bool {
    // A child may have been killed before it made the folder.
    fs::read_dir(folder).into_iter().flatten().any(|entry| {
        let path = entry.unwrap().path();
        path.file_name().unwrap().to_string_lossy().starts_with(".tmp-") || (path.is_dir() && has_leftovers(&path))
    })
}
