//! Keys by name, each of the one type that llama.cpp takes.

use std::collections::HashMap;

use crate::{
    Array, Value,
    error::{Checked, Fault, bad},
};

pub(super) struct Keys<'a>(&'a HashMap<String, Value>);

impl<'a> Keys<'a> {
    pub(super) fn new(keys: &'a HashMap<String, Value>) -> Self {
        Self(keys)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn u16(&self, key: &str) -> Checked<Option<u16>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::U16(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_type(key, other, "u16")),
        }
    }

    pub(super) fn u32(&self, key: &str) -> Checked<Option<u32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::U32(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_type(key, other, "u32")),
        }
    }

    pub(super) fn f32(&self, key: &str) -> Checked<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_type(key, other, "f32")),
        }
    }

    pub(super) fn bool(&self, key: &str) -> Checked<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_type(key, other, "bool")),
        }
    }

    pub(super) fn string(&self, key: &str) -> Checked<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(key, other, "string")),
        }
    }

    pub(super) fn strings(&self, key: &str) -> Checked<Option<&'a [String]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Strings(values))) => Ok(Some(values)),
            Some(other) => Err(wrong_type(key, other, "list of strings")),
        }
    }

    pub(super) fn needed_u32(&self, key: &str) -> Checked<u32> {
        self.u32(key)?.ok_or_else(|| missing(key))
    }

    pub(super) fn needed_string(&self, key: &str) -> Checked<&'a str> {
        self.string(key)?.ok_or_else(|| missing(key))
    }
}

pub(super) fn missing(key: &str) -> Fault {
    bad!("it has no {key}; convert the model again with a current llama.cpp")
}

pub(super) fn wrong_type(key: &str, value: &Value, wanted: &str) -> Fault {
    bad!(
        "its {key} is a {} and not a {wanted}; convert the model again with a current llama.cpp",
        value.type_name()
    )
}
