//! Reading the files once and counting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::ensure;
use understudy_corpus::statistics::wilson;
use understudy_corpus::{Labels, Limits, Reader, Record, Split, Unfit, fingerprint};
use understudy_distilbert::Tokenizer;

use super::facts::{ClassFacts, Coverage, FileFacts, Quoted, SplitFacts, Survey, TokenFacts};
use super::groups::{Groups, Place, Row, distinct, duplicates, equal, labelled, leakage};
use super::lengths::Lengths;
use super::near::{self, Sketch};
use crate::data::{self, ColumnOptions};

/// Records that are worked on together, by each thread.
const CHUNK: usize = 1024;
/// More distinct labels are no classes.
const LABELS_MAX: usize = 1000;
/// Lengths in tokens at which networks and recipes cut.
const LIMITS: [usize; 3] = [128, 256, 512];
/// Groups that are quoted of each kind.
const QUOTED: usize = 5;
const LINES_QUOTED: usize = 4;
const EXCERPT_CHARACTERS: usize = 160;

/// What one thread finds out about a text.
struct Digest {
    words: usize,
    characters: usize,
    tokens: Option<(usize, usize)>,
    fingerprint: u64,
    sketch: Option<Sketch>,
}

/// Counts of one label.
#[derive(Default)]
struct Counted {
    words: Lengths,
    characters: Lengths,
    tokens: Lengths,
}

pub(super) struct Surveyor {
    tokenizer: Option<(String, Tokenizer)>,
    limits: Limits,
    threads: usize,
    files: Vec<FileFacts>,
    labels: Vec<String>,
    index: HashMap<String, u16>,
    counted: Vec<Counted>,
    rows: Vec<Row>,
    sketches: Vec<Option<Sketch>>,
    unknown: u64,
    labelled: Option<(PathBuf, ColumnOptions)>,
}

impl Surveyor {
    pub(super) fn new(tokenizer: Option<(String, Tokenizer)>, limits: Limits, threads: usize) -> Self {
        Self {
            tokenizer,
            limits,
            threads,
            files: Vec::new(),
            labels: Vec::new(),
            index: HashMap::new(),
            counted: Vec::new(),
            rows: Vec::new(),
            sketches: Vec::new(),
            unknown: 0,
            labelled: None,
        }
    }

    pub(super) fn labelled(&mut self, path: &Path, columns: &ColumnOptions) -> anyhow::Result<()> {
        let reader = Reader::open_labelled_columns(path, &columns.labelled())?;
        self.labelled = Some((path.to_owned(), columns.clone()));
        self.read(path, reader, true)
    }

    pub(super) fn unlabelled(&mut self, path: &Path, columns: &ColumnOptions) -> anyhow::Result<()> {
        self.read(path, Reader::open_columns(path, &columns.unlabelled())?, false)
    }

    fn read(&mut self, path: &Path, mut reader: Reader, labelled: bool) -> anyhow::Result<()> {
        let (file, sha256) = data::digest(path)?;
        let mut facts = FileFacts {
            file,
            sha256,
            labelled,
            rows: 0,
            kept: 0,
            too_short: 0,
            too_long: 0,
            without_label: 0,
        };
        loop {
            let chunk: Vec<Record> = reader.by_ref().take(CHUNK * self.threads).collect::<Result<_, _>>()?;
            if chunk.is_empty() {
                break;
            }
            let digests = self.digest(&chunk)?;
            for (record, digest) in chunk.into_iter().zip(digests) {
                facts.rows += 1;
                match digest {
                    Err(Unfit::TooShort) => facts.too_short += 1,
                    Err(Unfit::TooLong) => facts.too_long += 1,
                    Ok(_) if labelled && record.label.as_deref().unwrap_or_default().is_empty() => {
                        facts.without_label += 1;
                    }
                    Ok(digest) => {
                        facts.kept += 1;
                        self.count(record, digest, labelled)?;
                    }
                }
            }
        }
        self.files.push(facts);
        Ok(())
    }

    /// Looks at texts on several threads, in order.
    fn digest(&self, chunk: &[Record]) -> anyhow::Result<Vec<Result<Digest, Unfit>>> {
        let part = chunk.len().div_ceil(self.threads).max(1);
        let digest_part = |records: &[Record]| -> anyhow::Result<Vec<Result<Digest, Unfit>>> {
            records.iter().map(|record| self.digest_one(&record.text)).collect()
        };
        let digest_part = &digest_part;
        let parts: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = chunk
                .chunks(part)
                .map(|records| scope.spawn(move || digest_part(records)))
                .collect();
            running.into_iter().map(|thread| thread.join()).collect()
        });
        let mut all = Vec::with_capacity(chunk.len());
        for part in parts {
            all.extend(part.map_err(|_| anyhow::anyhow!("a reading thread failed"))??);
        }
        Ok(all)
    }

    fn digest_one(&self, text: &str) -> anyhow::Result<Result<Digest, Unfit>> {
        let text = match self.limits.apply(text) {
            Ok(text) => text,
            Err(unfit) => return Ok(Err(unfit)),
        };
        let tokens = match &self.tokenizer {
            None => None,
            Some((_, tokenizer)) => {
                let ids = tokenizer.encode(&text)?.ids;
                let unknown = tokenizer.id("[UNK]");
                let unknowns = ids.iter().filter(|&&id| Some(id) == unknown).count();
                Some((ids.len(), unknowns))
            }
        };
        Ok(Ok(Digest {
            words: text.split(' ').count(),
            characters: text.chars().count(),
            tokens,
            fingerprint: fingerprint(&text),
            sketch: Sketch::of(&text),
        }))
    }

    fn count(&mut self, record: Record, digest: Digest, labelled: bool) -> anyhow::Result<()> {
        let place = match record.split {
            _ if !labelled => Place::Unlabelled,
            None => Place::NoSplit,
            Some(Split::Train) => Place::Train,
            Some(Split::Validation) => Place::Validation,
            Some(Split::Test) => Place::Test,
        };
        let label = if labelled {
            self.label(record.label.unwrap_or_default())?
        } else {
            u16::MAX
        };
        if labelled {
            let counted = &mut self.counted[usize::from(label)];
            counted.words.add(digest.words);
            counted.characters.add(digest.characters);
            if let Some((tokens, unknown)) = digest.tokens {
                counted.tokens.add(tokens);
                self.unknown += unknown as u64;
            }
        }
        self.rows.push(Row {
            fingerprint: digest.fingerprint,
            label,
            place,
            line: record.line,
        });
        self.sketches.push(digest.sketch);
        Ok(())
    }

    fn label(&mut self, value: String) -> anyhow::Result<u16> {
        if let Some(&label) = self.index.get(&value) {
            return Ok(label);
        }
        ensure!(
            self.labels.len() < LABELS_MAX,
            "the column of labels has more than {LABELS_MAX} different values: is it one of classes? Name another with --label-column"
        );
        let label = u16::try_from(self.labels.len())?;
        self.labels.push(value.clone());
        self.index.insert(value, label);
        self.counted.push(Counted::default());
        Ok(label)
    }

    pub(super) fn finish(mut self, near: f64) -> anyhow::Result<Survey> {
        ensure!(
            !self.counted.is_empty(),
            "no usable review among {} rows",
            self.files.iter().map(|file| file.rows).sum::<u64>()
        );
        // One class is no reason to say nothing: that is told among the remarks.
        let labels = Labels::infer(self.labels.iter().map(String::as_str));
        let names = labels
            .as_ref()
            .map_or_else(|_| self.labels.clone(), |labels| labels.names().to_vec());
        let class_of: Vec<usize> = (0..self.labels.len())
            .map(|raw| {
                labels
                    .as_ref()
                    .ok()
                    .and_then(|labels| labels.index(&self.labels[raw]))
                    .unwrap_or(raw)
            })
            .collect();
        let mut by_class: Vec<Counted> = names.iter().map(|_| Counted::default()).collect();
        for (raw, counted) in self.counted.iter().enumerate() {
            let class = &mut by_class[class_of[raw]];
            class.words.merge(&counted.words);
            class.characters.merge(&counted.characters);
            class.tokens.merge(&counted.tokens);
        }
        for row in self.rows.iter_mut().filter(|row| row.label != u16::MAX) {
            row.label = u16::try_from(class_of[usize::from(row.label)])?;
        }
        let groups = Groups {
            exact: equal(&self.rows),
            near: near::groups(&self.sketches, near),
        };
        self.sketches = Vec::new();
        let mut duplicates = duplicates(&self.rows, &groups, near);
        duplicates.quoted = self.quote(&groups, &names)?;
        let all: u64 = by_class.iter().map(|counted| counted.words.texts()).sum();
        let has_tokens = self.tokenizer.is_some();
        let classes: Vec<ClassFacts> = names
            .iter()
            .zip(&by_class)
            .map(|(label, counted)| {
                let examples = counted.words.texts();
                ClassFacts {
                    label: label.clone(),
                    examples,
                    share: examples as f64 / all as f64,
                    interval: wilson(examples, all),
                    words: counted.words.figures(),
                    characters: counted.characters.figures(),
                    tokens: has_tokens.then(|| counted.tokens.figures()),
                }
            })
            .collect();
        let named = |pick: fn(&Counted) -> &Lengths| -> Vec<(String, Lengths)> {
            names
                .iter()
                .cloned()
                .zip(by_class.iter().map(|counted| pick(counted).clone()))
                .collect()
        };
        let tokens = match &self.tokenizer {
            None => None,
            Some((name, tokenizer)) => Some(token_facts(
                name,
                tokenizer,
                self.unknown,
                named(|counted| &counted.tokens),
            )),
        };
        let mut survey = Survey {
            splits: splits(&self.rows, names.len()),
            leakage: leakage(&self.rows, &groups),
            words: named(|counted| &counted.words),
            characters: named(|counted| &counted.characters),
            files: self.files,
            remarks: Vec::new(),
            classes,
            duplicates,
            tokens,
        };
        survey.remarks = super::show::remarks(&survey);
        Ok(survey)
    }

    /// Reads the labelled file again for the texts of a few groups.
    fn quote(&self, groups: &Groups, names: &[String]) -> anyhow::Result<Vec<Quoted>> {
        let mut quoted: Vec<(&'static str, &Vec<usize>)> = Vec::new();
        let labels = |group: &[usize]| -> BTreeSet<u16> {
            let labelled = group.iter().map(|&row| self.rows[row].label);
            labelled.filter(|&label| label != u16::MAX).collect()
        };
        let several = |group: &&Vec<usize>| labelled(&self.rows, group).len() > 1;
        let pick = |list: &'_ [Vec<usize>], wanted: &dyn Fn(&[usize]) -> bool| -> Vec<usize> {
            let mut places: Vec<usize> = (0..list.len())
                .filter(|&at| several(&&list[at]) && wanted(&list[at]))
                .collect();
            places.sort_by_key(|&at| std::cmp::Reverse(list[at].len()));
            places.truncate(QUOTED);
            places
        };
        let agree = |group: &[usize]| labels(group).len() == 1;
        let contradict = |group: &[usize]| labels(group).len() > 1;
        let is_near = |group: &[usize]| distinct(&self.rows, group) > 1;
        for at in pick(&groups.exact, &contradict) {
            quoted.push(("contradictory", &groups.exact[at]));
        }
        for at in pick(&groups.exact, &agree) {
            quoted.push(("duplicate", &groups.exact[at]));
        }
        for at in pick(&groups.near, &is_near) {
            quoted.push(("near", &groups.near[at]));
        }
        let Some((path, columns)) = &self.labelled else {
            return Ok(Vec::new());
        };
        let first = |group: &[usize]| labelled(&self.rows, group).first().map(|&row| self.rows[row].line);
        let wanted_lines: BTreeSet<u64> = quoted.iter().filter_map(|(_, group)| first(group)).collect();
        let mut texts = BTreeMap::new();
        if !wanted_lines.is_empty() {
            for record in Reader::open_columns(path, &columns.labelled())? {
                let record = record?;
                if wanted_lines.contains(&record.line) {
                    let text: String = understudy_corpus::clean(&record.text)
                        .chars()
                        .take(EXCERPT_CHARACTERS)
                        .collect();
                    texts.insert(record.line, text);
                }
            }
        }
        Ok(quoted
            .into_iter()
            .map(|(kind, group)| {
                let rows = labelled(&self.rows, group);
                Quoted {
                    kind,
                    copies: rows.len(),
                    labels: labels(group)
                        .into_iter()
                        .filter_map(|label| names.get(usize::from(label)).cloned())
                        .collect(),
                    lines: rows.iter().take(LINES_QUOTED).map(|&row| self.rows[row].line).collect(),
                    text: first(group)
                        .and_then(|line| texts.get(&line).cloned())
                        .unwrap_or_default(),
                }
            })
            .collect())
    }
}

fn splits(rows: &[Row], classes: usize) -> Vec<SplitFacts> {
    let mut counts: BTreeMap<Place, Vec<u64>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.place != Place::Unlabelled) {
        let by_class = counts.entry(row.place).or_insert_with(|| vec![0; classes]);
        by_class[usize::from(row.label)] += 1;
    }
    counts
        .into_iter()
        .map(|(place, by_class)| SplitFacts {
            split: place.name().to_owned(),
            examples: by_class.iter().sum(),
            by_class,
        })
        .collect()
}

fn token_facts(name: &str, tokenizer: &Tokenizer, unknown: u64, by_class: Vec<(String, Lengths)>) -> TokenFacts {
    let mut together = Lengths::default();
    for (_, lengths) in &by_class {
        together.merge(lengths);
    }
    let figures = together.figures();
    let tokens = figures.mean * together.texts() as f64;
    TokenFacts {
        tokenizer: name.to_owned(),
        vocabulary: tokenizer.vocab_size(),
        coverage: LIMITS
            .iter()
            .map(|&limit| {
                let (texts, tokens) = together.coverage(limit);
                Coverage { limit, texts, tokens }
            })
            .collect(),
        lengths: figures,
        unknown: unknown as f64 / tokens.max(1.0),
        by_class,
    }
}
