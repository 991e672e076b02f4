//! A manifest that was checked.

use std::collections::BTreeSet;

use understudy_artifacts::File;
use understudy_protocol::{MANIFEST_FORMAT, name, v1};

/// How far a golden example's probabilities may be from summing to 1: they were printed and rounded.
const SUM_TOLERANCE: f32 = 1e-2;

/// One version of a model, checked: names can stand in keys, files stay in their folder, labels and golden examples fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// What kind of engine it is for.
    pub kind: v1::Kind,
    /// Folder that holds the files.
    pub artifact_uri: String,
    /// Its files.
    pub files: Vec<File>,
    /// Classes in the order of the model's outputs; each once, none empty.
    pub labels: Vec<String>,
    /// Inputs with the answers that the publisher got.
    pub golden_examples: Vec<GoldenExample>,
}

/// An input with the answer that the publisher got.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenExample {
    /// The input.
    pub text: String,
    /// One for each label, in fp32.
    pub probabilities: Vec<f32>,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ManifestError(String);

impl TryFrom<v1::Manifest> for Manifest {
    type Error = ManifestError;

    fn try_from(manifest: v1::Manifest) -> Result<Self, ManifestError> {
        let bad = |problem: String| Err(ManifestError(problem));
        // First, since in a newer format nothing else need mean what it means here.
        if manifest.format > MANIFEST_FORMAT {
            return bad(format!(
                "was published by a newer Understudy; upgrade this worker (manifest format {}, known up to \
                 {MANIFEST_FORMAT})",
                manifest.format
            ));
        }
        if manifest.format == 0 {
            return bad(
                "the manifest has no format; publish the version with the trainer or the understudy CLI".into(),
            );
        }
        for (what, text) in [("model", &manifest.model), ("version", &manifest.version)] {
            if let Err(problem) = name::check(text) {
                return bad(format!("the manifest's {what} {text:?} {problem}"));
            }
        }
        let kind = match v1::Kind::try_from(manifest.kind) {
            Ok(kind @ (v1::Kind::Analyst | v1::Kind::Scribe)) => kind,
            _ => return bad("the manifest has no kind that this worker knows".into()),
        };
        let files: Vec<_> = manifest
            .files
            .into_iter()
            .map(|file| File {
                path: file.path,
                sha256: file.sha256,
                size_bytes: file.size_bytes,
            })
            .collect();
        File::check_list(&files).map_err(|error| ManifestError(error.to_string()))?;
        check_labels(kind, &manifest.labels)?;
        let golden_examples = manifest
            .golden_examples
            .into_iter()
            .enumerate()
            .map(|(index, example)| golden_example(index, example, manifest.labels.len()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            model: manifest.model,
            version: manifest.version,
            kind,
            artifact_uri: manifest.artifact_uri,
            files,
            labels: manifest.labels,
            golden_examples,
        })
    }
}

fn check_labels(kind: v1::Kind, labels: &[String]) -> Result<(), ManifestError> {
    let mut seen = BTreeSet::new();
    for label in labels {
        if label.trim().is_empty() {
            return Err(ManifestError("the manifest has an empty label".into()));
        }
        if !seen.insert(label) {
            return Err(ManifestError(format!("the manifest has the label {label:?} twice")));
        }
    }
    if kind == v1::Kind::Analyst && labels.len() < 2 {
        return Err(ManifestError(format!(
            "the manifest has {} labels; a classifier has at least 2",
            labels.len()
        )));
    }
    Ok(())
}

fn golden_example(index: usize, example: v1::GoldenExample, labels: usize) -> Result<GoldenExample, ManifestError> {
    let bad = |problem: String| {
        Err(ManifestError(format!(
            "the manifest's golden example {index} {problem}"
        )))
    };
    let probabilities = example.probabilities;
    if example.text.trim().is_empty() {
        return bad("has no text".into());
    }
    if probabilities.len() != labels {
        return bad(format!("has {} probabilities for {labels} labels", probabilities.len()));
    }
    let sum: f32 = probabilities.iter().sum();
    // NaN is in no range.
    if !probabilities.iter().all(|p| (0.0..=1.0).contains(p)) || (labels > 0 && (sum - 1.0).abs() > SUM_TOLERANCE) {
        return bad("has probabilities that are not between 0 and 1 or do not sum to 1".into());
    }
    Ok(GoldenExample {
        text: example.text,
        probabilities,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> v1::Manifest {
        v1::Manifest {
            format: 1,
            model: "sentiment".into(),
            version: "v1".into(),
            kind: v1::Kind::Analyst.into(),
            artifact_uri: "file:///models/x".into(),
            files: vec![v1::ArtifactFile {
                path: "config.json".into(),
                sha256: "0".repeat(64),
                size_bytes: 1,
            }],
            labels: vec!["negative".into(), "positive".into()],
            golden_examples: vec![v1::GoldenExample {
                text: "fine".into(),
                probabilities: vec![0.25, 0.75],
            }],
            ..v1::Manifest::default()
        }
    }

    fn problem(change: impl FnOnce(&mut v1::Manifest)) -> String {
        let mut manifest = good();
        change(&mut manifest);
        Manifest::try_from(manifest).unwrap_err().to_string()
    }

    #[test]
    fn good_one_passes() {
        assert_eq!(Manifest::try_from(good()).unwrap().files[0].path, "config.json");
    }

    #[test]
    fn bad_ones_say_what_is_wrong() {
        assert!(problem(|m| m.format = 2).contains("upgrade this worker"));
        assert!(problem(|m| m.format = 0).contains("format"));
        assert!(problem(|m| m.model = "../x".into()).contains("model"));
        assert!(problem(|m| m.version = String::new()).contains("version"));
        assert!(problem(|m| m.kind = 99).contains("kind"));
        assert!(problem(|m| m.files.clear()).contains("file"));
        assert!(problem(|m| m.files[0].path = "../../etc/passwd".into()).contains("'..'"));
        assert!(problem(|m| m.labels[1] = "negative".into()).contains("twice"));
        assert!(problem(|m| m.labels[1] = " ".into()).contains("empty label"));
        assert!(problem(|m| m.labels.truncate(1)).contains("at least 2"));
        assert!(problem(|m| m.golden_examples[0].probabilities.push(0.0)).contains("3 probabilities for 2 labels"));
        assert!(problem(|m| m.golden_examples[0].probabilities[0] = f32::NAN).contains("golden example 0"));
        assert!(problem(|m| m.golden_examples[0].probabilities[0] = 0.9).contains("sum to 1"));
    }
}
