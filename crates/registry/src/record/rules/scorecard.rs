//! What routers counted: that lists belong together and are bounded, and that sums are numbers. Counts are not compared with
//! each other: they are taken one by one while requests go on.

use understudy_protocol::v1;

use super::{check_length, check_name, check_share};

/// Classes of an analyst's version.
const CLASSES_MAX: usize = 256;
/// Hashes of a count of distinct keys.
const HASHES_MAX: usize = 1_024;
/// Buckets of a sketch.
const BUCKETS_MAX: usize = 2_048;

pub(in crate::record) fn scorecard(card: &v1::Scorecard) -> Result<(), String> {
    check_name("model", &card.model)?;
    check_name("router", &card.router)?;
    if card.rollout == 0 {
        return Err("rollout is missing; rollouts are counted from 1".to_owned());
    }
    if let Some(slice) = &card.slice {
        check_slice("slice", slice)?;
    }
    card.shadow
        .as_ref()
        .map_or(Ok(()), |shadow| check_shadow("shadow", shadow))
}

pub(super) fn check_slice(field: &str, slice: &v1::Slice) -> Result<(), String> {
    check_share(&format!("{field}.weight_ppm"), slice.weight_ppm)?;
    for (arm, card) in [("stable", &slice.stable), ("candidate", &slice.candidate)] {
        let Some(card) = card else { continue };
        let field = format!("{field}.{arm}");
        if let Some(keys) = &card.erring_keys {
            check_length(&format!("{field}.erring_keys"), keys.smallest_hashes.len(), HASHES_MAX)?;
        }
        check_sketch(&format!("{field}.latency"), card.latency.as_ref())?;
        if let Some(predictions) = &card.predictions {
            let field = format!("{field}.predictions");
            check_length(&format!("{field}.classes"), predictions.classes.len(), CLASSES_MAX)?;
            check_moments(&field, "confidence", predictions.confidence.as_ref())?;
            check_moments(&field, "tokens", predictions.tokens.as_ref())?;
        }
    }
    Ok(())
}

pub(super) fn check_shadow(field: &str, card: &v1::ShadowCard) -> Result<(), String> {
    check_sketch(&format!("{field}.stable_latency"), card.stable_latency.as_ref())?;
    check_sketch(&format!("{field}.candidate_latency"), card.candidate_latency.as_ref())?;
    if let Some(classes) = &card.classes {
        let field = format!("{field}.classes");
        let cells = classes.confusion.len();
        check_length(&format!("{field}.confusion"), cells, CLASSES_MAX * CLASSES_MAX)?;
        if cells.isqrt().pow(2) != cells {
            return Err(format!("{field}.confusion has {cells} entries, which is no square"));
        }
        check_moments(
            &field,
            "probability_difference",
            classes.probability_difference.as_ref(),
        )?;
        check_moments(&field, "confidence_difference", classes.confidence_difference.as_ref())?;
    }
    if let Some(texts) = &card.texts {
        let field = format!("{field}.texts");
        check_moments(&field, "log_length_ratio", texts.log_length_ratio.as_ref())?;
        check_moments(&field, "grounding_difference", texts.grounding_difference.as_ref())?;
    }
    Ok(())
}

fn check_sketch(field: &str, sketch: Option<&v1::Sketch>) -> Result<(), String> {
    let Some(sketch) = sketch else { return Ok(()) };
    check_length(&format!("{field}.buckets"), sketch.buckets.len(), BUCKETS_MAX)?;
    if sketch.buckets.len() != sketch.counts.len() {
        return Err(format!(
            "{field} has {} buckets and {} counts",
            sketch.buckets.len(),
            sketch.counts.len()
        ));
    }
    if !sketch.buckets.is_sorted_by(|a, b| a < b) {
        return Err(format!("{field}.buckets must ascend"));
    }
    Ok(())
}

fn check_moments(parent: &str, field: &str, moments: Option<&v1::Moments>) -> Result<(), String> {
    match moments {
        Some(m) if !m.sum.is_finite() || !m.sum_of_squares.is_finite() => {
            Err(format!("{parent}.{field} has a sum that is not a finite number"))
        }
        _ => Ok(()),
    }
}
