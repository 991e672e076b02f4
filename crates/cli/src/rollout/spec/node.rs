//! A spec file as a tree whose every value knows its place, the same for YAML and TOML.

use std::{
    fmt::Write as _,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

use super::{toml, yaml};
use crate::output::printable;

/// Far more than any spec.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Of tables and lists in each other.
pub(super) const DEPTH_MAX: usize = 16;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Of a line, in characters.
const SHOWN_MAX: usize = 120;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a file can say. What a scalar means is up to the field, so it stays as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Something wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) problem: String,
}

impl Fault {
    pub(super) fn new(place: Place, problem: impl Into<String>) -> Self {
        Self {
            place,
            problem: problem.into(),
        }
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Document {
    name: String,
    text: String,
    pub(super) root: Node,
}

impl Document {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .with_context(|| format!("cannot read --spec {shown}"))?;
        ensure!(
            bytes.len() as u64 <= FILE_BYTES_MAX,
            "--spec {shown} is larger than 1 MiB: it is no spec of a rollout"
        );
        let text = String::from_utf8(bytes).with_context(|| format!("--spec {shown} is no text in UTF-8"))?;
        Self::parse(path.to_owned(), text)
    }

    pub(super) fn parse(path: PathBuf, text: String) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let root = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml" | "json") => yaml::parse(&text),
            Some("toml") => toml::parse(&text),
            _ => bail!("--spec {name} must be called .yaml, .yml, .json or .toml, so that it is clear what it holds"),
        };
        match root {
            Ok(root) => Ok(Self { name, text, root }),
            Err(fault) => Err(explain(&name, &text, &fault)),
        }
    }

    pub(super) fn explain(&self, fault: &Fault) -> anyhow::Error {
        explain(&self.name, &self.text, fault)
    }

    /// Where the file says this, e.g. `steps[2].weight_ppm`, or else the nearest part around it that is there.
    pub(super) fn place_of(&self, field: &str) -> Option<Place> {
        let mut node = &self.root;
        let mut place = None;
        for part in field.split(['.', '[']) {
            let next = match (&node.value, part.strip_suffix(']')) {
                (Value::List(items), Some(index)) => index
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|node| (node, node.place)),
                (Value::Table(entries), None) => {
                    let key = file_key(part);
                    let found = entries.iter().find(|entry| entry.key == key);
                    found.map(|entry| (&entry.node, entry.place))
                }
                _ => None,
            };
            let Some(next) = next else { break };
            (node, place) = (next.0, Some(next.1));
        }
        place
    }
}

/// The file's name for a part of the message, whose unit is in its value.
pub(super) fn file_key(part: &str) -> &str {
    part.strip_suffix("_ppm").unwrap_or(part)
}

/// `canary.yaml:7:13: …` with the line itself.
fn explain(name: &str, text: &str, fault: &Fault) -> anyhow::Error {
    let Place { line, column } = fault.place;
    let mut said = format!("{name}:{line}:{column}: {}", fault.problem);
    let source = text.lines().nth(line.saturating_sub(1));
    if let Some(source) = source.filter(|_| column <= SHOWN_MAX) {
        let source = printable(source).replace('\t', " ");
        let shown: String = source.chars().take(SHOWN_MAX).collect();
        // A text always takes what is written to it.
        let _ = write!(said, "\n{line:>5} | {shown}\n      | {:>column$}", "^");
    }
    anyhow::anyhow!(said)
}
