//! A checkpoint folder in Hugging Face's layout.
//!
//! Opening reads and checks everything but the values of the tensors: those are read when a network is loaded.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{config::Config, error::Error, tokenizer::Tokenizer, weights::Weights};

pub(crate) const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const VOCAB: &str = "vocab.txt";

/// The largest JSON or vocabulary file that is read.
const TEXT_FILE_BYTES_MAX: u64 = 64 << 20;

/// A checked checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    config: Config,
    tokenizer: Tokenizer,
    need_head: bool,
}

impl Checkpoint {
    /// Opens a classifier: `config.json`, `model.safetensors`, and `tokenizer.json` or `vocab.txt`.
    pub fn open(folder: &Path) -> Result<Checkpoint, Error> {
        Checkpoint::open_as(folder, true)
    }

    /// Opens a checkpoint whose classifier may be missing, to fine-tune it.
    pub fn open_backbone(folder: &Path) -> Result<Checkpoint, Error> {
        Checkpoint::open_as(folder, false)
    }

    fn open_as(folder: &Path, need_head: bool) -> Result<Checkpoint, Error> {
        let config_path = folder.join(CONFIG);
        let Some(config) = read_text_file(&config_path)? else {
            return Err(Error::checkpoint(folder, format!("has no {CONFIG}: {LAYOUT}")));
        };
        let config = Config::from_json(&config).map_err(|e| Error::checkpoint(folder, e.to_string()))?;
        check_weights_file(folder)?;
        Weights::open(&folder.join(WEIGHTS), &config, need_head)?;
        let tokenizer = open_tokenizer(folder, &config)?;
        Ok(Checkpoint {
            folder: folder.to_owned(),
            config,
            tokenizer,
            need_head,
        })
    }

    /// The network's shape and labels.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The names of the classes, by index.
    pub fn labels(&self) -> &[String] {
        &self.config.labels
    }

    /// The tokeniser.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Where the checkpoint lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn weights(&self) -> Result<Weights, Error> {
        Weights::open(&self.folder.join(WEIGHTS), &self.config, self.need_head)
    }
}

const LAYOUT: &str = "a checkpoint folder holds config.json, model.safetensors and tokenizer.json (or vocab.txt)";

fn check_weights_file(folder: &Path) -> Result<(), Error> {
    if folder.join(WEIGHTS).is_file() {
        return Ok(());
    }
    if folder.join("pytorch_model.bin").exists() {
        let python = format!(
            "from transformers import AutoModelForSequenceClassification as M; p = {:?}; M.from_pretrained(p).save_pretrained(p)",
            folder.display().to_string()
        );
        return Err(Error::checkpoint(
            folder,
            format!(
                "has its weights in pytorch_model.bin, a Python pickle, which can run any code and is not read here. Convert it with:\n  \
                 python3 -c '{}'",
                python.replace('\'', "'\\''")
            ),
        ));
    }
    if folder.join("model.safetensors.index.json").exists() {
        return Err(Error::checkpoint(
            folder,
            "is split into several files; save it again as one model.safetensors",
        ));
    }
    Err(Error::checkpoint(folder, format!("has no {WEIGHTS}: {LAYOUT}")))
}

fn open_tokenizer(folder: &Path, config: &Config) -> Result<Tokenizer, Error> {
    let settings = match read_text_file(&folder.join(TOKENIZER_CONFIG))? {
        None => Value::Null,
        Some(text) => serde_json::from_slice(&text)
            .map_err(|e| Error::checkpoint(&folder.join(TOKENIZER_CONFIG), format!("is not JSON: {e}")))?,
    };
    let max_tokens = max_tokens(config, &settings);
    let (path, tokenizer) = if let Some(json) = read_text_file(&folder.join(TOKENIZER))? {
        (folder.join(TOKENIZER), Tokenizer::from_json(&json, max_tokens))
    } else if let Some(vocab) = read_text_file(&folder.join(VOCAB))? {
        (folder.join(VOCAB), Tokenizer::from_vocab(&vocab, &settings, max_tokens))
    } else {
        return Err(Error::checkpoint(
            folder,
            format!("has neither {TOKENIZER} nor {VOCAB}: {LAYOUT}"),
        ));
    };
    let tokenizer = tokenizer.map_err(|e| Error::checkpoint(&path, e.to_string()))?;
    if tokenizer.vocab_size() > config.vocab_size {
        let reason = format!(
            "has ids up to {}, but the network's vocabulary (config.json) has {}: it is of another model",
            tokenizer.vocab_size() - 1,
            config.vocab_size
        );
        return Err(Error::checkpoint(&path, reason));
    }
    Ok(tokenizer)
}

/// The tokeniser's `model_max_length` where it is a sensible number; `transformers` writes 1e30 for none.
fn max_tokens(config: &Config, settings: &Value) -> usize {
    settings
        .get("model_max_length")
        .and_then(Value::as_u64)
        .and_then(|most| usize::try_from(most).ok())
        .map_or(config.max_position_embeddings, |most| {
            most.min(config.max_position_embeddings)
        })
}

/// The file's bytes, or `None` where there is no such file.
pub(crate) fn read_text_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, e)),
        Ok(file) if file.len() > TEXT_FILE_BYTES_MAX => Err(Error::checkpoint(
            path,
            format!("has {} bytes; the most is {TEXT_FILE_BYTES_MAX}", file.len()),
        )),
        Ok(_) => fs::read(path).map(Some).map_err(|e| Error::io(path, e)),
    }
}
