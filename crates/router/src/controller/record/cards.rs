//! Counts.

use understudy_protocol::v1;
use understudy_rollout::{
    distinct::Distinct,
    scorecard::{ArmCard, ClassPairs, LabelCard, LatencyMark, Moments, Predictions, ShadowCard, Slice, TextPairs},
    sketch::Sketch,
};

use super::Invalid;

/// Reads both arms' counts.
///
/// # Errors
/// If they break a rule.
pub fn slice_from(slice: &v1::Slice) -> Result<Slice, Invalid> {
    let arm = |card: Option<&v1::ArmCard>, field: &str| {
        card.map(arm_from)
            .transpose()
            .map(Option::unwrap_or_default)
            .map_err(|invalid| invalid.within(field))
    };
    Ok(Slice {
        epoch: slice.epoch,
        weight_ppm: slice.weight_ppm,
        stable: arm(slice.stable.as_ref(), "stable")?,
        candidate: arm(slice.candidate.as_ref(), "candidate")?,
    })
}

/// Both arms' counts for the registry.
#[must_use]
pub fn slice_to(slice: &Slice) -> v1::Slice {
    v1::Slice {
        epoch: slice.epoch,
        weight_ppm: slice.weight_ppm,
        stable: Some(arm_to(&slice.stable)),
        candidate: Some(arm_to(&slice.candidate)),
    }
}

fn arm_from(card: &v1::ArmCard) -> Result<ArmCard, Invalid> {
    let predictions = card.predictions.as_ref().map(predictions_from).transpose();
    Ok(ArmCard {
        requests: card.requests,
        errors: card.errors,
        erring_keys: card
            .erring_keys
            .as_ref()
            .map(|keys| Distinct::from_hashes(keys.smallest_hashes.clone()))
            .unwrap_or_default(),
        fallbacks: card.fallbacks,
        latency: sketch_from(card.latency.as_ref(), "latency")?,
        predictions: predictions
            .map_err(|invalid| invalid.within("predictions"))?
            .unwrap_or_default(),
    })
}

fn arm_to(card: &ArmCard) -> v1::ArmCard {
    v1::ArmCard {
        requests: card.requests,
        errors: card.errors,
        erring_keys: Some(v1::Distinct {
            smallest_hashes: card.erring_keys.hashes().to_vec(),
        }),
        fallbacks: card.fallbacks,
        latency: Some(sketch_to(&card.latency)),
        predictions: Some(v1::Predictions {
            classes: card.predictions.classes.clone(),
            confidence: Some(moments_to(card.predictions.confidence)),
            tokens: Some(moments_to(card.predictions.tokens)),
        }),
    }
}

fn predictions_from(predictions: &v1::Predictions) -> Result<Predictions, Invalid> {
    Ok(Predictions {
        classes: predictions.classes.clone(),
        confidence: moments_from(predictions.confidence.as_ref(), "confidence")?,
        tokens: moments_from(predictions.tokens.as_ref(), "tokens")?,
    })
}

/// Reads the counts of mirrored requests.
///
/// # Errors
/// If they break a rule.
pub fn shadow_from(card: &v1::ShadowCard) -> Result<ShadowCard, Invalid> {
    let classes = card.classes.as_ref().map(classes_from).transpose();
    let texts = card.texts.as_ref().map(texts_from).transpose();
    Ok(ShadowCard {
        chosen: card.chosen,
        too_large: card.too_large,
        no_place: card.no_place,
        busy: card.busy,
        candidate_errors: card.candidate_errors,
        pairs: card.pairs,
        stable_latency: sketch_from(card.stable_latency.as_ref(), "stable_latency")?,
        candidate_latency: sketch_from(card.candidate_latency.as_ref(), "candidate_latency")?,
        classes: classes
            .map_err(|invalid| invalid.within("classes"))?
            .unwrap_or_default(),
        texts: texts.map_err(|invalid| invalid.within("texts"))?.unwrap_or_default(),
    })
}

/// Reads a mark of latencies.
///
/// # Errors
/// If it breaks a rule.
pub(super) fn mark_from(mark: &v1::LatencyMark) -> Result<LatencyMark, Invalid> {
    Ok(LatencyMark {
        epoch: mark.epoch,
        stable: sketch_from(mark.stable.as_ref(), "stable")?,
        candidate: sketch_from(mark.candidate.as_ref(), "candidate")?,
    })
}

/// A mark of latencies for the registry.
pub(super) fn mark_to(mark: &LatencyMark) -> v1::LatencyMark {
    v1::LatencyMark {
        epoch: mark.epoch,
        stable: Some(sketch_to(&mark.stable)),
        candidate: Some(sketch_to(&mark.candidate)),
    }
}

/// The counts of mirrored requests for the registry.
#[must_use]
pub fn shadow_to(card: &ShadowCard) -> v1::ShadowCard {
    let (classes, texts) = (&card.classes, &card.texts);
    v1::ShadowCard {
        chosen: card.chosen,
        too_large: card.too_large,
        no_place: card.no_place,
        busy: card.busy,
        candidate_errors: card.candidate_errors,
        pairs: card.pairs,
        stable_latency: Some(sketch_to(&card.stable_latency)),
        candidate_latency: Some(sketch_to(&card.candidate_latency)),
        classes: Some(v1::ClassPairs {
            confusion: classes.confusion.clone(),
            probability_difference: Some(moments_to(classes.probability_difference)),
            confidence_difference: Some(moments_to(classes.confidence_difference)),
            noise_triples: classes.noise_triples,
            only_candidate: classes.only_candidate,
            only_noise: classes.only_noise,
        }),
        texts: Some(v1::TextPairs {
            log_length_ratio: Some(moments_to(texts.log_length_ratio)),
            grounding_difference: Some(moments_to(texts.grounding_difference)),
            same_finish_reason: texts.same_finish_reason,
        }),
    }
}

fn classes_from(classes: &v1::ClassPairs) -> Result<ClassPairs, Invalid> {
    let cells = classes.confusion.len();
    if cells.isqrt().pow(2) != cells {
        return Err(Invalid::new(
            "confusion",
            format!("has {cells} counts, which is no square"),
        ));
    }
    Ok(ClassPairs {
        confusion: classes.confusion.clone(),
        probability_difference: moments_from(classes.probability_difference.as_ref(), "probability_difference")?,
        confidence_difference: moments_from(classes.confidence_difference.as_ref(), "confidence_difference")?,
        noise_triples: classes.noise_triples,
        only_candidate: classes.only_candidate,
        only_noise: classes.only_noise,
    })
}

fn texts_from(texts: &v1::TextPairs) -> Result<TextPairs, Invalid> {
    Ok(TextPairs {
        log_length_ratio: moments_from(texts.log_length_ratio.as_ref(), "log_length_ratio")?,
        grounding_difference: moments_from(texts.grounding_difference.as_ref(), "grounding_difference")?,
        same_finish_reason: texts.same_finish_reason,
    })
}

/// Reads the counts of labels.
#[must_use]
pub fn labels_from(card: &v1::LabelCard) -> LabelCard {
    LabelCard {
        both_right: card.both_right,
        only_stable_right: card.only_stable_right,
        only_candidate_right: card.only_candidate_right,
        both_wrong: card.both_wrong,
        stable_right: card.stable_right,
        stable_wrong: card.stable_wrong,
        candidate_right: card.candidate_right,
        candidate_wrong: card.candidate_wrong,
    }
}

/// The counts of labels for the registry.
#[must_use]
pub fn labels_to(card: LabelCard) -> v1::LabelCard {
    v1::LabelCard {
        both_right: card.both_right,
        only_stable_right: card.only_stable_right,
        only_candidate_right: card.only_candidate_right,
        both_wrong: card.both_wrong,
        stable_right: card.stable_right,
        stable_wrong: card.stable_wrong,
        candidate_right: card.candidate_right,
        candidate_wrong: card.candidate_wrong,
    }
}

fn sketch_from(sketch: Option<&v1::Sketch>, field: &str) -> Result<Sketch, Invalid> {
    let Some(sketch) = sketch else {
        return Ok(Sketch::default());
    };
    if sketch.buckets.len() != sketch.counts.len() {
        return Err(Invalid::new(field, "needs one count for each bucket"));
    }
    let buckets = sketch.buckets.iter().copied().zip(sketch.counts.iter().copied());
    Ok(Sketch::from_parts(sketch.zeros, buckets))
}

fn sketch_to(sketch: &Sketch) -> v1::Sketch {
    let (buckets, counts) = sketch.buckets().unzip();
    v1::Sketch {
        zeros: sketch.zeros(),
        buckets,
        counts,
    }
}

fn moments_from(moments: Option<&v1::Moments>, field: &str) -> Result<Moments, Invalid> {
    let moments = moments.copied().unwrap_or_default();
    if !moments.sum.is_finite() || !moments.sum_of_squares.is_finite() {
        return Err(Invalid::new(field, "must be finite"));
    }
    Ok(Moments {
        count: moments.count,
        sum: moments.sum,
        sum_of_squares: moments.sum_of_squares,
    })
}

fn moments_to(moments: Moments) -> v1::Moments {
    v1::Moments {
        count: moments.count,
        sum: moments.sum,
        sum_of_squares: moments.sum_of_squares,
    }
}
