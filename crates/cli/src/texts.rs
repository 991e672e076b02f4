//! Texts from a CSV file, with the right answer beside them where the file has it.

use std::{fs::File, path::Path};

use anyhow::{Context as _, ensure};
use csv::{ByteRecord, Reader, ReaderBuilder};
use understudy_protocol::v1::Classification;

/// Looked for in this order when no column is named.
const TEXT_COLUMNS: [&str; 2] = ["review", "text"];
const TRUTH_COLUMNS: [&str; 2] = ["sentiment", "label"];

/// A CSV file whose header is read.
pub(crate) struct TextFile {
    reader: Reader<File>,
    header: ByteRecord,
    text: usize,
    truth: Option<usize>,
    /// Length of the file.
    pub(crate) bytes: u64,
}

/// A record of a [`TextFile`].
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// As it stands in the file.
    pub(crate) record: ByteRecord,
    pub(crate) text: String,
    pub(crate) truth: Option<String>,
    /// Line in the file, from 1.
    pub(crate) line: u64,
    /// Where the record ends.
    pub(crate) end: u64,
}

impl Row {
    /// A text that stands in no file.
    pub(crate) fn of_text(text: &str) -> Self {
        Self {
            record: ByteRecord::new(),
            text: text.to_owned(),
            truth: None,
            line: 0,
            end: 0,
        }
    }
}

impl TextFile {
    pub(crate) fn open(path: &Path, column: Option<&str>) -> anyhow::Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        let bytes = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
        let mut reader = ReaderBuilder::new().from_reader(file);
        let header = reader
            .byte_headers()
            .with_context(|| format!("cannot read the header of {shown}"))?
            .clone();
        let names: Vec<_> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        let find = |wanted: &str| {
            names
                .iter()
                .position(|name| name.trim_start_matches('\u{feff}').eq_ignore_ascii_case(wanted))
        };
        let text = match column {
            Some(column) => find(column),
            None => TEXT_COLUMNS
                .into_iter()
                .find_map(find)
                .or((names.len() == 1).then_some(0)),
        };
        let text = text.with_context(|| {
            let wanted = column.map_or("review or text".to_owned(), str::to_owned);
            format!(
                "{shown} has no column {wanted}: name the one with the texts by --column, one of {}",
                names.join(", ")
            )
        })?;
        let truth = TRUTH_COLUMNS.into_iter().find_map(find).filter(|truth| *truth != text);
        Ok(Self {
            reader,
            header,
            text,
            truth,
            bytes,
        })
    }

    pub(crate) fn header(&self) -> &ByteRecord {
        &self.header
    }

    pub(crate) fn has_truth(&self) -> bool {
        self.truth.is_some()
    }

    /// Texts that are not UTF-8 get replacement characters; the record keeps its bytes.
    pub(crate) fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        let mut record = ByteRecord::new();
        if !self
            .reader
            .read_byte_record(&mut record)
            .context("the CSV file is not valid")?
        {
            return Ok(None);
        }
        let field = |index| {
            record
                .get(index)
                .map(|field| String::from_utf8_lossy(field).into_owned())
        };
        let text = field(self.text).unwrap_or_default();
        let truth = self
            .truth
            .and_then(field)
            .map(|truth| truth.trim().to_owned())
            .filter(|truth| !truth.is_empty());
        let line = record.position().map_or(0, csv::Position::line);
        Ok(Some(Row {
            text,
            truth,
            line,
            end: self.reader.position().byte(),
            record,
        }))
    }

    /// All rows at once, for files that are sent again and again.
    pub(crate) fn all(mut self, path: &Path, most: usize) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        while let Some(row) = self.next_row()? {
            ensure!(
                rows.len() < most,
                "{} has more than {most} rows: take a part of it",
                path.display()
            );
            rows.push(row);
        }
        ensure!(!rows.is_empty(), "{} has no rows", path.display());
        Ok(rows)
    }
}

/// Whether an answer is what the file says: the label's name in any case, `pos`/`neg`, or the class's number.
pub(crate) fn is_correct(truth: &str, answer: &Classification) -> bool {
    let label = &answer.label;
    if truth.eq_ignore_ascii_case(label) {
        return true;
    }
    let long = match truth.to_ascii_lowercase().as_str() {
        "pos" => "positive",
        "neg" => "negative",
        number => {
            let class = number
                .parse()
                .ok()
                .and_then(|index: usize| answer.probabilities.get(index));
            return class.is_some_and(|class| class.label == *label);
        }
    };
    label.eq_ignore_ascii_case(long)
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::ClassProbability;

    use super::*;

    #[test]
    fn truth_is_recognised_in_its_usual_spellings() {
        let class = |label: &str| ClassProbability {
            label: label.into(),
            probability: 0.5,
        };
        let answer = Classification {
            label: "POSITIVE".into(),
            probabilities: vec![class("NEGATIVE"), class("POSITIVE")],
            ..Classification::default()
        };
        for right in ["positive", "Positive", "pos", "1"] {
            assert!(is_correct(right, &answer), "{right}");
        }
        for wrong in ["negative", "neg", "0", "2", "", "-1"] {
            assert!(!is_correct(wrong, &answer), "{wrong}");
        }
    }
}
