//! Reads a tree's values as what a field wants, or says what is wrong and what would be right.

use std::time::Duration;

use super::node::{Entry, Fault, Node, Place, Value};
use crate::{output::time, route::arms::weight_ppm};

/// A value with its name.
pub(super) struct Field<'a> {
    path: String,
    place: Place,
    node: &'a Node,
}

/// A table whose keys are all known.
pub(super) struct Table<'a> {
    path: String,
    entries: &'a [Entry],
}

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self {
            path: String::new(),
            place: node.place,
            node,
        }
    }

    /// What is wrong with it. The place of a value is where it begins, of a table, and of nothing, where its key does.
    pub(super) fn fault(&self, problem: impl std::fmt::Display) -> Fault {
        let place = match self.node.value {
            Value::Scalar(ref text) if !text.is_empty() => self.node.place,
            _ => self.place,
        };
        let problem = if self.path.is_empty() {
            problem.to_string()
        } else {
            format!("{}: {problem}", self.path)
        };
        Fault::new(place, problem)
    }

    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Fault> {
        match &self.node.value {
            Value::Scalar(text) if text.is_empty() => Err(self.fault("has no value")),
            Value::Scalar(text) => parse(text).map_err(|problem| self.fault(problem)),
            Value::List(_) => Err(self.fault("must be one value, not a list")),
            Value::Table(_) => Err(self.fault("must be one value, not a table")),
        }
    }

    /// Whether it says `off` in place of a table.
    pub(super) fn is_off(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(text) if text == "off")
    }

    pub(super) fn is_scalar(&self) -> bool {
        matches!(self.node.value, Value::Scalar(_))
    }

    pub(super) fn list(&self) -> Result<Vec<Field<'a>>, Fault> {
        let Value::List(items) = &self.node.value else {
            return Err(self.fault("must be a list"));
        };
        let item = |(index, node): (usize, &'a Node)| Field {
            path: format!("{}[{index}]", self.path),
            place: node.place,
            node,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn table(&self, allowed: &[&str]) -> Result<Table<'a>, Fault> {
        let keys = allowed.join(", ");
        let Value::Table(entries) = &self.node.value else {
            return Err(self.fault(format_args!("must be a table with some of {keys}")));
        };
        let table = Table {
            path: self.path.clone(),
            entries,
        };
        match entries.iter().find(|entry| !allowed.contains(&entry.key.as_str())) {
            Some(unknown) => Err(Fault::new(
                unknown.place,
                format!(
                    "{}: there is no such key: choose from {keys}",
                    table.path_of(&unknown.key)
                ),
            )),
            None => Ok(table),
        }
    }
}

impl<'a> Table<'a> {
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Field {
            path: self.path_of(key),
            place: entry.place,
            node: &entry.node,
        })
    }

    /// Replaces what is in the slot if the file says something else.
    pub(super) fn set<T>(
        &self,
        key: &str,
        slot: &mut T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<(), Fault> {
        if let Some(field) = self.get(key) {
            *slot = field.parse(parse)?;
        }
        Ok(())
    }
}

/// `5%`, `2500ppm`, `5`: parts per million. A bare `0.05` could be either, so it is not taken.
pub(super) fn share(text: &str) -> Result<u32, String> {
    if text.contains('.') && !text.ends_with('%') {
        return Err(format!(
            "{text} may be a part or percent: write the unit, e.g. {text}% or 2500ppm"
        ));
    }
    weight_ppm(text)
}

/// `0.2` or `20%`: a part of one.
pub(crate) fn part(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no part: write e.g. 0.2 or 20%");
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    if number.is_finite() {
        Ok(number / unit)
    } else {
        Err(wrong())
    }
}

pub(super) fn number(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| format!("{text:?} is no number: write e.g. 1.5"))
}

/// `p95`, `95%` or `0.95`.
pub(super) fn quantile(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no quantile: write e.g. p95 or 0.95");
    match text.strip_prefix('p') {
        Some(percent) => percent.parse().map(|percent: f64| percent / 100.0).map_err(|_| wrong()),
        None => part(text).map_err(|_| wrong()),
    }
}

pub(super) fn count(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| format!("{text:?} is no count: write a whole number"))
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// `60s`, `10m`, `1h`, and 0 for none; a bare number is seconds.
pub(crate) fn time_or_none(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if number.parse() == Ok(0.0) {
        // The unit is still looked at.
        return time(&text.replacen(number, "1", 1))
            .map(|_| Duration::ZERO)
            .map_err(|_| no_time(text));
    }
    time(text).map_err(|_| no_time(text))
}

fn no_time(text: &str) -> String {
    format!("{text:?} is no time under a year: write e.g. 30s, 10m or 1h")
}
