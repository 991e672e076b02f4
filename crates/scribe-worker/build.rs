//! Puts the libraries of llama.cpp beside the binary, and tells the binary to look for them there.
//!
//! ```text
//! target/release/understudy-scribe
//! target/release/lib/libllama.so.0 …            found by the run path
//! target/release/backends/libggml-cpu-*.so      the best for this machine is loaded at start
//! ```
//!
//! A folder copied as a whole runs elsewhere. Tests are in `deps/`, one below.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/../lib");
    let root = folder("DEP_LLAMA_ROOT")?;
    let backends = folder("DEP_LLAMA_BACKENDS_DIR")?;
    // …/release/build/<package>/out
    let out = folder("OUT_DIR")?;
    let target = out
        .ancestors()
        .nth(3)
        .ok_or_else(|| io::Error::other("OUT_DIR is not in a target folder"))?;
    copy(&root.join("lib"), &target.join("lib"), |name| {
        name.contains(".so.") && name.matches('.').count() == 2
    })?;
    copy(&backends, &target.join("backends"), |name| name.ends_with(".so"))?;
    remove_dangling(target)
}

/// The build of llama.cpp leaves links in the target folder to libraries that are not there, and fails when it runs again
/// and finds them.
fn remove_dangling(target: &Path) -> io::Result<()> {
    for folder in [target.to_owned(), target.join("deps"), target.join("examples")] {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "so") && path.is_symlink() && !path.exists() {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn folder(variable: &str) -> io::Result<PathBuf> {
    println!("cargo::rerun-if-env-changed={variable}");
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| {
        io::Error::other(format!(
            "{variable} is not set: llama-cpp-sys-2 must be a direct dependency with its dynamic-backends feature"
        ))
    })
}

fn copy(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(&wanted) {
            continue;
        }
        // A process may run from the old file: it keeps it.
        let (unfinished, finished) = (to.join(".unfinished"), to.join(&name));
        fs::copy(entry.path(), &unfinished)?;
        fs::rename(&unfinished, &finished)?;
        // Written again if it is removed.
        println!("cargo::rerun-if-changed={}", finished.display());
    }
    Ok(())
}
