//! Answers for the wire.

use std::ops::Range;

use understudy_grounding::{self as grounding, ClaimKind, Verdict};
use understudy_protocol::v1;

use crate::{
    critique::Draft,
    engine::{Finish, FinishReason, Info, Timings, Usage},
};

/// Most claims that a report lists; its counts are of all. With [`SHOWN_BYTES_MAX`] the report stays below the 4 MiB that
/// clients take by default.
const CLAIMS_MAX: usize = 1000;
/// Most bytes of a claim, of its sentence and of its reason; longer ones are shortened.
const SHOWN_BYTES_MAX: usize = 1000;

/// The end of a generation.
pub(crate) fn finish(finish: &Finish, version: &str) -> v1::Finish {
    let reason = match finish.reason {
        FinishReason::End => v1::FinishReason::End,
        FinishReason::Stop => v1::FinishReason::Stop,
        FinishReason::Length => v1::FinishReason::Length,
    };
    v1::Finish {
        reason: reason.into(),
        usage: Some(usage(finish.usage)),
        timings: Some(timings(finish.timings)),
        version: version.to_owned(),
    }
}

pub(crate) fn usage(usage: Usage) -> v1::Usage {
    v1::Usage {
        prompt_tokens: usage.prompt,
        cached_prompt_tokens: usage.cached,
        completion_tokens: usage.completion,
    }
}

pub(crate) fn timings(timings: Timings) -> v1::Timings {
    v1::Timings {
        queue_seconds: timings.queue.as_secs_f64(),
        prompt_seconds: timings.prompt.as_secs_f64(),
        decode_seconds: timings.decode.as_secs_f64(),
    }
}

/// What a model is.
pub(crate) fn info(info: &Info, model: &str, version: &str) -> v1::ScribeInfo {
    v1::ScribeInfo {
        model: model.to_owned(),
        version: version.to_owned(),
        name: info.name.clone(),
        architecture: info.architecture.clone(),
        parameters: info.parameters,
        quantization: info.quantization.clone(),
        context_tokens: info.context_tokens,
        slots: info.slots,
        device: info.device.clone(),
    }
}

/// The report on the draft that is delivered.
pub(crate) fn report(draft: &Draft, attempts: u32) -> v1::GroundingReport {
    let claims = draft.report.claims.iter().take(CLAIMS_MAX);
    v1::GroundingReport {
        claims: claims.map(|one| claim(one, &draft.text)).collect(),
        supported: narrow(draft.report.supported()),
        unsupported: narrow(draft.report.unsupported()),
        attempt: draft.number,
        attempts,
    }
}

/// What a draft claims and the sheet does not support.
pub(crate) fn unsupported(draft: &Draft) -> Vec<v1::Claim> {
    let claims = draft.report.claims.iter().filter(|claim| !claim.is_supported());
    claims.take(CLAIMS_MAX).map(|one| claim(one, &draft.text)).collect()
}

fn claim(claim: &grounding::Claim, text: &str) -> v1::Claim {
    let kind = match claim.kind {
        ClaimKind::Number => v1::ClaimKind::Number,
        ClaimKind::Ranking => v1::ClaimKind::Ranking,
        ClaimKind::Quotation => v1::ClaimKind::Quotation,
    };
    let part = |range: &Range<usize>| shown(text.get(range.clone()).unwrap_or_default());
    let (fact, reason) = match &claim.verdict {
        Verdict::Supported { fact } => (fact.as_str(), ""),
        Verdict::Unsupported { fact, reason } => (fact.as_deref().unwrap_or_default(), reason.as_str()),
    };
    v1::Claim {
        kind: kind.into(),
        text: part(&claim.range),
        sentence: part(&claim.sentence),
        supported: claim.is_supported(),
        fact: fact.to_owned(),
        reason: shown(reason),
    }
}

fn shown(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = SHOWN_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shortened_between_characters() {
        assert_eq!(shown("54%"), "54%");
        let long = shown(&"é".repeat(SHOWN_BYTES_MAX));
        assert!(long.ends_with("é…") && long.len() <= SHOWN_BYTES_MAX + '…'.len_utf8());
        assert!(shown(&format!("a{}", "é".repeat(SHOWN_BYTES_MAX))).ends_with("é…"));
    }
}
