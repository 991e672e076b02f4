//! A CSV file in, a CSV file out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use csv::ByteRecord;
use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::ask::{Answer, Asker, BATCH_MAX, CALLS_MAX};
use crate::{
    output::{Output, counted, duration, thousands},
    texts::{Row, TextFile, is_correct},
};

/// Refusals that are shown one by one; more are only counted.
const REFUSALS_SHOWN: u64 = 5;

pub(super) struct Job {
    pub(super) file: PathBuf,
    pub(super) out: Option<PathBuf>,
    pub(super) column: Option<String>,
}

/// What came of a file.
#[derive(Debug, Default, Serialize)]
struct Report {
    rows: u64,
    refused: u64,
    seconds: f64,
    rows_per_second: f64,
    /// Of the rows that have a right answer beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<f64>,
    versions: BTreeMap<String, Tally>,
    labels: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Tally {
    rows: u64,
    #[serde(skip_serializing_if = "is_zero")]
    judged: u64,
    #[serde(skip_serializing_if = "is_zero")]
    correct: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Job {
    /// Returns how many rows were refused.
    pub(super) async fn run(self, asker: &Asker, output: &Output) -> anyhow::Result<u64> {
        let started = Instant::now();
        let mut input = TextFile::open(&self.file, self.column.as_deref())?;
        let has_truth = input.has_truth();
        let mut sink = Sink::create(self.out.as_deref())?;
        sink.writer.write_byte_record(&extended_header(input.header()))?;
        let bar = output.bar(input.bytes, "{bar:30} {percent:>3}%  {msg}  {eta} left");

        let chunks = std::iter::from_fn(move || next_chunk(&mut input).transpose());
        let answers = stream::iter(chunks)
            .map(|rows| async move {
                let rows = rows?;
                let texts: Vec<_> = rows.iter().map(|row| row.text.clone()).collect();
                let answers = asker.ask(&texts).await?;
                anyhow::Ok(rows.into_iter().zip(answers).collect::<Vec<_>>())
            })
            .buffered(CALLS_MAX);
        let mut answers = std::pin::pin!(answers);

        let mut report = Report::default();
        while let Some(answered) = answers.next().await {
            for (row, answer) in answered? {
                report.add(&row, &answer);
                if let Err(refused) = &answer
                    && report.refused <= REFUSALS_SHOWN
                {
                    output.warning(format_args!("line {} was refused: {}", row.line, refused.0));
                }
                bar.set_position(row.end);
                sink.writer.write_byte_record(&extended(row.record, &answer))?;
            }
            bar.set_message(format!(
                "{}, {:.0}/s",
                counted(report.rows, "row"),
                report.rows as f64 / started.elapsed().as_secs_f64()
            ));
        }
        bar.finish_and_clear();
        sink.finish()?;
        report.finish(started, has_truth);
        self.tell(&report, output)?;
        Ok(report.refused)
    }

    /// The report goes to standard output only if the answers do not.
    fn tell(&self, report: &Report, output: &Output) -> anyhow::Result<()> {
        if output.is_json() {
            return match self.out {
                Some(_) => output.value(report),
                None => {
                    output.remark(serde_json::to_string(report)?);
                    Ok(())
                }
            };
        }
        let mut lines = vec![format!(
            "{} in {}, {:.0} rows/s",
            counted(report.rows, "row"),
            duration(std::time::Duration::from_secs_f64(report.seconds)),
            report.rows_per_second
        )];
        let labels: Vec<_> = report
            .labels
            .iter()
            .map(|(label, rows)| format!("{} {label}", thousands(*rows)))
            .collect();
        lines.push(labels.join(", "));
        for (version, tally) in &report.versions {
            let mut line = format!("{version}: {}", counted(tally.rows, "row"));
            if tally.judged > 0 {
                let share = tally.correct as f64 / tally.judged as f64 * 100.0;
                line += &format!(", accuracy {share:.1}% ({} of {})", tally.correct, tally.judged);
            }
            lines.push(line);
        }
        if report.refused > 0 {
            lines.push(format!(
                "refused, and without a label: {}",
                counted(report.refused, "row")
            ));
        }
        if let Some(out) = &self.out {
            lines.push(format!("answers are in {}", out.display()));
            return lines.iter().try_for_each(|line| output.line(line));
        }
        lines.iter().for_each(|line| output.remark(line));
        Ok(())
    }
}

fn next_chunk(input: &mut TextFile) -> anyhow::Result<Option<Vec<Row>>> {
    let mut rows = Vec::with_capacity(BATCH_MAX);
    while rows.len() < BATCH_MAX {
        match input.next_row()? {
            Some(row) => rows.push(row),
            None => break,
        }
    }
    Ok((!rows.is_empty()).then_some(rows))
}

/// A column that is there already keeps its name, and ours gets a prefix.
fn extended_header(header: &ByteRecord) -> ByteRecord {
    let mut extended = header.clone();
    for name in ["label", "confidence", "version"] {
        if header.iter().any(|existing| existing == name.as_bytes()) {
            extended.push_field(format!("understudy_{name}").as_bytes());
        } else {
            extended.push_field(name.as_bytes());
        }
    }
    extended
}

fn extended(mut record: ByteRecord, answer: &Answer) -> ByteRecord {
    let (label, confidence, version) = match answer {
        Ok(answer) => (
            answer.label.as_str(),
            format!("{:.6}", answer.confidence),
            answer.version.as_str(),
        ),
        Err(_) => ("", String::new(), ""),
    };
    record.push_field(label.as_bytes());
    record.push_field(confidence.as_bytes());
    record.push_field(version.as_bytes());
    record
}

impl Report {
    fn add(&mut self, row: &Row, answer: &Answer) {
        self.rows += 1;
        let Ok(answer) = answer else {
            self.refused += 1;
            return;
        };
        *self.labels.entry(answer.label.clone()).or_default() += 1;
        let tally = self.versions.entry(answer.version.clone()).or_default();
        tally.rows += 1;
        if let Some(truth) = &row.truth {
            tally.judged += 1;
            tally.correct += u64::from(is_correct(truth, answer));
        }
    }

    fn finish(&mut self, started: Instant, has_truth: bool) {
        self.seconds = started.elapsed().as_secs_f64();
        self.rows_per_second = self.rows as f64 / self.seconds;
        let (judged, correct) = self.versions.values().fold((0, 0), |(judged, correct), tally| {
            (judged + tally.judged, correct + tally.correct)
        });
        self.accuracy = (has_truth && judged > 0).then(|| correct as f64 / judged as f64);
    }
}

/// Standard output, or a file that appears under its name only when it is complete.
struct Sink {
    writer: csv::Writer<Box<dyn Write>>,
    part: Option<(PathBuf, PathBuf)>,
}

impl Sink {
    fn create(out: Option<&Path>) -> anyhow::Result<Self> {
        let Some(out) = out else {
            return Ok(Self {
                writer: csv::Writer::from_writer(Box::new(io::stdout())),
                part: None,
            });
        };
        let mut name = out
            .file_name()
            .with_context(|| format!("--out {} names no file", out.display()))?
            .to_owned();
        name.push(".part");
        let part = out.with_file_name(name);
        let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        Ok(Self {
            writer: csv::Writer::from_writer(Box::new(file)),
            part: Some((part, out.to_owned())),
        })
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.writer.flush()?;
        if let Some((part, out)) = self.part {
            std::fs::rename(&part, &out).with_context(|| format!("cannot write {}", out.display()))?;
        }
        Ok(())
    }
}
