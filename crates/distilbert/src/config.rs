//! Hugging Face's `config.json` of a DistilBERT classifier.
//!
//! Everything is checked here once, with bounds, so that the network and the loaders trust the numbers. Keys that this crate
//! does not know are kept and written back.

use serde_json::{Map, Value, json};

use crate::{error::Error, weights::Storage};

const VOCAB_MAX: usize = 1 << 20;
const POSITIONS_MAX: usize = 1 << 16;
const DIM_MAX: usize = 1 << 14;
const HIDDEN_DIM_MAX: usize = 1 << 16;
const LAYERS_MAX: usize = 128;
const LABELS_MAX: usize = 10_000;

/// The shape of a network and the names of its classes.
///
/// Fields may be set freely; [`Config::validate`] checks them, and whatever takes a `Config` calls it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Rows of the position embedding: the most tokens a text may have, `[CLS]` and `[SEP]` included.
    pub max_position_embeddings: usize,
    /// Width of a token's vector.
    pub dim: usize,
    /// Transformer blocks.
    pub n_layers: usize,
    /// Attention heads; divides `dim`.
    pub n_heads: usize,
    /// Width of the feed-forward layer.
    pub hidden_dim: usize,
    /// Dropout of embeddings and feed-forward layers, in training.
    pub dropout: f64,
    /// Dropout of attention weights, in training.
    pub attention_dropout: f64,
    /// Dropout before the classifier, in training.
    pub seq_classif_dropout: f64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// Id of `[PAD]`.
    pub pad_token_id: usize,
    /// Names of the classes, by index (`id2label`).
    pub labels: Vec<String>,
    /// Keys that this crate does not use.
    pub extra: Map<String, Value>,
}

impl Default for Config {
    /// `distilbert-base-uncased` with two classes.
    fn default() -> Config {
        Config {
            vocab_size: 30_522,
            max_position_embeddings: 512,
            dim: 768,
            n_layers: 6,
            n_heads: 12,
            hidden_dim: 3072,
            dropout: 0.1,
            attention_dropout: 0.1,
            seq_classif_dropout: 0.2,
            initializer_range: 0.02,
            pad_token_id: 0,
            labels: default_labels(2),
            extra: Map::new(),
        }
    }
}

impl Config {
    /// Reads and checks a `config.json`.
    pub fn from_json(text: &[u8]) -> Result<Config, Error> {
        let value: Value = serde_json::from_slice(text).map_err(|e| Error::Config(format!("not JSON: {e}")))?;
        let Value::Object(mut keys) = value else {
            return Err(Error::Config("not a JSON object".to_owned()));
        };
        if let Some(kind) = keys.get("model_type").and_then(Value::as_str)
            && kind != "distilbert"
        {
            return Err(Error::Config(format!(
                "model_type is {kind:?}; only \"distilbert\" is supported"
            )));
        }
        let activation = keys.remove("activation");
        if let Some(activation) = activation.filter(|activation| activation != "gelu") {
            return Err(Error::Config(format!(
                "activation is {activation}; only \"gelu\" is supported"
            )));
        }
        if let Some(problem) = keys.get("problem_type").filter(|problem| !problem.is_null())
            && problem != "single_label_classification"
        {
            return Err(Error::Config(format!(
                "problem_type is {problem}; only \"single_label_classification\" is supported"
            )));
        }
        let labels = read_labels(&mut keys)?;
        let base = Config::default();
        let config = Config {
            vocab_size: count(&mut keys, "vocab_size", base.vocab_size)?,
            max_position_embeddings: count(&mut keys, "max_position_embeddings", base.max_position_embeddings)?,
            dim: count(&mut keys, "dim", base.dim)?,
            n_layers: count(&mut keys, "n_layers", base.n_layers)?,
            n_heads: count(&mut keys, "n_heads", base.n_heads)?,
            hidden_dim: count(&mut keys, "hidden_dim", base.hidden_dim)?,
            dropout: number(&mut keys, "dropout", base.dropout)?,
            attention_dropout: number(&mut keys, "attention_dropout", base.attention_dropout)?,
            seq_classif_dropout: number(&mut keys, "seq_classif_dropout", base.seq_classif_dropout)?,
            initializer_range: number(&mut keys, "initializer_range", base.initializer_range)?,
            pad_token_id: count(&mut keys, "pad_token_id", base.pad_token_id)?,
            labels,
            extra: keys,
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Error> {
        let within = |name: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(Error::Config(format!("{name} is {value}; it must be from 1 to {most}")))
            }
        };
        within("vocab_size", self.vocab_size, VOCAB_MAX)?;
        within("max_position_embeddings", self.max_position_embeddings, POSITIONS_MAX)?;
        within("dim", self.dim, DIM_MAX)?;
        within("hidden_dim", self.hidden_dim, HIDDEN_DIM_MAX)?;
        within("n_layers", self.n_layers, LAYERS_MAX)?;
        within("n_heads", self.n_heads, self.dim)?;
        if self.max_position_embeddings < 3 {
            return Err(Error::Config(
                "max_position_embeddings must leave room for [CLS], a token and [SEP]".to_owned(),
            ));
        }
        if !self.dim.is_multiple_of(self.n_heads) {
            return Err(Error::Config(format!(
                "n_heads ({}) does not divide dim ({})",
                self.n_heads, self.dim
            )));
        }
        for (name, value) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("seq_classif_dropout", self.seq_classif_dropout),
            ("initializer_range", self.initializer_range),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::Config(format!(
                    "{name} is {value}; it must be at least 0 and below 1"
                )));
            }
        }
        if self.pad_token_id >= self.vocab_size {
            return Err(Error::Config(format!(
                "pad_token_id ({}) is outside the vocabulary",
                self.pad_token_id
            )));
        }
        if !(2..=LABELS_MAX).contains(&self.labels.len()) {
            return Err(Error::Config(format!(
                "{} classes; a classifier has 2 to {LABELS_MAX} (one output would be a regression)",
                self.labels.len()
            )));
        }
        let mut names: Vec<_> = self.labels.iter().collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != self.labels.len() || self.labels.iter().any(String::is_empty) {
            return Err(Error::Config(
                "id2label has an empty name or the same name twice".to_owned(),
            ));
        }
        Ok(())
    }

    /// The `config.json` of this network as a classifier, as `transformers` reads it.
    pub fn to_json(&self, storage: Storage) -> Value {
        let mut keys = self.extra.clone();
        let by_id: Map<_, _> = self
            .labels
            .iter()
            .enumerate()
            .map(|(i, label)| (i.to_string(), json!(label)))
            .collect();
        let by_label: Map<_, _> = self
            .labels
            .iter()
            .enumerate()
            .map(|(i, label)| (label.clone(), json!(i)))
            .collect();
        // `torch_dtype` is the older name of `dtype`. Absent, it is float32.
        for name in ["dtype", "torch_dtype"] {
            keys.entry(name).and_modify(|kind| *kind = json!(storage.name()));
        }
        if storage != Storage::Fp32 {
            keys.insert("dtype".to_owned(), json!(storage.name()));
        }
        for (name, value) in [
            ("architectures", json!(["DistilBertForSequenceClassification"])),
            ("model_type", json!("distilbert")),
            ("activation", json!("gelu")),
            ("vocab_size", json!(self.vocab_size)),
            ("max_position_embeddings", json!(self.max_position_embeddings)),
            ("dim", json!(self.dim)),
            ("n_layers", json!(self.n_layers)),
            ("n_heads", json!(self.n_heads)),
            ("hidden_dim", json!(self.hidden_dim)),
            ("dropout", json!(self.dropout)),
            ("attention_dropout", json!(self.attention_dropout)),
            ("seq_classif_dropout", json!(self.seq_classif_dropout)),
            ("initializer_range", json!(self.initializer_range)),
            ("pad_token_id", json!(self.pad_token_id)),
            ("id2label", Value::Object(by_id)),
            ("label2id", Value::Object(by_label)),
        ] {
            keys.insert(name.to_owned(), value);
        }
        Value::Object(keys)
    }
}

fn default_labels(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("LABEL_{i}")).collect()
}

/// The classes' names by index. Without `id2label` they are `LABEL_0`, `LABEL_1`, … as in `transformers`.
fn read_labels(keys: &mut Map<String, Value>) -> Result<Vec<String>, Error> {
    let wanted = match keys.remove("num_labels") {
        None | Some(Value::Null) => None,
        Some(value) => Some(as_count("num_labels", &value)?),
    };
    keys.remove("label2id");
    let by_id = match keys.remove("id2label") {
        None | Some(Value::Null) => {
            let count = wanted.unwrap_or(2);
            if count > LABELS_MAX {
                return Err(Error::Config(format!(
                    "num_labels is {count}; the most is {LABELS_MAX}"
                )));
            }
            return Ok(default_labels(count));
        }
        Some(Value::Object(by_id)) => by_id,
        Some(_) => return Err(Error::Config("id2label is not an object".to_owned())),
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != by_id.len()) {
        return Err(Error::Config(format!(
            "num_labels is {wanted}, but id2label names {} classes",
            by_id.len()
        )));
    }
    (0..by_id.len())
        .map(|i| match by_id.get(&i.to_string()) {
            Some(Value::String(label)) => Ok(label.clone()),
            Some(_) => Err(Error::Config(format!(
                "id2label: the name of class {i} is not a string"
            ))),
            None => Err(Error::Config(format!(
                "id2label has {} names, but none for class {i}",
                by_id.len()
            ))),
        })
        .collect()
}

fn count(keys: &mut Map<String, Value>, name: &str, default: usize) -> Result<usize, Error> {
    match keys.remove(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => as_count(name, &value),
    }
}

fn as_count(name: &str, value: &Value) -> Result<usize, Error> {
    value
        .as_u64()
        .and_then(|value| usize::try_from(value).ok())
        .ok_or_else(|| Error::Config(format!("{name} is {value}; it must be a whole number")))
}

fn number(keys: &mut Map<String, Value>, name: &str, default: f64) -> Result<f64, Error> {
    match keys.remove(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_f64()
            .ok_or_else(|| Error::Config(format!("{name} is {value}; it must be a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: Value) -> Result<Config, Error> {
        let mut json = Config::default().to_json(Storage::Fp32);
        json[name] = value;
        Config::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn survives_a_round_trip_with_unknown_keys() {
        let config = Config {
            labels: vec!["bad".to_owned(), "good".to_owned()],
            n_layers: 3,
            ..Config::default()
        };
        let mut json = config.to_json(Storage::Fp32);
        json["finetuning_task"] = json!("sst-2");
        json["torch_dtype"] = json!("float16");
        let read = Config::from_json(json.to_string().as_bytes()).unwrap();
        assert_eq!((&read.labels, read.n_layers), (&config.labels, 3));
        assert_eq!(read.to_json(Storage::Fp32)["finetuning_task"], "sst-2");
        assert_eq!(read.to_json(Storage::Fp32)["torch_dtype"], "float32");
        assert_eq!(
            Config::from_json(read.to_json(Storage::Fp32).to_string().as_bytes())
                .unwrap()
                .labels,
            config.labels
        );
    }

    #[test]
    fn an_empty_config_is_the_base_model() {
        let config = Config::from_json(b"{}").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.labels, ["LABEL_0", "LABEL_1"]);
    }

    #[test]
    fn refuses_what_it_cannot_follow() {
        for (name, value, says) in [
            ("model_type", json!("bert"), "model_type"),
            ("activation", json!("relu"), "activation"),
            ("problem_type", json!("multi_label_classification"), "problem_type"),
            ("n_heads", json!(7), "divide"),
            ("n_heads", json!(0), "n_heads"),
            ("dim", json!(-1), "dim"),
            ("dim", json!(1u64 << 40), "dim"),
            ("vocab_size", json!(1.5), "vocab_size"),
            ("n_layers", json!(1_000_000), "n_layers"),
            ("dropout", json!(1.0), "dropout"),
            ("pad_token_id", json!(99_999), "pad_token_id"),
            ("num_labels", json!(3), "num_labels"),
            ("id2label", json!({"0": "a"}), "classes"),
            ("id2label", json!({"0": "a", "2": "b"}), "class 1"),
            ("id2label", json!({"0": "a", "1": "a"}), "twice"),
            ("id2label", json!(["a", "b"]), "not an object"),
        ] {
            let error = with(name, value.clone()).unwrap_err().to_string();
            assert!(error.contains(says), "{name} = {value}: {error}");
        }
        assert!(Config::from_json(b"[1").is_err() && Config::from_json(b"[]").is_err());
    }
}
