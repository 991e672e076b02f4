//! What holds of the check for every text.

use proptest::prelude::*;
use understudy_grounding::{Policy, Report, check};

use crate::support;

const SHEETS: [&str; 4] = ["a", "b", "c", "d"];

/// Ranges stand in the text, in order, each in its sentence.
fn well_formed(report: &Report, text: &str) {
    let mut at = 0;
    for claim in &report.claims {
        assert!(
            text.get(claim.range.clone()).is_some(),
            "{:?} is not of {text:?}",
            claim.range
        );
        assert!(
            text.get(claim.sentence.clone()).is_some(),
            "{:?} is not of {text:?}",
            claim.sentence
        );
        assert!(claim.sentence.start <= claim.range.start && claim.range.end <= claim.sentence.end);
        assert!(at <= claim.range.start, "claims in the order of the text");
        at = claim.range.start;
    }
    assert_eq!(report.supported() + report.unsupported(), report.claims.len());
}

/// Pieces that the check looks for, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "54.1%",
        "119",
        "101 reviews",
        "47.5% to 60.5%",
        "between",
        "one in ten",
        "half",
        "two thirds",
        "twice",
        "a",
        "dozen",
        "hundred and",
        "positive",
        "negative",
        "no-spoiler",
        "not",
        "the rest",
        "more",
        "than",
        "longer",
        "most",
        "majority",
        "lead",
        "certain",
        "against",
        "while",
        ",",
        ";",
        "(",
        ")",
        ".",
        "\"",
        "“",
        "”",
        "'",
        "‘",
        "’",
        "…",
        "\n",
        "\n\n",
        "é",
        "½",
        "90th percentile",
        "95% interval",
        "words such as",
        "dull",
        "and",
        "for every",
        "0.93",
        "1,862",
        "e.g.",
        "all but",
        "percentage points",
        "-",
        "–",
        "the",
        "of",
        "99999999999999999999999999",
        "0",
        "nine out of",
        "0 times",
        "in",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_checked(text in any::<String>(), sheet in prop::sample::select(SHEETS.to_vec())) {
        well_formed(&check(&text, &support::sheet(sheet)), &text);
    }

    #[test]
    fn any_pieces_are_checked(text in pieces(), sheet in prop::sample::select(SHEETS.to_vec())) {
        let report = check(&text, &support::sheet(sheet));
        well_formed(&report, &text);
        let marked = report.apply(&text, Policy::Mark);
        prop_assert_eq!(marked.matches(" [unsupported]").count() > 0, report.unsupported() > 0);
        prop_assert!(report.apply(&text, Policy::Remove).len() <= text.len());
        prop_assert!(report.complaints().len() <= 20);
    }

    /// Another figure in a sentence that says the truth is not supported.
    #[test]
    fn another_figure_is_unsupported(value in 10_000_u32..99_999, decimals in 0_u32..9) {
        let sheet = support::sheet("a");
        for sentence in [
            format!("Of the {value} reviews, 119 are positive."),
            format!("The share of positive reviews is {}.{decimals}%.", 101 + value % 899),
            format!("Reviews run to {value} words on average."),
            format!("The mean confidence is {value}.{decimals}3."),
        ] {
            prop_assert!(check(&sentence, &sheet).unsupported() > 0, "{}", sentence);
        }
    }
}

/// What the model reads is what the check believes.
#[test]
fn a_sheet_supports_its_own_lines() {
    for name in SHEETS {
        let sheet = support::sheet(name);
        let text = sheet.to_string();
        for line in text.lines().chain([text.as_str()]) {
            let report = check(line, &sheet);
            assert_eq!(report.complaints(), Vec::<String>::new(), "sheet {name}: {line}");
        }
    }
}

/// Sixteen times the text takes some sixteen times as long, not 256 times.
#[test]
fn a_long_text_takes_linear_time() {
    let sheet = support::sheet("a");
    let sentence = "Of the 220 reviews, 119 (54.1%) are positive and 'tis said that \"nobody cares, 13% of them";
    let time = |times: usize| {
        let text = sentence.repeat(times);
        let once = || {
            let start = std::time::Instant::now();
            std::hint::black_box(check(&text, &sheet));
            start.elapsed().as_secs_f64()
        };
        // Others use the machine too.
        (0..4).map(|_| once()).fold(f64::INFINITY, f64::min)
    };
    time(10);
    let (short, long) = (time(100), time(1600));
    assert!(long < short * 16.0 * 6.0 + 0.05, "{short} s for 100, {long} s for 1600");
}
