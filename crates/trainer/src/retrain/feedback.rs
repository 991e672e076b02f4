//! Reading feedback, and putting it together with the data that the base learnt from.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde::Serialize;
use understudy_corpus::{Columns, Example, Labels, Limits, Splits, load_labelled_columns};

use crate::files;

/// What a Parquet file begins with.
const PARQUET_MAGIC: &[u8] = b"PAR1";

/// Feedback as it was given, cleaned.
pub(super) struct Given {
    pub(super) examples: Vec<Example>,
    /// Rows that were too short or too long.
    pub(super) unfit: usize,
}

/// Feedback that is learnt from, and what it says about the training split.
pub(super) struct Merged {
    pub(super) feedback: Vec<Example>,
    /// The training split without the texts that feedback labels.
    pub(super) train: Vec<Example>,
    pub(super) counts: Counts,
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) rows: usize,
    pub(super) used: usize,
    /// Too short or too long.
    pub(super) unfit: usize,
    /// Beyond the first of its text.
    pub(super) duplicates: usize,
    /// Of texts that feedback labels in two ways; none of them is used.
    pub(super) contradictory: usize,
    /// Of texts in the validation or test split, which must not be learnt.
    pub(super) withheld: usize,
    /// Texts of the training split whose label feedback confirms.
    pub(super) confirmed: usize,
    /// Texts of the training split whose label feedback corrects; feedback wins.
    pub(super) corrected: usize,
    /// By label, of what is used.
    pub(super) labels: Vec<(String, usize)>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "feedback: {} of {} rows used; left out: {} too short or too long, {} duplicates, {} with contradictory labels, {} \
             from validation or test; {} labels of the training split confirmed, {} corrected",
            self.used,
            self.rows,
            self.unfit,
            self.duplicates,
            self.contradictory,
            self.withheld,
            self.confirmed,
            self.corrected
        )
    }
}

/// Reads the files. A Parquet file is turned into a CSV file in `folder` first.
pub(super) fn read(paths: &[PathBuf], columns: &Columns, labels: &Labels, folder: &Path) -> anyhow::Result<Given> {
    let mut given = Given {
        examples: Vec::new(),
        unfit: 0,
    };
    for (index, path) in paths.iter().enumerate() {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(4).read_to_end(&mut start))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let set = if start == PARQUET_MAGIC {
            let rows = from_parquet(path).with_context(|| path.display().to_string())?;
            let plain = folder.join(format!("feedback-{index}.csv"));
            files::write_whole(&plain, &rows)?;
            load_labelled_columns(&plain, columns, Some(labels), &Limits::training())?
        } else {
            load_labelled_columns(path, columns, Some(labels), &Limits::training())?
        };
        given.unfit += set.counts.read - set.counts.kept;
        given.examples.extend(set.examples);
    }
    Ok(given)
}

/// The columns that hold single values, as CSV.
fn from_parquet(path: &Path) -> anyhow::Result<Vec<u8>> {
    let damaged = "it cannot be read as Parquet: write it again, uncompressed or with Snappy or Zstandard";
    let reader = SerializedFileReader::new(File::open(path)?).context(damaged)?;
    let names: Vec<String> = reader
        .metadata()
        .file_metadata()
        .schema()
        .get_fields()
        .iter()
        .map(|field| field.name().to_owned())
        .collect();
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(&names)?;
    for row in reader.get_row_iter(None).context(damaged)? {
        let row = row.context(damaged)?;
        csv.write_record(row.get_column_iter().map(|(_, field)| value(field)))?;
    }
    Ok(csv.into_inner()?)
}

fn value(field: &Field) -> String {
    match field {
        Field::Str(text) => text.clone(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
        Field::Bool(value) => u8::from(*value).to_string(),
        Field::Byte(value) => value.to_string(),
        Field::Short(value) => value.to_string(),
        Field::Int(value) => value.to_string(),
        Field::Long(value) => value.to_string(),
        Field::UByte(value) => value.to_string(),
        Field::UShort(value) => value.to_string(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        _ => String::new(),
    }
}

/// Leaves out what must not be learnt or says nothing new.
pub(super) fn merge(given: Given, splits: &Splits, names: &[String]) -> Merged {
    let mut counts = Counts {
        rows: given.examples.len() + given.unfit,
        unfit: given.unfit,
        ..Counts::default()
    };
    let withheld: HashSet<u64> = splits
        .validation
        .iter()
        .chain(&splits.test)
        .map(|example| example.fingerprint)
        .collect();
    let mut said: HashMap<u64, HashSet<usize>> = HashMap::new();
    for example in &given.examples {
        said.entry(example.fingerprint).or_default().insert(example.label);
    }
    let mut seen = HashSet::new();
    let mut feedback = Vec::new();
    for example in given.examples {
        let key = example.fingerprint;
        if withheld.contains(&key) {
            counts.withheld += 1;
        } else if said.get(&key).is_some_and(|labels| labels.len() > 1) {
            counts.contradictory += 1;
        } else if seen.insert(key) {
            feedback.push(example);
        } else {
            counts.duplicates += 1;
        }
    }
    let told: HashMap<u64, usize> = feedback
        .iter()
        .map(|example| (example.fingerprint, example.label))
        .collect();
    let mut train = Vec::with_capacity(splits.train.len());
    for example in &splits.train {
        match told.get(&example.fingerprint) {
            None => train.push(example.clone()),
            Some(&label) if label == example.label => counts.confirmed += 1,
            Some(_) => counts.corrected += 1,
        }
    }
    counts.used = feedback.len();
    let of = |class: usize| feedback.iter().filter(|example| example.label == class).count();
    counts.labels = names.iter().cloned().zip((0..names.len()).map(of)).collect();
    Merged {
        feedback,
        train,
        counts,
    }
}

/// The file to train on: the training split with feedback, and the validation split as it was.
pub(super) fn write(merged: &Merged, validation: &[Example], names: &[String]) -> anyhow::Result<Vec<u8>> {
    ensure!(!merged.feedback.is_empty(), "no row of the feedback can be used");
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["review", "label", "split"])?;
    let train = merged
        .train
        .iter()
        .chain(&merged.feedback)
        .map(|example| (example, "train"));
    for (example, split) in train.chain(validation.iter().map(|example| (example, "val"))) {
        csv.write_record([example.text.as_str(), names[example.label].as_str(), split])?;
    }
    Ok(csv.into_inner()?)
}

/// The test split as a file of its own, with the usual names of columns.
pub(super) fn write_test(test: &[Example], names: &[String]) -> anyhow::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["review", "label"])?;
    for example in test {
        csv.write_record([&example.text, &names[example.label]])?;
    }
    Ok(csv.into_inner()?)
}
