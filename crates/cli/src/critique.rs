//! `understudy critique`: reviews become statistics, and statistics a critique in which every figure is checked.
//!
//! ```text
//!   file ─▶ analyse (ClassifyStream × 8) ─▶ Statistics ─▶ sheet ─▶ write (WriteCritique) ─▶ text, grounding ─▶ report
//! ```
//!
//! Both calls carry one draw, so that they meet versions of the analyst and of the scribe that were released together. The
//! file is never in memory as a whole: what is kept of it is what `Statistics` keeps.

mod analyse;
mod claims;
mod live;
mod report;
mod sheet;
mod tell;
mod write;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use understudy_grounding::{FactSheet, NAME_CHARACTERS_MAX};
use understudy_protocol::{
    metadata,
    v1::{UnsupportedPolicy, WriteCritiqueRequest},
};

use self::{
    analyse::Analyst,
    report::{Critique, Document, ReportFile},
    write::Writer,
};
use crate::{
    output::{Output, time},
    publish::checked_name,
    router::Router,
    sampling::{SamplingOptions, draw},
    texts::TextFile,
};

const EXAMPLES: &str = "\
Examples:
  understudy critique reviews.csv
  understudy critique reviews.csv --report critique.html --report critique.md --report critique.json
  understudy critique imdb_reviews.csv.zst --split test --title 'IMDb, test split' --unsupported remove
  understudy critique reviews.csv --sheet-only --json";

/// Turns a file of reviews into statistics, and those into a critique in which every figure is checked
///
/// Classifies each review of a CSV file (plain, gzip or Zstandard) through the router, tells what the corpus looks like, and lets
/// the scribe write about it. What the scribe writes is shown as it comes; every number, ranking and quotation of it is checked
/// against the statistics, and the scribe writes again if some are unsupported. If the file has a column `sentiment` or
/// `label`, the share of right answers is reported.
///
/// --json and --report *.json give one object: format (1), title, file, split, analysis (rows, classified, refused, truncated,
/// accuracy, versions, seconds), statistics, fact_sheet (facts, quotations), and critique (text, version, attempt, attempts,
/// supported, unsupported, claims with their place in the text in bytes, usage, timings).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CritiqueOptions {
    /// CSV file with a header and a column `review` or `text`
    file: PathBuf,
    /// Column of the file that holds the reviews
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Take only the rows whose column `split` says this
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Take at most this many reviews
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// What the corpus is called [default: the file's name]
    #[arg(long, value_parser = title)]
    title: Option<String>,
    /// Write a report: FILE.md, FILE.html or FILE.json; may be repeated
    #[arg(long = "report", value_name = "FILE")]
    reports: Vec<ReportFile>,
    /// Stop before the critique: print the statistics and the fact sheet that the scribe would read
    #[arg(long)]
    sheet_only: bool,
    /// Model that classifies [default: the only one]
    #[arg(long, value_parser = checked_name, value_name = "MODEL")]
    analyst_model: Option<String>,
    /// Model that writes [default: the only one]
    #[arg(long, value_parser = checked_name, value_name = "MODEL")]
    scribe_model: Option<String>,
    /// Times that the scribe may write it, at most [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    attempts: Option<u32>,
    /// What happens to sentences that are unsupported after the last attempt
    #[arg(long, value_enum, default_value_t = Unsupported::Mark)]
    unsupported: Unsupported,
    /// Longest wait for the next answer or the next piece of text
    #[arg(long, default_value = "5m", value_parser = time, value_name = "TIME")]
    timeout: Duration,
    #[command(flatten)]
    sampling: SamplingOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unsupported {
    /// They are followed by "[unsupported]"
    Mark,
    /// They are left out
    Remove,
}

impl CritiqueOptions {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<ExitCode> {
        let mut input = TextFile::open(&self.file, self.column.as_deref())?;
        if let Some(split) = &self.split {
            input = input.only(split)?;
        }
        let draw = draw();
        let analyst = Analyst {
            client: router.analyst(),
            metadata: call_metadata(self.analyst_model.as_deref(), &draw)?,
            patience: self.timeout,
        };
        let analysis = analyst.run(input, self.limit, output).await?;
        let title = self
            .title
            .clone()
            .unwrap_or_else(|| title_of(&self.file, self.split.as_deref()));
        let sheet = FactSheet::of_reviews(&title, &analysis.summary);
        if !output.is_json() {
            tell::analysis(&title, &analysis, output)?;
        }
        let critique = if self.sheet_only {
            if !output.is_json() {
                output.line(format_args!("{}\n{sheet}", tell::heading("Fact sheet")))?;
            }
            None
        } else {
            Some(self.write(router, &sheet, &draw, output).await?)
        };
        let document = Document::new(&self.file, self.split, sheet, analysis, critique);
        for report in &self.reports {
            report.write(&document)?;
        }
        if output.is_json() {
            output.value(&document)?;
        }
        for report in &self.reports {
            output.remark(format_args!("the report is in {report}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn write(&self, router: &Router, sheet: &FactSheet, draw: &str, output: &Output) -> anyhow::Result<Critique> {
        let writer = Writer {
            client: router.scribe(),
            metadata: call_metadata(self.scribe_model.as_deref(), draw)?,
            patience: self.timeout,
        };
        let policy = match self.unsupported {
            Unsupported::Mark => UnsupportedPolicy::Mark,
            Unsupported::Remove => UnsupportedPolicy::Remove,
        };
        let request = WriteCritiqueRequest {
            sheet: Some(sheet::proto(sheet)),
            sampling: Some(self.sampling.proto()),
            attempts_max: self.attempts,
            unsupported: policy.into(),
        };
        let finish = writer.write(request, output).await?;
        let critique = Critique::new(finish);
        if !output.is_json() {
            tell::grounding(&critique, output)?;
        }
        Ok(critique)
    }
}

fn call_metadata(model: Option<&str>, draw: &str) -> anyhow::Result<MetadataMap> {
    let mut map = MetadataMap::new();
    for (key, value) in [(metadata::MODEL, model), (metadata::DRAW, Some(draw))] {
        if let Some(value) = value {
            let value: MetadataValue<Ascii> = value.parse().with_context(|| format!("{key} cannot be {value:?}"))?;
            map.insert(key, value);
        }
    }
    Ok(map)
}

fn title(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_CHARACTERS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("a title is one line of 1 to {NAME_CHARACTERS_MAX} characters"))
    }
}

/// `data/imdb_reviews.csv.zst` is "imdb reviews".
fn title_of(file: &std::path::Path, split: Option<&str>) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or("reviews");
    let mut title = stem.replace(['_', '-'], " ");
    if let Some(split) = split {
        title += &format!(", {split} split");
    }
    title
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARACTERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_the_title() {
        assert_eq!(title_of("a/imdb_reviews.csv.zst".as_ref(), None), "imdb reviews");
        assert_eq!(title_of("reviews".as_ref(), Some("test")), "reviews, test split");
        assert_eq!(title_of(".hidden.csv".as_ref(), None), "hidden");
        assert!(title("").is_err() && title("two\nlines").is_err() && title(&"x".repeat(201)).is_err());
    }
}
