//! `--serve`: what a new user needs, in one flag.

use std::{fs::File, io, path::Path, str::FromStr, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use understudy_protocol::{name, v1::Manifest};

use crate::{
    hub::HubOptions,
    models,
    output::Output,
    publish::{Publication, Source},
    route::{Wait, set_first},
    router::Router,
};

const LOAD_MAX: Duration = Duration::from_secs(300);

/// `NAME[/VERSION]=SOURCE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServeSpec {
    model: String,
    version: String,
    source: Source,
}

impl ServeSpec {
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// Whether it needs a scribe worker.
    pub(super) fn is_scribe(&self) -> bool {
        self.source.is_scribe()
    }
}

impl FromStr for ServeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, source) = text.split_once('=').ok_or(
            "write it as NAME=SOURCE or NAME/VERSION=SOURCE, e.g. sentiment=hf:owner/name or critic/v2=critic.gguf",
        )?;
        let (model, version) = target.split_once('/').unwrap_or((target, "v1"));
        name::check(model).map_err(|problem| format!("the model's name {problem}"))?;
        name::check(version).map_err(|problem| format!("the version's name {problem}"))?;
        Ok(Self {
            model: model.to_owned(),
            version: version.to_owned(),
            source: source.parse()?,
        })
    }
}

/// Publishes what is not published, and routes what has no route.
pub(super) async fn serve(spec: &ServeSpec, router: &Router, output: &Output, hub: &HubOptions) -> anyhow::Result<()> {
    let ServeSpec { model, version, source } = spec;
    let known = models::find(router, model).await?;
    match known.and_then(|known| known.versions.into_iter().find(|manifest| manifest.version == *version)) {
        Some(manifest) => {
            let source = source.clone();
            // A folder that is gone by now does no harm to what was published from it.
            if let Ok(false) = spawn_blocking(move || is_from(&manifest, &source)).await? {
                output.warning(format_args!(
                    "{model}/{version} was published from another source, and a published version never changes: to serve \
                     this one, name a new version, e.g. --serve {model}/{version}b=…"
                ));
            }
        }
        None => {
            let publication = Publication {
                source: source.clone(),
                model: model.clone(),
                version: version.clone(),
                kind: None,
                file: None,
                labels: vec![],
                metrics: vec![],
            };
            publication.publish(router, output, hub).await?;
        }
    }
    if let Some(route) = set_first(router, model, version).await? {
        Wait {
            route: &route,
            timeout: LOAD_MAX,
            drained: false,
        }
        .run(router, output)
        .await?;
    }
    Ok(())
}

/// Whether a version has come from the source. The hub is not asked, so that a platform starts without it.
fn is_from(manifest: &Manifest, source: &Source) -> io::Result<bool> {
    let lineage = manifest.lineage.as_ref();
    let parent = lineage.map(|lineage| lineage.parent.as_str()).unwrap_or_default();
    match source {
        Source::Hub(hub) => {
            let file = hub.file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
            Ok(parent.starts_with(&format!("hf:{}{file}@", hub.repository)))
        }
        Source::Store(uri) if parent == uri => Ok(true),
        Source::Store(uri) => match understudy_artifacts::path_of_uri(uri) {
            Some(path) => is_from(manifest, &Source::Local(path)),
            None => Ok(false),
        },
        Source::Local(source) => {
            for file in &manifest.files {
                let path = if source.is_file() {
                    source.clone()
                } else {
                    source.join(&file.path)
                };
                if path.metadata()?.len() != file.size_bytes || sha256(&path)? != file.sha256 {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_serve() {
        let spec: ServeSpec = "sentiment=hf:owner/name".parse().unwrap();
        assert_eq!((spec.model.as_str(), spec.version.as_str()), ("sentiment", "v1"));
        let spec: ServeSpec = "sentiment/v2=./a=b".parse().unwrap();
        assert_eq!(
            (spec.version.as_str(), spec.source.clone()),
            ("v2", Source::Local("./a=b".into()))
        );
        assert!(!spec.is_scribe());
        for scribe in [
            "critic/v1=critic.gguf",
            "critic=hf:owner/name/a.gguf",
            "critic=s3://bucket/a.gguf",
        ] {
            assert!(scribe.parse::<ServeSpec>().unwrap().is_scribe(), "{scribe}");
        }
        for bad in ["sentiment", "Sentiment=x", "s/=x", "s/v/1=x", "s=", "=x", "s=hf:name"] {
            assert!(bad.parse::<ServeSpec>().is_err(), "{bad}");
        }
    }
}
