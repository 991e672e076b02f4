//! Whether a version answers as its manifest says. Pure but for the answers, which are an argument.

use anyhow::{bail, ensure};
use understudy_distilbert::Precision;
use understudy_worker::GoldenExample;

/// Most golden examples that are checked, so that loading takes seconds whatever a manifest holds.
const EXAMPLES_MAX: usize = 64;

/// How far a probability may be from the publisher's, which is in fp32. With `--precision auto` a lower precision has been
/// held to a tighter bound before, against this machine's own fp32.
fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::Fp32 => 0.001,
        Precision::Fp16 | Precision::Bf16 | Precision::Int8 => 0.05,
    }
}

/// The manifest's labels must be the checkpoint's.
///
/// # Errors
/// How they differ.
pub fn check_labels(manifest: &[String], checkpoint: &[String]) -> anyhow::Result<()> {
    ensure!(
        manifest.len() == checkpoint.len(),
        "the manifest has {} labels ({}), but the checkpoint's config.json has {} ({}): publish the version with its own labels",
        manifest.len(),
        manifest.join(", "),
        checkpoint.len(),
        checkpoint.join(", ")
    );
    for (index, (theirs, ours)) in manifest.iter().zip(checkpoint).enumerate() {
        ensure!(
            theirs == ours,
            "label {index} is \"{theirs}\" in the manifest, but \"{ours}\" in the checkpoint's config.json: publish the \
             version with its own labels"
        );
    }
    Ok(())
}

/// Compares a version's answers with the examples.
///
/// # Errors
/// The first example whose answer differs by more than the precision explains.
pub fn check(
    examples: &[GoldenExample],
    precision: Precision,
    answer: impl Fn(&str) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<()> {
    let tolerance = tolerance(precision);
    for (index, example) in examples.iter().take(EXAMPLES_MAX).enumerate() {
        let got = answer(&example.text)?;
        let want = &example.probabilities;
        ensure!(
            got.len() == want.len(),
            "the network has {} outputs for {} labels",
            got.len(),
            want.len()
        );
        // Within the tolerance, only classes that are nearly equal can change places.
        if let Some(class) = got
            .iter()
            .zip(want)
            .position(|(got, want)| (got - want).abs() > tolerance)
        {
            bail!(
                "golden example {index} gets probability {:.4} for class {class} in {precision}, its publisher got {:.4} \
                 (tolerance {tolerance}): the files are not those of the manifest, or they suffer in this precision",
                got[class],
                want[class]
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn labels_must_agree_in_number_name_and_order() {
        let two = names(&["negative", "positive"]);
        assert!(check_labels(&two, &two).is_ok());
        let error = check_labels(&names(&["a", "b", "c"]), &two).unwrap_err().to_string();
        assert!(
            error.starts_with("the manifest has 3 labels (a, b, c), but the checkpoint's config.json has 2"),
            "{error}"
        );
        let error = check_labels(&names(&["positive", "negative"]), &two)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("label 0 is \"positive\" in the manifest, but \"negative\""),
            "{error}"
        );
    }

    #[test]
    fn answers_must_be_within_the_precision() {
        let examples = [GoldenExample {
            text: "x".into(),
            probabilities: vec![0.30, 0.70],
        }];
        let with = |precision, got: [f32; 2]| check(&examples, precision, |_| Ok(got.to_vec()));
        assert!(with(Precision::Fp32, [0.3005, 0.6995]).is_ok());
        assert!(with(Precision::Fp32, [0.302, 0.698]).is_err());
        assert!(with(Precision::Bf16, [0.33, 0.67]).is_ok());
        assert!(with(Precision::Bf16, [0.36, 0.64]).is_err());
        assert!(with(Precision::Int8, [0.70, 0.30]).is_err());
        assert!(check(&examples, Precision::Fp32, |_| Ok(vec![1.0])).is_err());
        assert!(check(&examples, Precision::Fp32, |_| anyhow::bail!("no")).is_err());
    }
}
