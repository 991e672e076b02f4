//! What `--report` and `--json` write: everything that is known, in one document.

mod html;
mod markdown;
mod svg;

use std::{
    fmt, fs,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use prost_types::Timestamp;
use serde::Serialize;
use understudy_corpus::statistics::Summary;
use understudy_grounding::FactSheet;
use understudy_protocol::v1::{Claim, ClaimKind, CritiqueFinish};

use super::{
    analyse::{Analysis, Run},
    claims,
};

/// Of the JSON; grows when a reader of the old one would be misled.
const FORMAT: u32 = 1;

/// A file that a report goes to; its name's ending says in what form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReportFile {
    path: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Markdown,
    Html,
    Json,
}

impl FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let ending = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_lowercase();
        let form = match ending.as_str() {
            "md" | "markdown" => Form::Markdown,
            "html" | "htm" => Form::Html,
            "json" => Form::Json,
            _ => return Err("name a file that ends in .md, .html or .json".into()),
        };
        Ok(Self { path, form })
    }
}

impl fmt::Display for ReportFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl ReportFile {
    /// A reader sees the old file or the new one.
    pub(super) fn write(&self, document: &Document) -> anyhow::Result<()> {
        let text = match self.form {
            Form::Markdown => markdown::render(document),
            Form::Html => html::render(document),
            Form::Json => serde_json::to_string_pretty(document)? + "\n",
        };
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = self.path.with_file_name(name);
        fs::write(&part, text).with_context(|| format!("cannot write {}", part.display()))?;
        fs::rename(&part, &self.path).with_context(|| format!("cannot write {self}"))
    }
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    format: u32,
    title: String,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<String>,
    /// RFC 3339.
    created: String,
    analysis: Run,
    statistics: Summary,
    fact_sheet: Sheet,
    #[serde(skip_serializing_if = "Option::is_none")]
    critique: Option<Critique>,
}

#[derive(Debug, Serialize)]
struct Sheet {
    items: String,
    facts: Vec<Fact>,
    quotations: Vec<Quotation>,
}

#[derive(Debug, Serialize)]
struct Fact {
    title: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct Quotation {
    text: String,
    /// Of the review; absent if the classifier was uncertain.
    class: Option<String>,
    confidence: f64,
}

/// What the scribe wrote.
#[derive(Debug, Serialize)]
pub(super) struct Critique {
    pub(super) text: String,
    pub(super) version: String,
    /// The one that was delivered.
    pub(super) attempt: u32,
    pub(super) attempts: u32,
    pub(super) supported: u32,
    pub(super) unsupported: u32,
    #[serde(serialize_with = "claims_json")]
    claims: Vec<Placed>,
    pub(super) usage: Usage,
    timings: Timings,
}

/// A claim, and where it stands in the text.
#[derive(Debug)]
struct Placed {
    claim: Claim,
    place: Option<Range<usize>>,
}

/// Tokens of all attempts together.
#[derive(Debug, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u32,
    cached_prompt_tokens: u32,
    pub(super) completion_tokens: u32,
}

#[derive(Debug, Serialize)]
struct Timings {
    queue_seconds: f64,
    prompt_seconds: f64,
    decode_seconds: f64,
}

/// Claims of one kind.
pub(super) struct Tally {
    pub(super) name: &'static str,
    pub(super) supported: usize,
    pub(super) unsupported: usize,
}

impl Tally {
    pub(super) fn all(&self) -> usize {
        self.supported + self.unsupported
    }
}

pub(super) fn kind_name(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Number => "figure",
        ClaimKind::Ranking => "ranking",
        ClaimKind::Quotation => "quotation",
        ClaimKind::Unspecified => "claim",
    }
}

impl Critique {
    pub(super) fn new(finish: CritiqueFinish) -> Self {
        let report = finish.report.unwrap_or_default();
        let (usage, timings) = (finish.usage.unwrap_or_default(), finish.timings.unwrap_or_default());
        let places = claims::places(&finish.text, &report.claims);
        let claims = report.claims.into_iter().zip(places);
        Self {
            text: finish.text,
            version: finish.version,
            attempt: report.attempt,
            attempts: report.attempts,
            supported: report.supported,
            unsupported: report.unsupported,
            claims: claims.map(|(claim, place)| Placed { claim, place }).collect(),
            usage: Usage {
                prompt_tokens: usage.prompt_tokens,
                cached_prompt_tokens: usage.cached_prompt_tokens,
                completion_tokens: usage.completion_tokens,
            },
            timings: Timings {
                queue_seconds: timings.queue_seconds,
                prompt_seconds: timings.prompt_seconds,
                decode_seconds: timings.decode_seconds,
            },
        }
    }

    pub(super) fn tallies(&self) -> Vec<Tally> {
        let kinds = [
            (ClaimKind::Number, "figures"),
            (ClaimKind::Ranking, "rankings"),
            (ClaimKind::Quotation, "quotations"),
        ];
        let count = |kind: ClaimKind, supported| {
            let claims = self.claims.iter().map(|placed| &placed.claim);
            claims
                .filter(|claim| claim.kind() == kind && claim.supported == supported)
                .count()
        };
        kinds
            .map(|(kind, name)| Tally {
                name,
                supported: count(kind, true),
                unsupported: count(kind, false),
            })
            .into()
    }

    pub(super) fn unsupported(&self) -> impl Iterator<Item = &Claim> {
        self.claims
            .iter()
            .map(|placed| &placed.claim)
            .filter(|claim| !claim.supported)
    }

    pub(super) fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.timings.decode_seconds;
        (seconds > 0.0).then(|| f64::from(self.usage.completion_tokens) / seconds)
    }

    /// The text in pieces, each with the claim that it is, if any.
    fn pieces(&self) -> Vec<(&str, Option<&Claim>)> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for Placed { claim, place } in &self.claims {
            let Some(place) = place else { continue };
            pieces.push((&self.text[from..place.start], None));
            pieces.push((&self.text[place.clone()], Some(claim)));
            from = place.end;
        }
        pieces.push((&self.text[from..], None));
        pieces
    }
}

fn claims_json<S: serde::Serializer>(claims: &[Placed], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(claims.iter().map(|Placed { claim, place }| {
        serde_json::json!({
            "kind": kind_name(claim.kind()),
            "text": claim.text,
            "sentence": claim.sentence,
            "supported": claim.supported,
            "fact": claim.fact,
            "reason": claim.reason,
            "bytes": place.as_ref().map(|place| [place.start, place.end]),
        })
    }))
}

impl Document {
    pub(super) fn new(
        file: &Path,
        split: Option<String>,
        sheet: FactSheet,
        analysis: Analysis,
        critique: Option<Critique>,
    ) -> Self {
        let facts = sheet.facts.iter().map(|fact| Fact {
            title: fact.title(&sheet.items),
            value: fact.value.shown(&sheet.items),
        });
        let quotations = sheet.quotations.iter().map(|quotation| Quotation {
            text: quotation.text.clone(),
            class: quotation.subject.clone(),
            confidence: quotation.confidence,
        });
        Self {
            format: FORMAT,
            file: file.display().to_string(),
            split,
            created: Timestamp {
                nanos: 0,
                ..Timestamp::from(std::time::SystemTime::now())
            }
            .to_string(),
            fact_sheet: Sheet {
                facts: facts.collect(),
                quotations: quotations.collect(),
                items: sheet.items,
            },
            title: sheet.title,
            analysis: analysis.run,
            statistics: analysis.summary,
            critique,
        }
    }

    /// The number, from 1, of the fact that a claim is supported by.
    fn fact_number(&self, claim: &Claim) -> Option<usize> {
        let found = self.fact_sheet.facts.iter().position(|fact| fact.title == claim.fact);
        found.map(|index| index + 1)
    }

    /// From a quotation's claim to the line of the sheet, from 1.
    fn quotation_number(&self, claim: &Claim) -> Option<usize> {
        if claim.kind() != ClaimKind::Quotation {
            return None;
        }
        let said = claim.text.trim_matches(['"', '“', '”', ' ']);
        let found = self
            .fact_sheet
            .quotations
            .iter()
            .position(|quotation| quotation.text.contains(said));
        found.filter(|_| !said.is_empty()).map(|index| index + 1)
    }
}

/// A histogram's bins: what each is called, and its count.
pub(super) struct Bins {
    pub(super) names: Vec<String>,
    pub(super) counts: Vec<u64>,
}

/// From the first confidence that the most probable of the classes can have.
pub(super) fn confidence_bins(summary: &Summary) -> Bins {
    let bins = summary.confidence.histogram.len();
    let classes = summary.classes.len().max(1);
    let first = summary
        .confidence
        .histogram
        .iter()
        .position(|&count| count > 0)
        .unwrap_or(bins);
    let first = first.min(bins / classes);
    let bound = |bin: usize| format!("{:.2}", bin as f64 / bins as f64);
    Bins {
        names: (first..bins)
            .map(|bin| format!("{} to {}", bound(bin), bound(bin + 1)))
            .collect(),
        counts: summary.confidence.histogram[first..].to_vec(),
    }
}

pub(super) fn length_bins(summary: &Summary) -> Bins {
    let histogram = &summary.lengths.histogram;
    let names = histogram
        .iter()
        .enumerate()
        .map(|(index, (from, _))| match histogram.get(index + 1) {
            Some((next, _)) if *next > from + 1 => format!("{from} to {}", next - 1),
            Some(_) => from.to_string(),
            None => format!("{from} and more"),
        });
    Bins {
        names: names.collect(),
        counts: histogram.iter().map(|(_, count)| *count).collect(),
    }
}

#[cfg(test)]
mod tests;
