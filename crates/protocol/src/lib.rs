//! The contract in Rust: code generated from `proto/`, and what must be the same on both sides of it: metadata keys,
//! names, error details, the records' JSON form.
//!
//! Generated types stop at the crate that receives them: it turns them into types of its own, which are valid.

pub mod json;
pub mod metadata;
pub mod name;
mod rollout;
pub mod status;

/// Generated code of package `understudy.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("understudy.v1");
}

/// Encoded `FileDescriptorSet` of package `understudy.v1` with all its imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/understudy.v1.binpb"));

/// The manifest format that this software writes and the highest that it reads.
pub const MANIFEST_FORMAT: u32 = 1;

/// gRPC server reflection, v1 and v1alpha, for this contract and `grpc.health.v1`.
///
/// # Errors
/// Never with the descriptors that this crate embeds; the type is the builder's.
pub fn reflection() -> Result<tonic::service::Routes, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(tonic::service::Routes::new(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
