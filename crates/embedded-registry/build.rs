//! Compiles etcd's protos without `protoc`.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by the environment"
)]

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(["etcd/rpc.proto"], [root])?;
    fs::write(
        Path::new(&env::var("OUT_DIR")?).join("etcd.binpb"),
        descriptors.encode_to_vec(),
    )?;
    let mut config = tonic_prost_build::Config::new();
    // Keys and values are shared between the store and the answers, not copied.
    config.bytes(["."]);
    tonic_prost_build::configure()
        .build_client(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
