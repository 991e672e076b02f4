//! `understudy models publish`: puts a checkpoint into the artifact store and its manifest into the registry.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Deserialize;
use understudy_protocol::{
    MANIFEST_FORMAT, json, name,
    v1::{ArtifactFile, GetArtifactStoreRequest, Kind, Lineage, Manifest, PublishVersionRequest},
};

use crate::{
    hub::{HubOptions, HubSource},
    models,
    output::Output,
    problem::Explain as _,
    router::{Router, admin},
};

/// What a version is made of; `*` marks what must be there.
pub(crate) const FILES: [&str; 6] = [
    CONFIG,  // *
    WEIGHTS, // *
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
];
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// What the trainer knows of a checkpoint: a manifest with labels, metrics, golden examples, profile and lineage set.
const DESCRIPTION: &str = "understudy.json";

const EXAMPLES: &str = "\
Examples:
  understudy models publish ./checkpoint --model sentiment --version v2 --metric accuracy=0.91
  understudy models publish hf:distilbert/distilbert-base-uncased-finetuned-sst-2-english --model sentiment --version v1
  understudy models publish hf:owner/name@a1b2c3d --model sentiment --version v3 --labels negative,positive";

/// Publishes a checkpoint as a version of a model
///
/// The checkpoint is a folder in Hugging Face's layout (config.json, model.safetensors, tokenizer.json or vocab.txt) or a
/// repository on the hub. A file understudy.json in it, as `understudy-trainer` writes it, adds metrics, golden examples and
/// lineage. A published version never changes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PublishOptions {
    /// Folder, or hf:OWNER/NAME[@REVISION]
    source: Source,
    /// Model that it is a version of
    #[arg(long, value_parser = checked_name)]
    model: String,
    /// Name of the version, e.g. v2
    #[arg(long, value_parser = checked_name)]
    version: String,
    /// Names of the classes in the order of the model's outputs [default: understudy.json, then config.json's id2label]
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    labels: Vec<String>,
    /// Something measured, e.g. accuracy=0.91; may be repeated
    #[arg(long = "metric", value_parser = metric, value_name = "NAME=NUMBER")]
    metrics: Vec<(String, f64)>,
    #[command(flatten)]
    hub: HubOptions,
}

impl PublishOptions {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<()> {
        let Self {
            source,
            model,
            version,
            labels,
            metrics,
            hub,
        } = self;
        let publication = Publication {
            source,
            model,
            version,
            labels,
            metrics,
        };
        let manifest = publication.publish(router, output, &hub).await?;
        if output.is_json() {
            return output.message(&manifest);
        }
        let (model, version) = (&manifest.model, &manifest.version);
        output.line(format_args!(
            "Published {model}/{version} ({})",
            manifest.labels.join(", ")
        ))?;
        output.remark(format_args!(
            "Give it traffic:\n  understudy route set {model} {version}"
        ));
        Ok(())
    }
}

/// Where a checkpoint comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Folder(PathBuf),
    Hub(HubSource),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("hf:") {
            Some(repository) => repository.parse().map(Self::Hub),
            None if text.is_empty() => Err("name a folder or hf:OWNER/NAME".into()),
            None => Ok(Self::Folder(text.into())),
        }
    }
}

/// A version that is to be published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Publication {
    pub(crate) source: Source,
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) labels: Vec<String>,
    pub(crate) metrics: Vec<(String, f64)>,
}

impl Publication {
    pub(crate) async fn publish(self, router: &Router, output: &Output, hub: &HubOptions) -> anyhow::Result<Manifest> {
        let Self {
            source,
            model,
            version,
            labels,
            metrics,
        } = self;
        let known = models::find(router, &model).await?;
        if known.is_some_and(|known| known.versions.iter().any(|manifest| manifest.version == version)) {
            bail!(
                "{model}/{version} is published already: a published version never changes, so choose another --version"
            );
        }
        let (folder, parent) = match source {
            Source::Folder(folder) => (folder, None),
            Source::Hub(repository) => {
                let download = hub.download(&repository, output).await?;
                (download.folder, Some(download.origin))
            }
        };
        let checkpoint = Checkpoint::open(&folder)?;
        let mut manifest = checkpoint.description()?;
        manifest.labels = checkpoint.labels(labels, manifest.labels)?;
        manifest.metrics.extend(metrics);
        if let Some(parent) = parent {
            manifest.lineage.get_or_insert_with(Lineage::default).parent = parent;
        }

        let store = router
            .models()
            .get_artifact_store(admin(GetArtifactStoreRequest {}))
            .await
            .explain()?
            .uri;
        let bar = output.bar(
            0,
            "uploading   {bar:30} {bytes:>10} of {total_bytes}  {binary_bytes_per_sec}  {eta}",
        );
        let progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let prefix = format!("{model}/{version}");
        let uploaded = understudy_artifacts::upload(&store, &prefix, &folder, &checkpoint.files, progress).await;
        bar.finish_and_clear();
        let uploaded =
            uploaded.with_context(|| format!("cannot upload to {store}, where the router wants artifacts"))?;

        manifest.format = MANIFEST_FORMAT;
        manifest.model = model;
        manifest.version = version;
        manifest.kind = Kind::Analyst.into();
        manifest.artifact_uri = uploaded.uri;
        manifest.files = uploaded.files.into_iter().map(artifact_file).collect();
        manifest.created_at = Some(std::time::SystemTime::now().into());
        let request = PublishVersionRequest {
            manifest: Some(manifest.clone()),
        };
        router.models().publish_version(admin(request)).await.explain()?;
        Ok(manifest)
    }
}

fn artifact_file(file: understudy_artifacts::File) -> ArtifactFile {
    ArtifactFile {
        path: file.path,
        sha256: file.sha256,
        size_bytes: file.size_bytes,
    }
}

/// A folder that has what a version needs. The worker checks the rest when it loads the version.
#[derive(Debug)]
struct Checkpoint {
    folder: PathBuf,
    files: Vec<&'static str>,
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
    fn open(folder: &Path) -> anyhow::Result<Self> {
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

    fn description(&self) -> anyhow::Result<Manifest> {
        let path = self.folder.join(DESCRIPTION);
        match fs::read(&path) {
            Ok(text) => json::from_slice(&text).with_context(|| format!("{} is not valid", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Manifest::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn labels(&self, asked: Vec<String>, described: Vec<String>) -> anyhow::Result<Vec<String>> {
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

pub(crate) fn checked_name(name: &str) -> Result<String, String> {
    name::check(name).map(|()| name.to_owned()).map_err(str::to_owned)
}

fn metric(text: &str) -> Result<(String, f64), String> {
    let wrong = || format!("write it as NAME=NUMBER, e.g. accuracy=0.91, not {text:?}");
    let (name, number) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(wrong)?;
    let number = number
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(wrong)?;
    Ok((name.to_owned(), number))
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
    fn sources() {
        assert_eq!("models/v1".parse(), Ok(Source::Folder("models/v1".into())));
        let hub = HubSource {
            repository: "owner/name".into(),
            revision: "main".into(),
        };
        assert_eq!("hf:owner/name".parse(), Ok(Source::Hub(hub.clone())));
        assert_eq!(
            "hf:owner/name@abc".parse(),
            Ok(Source::Hub(HubSource {
                revision: "abc".into(),
                ..hub
            }))
        );
        for bad in ["", "hf:", "hf:name", "hf:a/b/c", "hf:owner/name@", "hf:../name"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
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

    #[test]
    fn metrics() {
        assert_eq!(metric("accuracy=0.91"), Ok(("accuracy".into(), 0.91)));
        for bad in ["accuracy", "=1", "a=b", "a=inf", "a="] {
            assert!(metric(bad).is_err(), "{bad}");
        }
    }
}
