//! What a fact is about, by the words of its name.

use crate::check::token::is_one_of;
use crate::sheet::{Fact, Unit, Value};

use super::{Knowledge, Named, Stat, Topic, is_small, stem, words};

impl Knowledge<'_> {
    pub(super) fn learn_text(&mut self, name: &str, text: &str) {
        let name = name.to_lowercase();
        let has = |word: &str| name.contains(word);
        if has("certain") && !has("uncertain") {
            self.certain = match text.to_lowercase().as_str() {
                "yes" | "true" | "certain" => Some(true),
                "no" | "false" | "uncertain" => Some(false),
                _ => None,
            };
        } else if has("frequent") || has("common") {
            self.leader = self.class(text);
        } else if has("longest") {
            self.longest = self.class(text);
        }
    }

    pub(super) fn learn_names(&mut self, name: &str) {
        let words: Vec<String> = words(name).collect();
        for (index, word) in words.iter().enumerate() {
            let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
            let Ok(value) = digits.parse::<f64>() else { continue };
            let next = words.get(index + 1).map_or("", String::as_str);
            if next.starts_with("percentile") {
                self.names.push((value, Named::Percentile));
            } else if words.iter().any(|word| word.starts_with("interval")) {
                self.names.push((value, Named::Level));
            }
        }
    }

    /// What a fact measures, by the words of its name. A word that is not known makes it one of another kind.
    pub(super) fn classify(&self, index: usize, fact: &Fact) -> (Topic, Stat) {
        let words: Vec<String> = words(&fact.name).map(|word| stem(&word)).collect();
        let has = |word: &str| words.iter().any(|w| w == word);
        let only = |known: &str| {
            words.iter().all(|word| {
                let figure = word.starts_with(|c: char| c.is_ascii_digit());
                is_one_of(word, known) || figure || self.items.contains(word) || is_small(word)
            })
        };
        let unit = match &fact.value {
            Value::Number { unit, .. } | Value::Range { unit, .. } => Some(*unit),
            Value::Text(_) | Value::Words(_) => None,
        };
        let stat = if has("median") {
            Stat::Median
        } else if has("percentile") {
            Stat::Percentile
        } else if has("mean") || has("average") {
            Stat::Mean
        } else {
            Stat::None
        };
        let counts =
            has("number") || has("count") || has("share") || has("percentage") || has("proportion") || has("total");
        let topic = if has("interval") && only("interval share proportion confidence wilson") {
            Topic::Interval
        } else if has("lead") && unit.is_some() {
            Topic::Lead
        } else if counts && has("confident") && only("number count share percentage proportion total confident") {
            Topic::Confident
        } else if counts && has("uncertain") && only("number count share percentage proportion total uncertain") {
            Topic::Uncertain
        } else if has("confidence") && only("mean average median confidence score") {
            Topic::Confidence
        } else if has("length") && unit == Some(Unit::Words) && only("mean average median percentile length") {
            Topic::Length
        } else if has("vocabulary") && only("vocabulary size") {
            Topic::Vocabulary
        } else if has("type") && has("token") && only("type token ratio") {
            Topic::Ratio
        } else if counts && only("number count share percentage proportion total class") && unit != Some(Unit::None) {
            if fact.subject.is_none() && unit == Some(Unit::Items) {
                Topic::Total
            } else {
                Topic::Frequency
            }
        } else {
            Topic::Other(index)
        };
        (topic, stat)
    }
}
