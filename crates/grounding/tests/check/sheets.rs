//! Sheets of other services, reports, and what a model is told.

use understudy_grounding::{Claim, ClaimKind, Fact, FactSheet, Policy, Quotation, Unit, Value, Verdict, check};

use crate::support;

fn number(name: &str, subject: Option<&str>, value: f64, unit: Unit, decimals: usize) -> Fact {
    Fact {
        name: name.to_owned(),
        subject: subject.map(str::to_owned),
        value: Value::Number { value, unit, decimals },
    }
}

/// Nothing of what `FactSheet::of_reviews` writes.
fn hotels() -> FactSheet {
    FactSheet {
        title: "Hotels of 2024".to_owned(),
        items: "stays".to_owned(),
        facts: vec![
            number("number of stays", None, 512.0, Unit::Items, 0),
            number("mean rating", None, 4.17, Unit::None, 2),
            number("mean rating", Some("business"), 3.9, Unit::None, 1),
            number("mean rating", Some("family"), 4.4, Unit::None, 1),
            number("average price", None, 89.0, Unit::None, 0),
            number("share of cancelled stays", None, 12.5, Unit::Percent, 1),
            number("share of late arrivals", None, 31.0, Unit::Percent, 1),
        ],
        quotations: vec![Quotation {
            text: "The \"view\" is a wall.".to_owned(),
            subject: Some("business".to_owned()),
            confidence: 0.9,
        }],
    }
}

fn complaints(text: &str, sheet: &FactSheet) -> Vec<String> {
    check(text, sheet).complaints()
}

#[test]
fn a_sheet_of_another_service_is_matched_by_the_names_of_its_facts() {
    let sheet = hotels();
    for text in [
        "Hotels of 2024 has 512 stays with a mean rating of 4.17.",
        "The average price is 89, and 12.5% of the stays were cancelled.",
        "About 31% were late arrivals, while 12.5% were cancelled.",
        "Family stays are rated higher: their mean rating is 4.4, against 3.9 for business stays.",
        "A business guest writes: \"The \"view\" is a wall.\"",
    ] {
        assert_eq!(complaints(text, &sheet), Vec::<String>::new(), "{text}");
    }
    for text in [
        "The mean rating is 4.71.",
        "The average price is 4.17.",
        "31.0% of the stays were cancelled.",
        "The mean rating of business stays is 4.4.",
        "Business stays have a higher mean rating than family stays.",
        "The 512 stays cost 98 on average.",
        "Guests spent 3 nights.",
    ] {
        assert!(!complaints(text, &sheet).is_empty(), "{text}");
    }
}

/// Figures of a ratio or a score that the sheet does not have are not those of another fact.
#[test]
fn a_ratio_that_the_sheet_lacks_is_unsupported() {
    let sheet = FactSheet {
        title: "Reviews".to_owned(),
        items: "reviews".to_owned(),
        facts: vec![
            number("number of reviews", None, 220.0, Unit::Items, 0),
            number("vocabulary size", None, 1303.0, Unit::None, 0),
            number("mean length", None, 199.0, Unit::Words, 0),
            number("share of reviews", Some("positive"), 54.1, Unit::Percent, 1),
        ],
        quotations: Vec::new(),
    };
    assert_eq!(
        complaints("The vocabulary size is 1,303.", &sheet),
        Vec::<String>::new()
    );
    for text in [
        "The type-token ratio is 1,303.",
        "The type-token ratio of the corpus is 220.",
        "The mean confidence is 199.",
        "The mean confidence is 220.",
        "The mean confidence of positive reviews is 54.1%.",
        "The type-token ratio is 54.1%.",
        "The vocabulary has a type-token ratio of 1,303.",
    ] {
        assert!(!complaints(text, &sheet).is_empty(), "{text}");
    }
}

/// Clauses that leave out their subject or speak of it as "they".
#[test]
fn a_clause_has_the_subject_of_the_one_before() {
    for (sheet, text, is_supported) in [
        (
            "a",
            "Positive reviews make up 54.1%, and negative reviews the remaining 45.9%.",
            true,
        ),
        (
            "a",
            "Positive reviews make up 54.1%, while negative reviews form the remaining 44.9%.",
            false,
        ),
        (
            "a",
            "Negative reviews make up 45.9%, while positive reviews account for the remaining 45.9%.",
            false,
        ),
        (
            "a",
            "The negative class is smaller but longer than the positive class.",
            true,
        ),
        (
            "a",
            "The negative class is larger but longer than the positive class.",
            false,
        ),
        (
            "a",
            "The negative class is smaller but shorter than the positive class.",
            false,
        ),
        (
            "a",
            "Negative reviews are 45.9% of all, but at 213 words they are longer than the positive ones.",
            true,
        ),
        (
            "a",
            "Negative reviews are 45.9% of all, but at 187 words they are longer than the positive ones.",
            false,
        ),
        ("d", "No-spoiler reviews outnumber spoiler reviews 12 to 1.", true),
        (
            "d",
            "No-spoiler reviews outnumber spoiler reviews by about 9 to 1.",
            false,
        ),
        ("d", "1,719 reviews contain no spoilers and 143 do.", true),
        ("d", "143 reviews contain no spoilers and 1,719 do.", false),
        (
            "d",
            "It is certain that no-spoiler reviews are the most frequent.",
            true,
        ),
        ("a", "It is certain that positive reviews are the most frequent.", false),
        (
            "c",
            "Neutral reviews have a share of 0.72 and a mean confidence of 10.1%.",
            false,
        ),
    ] {
        let told = complaints(text, &support::sheet(sheet));
        assert_eq!(told.is_empty(), is_supported, "{text}: {told:?}");
    }
}

#[test]
fn a_reason_says_what_the_sheet_says() {
    let sheet = support::sheet("a");
    let told = complaints("Positive reviews make up 45.9% of the corpus.", &sheet);
    assert_eq!(
        told,
        ["the sheet says 54.1% for the share of positive reviews, not 45.9% (45.9% is the share of negative reviews)"]
    );
    let told = complaints("One reviewer calls it \"a triumph of the will\".", &sheet);
    assert_eq!(told, ["the sheet has no quotation \"a triumph of the will\""]);
    let told = complaints("The lead is certain.", &sheet);
    assert_eq!(told, ["by the sheet the lead is not certain: the intervals overlap"]);
    let told = complaints("Sales rose by 77% in June.", &sheet);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("77%"), "{told:?}");
}

#[test]
fn each_kind_of_claim_is_found_where_it_stands() {
    let text = "Most of the 220 reviews are positive; one says: \u{201c}nobody on the screen seems to care\u{201d}.";
    let report = check(text, &support::sheet("a"));
    let found: Vec<(ClaimKind, &str, bool)> = report
        .claims
        .iter()
        .map(|claim: &Claim| (claim.kind, &text[claim.range.clone()], claim.is_supported()))
        .collect();
    assert_eq!(
        found,
        [
            (ClaimKind::Ranking, "Most", true),
            (ClaimKind::Number, "220", true),
            (
                ClaimKind::Quotation,
                "\u{201c}nobody on the screen seems to care\u{201d}",
                false
            ),
        ]
    );
    assert!(report.claims.iter().all(|claim| text[claim.sentence.clone()] == *text));
}

#[test]
fn a_supported_claim_names_its_fact() {
    let report = check("The median length is 174 words.", &support::sheet("a"));
    let supported = Verdict::Supported {
        fact: "median length".to_owned(),
    };
    assert_eq!(
        report.claims.iter().map(|claim| &claim.verdict).collect::<Vec<_>>(),
        [&supported]
    );
}

#[test]
fn unsupported_sentences_are_marked_or_removed() {
    let text =
        "There are 220 reviews. Of them, 300 are long. Most are positive.\n\nThe median is 99 words.\n\nSo it is.";
    let report = check(text, &support::sheet("a"));
    assert_eq!(
        report.apply(text, Policy::Mark),
        "There are 220 reviews. Of them, 300 are long. [unsupported] Most are positive.\n\n\
         The median is 99 words. [unsupported]\n\nSo it is."
    );
    assert_eq!(
        report.apply(text, Policy::Remove),
        "There are 220 reviews. Most are positive.\n\nSo it is."
    );
    // A report of another text does no harm.
    assert_eq!(report.apply("é", Policy::Mark), "é");
}

#[test]
fn an_empty_sheet_supports_nothing_and_an_empty_text_says_nothing() {
    let nothing = FactSheet {
        title: String::new(),
        items: String::new(),
        facts: Vec::new(),
        quotations: Vec::new(),
    };
    assert_eq!(check("", &support::sheet("a")).claims, []);
    assert_eq!(check("Of 220 reviews, 54% are positive.", &nothing).unsupported(), 2);
}

#[test]
fn complaints_are_few_and_differ() {
    let sheet = support::sheet("a");
    let many: String = (300..340).map(|value| format!("There are {value} reviews. ")).collect();
    assert_eq!(complaints(&many, &sheet).len(), 20);
    assert_eq!(
        complaints("There are 300 reviews. There are 300 reviews.", &sheet).len(),
        1
    );
}
