//! The report as one HTML file that needs nothing else: no scripts, no fonts, no network.

use std::fmt::Write as _;

use understudy_protocol::v1::Claim;

use super::{
    Bins, Critique, Document, confidence_bins, kind_name, length_bins,
    svg::{Histogram, distribution},
};
use crate::{
    critique::tell::{run_lines, share, written},
    output::thousands,
};

const STYLE: &str = include_str!("report.css");

/// Text for HTML, also inside of quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

pub(super) fn render(document: &Document) -> String {
    let title = escape(&document.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}: critique</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><p class=\"kicker\">Critique of a corpus</p><h1>{title}</h1><p class=\"muted\">{} · {}</p></header>\n",
        escape(&document.file),
        escape(&document.created)
    );
    html += &tiles(document);
    if let Some(critique) = &document.critique {
        html += &prose(document, critique);
    }
    html += &charts(document);
    html += &classes(document);
    html += &sheet(document);
    if let Some(critique) = &document.critique {
        html += &claims(document, critique);
    }
    html += "<section><h2>How it was made</h2>\n<ul>\n";
    for line in run_lines(&document.analysis) {
        let _ = writeln!(html, "<li>{}</li>", escape(&line));
    }
    if let Some(critique) = &document.critique {
        let _ = writeln!(html, "<li>{}</li>", escape(&written(critique)));
    }
    html + "</ul>\n</section>\n</main>\n</body>\n</html>\n"
}

fn tiles(document: &Document) -> String {
    let summary = &document.statistics;
    let mut tiles = vec![(thousands(summary.texts), "reviews".to_owned())];
    if let Some(class) = summary.classes.iter().max_by_key(|class| class.texts) {
        tiles.push((share(class.share), format!("are {}", class.label)));
    }
    if let Some(mean) = summary.confidence.mean {
        tiles.push((format!("{mean:.2}"), "mean confidence".to_owned()));
    }
    if let Some(mean) = summary.lengths.mean {
        tiles.push((format!("{mean:.0}"), "words on average".to_owned()));
    }
    if let Some(accuracy) = document.analysis.accuracy {
        tiles.push((share(accuracy.share), "accuracy of the classifier".to_owned()));
    }
    if let Some(critique) = &document.critique {
        let all = critique.supported + critique.unsupported;
        tiles.push((
            format!("{} of {all}", critique.supported),
            "claims supported".to_owned(),
        ));
    }
    let mut html = "<dl class=\"tiles\">\n".to_owned();
    for (value, name) in tiles {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&name), escape(&value));
    }
    html + "</dl>\n"
}

fn prose(document: &Document, critique: &Critique) -> String {
    let mut html = "<section class=\"critique\"><h2>Critique</h2>\n<p>".to_owned();
    for (text, claim) in critique.pieces() {
        let text = escape(text);
        match claim {
            // A line that ends in the middle of a paragraph is a blank to HTML.
            None => html += &text.trim_start_matches('\n').replace("\n\n", "</p>\n<p>"),
            Some(claim) => html += &marked(document, claim, &text),
        }
    }
    html += "</p>\n<p class=\"legend\">";
    html += "<a class=\"claim\">supported</a> by the fact sheet, to which it links · <mark>not supported</mark></p>\n";
    if critique.unsupported > 0 {
        html += "<h3>Not supported</h3>\n<ul>\n";
        for claim in critique.unsupported() {
            let _ = writeln!(
                html,
                "<li><mark>{}</mark> ({}): {}</li>",
                escape(&claim.text),
                kind_name(claim.kind()),
                escape(&claim.reason)
            );
        }
        html += "</ul>\n";
    }
    html + "</section>\n"
}

fn marked(document: &Document, claim: &Claim, text: &str) -> String {
    if !claim.supported {
        return format!("<mark title=\"{}\">{text}</mark>", escape(&claim.reason));
    }
    let title = escape(&claim.fact);
    match target(document, claim) {
        Some(target) => format!("<a class=\"claim\" href=\"#{target}\" title=\"{title}\">{text}</a>"),
        None => format!("<a class=\"claim\" title=\"{title}\">{text}</a>"),
    }
}

fn target(document: &Document, claim: &Claim) -> Option<String> {
    let fact = document.fact_number(claim).map(|number| format!("fact-{number}"));
    fact.or_else(|| {
        document
            .quotation_number(claim)
            .map(|number| format!("quotation-{number}"))
    })
}

fn charts(document: &Document) -> String {
    let summary = &document.statistics;
    let (confidence, lengths) = (confidence_bins(summary), length_bins(summary));
    let shares = summary.classes.iter().map(|class| {
        let interval = format!("{} to {}", share(class.interval.low), share(class.interval.high));
        vec![
            class.label.clone(),
            thousands(class.texts),
            share(class.share),
            interval,
        ]
    });
    let counts = |bins: &Bins| {
        let rows = bins.names.iter().zip(&bins.counts);
        rows.map(|(name, count)| vec![name.clone(), thousands(*count)])
            .collect::<Vec<_>>()
    };
    let figures = [
        (
            "Share of each class, with its 95% interval",
            distribution(summary),
            table(&["class", "reviews", "share", "95% interval"], shares.collect()),
        ),
        (
            "How sure the classifier was",
            Histogram {
                id: "confidence",
                title: "Confidence of the classifier",
                axis: "confidence",
                bins: &confidence,
            }
            .svg(),
            table(&["confidence", "reviews"], counts(&confidence)),
        ),
        (
            "How long the reviews are",
            Histogram {
                id: "lengths",
                title: "Length of the reviews",
                axis: "words",
                bins: &lengths,
            }
            .svg(),
            table(&["words", "reviews"], counts(&lengths)),
        ),
    ];
    let mut html = "<section><h2>Charts</h2>\n".to_owned();
    for (caption, svg, table) in figures {
        let _ = writeln!(
            html,
            "<figure><figcaption>{caption}</figcaption>\n{svg}<details><summary>as a table</summary>{table}</details></figure>"
        );
    }
    html + "</section>\n"
}

fn classes(document: &Document) -> String {
    let number =
        |value: Option<f64>, decimals: usize| value.map_or("–".to_owned(), |value| format!("{value:.decimals$}"));
    let rows = document.statistics.classes.iter().map(|class| {
        vec![
            class.label.clone(),
            thousands(class.texts),
            share(class.share),
            number(class.mean_confidence, 2),
            number(class.lengths.mean, 0),
            class.distinctive.join(", "),
        ]
    });
    let columns = [
        "class",
        "reviews",
        "share",
        "mean confidence",
        "mean length",
        "distinctive words",
    ];
    format!(
        "<section><h2>Classes</h2>\n{}</section>\n",
        table(&columns, rows.collect())
    )
}

fn sheet(document: &Document) -> String {
    let mut html = "<section><h2>Fact sheet</h2>\n<p class=\"muted\">All that the scribe was told.</p>\n".to_owned();
    html += "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">fact</th><th scope=\"col\">value</th></tr></thead><tbody>\n";
    for (index, fact) in document.fact_sheet.facts.iter().enumerate() {
        let _ = writeln!(
            html,
            "<tr id=\"fact-{}\"><td>{}</td><td>{}</td></tr>",
            index + 1,
            escape(&fact.title),
            escape(&fact.value)
        );
    }
    html += "</tbody></table></div>\n";
    for (index, quotation) in document.fact_sheet.quotations.iter().enumerate() {
        let _ = writeln!(
            html,
            "<blockquote id=\"quotation-{}\"><p>{}</p><footer>{}, confidence {:.2}</footer></blockquote>",
            index + 1,
            escape(&quotation.text),
            escape(quotation.class.as_deref().unwrap_or("uncertain")),
            quotation.confidence
        );
    }
    html + "</section>\n"
}

fn claims(document: &Document, critique: &Critique) -> String {
    let mut html = format!(
        "<section><h2>Grounding</h2>\n<p>{} of {} claims are supported by the fact sheet (attempt {} of {}).</p>\n",
        critique.supported,
        critique.supported + critique.unsupported,
        critique.attempt,
        critique.attempts
    );
    let rows = critique.tallies();
    let rows = rows.iter().map(|tally| {
        let counts = [tally.all(), tally.supported, tally.unsupported];
        std::iter::once(tally.name.to_owned())
            .chain(counts.map(|count| count.to_string()))
            .collect()
    });
    html += &table(&["claims", "all", "supported", "unsupported"], rows.collect());
    html += "<details><summary>every claim</summary>\n<div class=\"scroll\"><table><thead><tr><th scope=\"col\">claim</th>\
             <th scope=\"col\">kind</th><th scope=\"col\">supported by, or why not</th></tr></thead><tbody>\n";
    for placed in &critique.claims {
        let claim = &placed.claim;
        let why = match (claim.supported, target(document, claim)) {
            (true, Some(target)) => format!("<a href=\"#{target}\">{}</a>", escape(&claim.fact)),
            (true, None) => escape(&claim.fact),
            (false, _) => format!("<mark>{}</mark>", escape(&claim.reason)),
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{why}</td></tr>",
            escape(&claim.text),
            kind_name(claim.kind())
        );
    }
    html + "</tbody></table></div></details>\n</section>\n"
}

fn table(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut html = "<div class=\"scroll\"><table><thead><tr>".to_owned();
    for column in columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(column));
    }
    html += "</tr></thead><tbody>\n";
    for row in rows {
        html += "<tr>";
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(&cell));
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}
