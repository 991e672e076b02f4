//! What is learnt from: texts of labelled and unlabelled files, cut into windows.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use anyhow::ensure;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use understudy_corpus::{Fractions, Limits, fingerprint, load_labelled_columns, load_unlabelled_columns, split};
use understudy_distilbert::Tokenizer;

use super::masking::Masking;
use super::recipe::PretrainRecipe;
use crate::data::{self, ColumnOptions};

/// Windows with fewer tokens to ask tell too little about their surroundings.
const ASKABLE_MIN: usize = 4;
/// Tokens of a text that are read at all.
const TEXT_TOKENS_MAX: usize = 1 << 16;

/// Clean texts, each once.
pub(super) struct Texts {
    pub(super) train: Vec<String>,
    /// Never learnt from, in this run.
    pub(super) held_out: Vec<String>,
    /// As many as the recipe wants.
    pub(super) phrases: Vec<String>,
    /// Of the files, by name.
    pub(super) sha256: BTreeMap<String, String>,
}

/// Token ids, framed by `[CLS]` and `[SEP]`.
pub(super) struct Rows {
    pub(super) train: Vec<Vec<u32>>,
    pub(super) held_out: Vec<Vec<u32>>,
}

/// Reads, cleans and splits. Texts of the validation and test splits are left out, wherever they occur. `say` is told of it.
pub(super) fn load(
    labelled: &[PathBuf],
    unlabelled: &[PathBuf],
    columns: &ColumnOptions,
    recipe: &PretrainRecipe,
    say: &dyn Fn(String),
) -> anyhow::Result<Texts> {
    let fractions = Fractions {
        validation: recipe.validation_share,
        test: recipe.test_share,
    };
    ensure!(
        recipe.phrases == 0 || labelled.len() == 1,
        "phrases are chosen by what they tell about the class: give one labelled file, with --data"
    );
    let mut sha256 = BTreeMap::new();
    let mut phrases = Vec::new();
    let (mut candidates, mut withheld) = (Vec::new(), HashSet::new());
    for path in labelled {
        sha256.extend([data::digest(path)?]);
        let set = load_labelled_columns(path, &columns.labelled(), None, &Limits::training())?;
        say(format!("{}: {}", path.display(), data::counts(&set.counts)));
        let splits = split(set.examples, fractions, recipe.split_seed)?;
        withheld.extend(
            splits
                .validation
                .iter()
                .chain(&splits.test)
                .map(|example| example.fingerprint),
        );
        phrases = data::phrases(&splits.train, &set.labels, recipe.phrases);
        candidates.extend(splits.train.into_iter().map(|example| example.text));
    }
    // A text that one file trains on may be another's test.
    let mut known = withheld.clone();
    let mut texts: Vec<String> = Vec::new();
    for text in candidates {
        if known.insert(fingerprint(&text)) {
            texts.push(text);
        }
    }
    for path in unlabelled {
        sha256.extend([data::digest(path)?]);
        let set = load_unlabelled_columns(path, &columns.unlabelled(), &known, &Limits::training())?;
        say(format!(
            "{}: {}; left out besides: {} duplicates, {} that were read already or are kept for validation or test",
            path.display(),
            data::counts(&set.counts),
            set.duplicates,
            set.withheld
        ));
        known.extend(set.texts.iter().map(|text| fingerprint(text)));
        texts.extend(set.texts);
    }
    let most = texts.len() / 10;
    ensure!(
        most > 0,
        "{} texts are too few to pretrain on: give ten at least",
        texts.len()
    );
    texts.shuffle(&mut ChaCha8Rng::seed_from_u64(recipe.seed));
    let held_out = texts.split_off(texts.len() - recipe.held_out.min(most));
    say(format!(
        "pretraining on {} texts, measuring on {} others; texts kept for validation or test: {}",
        texts.len(),
        held_out.len(),
        withheld.len()
    ));
    Ok(Texts {
        train: texts,
        held_out,
        phrases,
        sha256,
    })
}

/// Tokenises whole texts and cuts them into windows.
pub(super) fn rows(
    texts: &Texts,
    tokenizer_json: &str,
    masking: &Masking,
    recipe: &PretrainRecipe,
    threads: usize,
    say: &dyn Fn(String),
) -> anyhow::Result<Rows> {
    let whole = Tokenizer::from_json(tokenizer_json.as_bytes(), TEXT_TOKENS_MAX)?;
    say(format!("tokenising {} texts", texts.train.len() + texts.held_out.len()));
    let cut = |texts: &[String]| -> anyhow::Result<Vec<Vec<u32>>> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let rows = data::encode(&whole, &texts, threads)?;
        let windows = rows.iter().flat_map(|row| windows(row, recipe.train_tokens));
        Ok(windows.filter(|row| masking.askable(row) >= ASKABLE_MIN).collect())
    };
    let rows = Rows {
        train: cut(&texts.train)?,
        held_out: cut(&texts.held_out)?,
    };
    ensure!(
        !rows.train.is_empty() && !rows.held_out.is_empty(),
        "the texts have too few tokens to pretrain on"
    );
    say(format!(
        "{} windows, {} tokens",
        rows.train.len(),
        rows.train.iter().map(Vec::len).sum::<usize>()
    ));
    Ok(rows)
}

/// A framed row as framed rows of `most` tokens, as even as can be.
fn windows(row: &[u32], most: usize) -> Vec<Vec<u32>> {
    let [first, inner @ .., last] = row else {
        return Vec::new();
    };
    let parts = inner.len().div_ceil(most - 2).max(1);
    let frame = |part: &[u32]| [&[*first], part, &[*last]].concat();
    inner.chunks(inner.len().div_ceil(parts).max(1)).map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_framed_even_and_lose_nothing() {
        assert_eq!(windows(&[2, 7, 8, 3], 4), [[2, 7, 8, 3]]);
        assert_eq!(
            windows(&[2, 7, 8, 9, 10, 11, 3], 6),
            [vec![2, 7, 8, 9, 3], vec![2, 10, 11, 3]]
        );
        assert!(windows(&[2, 3], 4).is_empty());
    }
}
