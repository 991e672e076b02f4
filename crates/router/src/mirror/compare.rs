//! How two answers to one request differ. Pure.

use understudy_protocol::v1::{Classification, FinishReason};
use understudy_rollout::scorecard::{ShadowCard, TextPairs};

use crate::observe::{Answer, Classes, TextAnswer};

/// Disagreements that one request may leave, so that a long stream does not push out all others.
const DIFFERENCES_MAX: usize = 8;

/// A text to which the versions gave different answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Of the request's texts.
    pub(super) index: usize,
    pub(super) stable: String,
    pub(super) candidate: String,
}

/// Whether both answered the same texts; if not, the candidate failed, and this says how.
pub(super) fn comparable(stable: &Answer, candidate: &Answer) -> Result<(), String> {
    match (stable, candidate) {
        (Answer::Classes(stable), Answer::Classes(candidate)) => {
            if stable.len() != candidate.len() {
                return Err(format!("{} answers instead of {}", candidate.len(), stable.len()));
            }
            let refused = |(stable, candidate): (&Option<_>, &Option<_>)| stable.is_some() && candidate.is_none();
            match stable.iter().zip(candidate).position(refused) {
                Some(index) => Err(format!("refused text {index}")),
                None => Ok(()),
            }
        }
        (Answer::Text(_), Answer::Text(_)) => Ok(()),
        _ => Err("an answer of another kind".to_owned()),
    }
}

/// Counts a pair, or with a second answer of the stable version a triple.
pub(super) fn count(
    card: &mut ShadowCard,
    classes: Option<&Classes>,
    stable: &Answer,
    candidate: &Answer,
    again: Option<&Answer>,
) -> Vec<Difference> {
    match (stable, candidate) {
        (Answer::Classes(stable), Answer::Classes(candidate)) => {
            let again = match again {
                Some(Answer::Classes(again)) => Some(again),
                _ => None,
            };
            let mut differences = Vec::new();
            for (index, pair) in stable.iter().zip(candidate).enumerate() {
                let (Some(stable), Some(candidate)) = pair else {
                    continue;
                };
                let again = again.and_then(|again| again.get(index)?.as_ref());
                count_classes(card, classes, stable, candidate, again);
                if stable.label != candidate.label && differences.len() < DIFFERENCES_MAX {
                    differences.push(Difference {
                        index,
                        stable: describe_class(stable),
                        candidate: describe_class(candidate),
                    });
                }
            }
            differences
        }
        (Answer::Text(stable), Answer::Text(candidate)) => {
            count_texts(&mut card.texts, stable, candidate);
            let differ = stable.reason != candidate.reason;
            let difference = || Difference {
                index: 0,
                stable: describe_text(stable),
                candidate: describe_text(candidate),
            };
            differ.then(difference).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn count_classes(
    card: &mut ShadowCard,
    classes: Option<&Classes>,
    stable: &Classification,
    candidate: &Classification,
    again: Option<&Classification>,
) {
    let card = &mut card.classes;
    if let Some(classes) = classes {
        // One more than have names, for labels that the stable version does not know.
        card.insert(
            classes.index(&stable.label),
            classes.index(&candidate.label),
            classes.named() + 1,
        );
    }
    if let Some(difference) = probability_difference(stable, candidate) {
        card.probability_difference.insert(difference);
    }
    card.confidence_difference
        .insert(f64::from(candidate.confidence) - f64::from(stable.confidence));
    if let Some(again) = again {
        let (candidate_differs, noise) = (candidate.label != stable.label, again.label != stable.label);
        card.noise_triples += 1;
        card.only_candidate += u64::from(candidate_differs && !noise);
        card.only_noise += u64::from(noise && !candidate_differs);
    }
}

/// Mean over the stable version's classes; a class that the candidate does not know has probability 0 there.
fn probability_difference(stable: &Classification, candidate: &Classification) -> Option<f64> {
    let of = |label: &str| {
        let mut classes = candidate.probabilities.iter();
        classes
            .find(|class| class.label == label)
            .map_or(0.0, |class| class.probability)
    };
    let sum: f64 = stable
        .probabilities
        .iter()
        .map(|class| f64::from((class.probability - of(&class.label)).abs()))
        .sum();
    let classes = u32::try_from(stable.probabilities.len())
        .ok()
        .filter(|&count| count > 0)?;
    Some(sum / f64::from(classes))
}

fn count_texts(card: &mut TextPairs, stable: &TextAnswer, candidate: &TextAnswer) {
    // A text of no tokens counts as one of one, so that the logarithm is finite.
    let length = |text: &TextAnswer| f64::from(text.tokens.max(1));
    card.log_length_ratio.insert((length(candidate) / length(stable)).ln());
    let share = |(supported, claims): (u32, u32)| (claims > 0).then(|| f64::from(supported) / f64::from(claims));
    if let (Some(stable), Some(candidate)) = (stable.claims.and_then(share), candidate.claims.and_then(share)) {
        card.grounding_difference.insert(candidate - stable);
    }
    card.same_finish_reason += u64::from(stable.reason == candidate.reason);
}

/// An answer in a few words.
pub(super) fn describe(answer: &Answer) -> String {
    match answer {
        Answer::Classes(answers) => match &answers[..] {
            [Some(only)] => describe_class(only),
            answers => format!("{} answers", answers.len()),
        },
        Answer::Text(text) => describe_text(text),
    }
}

fn describe_class(classification: &Classification) -> String {
    format!("{} {:.2}", classification.label, classification.confidence)
}

fn describe_text(text: &TextAnswer) -> String {
    let reason = match text.reason {
        Some(FinishReason::End) => "end, ",
        Some(FinishReason::Stop) => "stop, ",
        Some(FinishReason::Length) => "length, ",
        Some(FinishReason::Unspecified) | None => "",
    };
    let claims = text
        .claims
        .map(|(supported, claims)| format!(", {supported} of {claims} claims supported"));
    format!("{reason}{} tokens{}", text.tokens, claims.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::ClassProbability;

    use super::*;

    fn class(label: &str, positive: f32) -> Classification {
        let class = |name: &str, probability| ClassProbability {
            label: name.into(),
            probability,
        };
        Classification {
            label: label.into(),
            confidence: positive.max(1.0 - positive),
            probabilities: vec![class("negative", 1.0 - positive), class("positive", positive)],
            ..Classification::default()
        }
    }

    fn classes(answers: &[Classification]) -> Answer {
        Answer::Classes(answers.iter().cloned().map(Some).collect())
    }

    #[test]
    fn texts_of_a_batch_are_paired_by_their_place() {
        let (positive, negative) = (class("positive", 0.75), class("negative", 0.25));
        let names = Classes::of(&positive);
        let stable = classes(&[positive.clone(), negative.clone(), positive.clone()]);
        let candidate = classes(&[positive.clone(), positive.clone(), class("neutral", 0.25)]);
        let again = classes(&[negative.clone(), negative.clone(), positive]);
        let mut card = ShadowCard::default();
        let differences = count(&mut card, Some(&names), &stable, &candidate, Some(&again));
        let pairs = &card.classes;
        assert_eq!(pairs.confusion, [0, 1, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!((pairs.noise_triples, pairs.only_candidate, pairs.only_noise), (3, 2, 1));
        assert_eq!(pairs.probability_difference.count, 3);
        assert!((pairs.probability_difference.sum - 1.0).abs() < 1e-6);
        assert!(pairs.confidence_difference.sum.abs() < 1e-6);
        let told: Vec<_> = differences
            .iter()
            .map(|d| (d.index, &*d.stable, &*d.candidate))
            .collect();
        assert_eq!(
            told,
            [
                (1, "negative 0.75", "positive 0.75"),
                (2, "positive 0.75", "neutral 0.75")
            ]
        );
    }

    #[test]
    fn a_candidate_that_leaves_texts_out_failed() {
        let one = class("positive", 0.75);
        let stable = classes(&[one.clone(), one.clone()]);
        assert_eq!(comparable(&stable, &stable), Ok(()));
        assert!(comparable(&stable, &classes(std::slice::from_ref(&one))).is_err());
        let refused = Answer::Classes(vec![Some(one), None]);
        assert!(comparable(&stable, &refused).is_err());
        assert_eq!(
            comparable(&refused, &stable),
            Ok(()),
            "a text that the stable version refused is no pair"
        );
        let mut card = ShadowCard::default();
        count(&mut card, None, &refused, &stable, None);
        assert_eq!(card.classes.confidence_difference.count, 1);
    }

    #[test]
    fn texts() {
        let text = |tokens, reason, claims| TextAnswer { tokens, reason, claims };
        let stable = text(100, Some(FinishReason::End), Some((9, 9)));
        let candidate = text(200, Some(FinishReason::Length), Some((6, 8)));
        let mut card = ShadowCard::default();
        let pair = |stable, candidate| (Answer::Text(stable), Answer::Text(candidate));
        let (a, b) = pair(stable, candidate);
        let differences = count(&mut card, None, &a, &b, None);
        assert!((card.texts.log_length_ratio.sum - 2f64.ln()).abs() < 1e-12);
        assert!((card.texts.grounding_difference.sum + 0.25).abs() < 1e-12);
        assert_eq!(card.texts.same_finish_reason, 0);
        assert_eq!(differences[0].stable, "end, 100 tokens, 9 of 9 claims supported");
        assert_eq!(differences[0].candidate, "length, 200 tokens, 6 of 8 claims supported");
        assert!(count(&mut card, None, &a, &a, None).is_empty());
        assert_eq!(card.texts.same_finish_reason, 1);
        let (a, b) = pair(text(0, None, Some((0, 0))), text(3, None, None));
        count(&mut card, None, &a, &b, None);
        assert!(card.texts.log_length_ratio.sum.is_finite() && card.texts.grounding_difference.count == 2);
    }
}
