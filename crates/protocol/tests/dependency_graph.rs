//! A new dependency between our crates is a decision of its own: it is written into this table, and into ARCHITECTURE.md.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, fs, path::Path};

const ALLOWED: &[(&str, &[&str])] = &[
    ("analyst-worker", &["distilbert", "protocol", "telemetry", "worker"]),
    ("artifacts", &[]),
    (
        "cli",
        &[
            "artifacts",
            "corpus",
            "embedded-registry",
            "grounding",
            "protocol",
            "rollout",
            "telemetry",
        ],
    ),
    ("corpus", &[]),
    ("distilbert", &[]),
    ("embedded-registry", &[]),
    ("gguf", &[]),
    ("grounding", &["corpus"]),
    ("protocol", &[]),
    ("registry", &["protocol"]),
    ("rollout", &[]),
    ("router", &["protocol", "registry", "rollout", "telemetry"]),
    (
        "scribe-worker",
        &["gguf", "grounding", "protocol", "telemetry", "worker"],
    ),
    ("simulation", &["rollout"]),
    ("telemetry", &[]),
    (
        "trainer",
        &[
            "artifacts",
            "corpus",
            "distilbert",
            "gguf",
            "grounding",
            "protocol",
            "telemetry",
        ],
    ),
    ("worker", &["artifacts", "protocol", "registry"]),
];

#[test]
fn crates_depend_only_on_what_is_below_them() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(crates).unwrap() {
        let folder = entry.unwrap().path();
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        let mut ours: Vec<_> = manifest["dependencies"]
            .as_table()
            .unwrap()
            .keys()
            .filter_map(|name| name.strip_prefix("understudy-").map(str::to_owned))
            .collect();
        ours.sort();
        found.insert(folder.file_name().unwrap().to_str().unwrap().to_owned(), ours);
    }
    let allowed: BTreeMap<_, _> = ALLOWED
        .iter()
        .map(|(name, below)| {
            (
                (*name).to_owned(),
                below.iter().map(|below| (*below).to_owned()).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(found, allowed, "left: the manifests, right: this table");
}
