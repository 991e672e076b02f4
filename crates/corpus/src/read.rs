//! Streaming reader of review files: CSV (or tab-separated) with a header, plain, gzip or zstd.
//!
//! Columns are found by name, compression by the first bytes. A record is whole and valid or an error with its line.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::Error;

const TEXT_COLUMNS: [&str; 3] = ["review", "text", "sentence"];
const LABEL_COLUMNS: [&str; 2] = ["sentiment", "label"];
/// The options by which the programs here let a user name a column.
const TEXT_FLAG: &str = "--text-column";
const LABEL_FLAG: &str = "--label-column";
const SPLIT_COLUMN: &str = "split";
/// Bytes of one text. A longer one is most often the rest of the file after a quotation mark that nothing closes.
const TEXT_BYTES_MAX: usize = 500_000;
/// The beginning of a file, in bytes, that is looked at to tell text from other content.
const START_BYTES: u64 = 8192;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What a record is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose among models and settings.
    Validation,
    /// To measure the chosen one.
    Test,
}

impl Split {
    fn parse(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// Which columns of a file to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The texts'; `None`: `review`, `text` or `sentence`.
    pub text: Option<String>,
    /// The labels'; `None`: `sentiment` or `label`.
    pub label: Option<String>,
    /// Others whose values are wanted as they stand there.
    pub kept: Vec<String>,
}

/// One row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it begins, from 1.
    pub line: u64,
    /// The text as it stands there.
    pub text: String,
    /// The label as it stands there, without white space around it; `None` if the file has no such column.
    pub label: Option<String>,
    /// `None` if the file has no such column.
    pub split: Option<Split>,
    /// Values of [`Columns::kept`], in that order.
    pub kept: Vec<String>,
}

/// Reads the records of one file, in order.
pub struct Reader {
    path: PathBuf,
    csv: csv::Reader<Box<dyn Read + Send>>,
    row: csv::ByteRecord,
    text: usize,
    label: Option<usize>,
    split: Option<usize>,
    kept: Vec<usize>,
    failed: bool,
}

impl Reader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, is empty, damaged or no text, or has no column for the text (`review`, `text` or `sentence`).
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_columns(path, &Columns::default())
    }

    /// The same with columns of the caller's choice; their names count whatever their case.
    ///
    /// # Errors
    /// As [`Reader::open`]; also if a column that is named is not there.
    pub fn open_columns(path: &Path, columns: &Columns) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let plain = decompress(file).map_err(io)?;
        let (start, plain) = start(plain).map_err(io)?;
        refuse_other_than_text(path, &start)?;
        let mut csv = csv::ReaderBuilder::new()
            .delimiter(separator(&start))
            .from_reader(plain);
        let headers = csv.byte_headers().map_err(|error| malformed(path, &error, 1))?;
        let headers: Vec<String> = headers
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
            .collect();
        let find = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| headers.iter().position(|header| header == name))
        };
        let missing = |wanted: String, flag| Error::MissingColumn {
            path: path.to_owned(),
            wanted,
            found: headers.clone(),
            flag,
        };
        let named = |name: &String, flag| {
            let wanted = name.trim().to_ascii_lowercase();
            find(&[&wanted]).ok_or_else(|| missing(format!("{name:?}"), flag))
        };
        let text = match &columns.text {
            Some(name) => named(name, Some(TEXT_FLAG))?,
            None => find(&TEXT_COLUMNS)
                .ok_or_else(|| missing("\"review\", \"text\" or \"sentence\"".to_owned(), Some(TEXT_FLAG)))?,
        };
        let label = match &columns.label {
            Some(name) => Some(named(name, Some(LABEL_FLAG))?),
            None => find(&LABEL_COLUMNS),
        };
        let split = find(&[SPLIT_COLUMN]);
        let kept = columns
            .kept
            .iter()
            .map(|name| named(name, None))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path: path.to_owned(),
            csv,
            row: csv::ByteRecord::new(),
            text,
            label,
            split,
            kept,
            failed: false,
        })
    }

    /// The same, for files that must have a column of labels.
    ///
    /// # Errors
    /// As [`Reader::open`]; also if there is no column `sentiment` or `label`.
    pub fn open_labelled(path: &Path) -> Result<Self, Error> {
        Self::open_labelled_columns(path, &Columns::default())
    }

    /// The same with columns of the caller's choice.
    ///
    /// # Errors
    /// As [`Reader::open_columns`]; also if there is no column of labels.
    pub fn open_labelled_columns(path: &Path, columns: &Columns) -> Result<Self, Error> {
        let mut reader = Self::open_columns(path, columns)?;
        if reader.label.is_some() {
            return Ok(reader);
        }
        let found = match reader.csv.byte_headers() {
            Ok(headers) => headers
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
            Err(_) => Vec::new(),
        };
        Err(Error::MissingColumn {
            path: reader.path,
            wanted: "\"sentiment\" or \"label\"".to_owned(),
            found,
            flag: Some(LABEL_FLAG),
        })
    }

    fn record(&self) -> Result<Record, Error> {
        let line = self.row.position().map_or(0, csv::Position::line);
        let fail = |reason: String| Error::Malformed {
            path: self.path.clone(),
            line,
            reason,
        };
        let field = |column: usize| {
            std::str::from_utf8(self.row.get(column).unwrap_or_default()).map_err(|error| {
                fail(format!(
                    "not UTF-8 (byte {} of its field): convert it, e.g. with iconv",
                    error.valid_up_to() + 1
                ))
            })
        };
        let split = match self.split.map(field).transpose()? {
            None => None,
            Some(name) => Some(
                Split::parse(name)
                    .ok_or_else(|| fail(format!("unknown split {name:?}; known are: train, val, test")))?,
            ),
        };
        let text = field(self.text)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(fail(format!(
                "a text of {} bytes, more than {TEXT_BYTES_MAX}: is a quotation mark missing? If not, shorten it or take the row out",
                text.len()
            )));
        }
        Ok(Record {
            line,
            text: text.to_owned(),
            label: self.label.map(field).transpose()?.map(|label| label.trim().to_owned()),
            split,
            kept: self
                .kept
                .iter()
                .map(|&column| Ok(field(column)?.trim().to_owned()))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Iterator for Reader {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.csv.position().line();
        let item = match self.csv.read_byte_record(&mut self.row) {
            Ok(false) => return None,
            Ok(true) => self.record(),
            Err(error) => Err(malformed(&self.path, &error, line)),
        };
        self.failed = item.is_err();
        Some(item)
    }
}

fn malformed(path: &Path, error: &csv::Error, line: u64) -> Error {
    let line = error.position().map_or(line, csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields where the header has {expected_len}; is a quotation mark or a comma missing?")
        }
        csv::ErrorKind::Io(source) => format!("{source}; is the file damaged or cut off?"),
        _ => error.to_string(),
    };
    Error::Malformed {
        path: path.to_owned(),
        line,
        reason,
    }
}

/// Fills `buffer` as far as the stream goes.
fn peek(stream: &mut impl Read, length: u64) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    stream.take(length).read_to_end(&mut start)?;
    Ok(start)
}

fn decompress(mut file: File) -> std::io::Result<Box<dyn Read + Send>> {
    let start = peek(&mut file, 4)?;
    let whole = std::io::Cursor::new(start.clone()).chain(file);
    Ok(if start.starts_with(&ZSTD_MAGIC) {
        Box::new(zstd::Decoder::new(whole)?)
    } else if start.starts_with(&GZIP_MAGIC) {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole)))
    } else {
        Box::new(whole)
    })
}

/// The beginning of a stream, and the whole of it.
fn start(mut stream: Box<dyn Read + Send>) -> std::io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let start = peek(&mut stream, START_BYTES)?;
    Ok((start.clone(), Box::new(std::io::Cursor::new(start).chain(stream))))
}

fn refuse_other_than_text(path: &Path, start: &[u8]) -> Result<(), Error> {
    let reason = if start.iter().all(u8::is_ascii_whitespace) {
        "it is empty; its first line must name the columns, e.g. review,sentiment"
    } else if start.contains(&0) {
        "it is no text; what can be read is UTF-8 in comma-separated or tab-separated columns, plain, .gz or .zst"
    } else {
        return Ok(());
    };
    Err(Error::Empty {
        path: path.to_owned(),
        reason: reason.to_owned(),
    })
}

/// Tab if the first line has one before any comma.
fn separator(start: &[u8]) -> u8 {
    let separator = start
        .iter()
        .copied()
        .find(|byte| matches!(byte, b'\t' | b',' | b'\n'))
        .filter(|&byte| byte != b'\n');
    separator.unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<Record>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Reader::open(&path)?.collect()
    }

    const TWO: &str =
        "\u{feff}id,Split,Sentiment,Review\n1,train,positive,\"Two\nlines, \"\"quoted\"\"\"\n2,test, neg ,Plain\n";

    #[test]
    fn plain_gzip_and_zstd_read_alike() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TWO.as_bytes()).unwrap();
        let plain = read("a.csv", TWO.as_bytes()).unwrap();
        assert_eq!(plain, read("a.bin", &gzip.finish().unwrap()).unwrap());
        assert_eq!(
            plain,
            read("a.bin", &zstd::encode_all(TWO.as_bytes(), 1).unwrap()).unwrap()
        );
        assert_eq!(plain.len(), 2);
        assert_eq!(plain[0].text, "Two\nlines, \"quoted\"");
        assert_eq!(
            (plain[1].line, plain[1].label.as_deref(), plain[1].split),
            (4, Some("neg"), Some(Split::Test))
        );
    }

    #[test]
    fn tab_separated_with_other_names() {
        let records = read("dev.tsv", b"label\tsentence\n1\ta fine, quiet film\n").unwrap();
        assert_eq!(
            (records[0].label.as_deref(), records[0].text.as_str()),
            (Some("1"), "a fine, quiet film")
        );
        assert_eq!(read("a.txt", b"review\nNo label here\n").unwrap()[0].label, None);
    }

    #[test]
    fn errors_say_where_and_what() {
        let message = |name, bytes: &[u8]| read(name, bytes).unwrap_err().to_string();
        assert!(
            message("a.csv", b"id,body\n1,x\n").ends_with(
                "\"review\", \"text\" or \"sentence\" among: id, body; name the right one with --text-column"
            )
        );
        assert!(message("a.csv", b"review,label\nfine,1\nbad \xff,0\n").contains("line 3: not UTF-8 (byte 5"));
        assert!(message("a.csv", b"review,label\nfine,1\nshort\n").contains("line 3: 1 fields where the header has 2"));
        assert!(message("a.csv", b"review,split\nfine,later\n").contains("unknown split \"later\""));
        let whole = zstd::encode_all(TWO.repeat(3000).as_bytes(), 1).unwrap();
        assert!(message("a.zst", &whole[..whole.len() / 2]).contains("a.zst"));
        assert!(matches!(Reader::open(Path::new("/nowhere")), Err(Error::Io { .. })));
    }

    #[test]
    fn columns_of_the_callers_choice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "id,Spoils,body,rating,label\n7,yes,He dies, 9 ,x\n").unwrap();
        let columns = Columns {
            text: Some("body".into()),
            label: Some("spoils".into()),
            kept: vec!["rating".into(), "ID".into()],
        };
        let record = Reader::open_columns(&path, &columns).unwrap().next().unwrap().unwrap();
        assert_eq!(
            (record.text.as_str(), record.label.as_deref()),
            ("He dies", Some("yes"))
        );
        assert_eq!(record.kept, ["9", "7"]);
        let columns = Columns {
            kept: vec!["stars".into()],
            ..columns
        };
        let error = Reader::open_columns(&path, &columns).err().unwrap().to_string();
        assert!(error.contains("no column \"stars\" among: id, spoils, body"), "{error}");
    }

    #[test]
    fn other_than_text_is_told() {
        let message = |bytes: &[u8]| read("a.csv", bytes).unwrap_err().to_string();
        assert!(message(b"").contains("it is empty"));
        assert!(message(b" \n\n").contains("it is empty"));
        assert!(message(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").contains("it is no text"));
        assert!(message(&zstd::encode_all(&b"PAR1\0\0"[..], 1).unwrap()).contains("it is no text"));
        let long = format!("review,label\nfine,1\n\"{}\",0\n", "so good ".repeat(125_000));
        assert!(message(long.as_bytes()).contains("line 3: a text of 1000000 bytes, more than 500000"));
    }

    #[test]
    fn a_missing_label_column_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "review,stars\nx,1\n").unwrap();
        let error = Reader::open_labelled(&path).err().unwrap().to_string();
        assert!(
            error.contains("\"sentiment\" or \"label\" among: review, stars"),
            "{error}"
        );
    }
}
