//! Rows whose texts are equal or alike, and what that means for their splits.

use std::collections::BTreeSet;

use super::facts::{Duplicates, Leak};

/// What a row is for, from the least to the most protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Unlabelled,
    NoSplit,
    Train,
    Validation,
    Test,
}

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unlabelled => "unlabelled",
            Self::NoSplit => "no split",
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What is kept of a row.
pub(super) struct Row {
    pub(super) fingerprint: u64,
    /// Index of its label as it stands in the file.
    pub(super) label: u16,
    pub(super) place: Place,
    pub(super) line: u64,
}

/// Rows by index: those with equal texts, and those with like ones (which contain the former).
pub(super) struct Groups {
    pub(super) exact: Vec<Vec<usize>>,
    pub(super) near: Vec<Vec<usize>>,
}

pub(super) fn equal(rows: &[Row]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| (rows[row].fingerprint, row));
    let groups = order.chunk_by(|&a, &b| rows[a].fingerprint == rows[b].fingerprint);
    groups.filter(|group| group.len() > 1).map(<[usize]>::to_vec).collect()
}

/// The rows of the labelled file.
pub(super) fn labelled(rows: &[Row], group: &[usize]) -> Vec<usize> {
    let group = group.iter().copied();
    group.filter(|&row| rows[row].place != Place::Unlabelled).collect()
}

pub(super) fn distinct(rows: &[Row], group: &[usize]) -> usize {
    let texts: BTreeSet<u64> = labelled(rows, group).iter().map(|&row| rows[row].fingerprint).collect();
    texts.len()
}

pub(super) fn duplicates(rows: &[Row], groups: &Groups, near: f64) -> Duplicates {
    let mut found = Duplicates {
        near_threshold: near,
        ..Duplicates::default()
    };
    let contradicts = |group: &[usize]| group.windows(2).any(|pair| rows[pair[0]].label != rows[pair[1]].label);
    for group in groups
        .exact
        .iter()
        .map(|group| labelled(rows, group))
        .filter(|group| group.len() > 1)
    {
        found.groups += 1;
        found.rows += group.len() as u64 - 1;
        if contradicts(&group) {
            found.contradictory_groups += 1;
            found.contradictory_rows += group.len() as u64;
        }
    }
    for group in groups.near.iter().filter(|group| distinct(rows, group) > 1) {
        found.near_groups += 1;
        found.near_texts += distinct(rows, group) as u64 - 1;
        found.near_contradictory_groups += u64::from(contradicts(&labelled(rows, group)));
    }
    found
}

/// For each pair of parts that must not share texts.
pub(super) fn leakage(rows: &[Row], groups: &Groups) -> Vec<Leak> {
    let places: BTreeSet<Place> = rows.iter().map(|row| row.place).collect();
    let mut leaks = Vec::new();
    for &into in places.iter().filter(|&&place| place >= Place::Validation) {
        for &from in places.iter().filter(|&&place| place < into && place != Place::NoSplit) {
            let count = |groups: &[Vec<usize>]| -> u64 {
                let has = |group: &&Vec<usize>| group.iter().any(|&row| rows[row].place == into);
                let of = |group: &Vec<usize>| group.iter().filter(|&&row| rows[row].place == from).count() as u64;
                groups.iter().filter(has).map(of).sum()
            };
            let exact = count(&groups.exact);
            leaks.push(Leak {
                from: from.name(),
                into: into.name(),
                exact,
                // Short texts have no sketch, so that equal ones may be missing there.
                near: count(&groups.near).max(exact),
            });
        }
    }
    leaks
}
