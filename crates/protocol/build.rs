//! Compiles `proto/` without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let sources = ["analyst", "records", "admin"].map(|name| format!("understudy/v1/{name}.proto"));
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = protox::compile(&sources, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("understudy.v1.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .enable_type_names()
        .extern_path(".google.protobuf", "::prost_types")
        .compile_fds(descriptors)?;
    Ok(())
}
