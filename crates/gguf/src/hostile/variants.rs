//! The table of hostile files.

mod format;
mod model;

use super::{
    Hostile,
    raw::{Raw, RawTensor},
    tiny::{Kind, Sizes, tiny},
};
use crate::Value;

/// Files that must be refused.
#[must_use]
pub fn variants() -> Vec<Hostile> {
    let mut table = Table(Vec::new());
    format::add(&mut table);
    model::add(&mut table);
    table.0
}

struct Table(Vec<Hostile>);

impl Table {
    fn bytes(&mut self, name: &str, error: &'static str, bytes: Vec<u8>) {
        self.0.push(Hostile {
            // Some keys have several values that look the same.
            name: format!("{:03} {name}", self.0.len()),
            bytes,
            error,
        });
    }

    /// A byte-level model with a change.
    fn add(&mut self, name: &str, error: &'static str, change: impl FnOnce(&mut Raw)) {
        self.of(Kind::Bpe, name, error, change);
    }

    fn of(&mut self, kind: Kind, name: &str, error: &'static str, change: impl FnOnce(&mut Raw)) {
        let mut raw = tiny(kind, Sizes::SMALL);
        change(&mut raw);
        self.bytes(name, error, raw.encode());
    }

    /// With one key set.
    fn key(&mut self, key: &str, value: impl Into<Value>, error: &'static str) {
        let value = value.into();
        let mut shown = format!("{key} = {value:?}");
        shown.truncate(shown.char_indices().nth(90).map_or(shown.len(), |(at, _)| at));
        self.add(&shown, error, |raw| raw.set(key, value));
    }

    fn without(&mut self, key: &str, error: &'static str) {
        self.add(&format!("without {key}"), error, |raw| raw.remove(key));
    }

    /// With one tensor changed.
    fn tensor(&mut self, what: &str, name: &str, error: &'static str, change: impl FnOnce(&mut RawTensor)) {
        self.add(&format!("{name} {what}"), error, |raw| raw.tensor(name, change));
    }
}
