//! TOML.

use ::toml::de::{DeTable, DeValue};

use super::node::{DEPTH_MAX, Entry, Fault, Node, Place, Value};

pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Fault::new(place(text, at), error.message())
    })?;
    let value = table_of(text, table.get_ref(), DEPTH_MAX)?;
    Ok(Node {
        place: Place { line: 1, column: 1 },
        value,
    })
}

fn table_of(text: &str, table: &DeTable<'_>, depth: usize) -> Result<Value, Fault> {
    let entries = table.iter().map(|(key, value)| {
        Ok(Entry {
            key: key.get_ref().to_string(),
            place: place(text, key.span().start),
            node: node(text, value.get_ref(), value.span().start, depth)?,
        })
    });
    entries.collect::<Result<_, _>>().map(Value::Table)
}

fn node(text: &str, value: &DeValue<'_>, at: usize, depth: usize) -> Result<Node, Fault> {
    let place = place(text, at);
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Fault::new(place, "this is nested too deeply for a spec"));
    };
    let value = match value {
        DeValue::String(text) => Value::Scalar(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Value::Scalar(number.as_str().to_owned()),
        DeValue::Integer(_) => return Err(Fault::new(place, "write the number in decimal")),
        DeValue::Float(number) => Value::Scalar(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Value::Scalar(yes.to_string()),
        DeValue::Datetime(_) => return Err(Fault::new(place, "no part of a spec is a date")),
        DeValue::Array(items) => {
            let items = items
                .iter()
                .map(|item| node(text, item.get_ref(), item.span().start, depth));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => table_of(text, table, depth)?,
    };
    Ok(Node { place, value })
}

fn place(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Place {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}
