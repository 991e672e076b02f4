//! Whole data sets in memory: read, cleaned, labelled.

use std::path::Path;

use crate::{CleanCounts, Columns, Error, Labels, Limits, Reader, Record, Split, fingerprint};

/// A clean text with its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Clean text.
    pub text: String,
    /// Index into the set's [`Labels`].
    pub label: usize,
    /// Equal for duplicates.
    pub fingerprint: u64,
    /// What the file says it is for, if it says so.
    pub split: Option<Split>,
    /// Where it begins in its file, from 1.
    pub line: u64,
    /// Values of [`Columns::kept`].
    pub kept: Vec<String>,
}

/// Labelled reviews, in the order of the file.
#[derive(Debug)]
pub struct LabelledSet {
    /// The classes.
    pub labels: Labels,
    /// The reviews that cleaning left.
    pub examples: Vec<Example>,
    /// What cleaning left out.
    pub counts: CleanCounts,
}

/// Reviews without labels, in the order of the file, each text once.
#[derive(Debug)]
pub struct UnlabelledSet {
    /// Clean texts.
    pub texts: Vec<String>,
    /// What cleaning left out.
    pub counts: CleanCounts,
    /// Repetitions left out.
    pub duplicates: usize,
    /// Left out because they occur in data that must not be learnt from.
    pub withheld: usize,
}

/// Reads labelled reviews. Without `labels` the classes are those that the file has.
///
/// # Errors
/// As [`Reader`]; also for a label that is not among `labels`, and if nothing is left.
pub fn load_labelled(path: &Path, labels: Option<&Labels>, limits: &Limits) -> Result<LabelledSet, Error> {
    load_labelled_columns(path, &Columns::default(), labels, limits)
}

/// The same from columns of the caller's choice.
///
/// # Errors
/// As [`load_labelled`]; also if a column that is named is not there.
pub fn load_labelled_columns(
    path: &Path,
    columns: &Columns,
    labels: Option<&Labels>,
    limits: &Limits,
) -> Result<LabelledSet, Error> {
    let mut counts = CleanCounts::default();
    let mut rows = Vec::new();
    for record in Reader::open_labelled_columns(path, columns)? {
        let mut record = record?;
        let text = limits.apply(&std::mem::take(&mut record.text));
        counts.note(text.as_ref().map(|_| ()).map_err(|unfit| *unfit));
        if let Ok(text) = text {
            rows.push((text, record));
        }
    }
    refuse_empty(path, rows.is_empty(), &counts)?;
    if let Some((_, record)) = rows.iter().find(|(_, record)| given(record).is_empty()) {
        return Err(Error::Malformed {
            path: path.to_owned(),
            line: record.line,
            reason: "its label is empty".into(),
        });
    }
    let labels = match labels {
        Some(labels) => labels.clone(),
        None => Labels::infer(rows.iter().map(|(_, record)| given(record))).map_err(|error| Error::Empty {
            path: path.to_owned(),
            reason: error.to_string(),
        })?,
    };
    let mut examples = Vec::with_capacity(rows.len());
    for (text, record) in rows {
        let Some(label) = labels.index(given(&record)) else {
            let known = labels.names().to_vec();
            return Err(Error::UnknownLabel {
                path: path.to_owned(),
                line: record.line,
                found: given(&record).to_owned(),
                known,
            });
        };
        examples.push(Example {
            fingerprint: fingerprint(&text),
            text,
            label,
            split: record.split,
            line: record.line,
            kept: record.kept,
        });
    }
    Ok(LabelledSet {
        labels,
        examples,
        counts,
    })
}

/// Reads texts, leaving out those whose fingerprint is in `withheld` (what will be measured on).
///
/// # Errors
/// As [`Reader`]; also if nothing is left.
pub fn load_unlabelled(
    path: &Path,
    withheld: &std::collections::HashSet<u64>,
    limits: &Limits,
) -> Result<UnlabelledSet, Error> {
    load_unlabelled_columns(path, &Columns::default(), withheld, limits)
}

/// The same from a column of the caller's choice.
///
/// # Errors
/// As [`load_unlabelled`]; also if a column that is named is not there.
pub fn load_unlabelled_columns(
    path: &Path,
    columns: &Columns,
    withheld: &std::collections::HashSet<u64>,
    limits: &Limits,
) -> Result<UnlabelledSet, Error> {
    let mut set = UnlabelledSet {
        texts: Vec::new(),
        counts: CleanCounts::default(),
        duplicates: 0,
        withheld: 0,
    };
    let mut seen = std::collections::HashSet::new();
    for record in Reader::open_columns(path, columns)? {
        let text = limits.apply(&record?.text);
        set.counts.note(text.as_ref().map(|_| ()).map_err(|unfit| *unfit));
        let Ok(text) = text else { continue };
        let key = fingerprint(&text);
        if withheld.contains(&key) {
            set.withheld += 1;
        } else if seen.insert(key) {
            set.texts.push(text);
        } else {
            set.duplicates += 1;
        }
    }
    refuse_empty(path, set.texts.is_empty(), &set.counts)?;
    Ok(set)
}

fn given(record: &Record) -> &str {
    record.label.as_deref().unwrap_or_default()
}

fn refuse_empty(path: &Path, empty: bool, counts: &CleanCounts) -> Result<(), Error> {
    if !empty {
        return Ok(());
    }
    let CleanCounts {
        read,
        too_short,
        too_long,
        ..
    } = counts;
    let reason = match read {
        0 => "it has a header but no rows".to_owned(),
        _ => format!("no usable review among {read} ({too_short} too short, {too_long} too long)"),
    };
    Err(Error::Empty {
        path: path.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    const SHORT: Limits = Limits { characters: 2..=10 };

    #[test]
    fn labelled_texts_are_cleaned_and_counted() {
        let data = file("review,sentiment\ngood<br/>one,pos\nx,neg\nfar too long a text,neg\nbad one,neg\n");
        let set = load_labelled(data.path(), None, &SHORT).unwrap();
        assert_eq!(
            set.counts,
            CleanCounts {
                read: 4,
                kept: 2,
                too_short: 1,
                too_long: 1
            }
        );
        let seen: Vec<_> = set.examples.iter().map(|e| (e.text.as_str(), e.label)).collect();
        assert_eq!(seen, [("good one", 1), ("bad one", 0)]);
    }

    #[test]
    fn unlabelled_texts_come_once_and_never_from_what_is_withheld() {
        let data = file("review\nsecret\none\nOne!\ntwo\n");
        let set = load_unlabelled(data.path(), &[fingerprint("secret")].into(), &SHORT).unwrap();
        assert_eq!(
            (set.texts, set.duplicates, set.withheld),
            (vec!["one".into(), "two".into()], 1, 1)
        );
    }

    #[test]
    fn errors() {
        let labels = Labels::infer(["pos", "neg"]).unwrap();
        let error = |text: &str| {
            load_labelled(file(text).path(), Some(&labels), &SHORT)
                .unwrap_err()
                .to_string()
        };
        assert!(error("review,label\n").ends_with("it has a header but no rows"));
        assert!(error("review,label\nx,pos\n").contains("no usable review among 1 (1 too short, 0 too long)"));
        assert!(
            error("review,label\ngood,pos\nfine,mixed\n")
                .contains("line 3: unknown label \"mixed\"; known are: NEGATIVE")
        );
        assert!(error("review,label\ngood,\n").contains("line 2: its label is empty"));
        let one = load_labelled(file("review,label\ngood,pos\n").path(), None, &SHORT)
            .unwrap_err()
            .to_string();
        assert!(one.contains("two or more distinct labels"), "{one}");
    }
}
