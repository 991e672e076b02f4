//! `understudy models publish`: puts a version's files into the artifact store and its manifest into the registry.

mod advice;
mod checkpoint;
mod gguf;
mod source;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use understudy_protocol::{
    MANIFEST_FORMAT, name,
    v1::{self, ArtifactFile, GetArtifactStoreRequest, Lineage, Manifest, PublishVersionRequest},
};

use self::{checkpoint::Checkpoint, gguf::Gguf};
pub(crate) use self::{
    checkpoint::{FILES, WEIGHTS, no_weights},
    gguf::choose,
    source::{Source, check_whole, is_gguf},
};
use crate::{
    hub::{HubOptions, Wanted},
    models,
    output::Output,
    problem::Explain as _,
    router::{Router, admin},
};

const EXAMPLES: &str = "\
Examples:
  understudy models publish ./checkpoint --model sentiment --version v2 --metric accuracy=0.91
  understudy models publish hf:distilbert/distilbert-base-uncased-finetuned-sst-2-english --model sentiment --version v1
  understudy models publish hf:owner/name@a1b2c3d --model sentiment --version v3 --labels negative,positive
  understudy models publish critic.gguf --model critic --version v1
  understudy models publish hf:owner/Llama-3-8B-Instruct-GGUF/Llama-3-8B-Instruct.Q4_K_M.gguf --model critic --version v2
  understudy models publish s3://bucket/models/critic.gguf --model critic --version v3";

/// Publishes a checkpoint or a GGUF as a version of a model
///
/// An analyst is a folder in Hugging Face's layout (config.json, model.safetensors, tokenizer.json or vocab.txt) or a
/// repository on the hub. A file understudy.json in it, as `understudy-trainer` writes it, adds metrics, golden examples and
/// lineage. A scribe is one GGUF: a file, a file of a repository on the hub, or an object of s3://, gs://, az:// or file://. A
/// published version never changes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PublishOptions {
    /// Folder, FILE.gguf, hf:OWNER/NAME[/FILE.gguf][@REVISION], or the URI of a GGUF in an object store
    source: Source,
    /// Model that it is a version of
    #[arg(long, value_parser = checked_name)]
    model: String,
    /// Name of the version, e.g. v2
    #[arg(long, value_parser = checked_name)]
    version: String,
    /// What it is [default: a scribe if it is a GGUF, otherwise an analyst]
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The GGUF that is meant, of a folder or a repository with several
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
    /// Names of the classes in the order of the model's outputs [default: understudy.json, then config.json's id2label]
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    labels: Vec<String>,
    /// Something measured, e.g. accuracy=0.91; may be repeated
    #[arg(long = "metric", value_parser = metric, value_name = "NAME=NUMBER")]
    metrics: Vec<(String, f64)>,
    #[command(flatten)]
    hub: HubOptions,
}

/// What a version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Classifies
    Analyst,
    /// Writes
    Scribe,
}

impl PublishOptions {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<()> {
        let Self {
            source,
            model,
            version,
            kind,
            file,
            labels,
            metrics,
            hub,
        } = self;
        let publication = Publication {
            source,
            model,
            version,
            kind,
            file,
            labels,
            metrics,
        };
        let manifest = publication.publish(router, output, &hub).await?;
        if output.is_json() {
            return output.message(&manifest);
        }
        let (model, version) = (&manifest.model, &manifest.version);
        let what = match manifest.kind() {
            v1::Kind::Scribe => models::size(&manifest),
            _ => manifest.labels.join(", "),
        };
        output.line(format_args!("Published {model}/{version} ({what})"))?;
        output.remark(advice::next(&models::all(router).await?, &manifest));
        Ok(())
    }
}

/// A version that is to be published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Publication {
    pub(crate) source: Source,
    pub(crate) model: String,
    pub(crate) version: String,
    /// Otherwise the source says it.
    pub(crate) kind: Option<Kind>,
    /// Of several GGUFs.
    pub(crate) file: Option<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) metrics: Vec<(String, f64)>,
}

/// A version's files on this machine, and what is known of it.
struct Found {
    folder: PathBuf,
    files: Vec<String>,
    manifest: Manifest,
    /// Is deleted with it.
    _gguf: Option<Gguf>,
}

impl Publication {
    pub(crate) async fn publish(self, router: &Router, output: &Output, hub: &HubOptions) -> anyhow::Result<Manifest> {
        let (model, version) = (&self.model, &self.version);
        let known = models::find(router, model).await?;
        if let Some(known) = &known {
            ensure!(
                known.versions.iter().all(|manifest| manifest.version != *version),
                "{model}/{version} is published already: a published version never changes, so choose another --version"
            );
        }
        let Found {
            folder,
            files,
            mut manifest,
            _gguf,
        } = match self.kind() {
            Kind::Analyst => self.analyst(output, hub).await?,
            Kind::Scribe => self.scribe(output, hub).await?,
        };
        if let Some(other) = known
            .iter()
            .flat_map(|known| &known.versions)
            .find(|other| other.kind != manifest.kind)
        {
            bail!(
                "{model} is a model of kind {}, and this is of kind {}: choose another --model",
                models::kind(other.kind),
                models::kind(manifest.kind)
            );
        }
        manifest.metrics.extend(self.metrics.iter().cloned());

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
        let uploaded = understudy_artifacts::upload(&store, &prefix, &folder, &files, progress).await;
        bar.finish_and_clear();
        let uploaded =
            uploaded.with_context(|| format!("cannot upload to {store}, where the router wants artifacts"))?;

        manifest.format = MANIFEST_FORMAT;
        manifest.model = self.model;
        manifest.version = self.version;
        manifest.artifact_uri = uploaded.uri;
        manifest.files = uploaded.files.into_iter().map(artifact_file).collect();
        manifest.created_at = Some(std::time::SystemTime::now().into());
        let request = PublishVersionRequest {
            manifest: Some(manifest.clone()),
        };
        router.models().publish_version(admin(request)).await.explain()?;
        Ok(manifest)
    }

    fn kind(&self) -> Kind {
        let is_scribe = self.source.is_scribe() || self.file.as_deref().is_some_and(is_gguf);
        self.kind
            .unwrap_or(if is_scribe { Kind::Scribe } else { Kind::Analyst })
    }

    async fn analyst(&self, output: &Output, hub: &HubOptions) -> anyhow::Result<Found> {
        ensure!(
            !self.source.is_gguf(),
            "a GGUF is a scribe: leave out --kind, or name a folder with an analyst"
        );
        ensure!(
            self.file.is_none(),
            "--file is for a GGUF: an analyst is a whole folder"
        );
        let (folder, parent) = match &self.source {
            Source::Local(folder) => (folder.clone(), None),
            Source::Hub(repository) => {
                let download = hub.download(repository, Wanted::Checkpoint, output).await?;
                (download.folder, Some(download.origin))
            }
            Source::Store(uri) => bail!("{uri} is in an object store, from where only a GGUF can be published"),
        };
        let checkpoint = Checkpoint::open(&folder)?;
        let mut manifest = checkpoint.description()?;
        manifest.labels = checkpoint.labels(self.labels.clone(), manifest.labels)?;
        manifest.kind = v1::Kind::Analyst.into();
        if let Some(parent) = parent {
            manifest.lineage.get_or_insert_with(Lineage::default).parent = parent;
        }
        Ok(Found {
            folder,
            files: checkpoint.files.iter().map(|file| (*file).to_owned()).collect(),
            manifest,
            _gguf: None,
        })
    }

    async fn scribe(&self, output: &Output, hub: &HubOptions) -> anyhow::Result<Found> {
        ensure!(self.labels.is_empty(), "a scribe has no classes: leave out --labels");
        let (gguf, parent) = match &self.source {
            Source::Local(path) => (Gguf::open(path, self.file.as_deref(), output)?, None),
            Source::Store(uri) => {
                ensure!(self.file.is_none(), "{uri} names a file already: leave out --file");
                (Gguf::download(uri, output).await?, Some(uri.clone()))
            }
            Source::Hub(repository) => {
                ensure!(
                    repository.file.is_none() || self.file.is_none(),
                    "hf:{} names a file already: leave out --file",
                    repository.repository
                );
                let file = repository.file.clone().or_else(|| self.file.clone());
                let download = hub.download(repository, Wanted::Gguf(file), output).await?;
                let path = download.folder.join(download.file.unwrap_or_default());
                (Gguf::open(&path, None, output)?, Some(download.origin))
            }
        };
        let lineage = parent.map(|parent| Lineage {
            parent,
            ..Lineage::default()
        });
        Ok(Found {
            folder: gguf.folder.clone(),
            files: vec![gguf.file.clone()],
            manifest: Manifest {
                kind: v1::Kind::Scribe.into(),
                lineage,
                ..Manifest::default()
            },
            _gguf: Some(gguf),
        })
    }
}

fn artifact_file(file: understudy_artifacts::File) -> ArtifactFile {
    ArtifactFile {
        path: file.path,
        sha256: file.sha256,
        size_bytes: file.size_bytes,
    }
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

    #[test]
    fn metrics() {
        assert_eq!(metric("accuracy=0.91"), Ok(("accuracy".into(), 0.91)));
        for bad in ["accuracy", "=1", "a=b", "a=inf", "a="] {
            assert!(metric(bad).is_err(), "{bad}");
        }
    }
}
