//! The classes of a data set or model.

use crate::Error;

const NEGATIVE: &str = "NEGATIVE";
const POSITIVE: &str = "POSITIVE";

/// Class names in the order of a model's outputs.
///
/// Sentiment in its usual spellings (`positive`/`negative`, `pos`/`neg`, `1`/`0`) is named as the well-known SST-2 checkpoints name
/// it, so that answers of our models and of theirs can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Takes the classes of a model.
    ///
    /// # Errors
    /// If they are fewer than two or not distinct.
    pub fn new(names: Vec<String>) -> Result<Self, Error> {
        let mut distinct: Vec<String> = names.iter().map(|name| canonical(name)).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < 2 || distinct.len() != names.len() {
            return Err(Error::Invalid(format!(
                "a classifier needs two or more distinct labels, not: {}",
                names.join(", ")
            )));
        }
        Ok(Self(names))
    }

    /// Finds the classes that values in a data set stand for: in the order of the alphabet, but NEGATIVE before POSITIVE.
    ///
    /// # Errors
    /// If there are fewer than two.
    pub fn infer<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut found = std::collections::BTreeMap::new();
        for value in values {
            found.entry(canonical(value)).or_insert_with(|| value.to_owned());
        }
        if found.keys().all(|key| key == NEGATIVE || key == POSITIVE) && found.len() == 2 {
            return Ok(Self(vec![NEGATIVE.to_owned(), POSITIVE.to_owned()]));
        }
        Self::new(found.into_values().collect())
    }

    /// The class that a value stands for: its name, whatever its case, or else its number from 0, as `config.json` counts them.
    #[must_use]
    pub fn index(&self, value: &str) -> Option<usize> {
        let name = canonical(value);
        let named = self.0.iter().position(|known| canonical(known) == name);
        named.or_else(|| value.trim().parse().ok().filter(|&number| number < self.0.len()))
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

fn canonical(value: &str) -> String {
    let value = value.trim().to_uppercase();
    match value.as_str() {
        "POS" | "1" | POSITIVE => POSITIVE.to_owned(),
        "NEG" | "0" | NEGATIVE => NEGATIVE.to_owned(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_sentiment() {
        for values in [
            ["positive", "negative"],
            ["neg", "pos"],
            ["0", "1"],
            ["Positive", "neg"],
        ] {
            let labels = Labels::infer(values).unwrap();
            assert_eq!(labels.names(), [NEGATIVE, POSITIVE]);
            assert_eq!(
                (labels.index("Pos"), labels.index("0"), labels.index("so-so")),
                (Some(1), Some(0), None)
            );
        }
    }

    #[test]
    fn other_labels_keep_their_names() {
        let labels = Labels::infer(["toxic", "Fine", "fine", "odd"]).unwrap();
        assert_eq!(labels.names(), ["Fine", "odd", "toxic"]);
        assert_eq!(labels.index("FINE"), Some(0));
        assert_eq!(
            (labels.index("2"), labels.index("3"), labels.index("-1")),
            (Some(2), None, None)
        );
        let stars = Labels::infer(["2", "3", "4"]).unwrap();
        assert_eq!(stars.index("2"), Some(0), "a name comes before a number");
        assert!(Labels::infer(["only", "Only"]).is_err());
        assert!(Labels::new(vec!["a".into(), "A".into()]).is_err());
    }
}
