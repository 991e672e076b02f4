//! What a run reads: reviews in their splits, texts without labels, and the digests of the files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use understudy_corpus::{
    Columns, Example, Fractions, Labels, Limits, Splits, load_labelled_columns, load_unlabelled_columns, sample, split,
};
use understudy_distilbert::Tokenizer;

use crate::recipe::{Criterion, Recipe};

/// Names of the columns of labelled and unlabelled files.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ColumnOptions {
    /// Column of the text [default: review, text or sentence]
    #[arg(long, value_name = "NAME")]
    pub(crate) text_column: Option<String>,
    /// Column of the label [default: sentiment or label]
    #[arg(long, value_name = "NAME")]
    pub(crate) label_column: Option<String>,
}

impl ColumnOptions {
    /// Of a file with labels.
    pub(crate) fn labelled(&self) -> Columns {
        Columns {
            text: self.text_column.clone(),
            label: self.label_column.clone(),
            ..Columns::default()
        }
    }

    /// Of a file without.
    pub(crate) fn unlabelled(&self) -> Columns {
        Columns {
            label: None,
            ..self.labelled()
        }
    }
}

/// Everything to train with.
pub(crate) struct Data {
    pub(crate) labels: Labels,
    pub(crate) splits: Splits,
    pub(crate) unlabelled: Vec<String>,
    /// By file name.
    pub(crate) sha256: BTreeMap<String, String>,
}

/// Reads, cleans and splits. `say` is told what was left out.
pub(crate) fn load(
    labelled: &Path,
    unlabelled: &[PathBuf],
    columns: &ColumnOptions,
    labels: Option<&Labels>,
    recipe: &Recipe,
    say: &dyn Fn(String),
) -> anyhow::Result<Data> {
    let mut sha256 = BTreeMap::from([digest(labelled)?]);
    let set = load_labelled_columns(labelled, &columns.labelled(), labels, &Limits::training())?;
    say(format!("{}: {}", labelled.display(), counts(&set.counts)));
    let fractions = Fractions {
        validation: recipe.validation_share,
        test: recipe.test_share,
    };
    let mut splits = split(set.examples, fractions, recipe.seed)?;
    if recipe.sample_size > 0 {
        splits.train = sample(splits.train, recipe.sample_size);
    }
    let counts_of_split = &splits.counts;
    say(format!(
        "training on {} reviews, validating on {}, {} kept for the test; left out: {} with contradictory labels, {} that \
         would leak; {} duplicates stay within their split",
        splits.train.len(),
        splits.validation.len(),
        splits.test.len(),
        counts_of_split.conflicting,
        counts_of_split.leaking,
        counts_of_split.duplicates,
    ));
    ensure!(
        !splits.train.is_empty(),
        "{} leaves nothing to train on",
        labelled.display()
    );
    ensure!(
        !splits.validation.is_empty(),
        "{} leaves nothing to validate on: set --validation-share, or give more reviews",
        labelled.display()
    );
    let names = set.labels.names();
    let learnt = classes(&splits.train);
    ensure!(
        learnt.len() > 1,
        "{} has reviews to train on of one class only: {}; a classifier needs two or more",
        labelled.display(),
        learnt.iter().map(|&class| names[class].as_str()).collect::<String>()
    );
    ensure!(
        recipe.best_by != Criterion::RocAuc || classes(&splits.validation).len() == names.len(),
        "the validation split lacks a class, so it has no ROC AUC: choose another --best-by, or give more reviews"
    );

    let withheld: HashSet<u64> = splits
        .validation
        .iter()
        .chain(&splits.test)
        .map(|example| example.fingerprint)
        .collect();
    let mut texts = Vec::new();
    for path in unlabelled {
        sha256.extend([digest(path)?]);
        let set = load_unlabelled_columns(path, &columns.unlabelled(), &withheld, &Limits::training())?;
        say(format!(
            "{}: {}; left out besides: {} duplicates, {} from validation or test",
            path.display(),
            counts(&set.counts),
            set.duplicates,
            set.withheld
        ));
        texts.extend(set.texts);
    }
    Ok(Data {
        labels: set.labels,
        splits,
        unlabelled: texts,
        sha256,
    })
}

/// The most telling phrases of labelled texts.
pub(crate) fn phrases(examples: &[Example], labels: &Labels, count: usize) -> Vec<String> {
    if count == 0 {
        return Vec::new();
    }
    let (texts, classes): (Vec<&str>, Vec<usize>) = examples
        .iter()
        .map(|example| (example.text.as_str(), example.label))
        .unzip();
    understudy_corpus::phrases(&texts, &classes, labels.names().len(), count)
}

/// The classes that occur.
fn classes(examples: &[Example]) -> BTreeSet<usize> {
    examples.iter().map(|example| example.label).collect()
}

/// One line about what cleaning did.
pub(crate) fn counts(counts: &understudy_corpus::CleanCounts) -> String {
    format!(
        "{} of {} reviews kept ({} too short, {} too long)",
        counts.kept, counts.read, counts.too_short, counts.too_long
    )
}

/// A file's name and sha256.
pub(crate) fn digest(path: &Path) -> anyhow::Result<(String, String)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", path.display()))?
        {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok((name, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Tokenises on several threads, in order.
pub(crate) fn encode(tokenizer: &Tokenizer, texts: &[&str], threads: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let part = texts.len().div_ceil(threads.max(1)).max(1);
    let encode_part = |texts: &[&str]| -> anyhow::Result<Vec<Vec<u32>>> {
        texts.iter().map(|text| Ok(tokenizer.encode(text)?.ids)).collect()
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = texts
            .chunks(part)
            .map(|texts| scope.spawn(move || encode_part(texts)))
            .collect();
        running.into_iter().map(|thread| thread.join()).collect()
    });
    let mut all = Vec::with_capacity(texts.len());
    for part in parts {
        all.extend(part.map_err(|_| anyhow::anyhow!("a tokenising thread failed"))??);
    }
    Ok(all)
}

/// Cuts a row to its first tokens, keeping `[SEP]` at the end.
pub(crate) fn cut(mut row: Vec<u32>, most: usize) -> Vec<u32> {
    if row.len() > most
        && let Some(&last) = row.last()
    {
        row.truncate(most - 1);
        row.push(last);
        row.shrink_to_fit();
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_keeps_the_frame() {
        assert_eq!(cut(vec![2, 7, 8, 9, 3], 4), [2, 7, 8, 3]);
        assert_eq!(cut(vec![2, 7, 3], 4), [2, 7, 3]);
    }

    #[test]
    fn digest_is_sha256_of_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "abc").unwrap();
        let (name, sha256) = digest(&path).unwrap();
        assert_eq!(name, "a.csv");
        assert_eq!(
            sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
