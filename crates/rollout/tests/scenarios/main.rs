//! Rollouts told as text. Each `*.txt` here is a script, a line `---`, and what came of it; `UPDATE_GOLDEN=1 cargo test`
//! writes the second part anew. The lines of a script:
//!
//! ```text
//! spec canary steps=10,50 hold=30s …    the rollout; see `Script::spec` for the words
//! observe candidate=1 routers=1/2 …     what is seen from now on: workers with a version ready, routers that are current
//! traffic rate=100 for=30s errors=1% candidate_errors=4% latency=20ms candidate_latency=60ms agree=96% astray=1%
//! labels both=90 only_stable=1 only_candidate=8 neither=1
//! wait 30s                              time without traffic
//! command abort "why"                   also pause, resume, approve, promote, undo, supersede
//! leader                                another router becomes leader: it has the record of at most 5 s ago
//! show                                  what it waits for, and the gates' verdicts
//! ```

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

mod script;
mod world;

use std::{fs, path::Path};

#[test]
fn scenarios_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 15, "only {} scenarios were found", files.len());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut unlike = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let (script, golden) = text.split_once("---\n").unwrap_or((&text, ""));
        let found = script::play(script).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        if update {
            fs::write(&path, format!("{script}---\n{found}")).unwrap();
        } else if found != golden {
            unlike.push(format!("{name}:\n--- written\n{golden}\n--- found\n{found}"));
        }
    }
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));
}
