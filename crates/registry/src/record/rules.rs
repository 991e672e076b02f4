//! What a valid record is.

mod rollout;
mod scorecard;

use std::collections::BTreeSet;

use understudy_protocol::{MANIFEST_FORMAT, name, v1};

use super::{ARMS_MAX, HISTORY_MAX, STEPS_MAX, WEBHOOKS_MAX, WEIGHT_SUM_PPM};
pub(super) use rollout::rollout;
pub(super) use scorecard::scorecard;

fn check_name(field: &str, value: &str) -> Result<(), String> {
    name::check(value).map_err(|problem| format!("{field} {value:?} {problem}"))
}

fn check_kind(kind: i32) -> Result<(), String> {
    match v1::Kind::try_from(kind) {
        Ok(v1::Kind::Analyst | v1::Kind::Scribe) => Ok(()),
        Ok(v1::Kind::Unspecified) => Err("kind is missing".to_owned()),
        Err(_) => Err(format!("kind {kind} is not known to this software")),
    }
}

fn check_share(field: &str, ppm: u32) -> Result<(), String> {
    if u64::from(ppm) > WEIGHT_SUM_PPM {
        return Err(format!("{field} must be at most {WEIGHT_SUM_PPM}, not {ppm}"));
    }
    Ok(())
}

fn check_length(field: &str, length: usize, max: usize) -> Result<(), String> {
    if length > max {
        return Err(format!("{field} has {length} entries, at most {max} are allowed"));
    }
    Ok(())
}

fn check_unique<'a>(field: &str, values: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for value in values {
        if !seen.insert(value) {
            return Err(format!("{field} {value:?} appears twice"));
        }
    }
    Ok(())
}

/// Everything else may differ in a newer format, so its number is checked first.
pub(super) fn manifest(manifest: &v1::Manifest) -> Result<(), String> {
    if manifest.format > MANIFEST_FORMAT {
        return Err(format!(
            "was published by a newer Understudy (format {}, this one reads up to {MANIFEST_FORMAT}); upgrade this worker",
            manifest.format
        ));
    }
    if manifest.format == 0 {
        return Err("format is missing".to_owned());
    }
    check_name("model", &manifest.model)?;
    check_name("version", &manifest.version)?;
    check_kind(manifest.kind)?;
    if manifest.artifact_uri.is_empty() {
        return Err("artifact_uri is missing".to_owned());
    }
    if manifest.files.is_empty() {
        return Err("files is empty".to_owned());
    }
    for file in &manifest.files {
        check_file(file)?;
    }
    check_unique("files.path", manifest.files.iter().map(|f| f.path.as_str()))?;
    check_unique("labels", manifest.labels.iter().map(String::as_str))?;
    if manifest.labels.iter().any(String::is_empty) {
        return Err("labels has an empty one".to_owned());
    }
    for (index, example) in manifest.golden_examples.iter().enumerate() {
        if example.probabilities.len() != manifest.labels.len() {
            return Err(format!(
                "golden_examples[{index}] has {} probabilities for {} labels",
                example.probabilities.len(),
                manifest.labels.len()
            ));
        }
        if example.probabilities.iter().any(|p| !(0.0..=1.0).contains(p)) {
            return Err(format!("golden_examples[{index}] has a probability outside of [0, 1]"));
        }
    }
    if let Some((metric, _)) = manifest.metrics.iter().find(|(_, value)| !value.is_finite()) {
        return Err(format!("metrics {metric:?} is not a finite number"));
    }
    Ok(())
}

/// The path ends in file names on every worker: it must not leave the version's folder.
fn check_file(file: &v1::ArtifactFile) -> Result<(), String> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0', ':']);
    if !file.path.split('/').all(plain) {
        return Err(format!(
            "files.path {:?} must be relative, without empty parts, \".\" and \"..\"",
            file.path
        ));
    }
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if file.sha256.len() != 64 || !file.sha256.bytes().all(hex) {
        return Err(format!(
            "files.sha256 of {:?} must be 64 lower-case hexadecimal digits",
            file.path
        ));
    }
    Ok(())
}

pub(super) fn route(route: &v1::Route) -> Result<(), String> {
    check_name("model", &route.model)?;
    check_kind(route.kind)?;
    if v1::Pinning::try_from(route.pinning).is_err() {
        return Err(format!("pinning {} is not known to this software", route.pinning));
    }
    if route.arms.is_empty() || route.arms.len() > ARMS_MAX {
        return Err(format!("arms must be 1 to {ARMS_MAX}, not {}", route.arms.len()));
    }
    for arm in &route.arms {
        check_name("arms.name", &arm.name)?;
        check_name("arms.version", &arm.version)?;
    }
    check_unique("arms.name", route.arms.iter().map(|arm| arm.name.as_str()))?;
    let sum: u64 = route.arms.iter().map(|arm| u64::from(arm.weight_ppm)).sum();
    if sum != WEIGHT_SUM_PPM {
        return Err(format!("arms.weight_ppm must sum to {WEIGHT_SUM_PPM}, not {sum}"));
    }
    if let Some(shadow) = &route.shadow {
        // The first arm's answers are what it is compared with.
        if !route.arms.iter().skip(1).any(|arm| arm.name == shadow.arm) {
            return Err(format!(
                "shadow.arm {:?} must name an arm other than the first",
                shadow.arm
            ));
        }
        check_share("shadow.sample_ppm", shadow.sample_ppm)?;
        check_share("shadow.noise_ppm", shadow.noise_ppm)?;
        if shadow.sample_ppm == 0 {
            return Err("shadow.sample_ppm must be above 0; to mirror nothing, leave shadow out".to_owned());
        }
    }
    Ok(())
}

pub(super) fn worker(worker: &v1::Worker) -> Result<(), String> {
    check_name("worker", &worker.worker)?;
    check_kind(worker.kind)?;
    let host = worker
        .address
        .strip_prefix("http://")
        .or_else(|| worker.address.strip_prefix("https://"));
    if host.is_none_or(str::is_empty) {
        return Err(format!(
            "address {:?} must begin with http:// or https:// and name a host",
            worker.address
        ));
    }
    for residency in &worker.versions {
        check_name("versions.model", &residency.model)?;
        check_name("versions.version", &residency.version)?;
        match v1::ResidencyState::try_from(residency.state) {
            Ok(v1::ResidencyState::Unspecified) => return Err("versions.state is missing".to_owned()),
            Ok(_) => {}
            Err(_) => {
                return Err(format!(
                    "versions.state {} is not known to this software",
                    residency.state
                ));
            }
        }
    }
    let versions: Vec<String> = worker
        .versions
        .iter()
        .map(|r| format!("{}/{}", r.model, r.version))
        .collect();
    check_unique("versions", versions.iter().map(String::as_str))
}
