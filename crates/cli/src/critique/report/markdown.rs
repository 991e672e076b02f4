//! The report as Markdown. The prose stays as it was written; what was checked stands below each paragraph.

use std::fmt::Write as _;

use understudy_protocol::v1::{Claim, ClaimKind};

use super::{Bins, Critique, Document, confidence_bins, kind_name, length_bins};
use crate::{
    critique::tell::{quoted, run_lines, share, written},
    output::thousands,
};

/// Characters of the longest bar.
const BAR: usize = 40;

pub(super) fn render(document: &Document) -> String {
    let mut text = format!(
        "# {}\n\n{} · {}\n\n",
        line(&document.title),
        line(&document.file),
        document.created
    );
    if let Some(critique) = &document.critique {
        text += &prose(document, critique);
    }
    text += "## Statistics\n\n";
    text += &classes(document);
    text += &charts(document);
    text += &sheet(document);
    if let Some(critique) = &document.critique {
        text += &grounding(critique);
    }
    text += "## How it was made\n\n";
    for made in run_lines(&document.analysis) {
        let _ = writeln!(text, "- {}", line(&made));
    }
    if let Some(critique) = &document.critique {
        let _ = writeln!(text, "- {}", line(&written(critique)));
    }
    text
}

/// Text for one line, that cannot become HTML.
fn line(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace(['\n', '\r'], " ")
}

fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

fn prose(document: &Document, critique: &Critique) -> String {
    let mut text = "## Critique\n\n".to_owned();
    let mut start = 0;
    for paragraph in critique.text.split("\n\n") {
        let end = start + paragraph.len();
        if !paragraph.trim().is_empty() {
            text += paragraph.trim().replace('&', "&amp;").replace('<', "&lt;").as_str();
            text += "\n\n";
            let claims = critique.claims.iter().filter(|placed| {
                placed
                    .place
                    .as_ref()
                    .is_some_and(|place| (start..end).contains(&place.start))
            });
            let marks: Vec<_> = claims.map(|placed| mark(document, &placed.claim)).collect();
            if !marks.is_empty() {
                let _ = writeln!(text, "> <sub>{}</sub>\n", marks.join(" · "));
            }
        }
        start = end + 2;
    }
    text
}

fn mark(document: &Document, claim: &Claim) -> String {
    let said = match claim.kind() {
        ClaimKind::Quotation => quoted(&claim.text),
        _ => claim.text.clone(),
    };
    let said = line(&said).replace(['[', ']'], "");
    if !claim.supported {
        return format!("✗ **{said}** {}", line(&claim.reason));
    }
    let fact = document.fact_number(claim).map(|number| format!("fact-{number}"));
    match fact.or_else(|| {
        document
            .quotation_number(claim)
            .map(|number| format!("quotation-{number}"))
    }) {
        Some(target) => format!("✓ [{said}](#{target})"),
        None => format!("✓ {said}"),
    }
}

fn classes(document: &Document) -> String {
    let summary = &document.statistics;
    let number =
        |value: Option<f64>, decimals: usize| value.map_or("–".to_owned(), |value| format!("{value:.decimals$}"));
    let mut text = "| class | reviews | share | 95% interval | mean confidence | mean length | distinctive words |\n\
                    | --- | ---: | ---: | :---: | ---: | ---: | --- |\n"
        .to_owned();
    for class in &summary.classes {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} to {} | {} | {} | {} |",
            cell(&class.label),
            thousands(class.texts),
            share(class.share),
            share(class.interval.low),
            share(class.interval.high),
            number(class.mean_confidence, 2),
            number(class.lengths.mean, 0),
            cell(&class.distinctive.join(", "))
        );
    }
    let _ = writeln!(
        text,
        "| all | {} | | | {} | {} | |\n",
        thousands(summary.texts),
        number(summary.confidence.mean, 2),
        number(summary.lengths.mean, 0)
    );
    text
}

fn charts(document: &Document) -> String {
    let summary = &document.statistics;
    let shares = Bins {
        names: summary.classes.iter().map(|class| class.label.clone()).collect(),
        counts: summary.classes.iter().map(|class| class.texts).collect(),
    };
    format!(
        "Share of each class:\n\n{}Confidence of the classifier:\n\n{}Length in words:\n\n{}",
        bars(&shares),
        bars(&confidence_bins(summary)),
        bars(&length_bins(summary))
    )
}

/// A chart that every viewer shows.
fn bars(bins: &Bins) -> String {
    let most = bins.counts.iter().copied().max().unwrap_or_default().max(1);
    let width = bins
        .names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = "```text\n".to_owned();
    for (name, &count) in bins.names.iter().zip(&bins.counts) {
        // In eighths of a character.
        let eighths = usize::try_from(u128::from(count) * (BAR as u128 * 8) / u128::from(most)).unwrap_or(BAR * 8);
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        let bar = "█".repeat(eighths / 8) + rest;
        let name = name.replace(['`', '\n'], " ");
        let _ = writeln!(text, "{name:<width$}  {bar} {}", thousands(count));
    }
    text + "```\n\n"
}

fn sheet(document: &Document) -> String {
    let mut text = "## Fact sheet\n\nAll that the scribe was told.\n\n| fact | value |\n| --- | --- |\n".to_owned();
    for (index, fact) in document.fact_sheet.facts.iter().enumerate() {
        let _ = writeln!(
            text,
            "| <a id=\"fact-{}\"></a>{} | {} |",
            index + 1,
            cell(&fact.title),
            cell(&fact.value)
        );
    }
    text.push('\n');
    for (index, quotation) in document.fact_sheet.quotations.iter().enumerate() {
        let _ = writeln!(
            text,
            "> <a id=\"quotation-{}\"></a>“{}” ({}, confidence {:.2})\n",
            index + 1,
            line(&quotation.text),
            line(quotation.class.as_deref().unwrap_or("uncertain")),
            quotation.confidence
        );
    }
    text
}

fn grounding(critique: &Critique) -> String {
    let mut text = format!(
        "## Grounding\n\n{} of {} claims are supported by the fact sheet (attempt {} of {}).\n\n\
         | claims | all | supported | unsupported |\n| --- | ---: | ---: | ---: |\n",
        critique.supported,
        critique.supported + critique.unsupported,
        critique.attempt,
        critique.attempts
    );
    for tally in critique.tallies() {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            tally.name,
            tally.all(),
            tally.supported,
            tally.unsupported
        );
    }
    text.push('\n');
    for claim in critique.unsupported() {
        let _ = writeln!(
            text,
            "- ✗ **{}** ({}): {}",
            line(&claim.text),
            kind_name(claim.kind()),
            line(&claim.reason)
        );
    }
    if critique.unsupported > 0 {
        text.push('\n');
    }
    text
}
