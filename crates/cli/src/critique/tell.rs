//! Statistics and grounding on the terminal.

use console::{style, truncate_str};
use understudy_corpus::statistics::{CONFIDENT, Summary, UNCERTAIN};
use understudy_protocol::v1::Claim;

use super::{
    analyse::{Analysis, Run},
    report::{Critique, confidence_bins, kind_name, length_bins},
};
use crate::{
    output::{Output, counted, duration, printable, thousands},
    table::table,
};

/// Distinctive words that a line shows.
const WORDS_SHOWN: usize = 5;
/// Columns of a claim on a line.
const WORDS_WIDTH: usize = 60;

pub(super) fn heading(text: &str) -> String {
    style(text).bold().underlined().to_string()
}

pub(super) fn analysis(title: &str, analysis: &Analysis, output: &Output) -> anyhow::Result<()> {
    let Analysis { summary, run } = analysis;
    output.line(format_args!("{}\n", heading(&format!("Statistics: {title}"))))?;
    for line in run_lines(run) {
        output.line(line)?;
    }
    let mut rows = table([
        "CLASS",
        "REVIEWS",
        "SHARE",
        "95% INTERVAL",
        "CONFIDENCE",
        "WORDS",
        "DISTINCTIVE",
    ]);
    for class in &summary.classes {
        let words: Vec<_> = class.distinctive.iter().take(WORDS_SHOWN).map(String::as_str).collect();
        rows.add_row([
            class.label.clone(),
            thousands(class.texts),
            share(class.share),
            format!("{} to {}", share(class.interval.low), share(class.interval.high)),
            score(class.mean_confidence),
            mean(class.lengths.mean),
            words.join(", "),
        ]);
    }
    rows.add_row([
        "all".to_owned(),
        thousands(summary.texts),
        String::new(),
        String::new(),
        score(summary.confidence.mean),
        mean(summary.lengths.mean),
        String::new(),
    ]);
    output.line(format_args!("\n{}\n", rows.trim_fmt()))?;
    for line in summary_lines(summary) {
        output.line(line)?;
    }
    output.line("")
}

/// Who classified how many reviews, and what was left out.
pub(super) fn run_lines(run: &Run) -> Vec<String> {
    let mut lines = vec![format!(
        "{} in {}, {:.0} reviews/s",
        counted(run.classified, "review"),
        duration(std::time::Duration::from_secs_f64(run.seconds)),
        run.rows as f64 / run.seconds.max(1e-9)
    )];
    for (version, reviews) in &run.versions {
        lines.push(format!("analyst {version}: {}", counted(*reviews, "review")));
    }
    if let Some(accuracy) = run.accuracy {
        lines.push(format!(
            "accuracy {} ({} of {})",
            share(accuracy.share),
            thousands(accuracy.correct),
            thousands(accuracy.judged)
        ));
    }
    let refused = run.refused;
    if refused.total() > 0 {
        let why = [
            (refused.empty, "empty"),
            (refused.too_long, "too long"),
            (refused.other, "refused by the model"),
        ];
        let why: Vec<_> = why
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, why)| format!("{} {why}", thousands(*count)))
            .collect();
        lines.push(format!(
            "{} of {} were refused and are in no figure: {}",
            thousands(refused.total()),
            counted(run.rows, "review"),
            why.join(", ")
        ));
    }
    if run.truncated > 0 {
        lines.push(format!(
            "{} were classified by their beginning: they have more tokens than the model takes",
            counted(run.truncated, "review")
        ));
    }
    lines
}

fn summary_lines(summary: &Summary) -> Vec<String> {
    let (confidence, lengths) = (&summary.confidence, &summary.lengths);
    let words = |count: Option<u64>| count.map_or("-".to_owned(), thousands);
    let ratio = summary
        .type_token_ratio
        .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let (sure, long) = (confidence_bins(summary), length_bins(summary));
    let from = sure
        .names
        .first()
        .and_then(|name| name.split(' ').next())
        .unwrap_or("0");
    vec![
        format!(
            "confidence  {from} {} 1   {} at least {CONFIDENT}, {} below {UNCERTAIN}",
            sparks(&sure.counts),
            thousands(confidence.confident),
            thousands(confidence.uncertain)
        ),
        format!(
            "length      {}   median {}, 90th percentile {} words",
            sparks(&long.counts),
            words(lengths.median),
            words(lengths.p90)
        ),
        format!(
            "language    {} distinct words, type-token ratio {ratio}",
            thousands(summary.vocabulary)
        ),
    ]
}

pub(super) fn grounding(critique: &Critique, output: &Output) -> anyhow::Result<()> {
    output.line(format_args!("\n{}\n", heading("Grounding")))?;
    let mut rows = table(["CLAIMS", "ALL", "SUPPORTED", "UNSUPPORTED"]);
    for tally in critique.tallies() {
        rows.add_row([
            tally.name.to_owned(),
            tally.all().to_string(),
            tally.supported.to_string(),
            tally.unsupported.to_string(),
        ]);
    }
    output.line(rows.trim_fmt())?;
    let (supported, all) = (critique.supported, critique.supported + critique.unsupported);
    let mark = if critique.unsupported == 0 {
        style("✓").green().bold()
    } else {
        style("!").yellow().bold()
    };
    if all == 0 {
        output.line("\nThe text makes no claim that can be checked.")?;
    } else {
        output.line(format_args!(
            "\n{mark} {supported} of {all} claims are supported by the fact sheet"
        ))?;
    }
    for claim in critique.unsupported() {
        output.line(format_args!("  {} {}", style("✗").red().bold(), complaint(claim)))?;
    }
    output.line(format_args!("\n{}", written(critique)))
}

/// Who wrote it, and how fast.
pub(super) fn written(critique: &Critique) -> String {
    let rate = match critique.tokens_per_second() {
        Some(rate) => format!(", {rate:.0} tokens/s"),
        None => String::new(),
    };
    format!(
        "scribe {}: attempt {} of {}, {} tokens{rate}",
        critique.version,
        critique.attempt,
        critique.attempts,
        thousands(critique.usage.completion_tokens.into())
    )
}

/// An unsupported claim on one line.
pub(super) fn complaint(claim: &Claim) -> String {
    let kind = kind_name(claim.kind());
    let fact = if claim.fact.is_empty() || claim.reason.contains(&claim.fact) {
        String::new()
    } else {
        format!(" ({})", claim.fact)
    };
    printable(&format!("{} {kind}: {}{fact}", quoted(&claim.text), claim.reason)).replace('\n', " ")
}

/// A claim's words, or how they begin, in one pair of quotation marks.
pub(super) fn quoted(text: &str) -> String {
    let words = text.trim_matches(['"', '“', '”']).replace('\n', " ");
    format!("“{}”", truncate_str(&words, WORDS_WIDTH, "…"))
}

pub(super) fn share(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn score(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

fn mean(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

/// Counts as small bars.
fn sparks(counts: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or_default();
    counts
        .iter()
        .map(
            |&count| match usize::try_from(u128::from(count) * 7 / u128::from(most.max(1))) {
                _ if count == 0 => ' ',
                step => BARS[step.unwrap_or_default().min(7)],
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::ClaimKind;

    use super::*;

    #[test]
    fn bars_are_as_high_as_the_counts() {
        assert_eq!(sparks(&[0, 1, 50, 100, u64::MAX]), " ▁▁▁█");
        assert_eq!(sparks(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(sparks(&[]), "");
    }

    #[test]
    fn a_complaint_is_one_line_that_is_safe_to_show() {
        let claim = Claim {
            kind: ClaimKind::Quotation.into(),
            text: format!("\"fine\n\u{7}{}", "long ".repeat(20)),
            reason: "no such\nquotation".into(),
            fact: "quotation".into(),
            ..Claim::default()
        };
        assert_eq!(
            complaint(&claim),
            format!("“fine {}long…” quotation: no such quotation", "long ".repeat(10))
        );
    }
}
