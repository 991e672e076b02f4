use proptest::prelude::*;

use super::*;

const WORDS: [&str; 12] = [
    "great", "awful", "film", "plot", "actors", "music", "quiet", "long", "scene", "story", "warm", "dull",
];
/// So little that every bound is met.
const TIGHT: Bounds = Bounds {
    vocabulary: 6,
    word_counts: 20,
    candidates: 3,
    doubtful: 2,
};

fn labels() -> Vec<String> {
    ["NEGATIVE", "POSITIVE", "MIXED"].map(str::to_owned).to_vec()
}

#[derive(Debug, Clone)]
struct Item {
    text: String,
    label: usize,
    confidence: f64,
    part: usize,
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let sentence = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..9);
    let text = prop::collection::vec(sentence, 0..5).prop_map(|sentences| {
        let sentences: Vec<String> = sentences
            .iter()
            .map(|words| format!("The {}.", words.join(" ")))
            .collect();
        sentences.join(" ")
    });
    let item = (text, 0_usize..3, 0.0..1.0, 0_usize..5).prop_map(|(text, label, confidence, part)| Item {
        text,
        label,
        confidence,
        part,
    });
    prop::collection::vec(item, 0..60)
}

fn of<'a>(items: impl IntoIterator<Item = &'a Item>, bounds: Bounds) -> Statistics {
    let mut statistics = Statistics::bounded(labels(), bounds);
    for Item {
        text,
        label,
        confidence,
        ..
    } in items
    {
        statistics
            .add(&Classified {
                text,
                label: *label,
                confidence: *confidence,
            })
            .unwrap();
    }
    statistics
}

proptest! {
    #[test]
    fn merged_parts_are_the_whole(
        (items, shuffled) in items().prop_flat_map(|items| (Just(items.clone()), Just(items).prop_shuffle())),
        merges in prop::collection::vec(any::<prop::sample::Index>(), 8),
        tight: bool,
    ) {
        let bounds = if tight { TIGHT } else { Bounds::default() };
        let whole = of(&items, bounds);
        let mut parts: Vec<_> = (0..5).map(|part| of(shuffled.iter().filter(|item| item.part == part), bounds)).collect();
        // In any order, and as any tree.
        let mut merges = merges.iter().cycle();
        while parts.len() > 1 {
            let part = parts.swap_remove(merges.next().unwrap().index(parts.len()));
            let into = merges.next().unwrap().index(parts.len());
            parts[into].merge(part).unwrap();
        }
        prop_assert_eq!(&parts[0], &whole);
        prop_assert_eq!(parts[0].summary(), whole.summary());
        let written = serde_json::to_string(&parts[0]).unwrap();
        prop_assert_eq!(&written, &serde_json::to_string(&whole).unwrap());
        if !tight {
            prop_assert_eq!(serde_json::from_str::<Statistics>(&written).unwrap(), whole);
        }
    }

    #[test]
    fn bounds_hold_and_figures_agree(items in items()) {
        let statistics = of(&items, TIGHT);
        prop_assert!(statistics.vocabulary.fits(TIGHT.vocabulary));
        prop_assert!(statistics.words.fits(3, TIGHT.word_counts));
        prop_assert!(statistics.classes.iter().all(|class| class.candidates.first.len() <= TIGHT.candidates));
        let summary = statistics.summary();
        prop_assert_eq!(summary.texts, items.len() as u64);
        prop_assert_eq!(summary.confidence.histogram.iter().sum::<u64>(), summary.texts);
        prop_assert_eq!(summary.confidence.histogram[18..].iter().sum::<u64>(), summary.confidence.confident);
        prop_assert_eq!(summary.confidence.histogram[..12].iter().sum::<u64>(), summary.confidence.uncertain);
        let mean = items.iter().map(|item| item.confidence).sum::<f64>() / items.len() as f64;
        prop_assert!(items.is_empty() || (summary.confidence.mean.unwrap() - mean).abs() < 1e-7);
        for exemplar in summary.classes.iter().flat_map(|class| &class.exemplars).chain(&summary.uncertain) {
            let shown = |item: &Item| labels()[item.label] == exemplar.label && item.text.contains(&exemplar.quotation);
            prop_assert!(items.iter().any(shown), "{:?}", exemplar);
        }
        prop_assert!(summary.uncertain.iter().all(|example| example.confidence < UNCERTAIN));
        prop_assert!(summary.uncertain.is_sorted_by_key(|example| example.confidence));
    }
}

/// Values from statsmodels 0.15: `proportion_confint(part, whole, method="wilson")`.
#[test]
fn intervals_as_statsmodels() {
    let cases = [
        (0, 10, 0.0, 0.277_532_799_862_889_26),
        (7, 10, 0.396_778_147_461_145_37, 0.892_208_732_593_699_4),
        (10, 10, 0.722_467_200_137_110_6, 1.0),
        (1, 1, 0.206_549_314_377_237_4, 1.0),
        (10_794, 19_949, 0.534_157_591_678_935, 0.547_986_097_147_672_4),
    ];
    for (part, whole, low, high) in cases {
        let interval = wilson(part, whole);
        assert!(
            (interval.low - low).abs() < 1e-12 && (interval.high - high).abs() < 1e-12,
            "{interval:?}"
        );
    }
    assert_eq!(wilson(0, 0), Interval { low: 0.0, high: 1.0 });
}

#[test]
fn a_confidence_falls_into_the_bin_that_begins_with_it() {
    for bin in 0..CONFIDENCE_BINS {
        assert_eq!(confidence_bin(bin as f64 / 20.0), bin);
    }
    assert_eq!((confidence_bin(1.0), confidence_bin(0.049)), (19, 0));
}

/// A few texts, all figures by hand.
#[test]
fn summary_by_hand() {
    let mut statistics = Statistics::new(labels());
    let texts = [
        ("Good,<br />good film 7", 1, 0.95),
        ("Bad film", 0, 0.75),
        ("Don't. Just DON\u{2019}T", 0, 0.5),
        ("", 0, 1.0),
    ];
    for (text, label, confidence) in texts {
        statistics
            .add(&Classified {
                text,
                label,
                confidence,
            })
            .unwrap();
    }
    let summary = statistics.summary();
    assert_eq!(summary.texts, 4);
    let classes: Vec<_> = summary.classes.iter().map(|class| (class.texts, class.share)).collect();
    assert_eq!(classes, [(3, 0.75), (1, 0.25), (0, 0.0)]);
    assert_eq!(summary.classes[0].mean_confidence, Some(0.75));
    assert_eq!(summary.classes[2].mean_confidence, None);
    assert!((summary.confidence.mean.unwrap() - 0.8).abs() < 1e-7);
    assert_eq!((summary.confidence.confident, summary.confidence.uncertain), (2, 1));
    assert_eq!(
        (summary.lengths.mean, summary.lengths.median, summary.lengths.p90),
        (Some(2.25), Some(2), Some(4))
    );
    assert_eq!(
        summary.classes[0].lengths.histogram,
        [(0, 1), (1, 0), (2, 1), (3, 1), (4, 0)],
        "the scale of all texts"
    );
    assert_eq!(summary.vocabulary, 6, "good, film, 7, bad, don't, just");
    assert_eq!(summary.type_token_ratio, None);
    assert_eq!(summary.classes[1].exemplars[0].quotation, "Good, good film 7");
    assert_eq!(summary.uncertain.len(), 1);
    assert_eq!(summary.uncertain[0].label, "NEGATIVE");

    // 20 words, of which 2 are distinct, and one more: two windows.
    let text = format!("{} end", "tick tock ".repeat(10));
    statistics
        .add(&Classified {
            text: &text,
            label: 2,
            confidence: 1.0,
        })
        .unwrap();
    assert_eq!(statistics.summary().type_token_ratio, Some((2.0 + 3.0) / 2.0 / 20.0));
}

#[test]
fn exemplars_tell_of_their_class_and_differ() {
    let mut statistics = Statistics::new(labels());
    for text in 0..60_u32 {
        // The same text but for its number, so that likeness decides.
        let good =
            format!("Number {text}. This was a great and wonderful film for all of us. We went home after the show.");
        let bad =
            format!("Number {text}. This was a bleak and tedious film for all of us. We went home after the show.");
        statistics
            .add(&Classified {
                text: &good,
                label: 1,
                confidence: 0.99,
            })
            .unwrap();
        statistics
            .add(&Classified {
                text: &bad,
                label: 0,
                confidence: 0.99,
            })
            .unwrap();
    }
    let other = "All of us went home after a great and wonderful show.";
    statistics
        .add(&Classified {
            text: other,
            label: 1,
            confidence: 0.99,
        })
        .unwrap();
    let doubtful = "A wonderful cast in a bleak film for all of us.";
    statistics
        .add(&Classified {
            text: doubtful,
            label: 1,
            confidence: 0.51,
        })
        .unwrap();
    let summary = statistics.summary();
    assert_eq!(summary.classes[0].distinctive[..2], ["tedious", "bleak"]);
    let quotations: Vec<&str> = summary.classes[1]
        .exemplars
        .iter()
        .map(|exemplar| exemplar.quotation.as_str())
        .collect();
    let good = "This was a great and wonderful film for all of us.";
    assert!(
        quotations[..2] == [good, other] || quotations[..2] == [other, good],
        "{quotations:?}"
    );
    assert_eq!(quotations.iter().filter(|&&quotation| quotation == good).count(), 1);
    let uncertain: Vec<&str> = summary
        .uncertain
        .iter()
        .map(|exemplar| exemplar.quotation.as_str())
        .collect();
    assert_eq!(uncertain, [doubtful]);
}

#[test]
fn a_text_without_a_sentence_is_shown_only_for_want_of_better_ones() {
    let bounds = Bounds {
        candidates: 1,
        ..Bounds::default()
    };
    let texts = ["great stuff!!", "This is a great film to see.", "Great: 10/10"];
    let items = texts.map(|text| Item {
        text: text.into(),
        label: 1,
        confidence: 0.9,
        part: 0,
    });
    let shown = |items: &[Item]| of(items, bounds).summary().classes[1].exemplars[0].quotation.clone();
    assert_eq!(shown(&items[..1]), texts[0]);
    assert_eq!(shown(&items), texts[1]);
    assert_eq!(shown(&items[1..]), texts[1]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut statistics = Statistics::new(labels());
    let error = statistics
        .add(&Classified {
            text: "x",
            label: 3,
            confidence: 1.0,
        })
        .unwrap_err();
    assert!(error.to_string().contains("label 3 of a classifier with 3 labels"));
    assert!(
        statistics
            .add(&Classified {
                text: "x",
                label: 0,
                confidence: f64::NAN
            })
            .is_err()
    );
    assert_eq!(
        statistics,
        Statistics::new(labels()),
        "a refused text leaves nothing behind"
    );
    let error = statistics
        .merge(Statistics::new(vec!["a".into(), "b".into()]))
        .unwrap_err();
    assert!(
        error.to_string().contains("NEGATIVE, POSITIVE, MIXED and a, b"),
        "{error}"
    );
}

#[test]
fn damaged_files_are_refused() {
    let item = Item {
        text: "The plot is dull and long.".into(),
        label: 0,
        confidence: 0.9,
        part: 0,
    };
    let sound = serde_json::to_value(of([&item], Bounds::default())).unwrap();
    assert!(serde_json::from_value::<Statistics>(sound.clone()).is_ok());
    let damages: [(&str, serde_json::Value, &str); 9] = [
        ("/version", 2.into(), "statistics of version 2, this program reads 1"),
        ("/labels", vec!["a"].into(), "as many classes as labels"),
        ("/histogram/3", 1.into(), "histogram"),
        ("/confident", 2.into(), "confident"),
        ("/windows/0", 100.into(), "windows"),
        ("/vocabulary/beyond", true.into(), "vocabulary"),
        ("/classes/0/lengths/words", 5.into(), "word counts"),
        ("/classes/0/confidence", (u64::MAX / 2).into(), "lengths"),
        ("/classes/0/candidates/first/0/label", 7.into(), "quotations"),
    ];
    for (place, value, message) in damages {
        let mut damaged = sound.clone();
        *damaged.pointer_mut(place).unwrap() = value;
        let error = serde_json::from_value::<Statistics>(damaged).unwrap_err().to_string();
        assert!(error.contains(message), "{place}: {error}");
    }
}
