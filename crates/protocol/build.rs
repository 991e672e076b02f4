//! Compiles `proto/` without `protoc`.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by the environment"
)]

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let sources =
        ["analyst", "scribe", "records", "rollout", "admin"].map(|name| format!("understudy/v1/{name}.proto"));
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = protox::compile(&sources, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("understudy.v1.binpb"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
