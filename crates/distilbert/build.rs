//! Compiles the C++ shim and hands out the arguments with which executables must be linked.
//!
//! Cargo does not pass a library's link arguments on to the executables that use it. So this script applies them to this
//! crate's own tests and examples, and publishes them as metadata for its direct dependents, whose `build.rs` reads:
//!
//! ```ignore
//! fn main() {
//!     let arguments = std::env::var_os("DEP_UNDERSTUDY_DISTILBERT_LINK_ARGUMENTS").unwrap_or_default();
//!     for argument in arguments.to_string_lossy().split(';').filter(|argument| !argument.is_empty()) {
//!         println!("cargo::rustc-link-arg={argument}");
//!     }
//! }
//! ```

use std::{env, error::Error, path::PathBuf};

/// The functions that libtorch's MKL asks for the kind of processor; `process.rs` answers in its place.
const MKL_OVERRIDES: [&str; 2] = ["mkl_serv_intel_cpu_true", "mkl_serv_intel_cpu"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/shim.cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=LIBTORCH_LIB");
    let libtorch = env::var_os("LIBTORCH").map(PathBuf::from).ok_or(
        "LIBTORCH is not set: run `make setup`, which installs libtorch and links it as .libtorch, or set LIBTORCH to its folder",
    )?;
    let headers = libtorch.join("include");
    let libraries = env::var_os("LIBTORCH_LIB")
        .map_or_else(|| libtorch.clone(), PathBuf::from)
        .join("lib");
    // The rpath written into executables must hold wherever they are started.
    let libraries = libraries.canonicalize()?;

    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .opt_level(2)
        .std("c++17")
        .includes([&headers, &headers.join("torch/csrc/api/include")])
        .file("src/shim.cpp")
        .compile("understudy_shim");

    // Beside the executable first, as in a package; then where it was built.
    let mut arguments = vec![
        format!("-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib:{}", libraries.display()),
        "-Wl,--enable-new-dtags".to_owned(),
    ];
    arguments.extend(MKL_OVERRIDES.map(|symbol| format!("-Wl,--export-dynamic-symbol={symbol}")));
    for argument in &arguments {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::metadata=LINK_ARGUMENTS={}", arguments.join(";"));
    Ok(())
}
