//! Texts from a CSV file, plain or packed by gzip or Zstandard, with the right answer beside them where the file has it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read, Seek as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use csv::{ByteRecord, Reader, ReaderBuilder};
use flate2::read::MultiGzDecoder;
use understudy_protocol::v1::Classification;

/// Looked for in this order when no column is named.
const TEXT_COLUMNS: [&str; 2] = ["review", "text"];
const TRUTH_COLUMNS: [&str; 2] = ["sentiment", "label"];
const SPLIT_COLUMN: &str = "split";
/// Names of splits that are kept to tell the user which there are.
const SPLITS_TOLD: usize = 8;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A CSV file whose header is read.
pub(crate) struct TextFile {
    reader: Reader<Box<dyn Read + Send>>,
    header: ByteRecord,
    text: usize,
    truth: Option<usize>,
    split: Option<Split>,
    read: Arc<AtomicU64>,
    /// Length of the file as it lies on the disk.
    pub(crate) bytes: u64,
}

/// The rows that are wanted of a file that has several parts.
struct Split {
    column: usize,
    wanted: String,
    found: bool,
    others: BTreeSet<String>,
}

/// Counts what was read of a file, also when it is unpacked on the way.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What the first bytes say that it is, whatever the file's name.
fn unpacked(mut file: File, read: Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::new();
    file.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut start)?;
    file.rewind()?;
    let file = Counted { file, read };
    Ok(if start == ZSTD_MAGIC {
        Box::new(zstd::Decoder::new(file)?)
    } else if start.starts_with(&GZIP_MAGIC) {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    })
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
    /// Bytes of the file that were read when the record was.
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
        let read = Arc::new(AtomicU64::new(0));
        let plain = unpacked(file, Arc::clone(&read)).with_context(|| format!("cannot read {shown}"))?;
        let mut reader = ReaderBuilder::new().from_reader(plain);
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
            split: None,
            read,
            bytes,
        })
    }

    /// Leaves out the rows of other splits.
    pub(crate) fn only(mut self, split: &str) -> anyhow::Result<Self> {
        let is_it = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(SPLIT_COLUMN.as_bytes());
        let column = self.header.iter().position(is_it);
        self.split = Some(Split {
            column: column.context("--split needs a column named split, which the file has not")?,
            wanted: split.to_owned(),
            found: false,
            others: BTreeSet::new(),
        });
        Ok(self)
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
        loop {
            let more = self.reader.read_byte_record(&mut record);
            if !more.context("the CSV file is not valid")? {
                return match &self.split {
                    Some(split) if !split.found => Err(split.nowhere()),
                    _ => Ok(None),
                };
            }
            if self.split.as_mut().is_none_or(|split| split.takes(&record)) {
                break;
            }
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
            end: self.read.load(Ordering::Relaxed),
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

impl Split {
    fn takes(&mut self, record: &ByteRecord) -> bool {
        let name = String::from_utf8_lossy(record.get(self.column).unwrap_or_default());
        let takes = name.trim().eq_ignore_ascii_case(&self.wanted);
        self.found |= takes;
        if !takes && self.others.len() < SPLITS_TOLD {
            self.others.insert(name.trim().to_owned());
        }
        takes
    }

    fn nowhere(&self) -> anyhow::Error {
        let others: Vec<_> = self.others.iter().map(String::as_str).collect();
        anyhow::anyhow!(
            "no row has the split {:?}: name another with --split, one of {}",
            self.wanted,
            others.join(", ")
        )
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
    use std::io::Write as _;

    use understudy_protocol::v1::ClassProbability;

    use super::*;

    fn texts(bytes: &[u8], split: Option<&str>) -> anyhow::Result<Vec<String>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut texts = TextFile::open(file.path(), None)?;
        if let Some(split) = split {
            texts = texts.only(split)?;
        }
        let mut all = Vec::new();
        let bytes = texts.bytes;
        while let Some(row) = texts.next_row()? {
            assert!(0 < row.end && row.end <= bytes);
            all.push(row.text);
        }
        Ok(all)
    }

    const SPLITS: &str = "Split,review\ntrain,one\n test ,two\nval,three\nTEST,four\n";

    #[test]
    fn packed_files_read_as_plain_ones() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(SPLITS.as_bytes()).unwrap();
        let all = ["one", "two", "three", "four"];
        assert_eq!(texts(SPLITS.as_bytes(), None).unwrap(), all);
        assert_eq!(texts(&gzip.finish().unwrap(), None).unwrap(), all);
        let zstd = zstd::encode_all(SPLITS.repeat(500).as_bytes(), 1).unwrap();
        assert_eq!(texts(&zstd, None).unwrap().len(), 2499);
        assert!(
            texts(&zstd[..zstd.len() - 5], None).is_err(),
            "a cut file is no whole one"
        );
        assert!(texts(b"x", None).unwrap().is_empty());
    }

    #[test]
    fn one_split_is_taken_or_the_others_are_told() {
        assert_eq!(texts(SPLITS.as_bytes(), Some("test")).unwrap(), ["two", "four"]);
        let error = texts(SPLITS.as_bytes(), Some("dev")).unwrap_err().to_string();
        assert!(error.ends_with("one of TEST, test, train, val"), "{error}");
        let error = texts(b"review\nx\n", Some("test")).unwrap_err().to_string();
        assert!(error.contains("a column named split"), "{error}");
    }

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
