//! What a request must fulfil beyond the registry's rules for records.

use tonic::Status;
use understudy_protocol::{
    status::bad_request,
    v1::{Kind, Manifest},
};
use understudy_registry::Record;

const STORES: [&str; 4] = ["file://", "s3://", "gs://", "az://"];
/// Classes of an analyst, at least.
const LABELS_MIN: usize = 2;

/// The registry's rules; the field is the first word of the problem.
pub(super) fn record<R: Record>(message: &str, record: &R) -> Result<(), Status> {
    record.validate().map_err(|problem| {
        let (field, rest) = problem.split_once(' ').unwrap_or((&problem, ""));
        bad_request(&format!("{message}.{field}"), rest)
    })
}

pub(super) fn manifest(manifest: &Manifest) -> Result<(), Status> {
    record("manifest", manifest)?;
    if !STORES.iter().any(|store| manifest.artifact_uri.starts_with(store)) {
        let problem = format!("must begin with one of {}", STORES.join(", "));
        return Err(bad_request("manifest.artifact_uri", &problem));
    }
    if manifest.kind == i32::from(Kind::Analyst) && manifest.labels.len() < LABELS_MIN {
        return Err(bad_request("manifest.labels", "an analyst needs at least two classes"));
    }
    if let Some(profile) = &manifest.reference_profile
        && !profile.label_shares.is_empty()
        && profile.label_shares.len() != manifest.labels.len()
    {
        return Err(bad_request(
            "manifest.reference_profile.label_shares",
            "needs one share for each label",
        ));
    }
    Ok(())
}
