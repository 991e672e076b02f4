use understudy_grounding::{Claim, ClaimKind, Fact, FactSheet, Policy, Unit, Value, Verdict};

use super::*;

/// A report with that many unsupported claims.
fn report(unsupported: usize) -> Report {
    let claim = Claim {
        kind: ClaimKind::Number,
        range: 0..1,
        sentence: 0..1,
        verdict: Verdict::Unsupported {
            fact: None,
            reason: "99% is no fact".into(),
        },
    };
    Report {
        claims: vec![claim; unsupported],
    }
}

fn task(temperature: f32, max_tokens: Option<u32>) -> CritiqueTask {
    CritiqueTask {
        sheet: FactSheet {
            title: "films".into(),
            items: "reviews".into(),
            facts: vec![Fact {
                name: "number of reviews".into(),
                subject: None,
                value: Value::Number {
                    value: 10.0,
                    unit: Unit::Items,
                    decimals: 0,
                },
            }],
            quotations: vec![],
        },
        sampling: Sampling {
            temperature,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            top_k: 0,
            seed: u32::MAX,
        },
        max_tokens,
        stop: vec![],
        attempts_max: 3,
        policy: Policy::Mark,
        deadline: None,
        shadow: false,
    }
}

/// Attempts until no more is asked for: (text, unsupported claims) each; what is delivered, and after how many.
fn delivered(attempts_max: u32, attempts: &[(&str, usize)]) -> (u32, u32) {
    let mut drafts = Drafts::new(attempts_max);
    for (text, unsupported) in attempts {
        if drafts.add((*text).to_owned(), report(*unsupported)).is_none() {
            break;
        }
    }
    let count = drafts.count();
    (drafts.best().unwrap().number, count)
}

#[test]
fn attempts_end_when_all_is_supported_or_none_is_left() {
    assert_eq!(delivered(3, &[("a", 0), ("b", 0)]), (1, 1));
    assert_eq!(delivered(3, &[("a", 2), ("b", 0), ("c", 0)]), (2, 2));
    assert_eq!(delivered(1, &[("a", 2), ("b", 0)]), (1, 1));
    // No text is worth another attempt, too.
    assert_eq!(delivered(3, &[(" \n", 0), ("b", 0)]), (2, 2));
}

#[test]
fn the_best_attempt_has_text_and_the_fewest_unsupported_claims_and_is_the_earliest_of_these() {
    assert_eq!(delivered(3, &[("a", 3), ("b", 1), ("c", 2)]), (2, 3));
    assert_eq!(delivered(3, &[("a", 2), ("b", 1), ("c", 1)]), (2, 3));
    assert_eq!(delivered(3, &[("", 0), ("b", 5), ("", 0)]), (2, 3));
    assert_eq!(delivered(2, &[("", 0), ("", 0)]), (1, 2));
}

#[test]
fn a_revision_comes_first_and_a_fresh_attempt_has_another_seed() {
    let task = task(0.7, None);
    let mut drafts = Drafts::new(3);
    let draft = drafts.add("All 99% agree.".into(), report(2)).unwrap();
    let asks = next(&task, draft);
    let [revision, fresh] = asks.as_slice() else {
        panic!("{asks:?}");
    };
    assert_eq!(revision.messages.len(), 4);
    assert_eq!(revision.messages[2].content, "All 99% agree.");
    assert!(revision.messages[3].content.contains("99% is no fact"));
    assert_eq!(revision.max_tokens, Some(512));
    assert_eq!(
        (fresh.messages.clone(), fresh.max_tokens),
        (first(&task).messages, None)
    );
    assert_eq!((first(&task).sampling.seed, fresh.sampling.seed), (u32::MAX, 0));
}

#[test]
fn nothing_is_asked_that_would_give_the_same_text() {
    let greedy = task(0.0, Some(100));
    let mut drafts = Drafts::new(3);
    let draft = drafts.add("All 99% agree.".into(), report(1)).unwrap();
    let asks = next(&greedy, draft);
    assert_eq!((asks.len(), asks[0].max_tokens), (1, Some(100)));
    let draft = drafts.add(String::new(), report(0)).unwrap();
    assert!(next(&greedy, draft).is_empty());
    assert_eq!(next(&task(0.7, None), draft).len(), 1, "no text, nothing to revise");
}

#[test]
fn a_text_that_was_cut_off_ends_with_its_last_sentence() {
    let cut = |text| whole_sentences(text, FinishReason::Length);
    for (text, whole) in [
        ("It is good. It is b", "It is good."),
        ("It is good. It is bad.", "It is good. It is bad."),
        ("It is good! \"Is it?\" Well", "It is good! \"Is it?\""),
        ("He said “so.” And th", "He said “so.”"),
        ("It is good. Some 54.1% of th", "It is good."),
        ("It is good. Some 54.", "It is good."),
        ("It was made in 1954. And", "It was made in 1954."),
        ("It is good. Some 54!", "It is good. Some 54!"),
        ("One para.\n\nAnother", "One para."),
        ("It is é… ü", "It is é…"),
        ("No end", ""),
        ("", ""),
    ] {
        assert_eq!(cut(text), whole, "{text:?}");
        assert_eq!(whole_sentences(text, FinishReason::End), text);
        assert_eq!(whole_sentences(text, FinishReason::Stop), text);
    }
}
