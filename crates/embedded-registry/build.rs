//! Compiles etcd's protos without `protoc`.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(["etcd/rpc.proto"], [root])?;
    let mut config = tonic_prost_build::Config::new();
    // Keys and values are shared between the store and the answers, not copied.
    config.bytes(["."]);
    tonic_prost_build::configure()
        .build_client(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
