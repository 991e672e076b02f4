//! A folder in Hugging Face's layout: what an analyst is made of.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use understudy_protocol::{json, v1::Manifest};

/// What a version is made of; `*` marks what must be there.
pub(crate) const FILES: [&str; 6] = [
    CONFIG,  // *
    WEIGHTS, // *
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
];
pub(super) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// What the trainer knows of a checkpoint: a manifest with labels, metrics, golden examples, profile and lineage set.
const DESCRIPTION: &str = "understudy.json";

/// As the format says.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// A folder that has what a version needs. The worker checks the rest when it loads the version.
#[derive(Debug)]
pub(super) struct Checkpoint {
    folder: PathBuf,
    pub(super) files: Vec<&'static str>,
    config: Config,
}

/// The part of config.json that decides whether and how to publish.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: Option<String>,
    #[serde(default)]
    id2label: HashMap<String, String>,
}

impl Checkpoint {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        ensure!(
            folder.is_dir(),
            "there is no folder {shown}: name a checkpoint folder, or hf:OWNER/NAME for the hub"
        );
        let files: Vec<_> = FILES.into_iter().filter(|file| folder.join(file).is_file()).collect();
        ensure!(
            files.contains(&CONFIG),
            "{shown} has no {CONFIG}, so it is no checkpoint in Hugging Face's layout"
        );
        if !files.contains(&WEIGHTS) {
            let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            bail!(no_weights(&shown.to_string(), &shown.to_string(), names));
        }
        let has_tokenizer = files.contains(&"tokenizer.json") || files.contains(&"vocab.txt");
        ensure!(
            has_tokenizer,
            "{shown} has neither tokenizer.json nor vocab.txt: save the tokenizer beside the model"
        );
        check_weights(&folder.join(WEIGHTS))?;
        let json = fs::read(folder.join(CONFIG)).with_context(|| format!("cannot read {CONFIG} in {shown}"))?;
        let config: Config =
            serde_json::from_slice(&json).with_context(|| format!("{CONFIG} in {shown} is not valid"))?;
        let kind = config.model_type.as_deref().unwrap_or("distilbert");
        ensure!(
            kind == "distilbert",
            "{shown} is a model of type {kind:?}: only \"distilbert\" can be served"
        );
        Ok(Self {
            folder: folder.to_owned(),
            files,
            config,
        })
    }

    pub(super) fn description(&self) -> anyhow::Result<Manifest> {
        let path = self.folder.join(DESCRIPTION);
        match fs::read(&path) {
            Ok(text) => json::from_slice(&text).with_context(|| format!("{} is not valid", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Manifest::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(super) fn labels(&self, asked: Vec<String>, described: Vec<String>) -> anyhow::Result<Vec<String>> {
        let count = self.config.id2label.len();
        let own = (0..count).map(|id| self.config.id2label.get(&id.to_string()).cloned());
        let own: Vec<_> = own
            .collect::<Option<_>>()
            .context("config.json's id2label does not count from 0")?;
        let (labels, origin) = match (asked, described) {
            (asked, _) if !asked.is_empty() => (asked, "--labels"),
            (_, described) if !described.is_empty() => (described, DESCRIPTION),
            _ => (own, CONFIG),
        };
        ensure!(
            !labels.is_empty(),
            "config.json has no id2label: name the classes with --labels, e.g. --labels negative,positive"
        );
        ensure!(
            count == 0 || labels.len() == count,
            "{origin} names {} classes, but the model has {count}: {}",
            labels.len(),
            "name them in the order of its outputs, e.g. --labels negative,positive"
        );
        Ok(labels)
    }
}

/// A part of a safetensors file's beginning.
#[derive(Debug, Deserialize)]
struct Tensor {
    data_offsets: (u64, u64),
}

/// Whether the file is whole: a length, a JSON object that says where each tensor lies, then the tensors. A download that
/// broke off, or what git-lfs left, is found before it is uploaded.
fn check_weights(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let size = file.metadata()?.len();
    let torn = || format!("{shown} has {size} bytes and is no whole safetensors file: copy or download it again");
    let mut length = [0; 8];
    file.read_exact(&mut length).with_context(torn)?;
    let header = u64::from_le_bytes(length);
    ensure!(header <= HEADER_BYTES_MAX && 8 + header <= size, torn());
    let mut json = Vec::new();
    file.take(header).read_to_end(&mut json).with_context(torn)?;
    let entries: HashMap<String, serde_json::Value> = serde_json::from_slice(&json).with_context(torn)?;
    let mut end = 0;
    for (_, tensor) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
        let tensor: Tensor = serde_json::from_value(tensor).with_context(torn)?;
        end = end.max(tensor.data_offsets.1);
    }
    ensure!(size - 8 - header == end, torn());
    Ok(())
}

/// Why weights are missing, and how to come by them. `load` is what `from_pretrained` takes.
pub(crate) fn no_weights(shown: &str, load: &str, names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let has = |name: &str| names.iter().any(|found| found == name);
    if has("pytorch_model.bin") {
        return format!(
            "{shown} has only pytorch_model.bin, which can run code when it is read. Convert it once, then publish the folder:\n  \
             python3 -c 'from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T; \
             M.from_pretrained(\"{load}\").save_pretrained(\"converted\"); T.from_pretrained(\"{load}\").save_pretrained(\"converted\")'"
        );
    }
    if has("model.safetensors.index.json") {
        return format!("{shown} has its weights in several files, which are not read: save them as one {WEIGHTS}");
    }
    format!("{shown} has no {WEIGHTS}, so it is no checkpoint in Hugging Face's layout")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(labels: &[(&str, &str)]) -> Checkpoint {
        let id2label = labels
            .iter()
            .map(|(id, label)| ((*id).to_owned(), (*label).to_owned()))
            .collect();
        Checkpoint {
            folder: PathBuf::new(),
            files: vec![],
            config: Config {
                model_type: None,
                id2label,
            },
        }
    }

    #[test]
    fn weights_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WEIGHTS);
        let check = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            check_weights(&path).map_err(|error| format!("{error:#}"))
        };
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let whole = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
        assert_eq!(check(&whole), Ok(()));
        for torn in [
            &whole[..whole.len() - 1],
            &whole[..20],
            &[whole.as_slice(), &[0]].concat(),
            b"version https://git-lfs.github.com/spec/v1\n",
            &u64::MAX.to_le_bytes(),
            b"",
        ] {
            let error = check(torn).unwrap_err();
            assert!(
                error.contains("is no whole safetensors file: copy or download it again"),
                "{error}"
            );
        }
    }

    #[test]
    fn labels_come_from_the_flag_then_the_trainer_then_the_checkpoint() {
        let checkpoint = config(&[("1", "POSITIVE"), ("0", "NEGATIVE")]);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(checkpoint.labels(vec![], vec![]).unwrap(), ["NEGATIVE", "POSITIVE"]);
        assert_eq!(checkpoint.labels(vec![], list(&["n", "p"])).unwrap(), ["n", "p"]);
        assert_eq!(
            checkpoint.labels(list(&["-", "+"]), list(&["n", "p"])).unwrap(),
            ["-", "+"]
        );
        let error = checkpoint.labels(list(&["one"]), vec![]).unwrap_err().to_string();
        assert!(
            error.contains("--labels names 1 classes, but the model has 2"),
            "{error}"
        );
        assert!(config(&[("0", "a"), ("2", "b")]).labels(vec![], vec![]).is_err());
    }
}
