use understudy_corpus::statistics::{Classified, Statistics};
use understudy_protocol::v1::{GroundingReport, Timings, Usage as WireUsage};

use super::*;
use crate::critique::analyse::{Accuracy, Refused};

fn document(title: &str) -> Document {
    let mut statistics = Statistics::new(vec!["NEGATIVE".into(), "POSITIVE".into()]);
    for index in 0..40 {
        let (text, label) = if index % 4 == 0 {
            (
                "A dull and <i>lifeless</i> film that wastes a very fine cast of actors.",
                0,
            )
        } else {
            (
                "A warm and funny film with great & moving performances from all involved.",
                1,
            )
        };
        let confidence = 0.55 + f64::from(index) / 100.0;
        statistics
            .add(&Classified {
                text,
                label,
                confidence,
            })
            .unwrap();
    }
    let summary = statistics.summary();
    let sheet = FactSheet::of_reviews(title, &summary);
    let claim = |kind: ClaimKind, text: &str, sentence: &str, fact: &str| Claim {
        kind: kind.into(),
        text: text.into(),
        sentence: sentence.into(),
        supported: true,
        fact: fact.into(),
        reason: String::new(),
    };
    let (first, second, third) = (
        "Of 40 reviews, 75.0% are positive.",
        "One <says> \"A warm and funny film\".",
        "Only 9 are dull.",
    );
    let mut claims = vec![
        claim(ClaimKind::Number, "40 reviews", first, "number of reviews"),
        claim(ClaimKind::Number, "75.0%", first, "share of positive reviews"),
        claim(ClaimKind::Quotation, "A warm and funny film", second, "quotation"),
        claim(ClaimKind::Number, "9", third, "number of negative reviews"),
    ];
    claims[3].supported = false;
    claims[3].reason = "the sheet says <10>".into();
    let finish = CritiqueFinish {
        text: format!("{first} {second}\n\n{third} [unsupported]"),
        report: Some(GroundingReport {
            claims,
            supported: 3,
            unsupported: 1,
            attempt: 2,
            attempts: 3,
        }),
        usage: Some(WireUsage {
            prompt_tokens: 900,
            cached_prompt_tokens: 300,
            completion_tokens: 240,
        }),
        timings: Some(Timings {
            queue_seconds: 0.0,
            prompt_seconds: 1.0,
            decode_seconds: 2.0,
        }),
        version: "v7".into(),
    };
    let run = Run {
        rows: 43,
        classified: 40,
        refused: Refused {
            empty: 2,
            too_long: 1,
            other: 0,
        },
        truncated: 4,
        accuracy: Some(Accuracy {
            judged: 40,
            correct: 39,
            share: 0.975,
        }),
        versions: [("v1".to_owned(), 40)].into(),
        seconds: 2.0,
    };
    let analysis = Analysis { summary, run };
    Document::new(
        Path::new("films.csv"),
        Some("test".into()),
        sheet,
        analysis,
        Some(Critique::new(finish)),
    )
}

#[test]
fn the_ending_says_the_form() {
    for (name, form) in [
        ("a.md", Form::Markdown),
        ("b/a.HTML", Form::Html),
        ("a.x.json", Form::Json),
    ] {
        assert_eq!(name.parse::<ReportFile>().unwrap().form, form, "{name}");
    }
    for bad in ["", "md", "a.pdf", "a", "html/"] {
        assert!(bad.parse::<ReportFile>().is_err(), "{bad}");
    }
}

#[test]
fn json_has_everything_in_its_documented_shape() {
    let value = serde_json::to_value(document("films")).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let mut documented = [
        "format",
        "title",
        "file",
        "split",
        "created",
        "analysis",
        "statistics",
        "fact_sheet",
        "critique",
    ];
    documented.sort_unstable();
    let mut keys_sorted = keys;
    keys_sorted.sort_unstable();
    assert_eq!(keys_sorted, documented);
    assert_eq!(value["analysis"]["refused"]["too_long"], 1);
    assert_eq!(value["statistics"]["texts"], 40);
    assert_eq!(value["fact_sheet"]["facts"][0]["value"], "40 reviews");
    let claims = value["critique"]["claims"].as_array().unwrap();
    let text = value["critique"]["text"].as_str().unwrap();
    for claim in claims {
        let at = |end: usize| usize::try_from(claim["bytes"][end].as_u64().unwrap()).unwrap();
        assert_eq!(&text[at(0)..at(1)], claim["text"].as_str().unwrap());
    }
    assert_eq!((claims.len(), &claims[3]["reason"]), (4, &"the sheet says <10>".into()));
    assert_eq!(value["critique"]["usage"]["completion_tokens"], 240);
}

/// Every opened element is closed, in order.
fn check_nesting(html: &str) {
    const VOID: [&str; 2] = ["!doctype", "meta"];
    let mut open = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, _) = part
            .split_once('>')
            .unwrap_or_else(|| panic!("a tag has no end: {part}"));
        let name = tag.split([' ', '\n', '/']).find(|name| !name.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{tag}>");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn html_stands_alone_and_links_every_figure() {
    let html = html::render(&document("A <script>alert(1)</script> & more"));
    check_nesting(&html);
    assert!(
        !html.contains("<script") && html.contains("A &lt;script&gt;"),
        "titles are text"
    );
    assert!(
        !html.contains("src=") && !html.contains("@import") && !html.contains("http"),
        "nothing is fetched"
    );
    assert!(html.contains("<a class=\"claim\" href=\"#fact-1\" title=\"number of reviews\">40 reviews</a>"));
    assert!(html.contains("<mark title=\"the sheet says &lt;10&gt;\">9</mark>"));
    assert!(html.contains("<p>Only <mark"), "paragraphs are kept");
    assert_eq!(html.matches("<svg ").count(), 3);
    assert_eq!(html.matches("role=\"img\"").count(), 3);
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("class=\"whisker\""));
    for link in html.split("href=\"#").skip(1) {
        let target = link.split('"').next().unwrap();
        assert!(html.contains(&format!("id=\"{target}\"")), "{target}");
    }
    assert!(html.contains("3 of 4") && html.contains("4 reviews were classified by their beginning"));
}

#[test]
fn markdown_keeps_the_prose_and_lists_what_was_checked() {
    let text = markdown::render(&document("films"));
    assert!(text.starts_with("# films\n\nfilms.csv · "));
    assert!(text.contains("\n\nOf 40 reviews, 75.0% are positive. One &lt;says> \"A warm and funny film\".\n\n"));
    assert!(
        text.contains("✓ [40 reviews](#fact-1)")
            && text.contains("<a id=\"fact-1\"></a>number of reviews | 40 reviews")
    );
    assert!(text.contains("✗ **9** the sheet says &lt;10>"));
    assert!(text.contains("| figures | 3 | 2 | 1 |"));
    assert!(text.contains("POSITIVE  ████████████████████████████████████████ 30\n"));
    assert!(text.contains("NEGATIVE  █████████████▎ 10\n"));
    assert!(text.contains("3 of 43 reviews were refused and are in no figure: 2 empty, 1 too long"));
}

#[test]
fn a_report_without_critique_has_the_statistics() {
    let mut document = document("films");
    document.critique = None;
    let (html, markdown) = (html::render(&document), markdown::render(&document));
    check_nesting(&html);
    assert!(!html.contains("<h2>Critique") && html.contains("id=\"fact-1\""));
    assert!(!markdown.contains("## Critique") && markdown.contains("## Fact sheet"));
    assert!(serde_json::to_value(&document).unwrap().get("critique").is_none());
}

#[test]
fn bins_have_names_that_people_understand() {
    let document = document("films");
    let confidence = confidence_bins(&document.statistics);
    assert_eq!(confidence.names.first().map(String::as_str), Some("0.50 to 0.55"));
    assert_eq!(confidence.names.last().map(String::as_str), Some("0.95 to 1.00"));
    assert_eq!(confidence.counts.iter().sum::<u64>(), 40);
    let lengths = length_bins(&document.statistics);
    assert_eq!(lengths.counts.iter().sum::<u64>(), 40);
    assert_eq!(lengths.names.len(), lengths.counts.len());
}
