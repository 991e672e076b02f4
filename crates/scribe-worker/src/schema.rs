//! From a JSON schema to a grammar.
//!
//! llama.cpp translates. It recurses along what the request brings, so a schema is bounded before it gets there: size,
//! depth, lengths of names and patterns, and references that lead only to each other.

use std::{collections::HashSet, thread};

use serde_json::Value;

/// Longest schema in bytes.
const BYTES_MAX: usize = 32 * 1024;

/// Deepest nesting of a schema's values.
const DEPTH_MAX: usize = 32;

/// Most values in a schema.
const VALUES_MAX: usize = 2048;

/// Most members of one object, e.g. properties.
const MEMBERS_MAX: usize = 128;

/// Longest name or pattern in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// The translation's recursion has this much room, with what the bounds allow far below it.
const STACK_BYTES: usize = 16 << 20;

/// Keys whose schemas describe the same value as the schema that they stand in.
const SAME_VALUE: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// GBNF for the JSON values that the schema accepts.
///
/// # Errors
/// What is wrong with the schema, to follow its name.
pub fn grammar(schema: &str) -> Result<String, String> {
    check(schema)?;
    let schema = schema.to_owned();
    let translation = thread::Builder::new()
        .name("json-schema".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || llama_cpp_2::json_schema_to_grammar(&schema))
        .map_err(|error| format!("could not be translated: {error}"))?;
    match translation.join() {
        Ok(Ok(grammar)) => Ok(grammar),
        _ => Err(
            "uses what cannot be made a grammar: references must be to definitions in the same document (\"#/…\"), \
             types to known names and patterns to plain regular expressions"
                .to_owned(),
        ),
    }
}

fn check(text: &str) -> Result<(), String> {
    if text.len() > BYTES_MAX {
        return Err(format!("has {} bytes; at most {BYTES_MAX} are allowed", text.len()));
    }
    let schema: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if !(schema.is_object() || schema.is_boolean()) {
        return Err("is not a JSON object".to_owned());
    }
    let mut values = 0;
    check_size(&schema, 0, &mut values)?;
    check_references(&schema, &schema)
}

fn check_size(value: &Value, depth: usize, values: &mut usize) -> Result<(), String> {
    *values += 1;
    if depth > DEPTH_MAX {
        return Err(format!("is nested more than {DEPTH_MAX} deep"));
    }
    if *values > VALUES_MAX {
        return Err(format!("has more than {VALUES_MAX} values"));
    }
    match value {
        Value::Object(members) => {
            if members.len() > MEMBERS_MAX {
                return Err(format!("has an object of more than {MEMBERS_MAX} members"));
            }
            for (name, member) in members {
                check_text(name)?;
                if let ("pattern" | "$ref", Value::String(text)) = (name.as_str(), member) {
                    check_text(text)?;
                }
                check_size(member, depth + 1, values)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_size(item, depth + 1, values)),
        _ => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "has a name, reference or pattern of more than {TEXT_BYTES_MAX} bytes"
        ));
    }
    if text.contains('\0') {
        return Err("has a zero character in a name, reference or pattern".to_owned());
    }
    Ok(())
}

/// Refuses references that lead in a circle without ever going into a value's part: they describe nothing.
fn check_references(value: &Value, schema: &Value) -> Result<(), String> {
    match value {
        Value::Object(members) => {
            if members.contains_key("$ref") {
                let (mut seen, mut todo) = (HashSet::new(), vec![value]);
                while let Some(one) = todo.pop() {
                    let Some(reference) = one.get("$ref").and_then(Value::as_str) else {
                        let parts = SAME_VALUE.iter().filter_map(|key| one.get(key)?.as_array()).flatten();
                        todo.extend(parts);
                        continue;
                    };
                    let Some(target) = reference.strip_prefix('#').and_then(|path| schema.pointer(path)) else {
                        return Err(format!("refers to {reference:?}, which is not in it"));
                    };
                    if std::ptr::eq(target, value) || !seen.insert(reference) {
                        return Err(format!("has references in a circle, through {reference:?}"));
                    }
                    todo.push(target);
                }
            }
            members.values().try_for_each(|member| check_references(member, schema))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_references(item, schema)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::grammar::{Grammar, Matcher};

    fn matches(schema: &str, text: &str) -> bool {
        let grammar = Arc::new(Grammar::parse(&grammar(schema).unwrap()).unwrap());
        let mut matcher = Matcher::new(grammar).unwrap();
        matcher.accept(text.as_bytes()).unwrap() && matcher.complete()
    }

    #[test]
    fn values_match_or_not() {
        let person = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer",
            "minimum": 0, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": false}"#;
        assert!(matches(person, r#"{"name": "Ann", "age": 42}"#));
        assert!(!matches(person, r#"{"name": "Ann", "age": 420}"#));
        assert!(!matches(person, r#"{"name": "Annabel", "age": 4}"#));
        let tree =
            r##"{"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}"##;
        assert!(matches(tree, "[[], [[]]]"));
        assert!(!matches(tree, "[1]"));
        assert!(matches(r#"{"enum": ["a", 1, null]}"#, "null"));
        assert!(matches(r#"{"type": "string", "pattern": "^[a-z]{2,3}$"}"#, "\"abc\""));
    }

    #[test]
    fn hostile_schemas_are_refused() {
        let deep = format!("{}{}", r#"{"items":"#.repeat(200), "{}".to_owned() + &"}".repeat(200));
        let properties: Vec<String> = (0..3000).map(|n| format!(r#""p{n}": {{}}"#)).collect();
        let wide = format!(r#"{{"properties": {{{}}}}}"#, properties.join(","));
        let pattern = format!(
            r#"{{"type": "string", "pattern": "^{}a{}$"}}"#,
            "(".repeat(9000),
            ")".repeat(9000)
        );
        let circle = r##"{"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}"##;
        let all_of = r##"{"$ref": "#/a", "a": {"allOf": [{"$ref": "#/a"}]}}"##;
        let own = r##"{"allOf": [{"$ref": "#"}]}"##;
        for bad in [
            "",
            "3",
            "{",
            &deep,
            &wide,
            &pattern,
            circle,
            all_of,
            own,
            r##"{"$ref": "#/x"}"##,
            r#"{"type": "x"}"#,
        ] {
            assert!(grammar(bad).is_err(), "{bad:.80}");
        }
    }
}
