//! Checkpoints from the Hugging Face hub, by way of its usual cache.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use hf_hub::{
    Cache, Repo, RepoType,
    api::{
        Progress,
        sync::{Api, ApiBuilder, ApiError},
    },
};
use indicatif::ProgressBar;

use crate::{
    output::Output,
    publish::{FILES, WEIGHTS, check_whole, choose, is_gguf, no_weights},
};

const RETRIES_MAX: usize = 3;

/// How to reach the hub; the variables are the ones that its own tools read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hugging Face hub")]
pub(crate) struct HubOptions {
    /// The hub, or a mirror of it
    #[arg(
        long,
        env = "HF_ENDPOINT",
        default_value = "https://huggingface.co",
        value_name = "URL"
    )]
    hub_endpoint: String,
    /// Token for private repositories [default: the one of `hf auth login`]
    #[arg(long, env = "HF_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    hub_token: Option<String>,
    /// Where downloads are kept [default: ~/.cache/huggingface]
    #[arg(long, env = "HF_HOME", value_name = "FOLDER")]
    hub_home: Option<PathBuf>,
}

/// A repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubSource {
    /// `owner/name`
    pub(crate) repository: String,
    /// Branch, tag or commit.
    pub(crate) revision: String,
    /// A GGUF of it, where one was named.
    pub(crate) file: Option<String>,
}

/// What is wanted of a repository.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// The files of an analyst.
    Checkpoint,
    /// This GGUF, or the only one.
    Gguf(Option<String>),
}

impl FromStr for HubSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(|c: char| c.is_whitespace());
        let mut parts = path.splitn(3, '/');
        let (owner, name, file) = (parts.next(), parts.next(), parts.next());
        let is_file = |file: &str| is_gguf(file) && file.split('/').all(part);
        match (owner, name) {
            (Some(owner), Some(name)) if part(owner) && part(name) && part(revision) && file.is_none_or(is_file) => {
                Ok(Self {
                    repository: format!("{owner}/{name}"),
                    revision: revision.to_owned(),
                    file: file.map(str::to_owned),
                })
            }
            _ => Err(
                "name a repository as hf:OWNER/NAME or hf:OWNER/NAME@REVISION, or a GGUF as hf:OWNER/NAME/FILE.gguf"
                    .into(),
            ),
        }
    }
}

/// Files that were brought to this machine.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) folder: PathBuf,
    /// The GGUF, if one was wanted.
    pub(crate) file: Option<String>,
    /// `hf:owner/name@commit`, with the GGUF before the commit.
    pub(crate) origin: String,
}

impl HubOptions {
    /// Downloads what a version is made of, and nothing else.
    pub(crate) async fn download(
        &self,
        source: &HubSource,
        wanted: Wanted,
        output: &Output,
    ) -> anyhow::Result<Download> {
        let cache = match &self.hub_home {
            Some(home) => Cache::new(home.join("hub")),
            None => Cache::default(),
        };
        let token = self
            .hub_token
            .clone()
            .filter(|token| !token.is_empty())
            .or_else(|| cache.token());
        let endpoint = self.hub_endpoint.trim_end_matches('/').to_owned();
        let builder = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(endpoint)
            .with_token(token)
            .with_retries(RETRIES_MAX);
        let api = builder.build().context("cannot set up the connection to the hub")?;
        let fetch = Fetch {
            api,
            cache,
            source: source.clone(),
            endpoint: self.hub_endpoint.clone(),
            output: output.clone(),
        };
        tokio::task::spawn_blocking(move || fetch.run(&wanted)).await?
    }
}

struct Fetch {
    api: Api,
    cache: Cache,
    source: HubSource,
    endpoint: String,
    output: Output,
}

impl Fetch {
    fn run(&self, wanted: &Wanted) -> anyhow::Result<Download> {
        let Self {
            api,
            cache,
            source,
            endpoint,
            output,
        } = self;
        let repository = &source.repository;
        let at = |revision: &str| Repo::with_revision(repository.clone(), RepoType::Model, revision.to_owned());
        let info = api
            .repo(at(&source.revision))
            .info()
            .map_err(|error| explain(&error, source, endpoint))?;
        let is_plain = !info.sha.is_empty() && info.sha.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ensure!(
            is_plain,
            "{endpoint} names a commit {:?}, which is none: is it a hub?",
            info.sha
        );
        let names: Vec<_> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let shown = format!("hf:{repository}");
        let files: Vec<&str> = match wanted {
            Wanted::Checkpoint => {
                if !names.iter().any(|name| name == WEIGHTS) {
                    if names.iter().any(|name| is_gguf(name)) {
                        let file = choose(&shown, &names, None)?;
                        bail!("{shown} has no {WEIGHTS}, but a GGUF: to publish it as a scribe, name {shown}/{file}");
                    }
                    bail!(no_weights(&shown, repository, names));
                }
                FILES
                    .into_iter()
                    .filter(|file| names.iter().any(|name| name == file))
                    .collect()
            }
            Wanted::Gguf(file) => {
                let file = choose(&shown, &names, file.as_deref())?;
                check_whole(&file).map_err(anyhow::Error::msg)?;
                names.iter().filter(|name| **name == file).map(String::as_str).collect()
            }
        };
        // By commit, not by branch: the branch may move between two files, and a commit's files never need a new look.
        let commit = api.repo(at(&info.sha));
        let cache = cache.repo(at(&info.sha));
        let mut last = None;
        for file in files {
            let path = match cache.get(file) {
                Some(path) => path,
                None => {
                    let bar = Bar(output.bar(
                        0,
                        "downloading {bar:30} {bytes:>10} of {total_bytes}  {binary_bytes_per_sec}  {eta}  {msg}",
                    ));
                    commit
                        .download_with_progress(file, bar)
                        .map_err(|error| explain(&error, source, endpoint))?
                }
            };
            last = Some((path, file));
        }
        let (path, file) = last.with_context(|| format!("{shown} holds nothing that can be published"))?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(match wanted {
            Wanted::Checkpoint => Download {
                folder,
                file: None,
                origin: format!("{shown}@{}", info.sha),
            },
            Wanted::Gguf(_) => Download {
                folder,
                file: path.file_name().map(|name| name.to_string_lossy().into_owned()),
                origin: format!("{shown}/{file}@{}", info.sha),
            },
        })
    }
}

fn explain(error: &ApiError, source: &HubSource, endpoint: &str) -> anyhow::Error {
    let HubSource {
        repository, revision, ..
    } = source;
    let text = error.to_string();
    // The HTTP client's error type is not part of hf-hub's interface; its text has the status.
    if ["401", "403", "404"]
        .iter()
        .any(|status| text.contains(&format!("status: {status}")))
    {
        return anyhow::anyhow!(
            "{endpoint} has no repository {repository} with revision {revision} that you may read: check the name; for a \
             private or gated one set HF_TOKEN"
        );
    }
    anyhow::anyhow!(
        "cannot download {repository} from {endpoint} ({text}): check the network, or name a mirror with HF_ENDPOINT; a \
         folder that you downloaded elsewhere can be published as well"
    )
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn init(&mut self, size: usize, filename: &str) {
        self.0.set_length(size as u64);
        self.0.set_position(0);
        self.0.set_message(filename.to_owned());
    }

    fn update(&mut self, size: usize) {
        self.0.inc(size as u64);
    }

    fn finish(&mut self) {
        self.0.finish_and_clear();
    }
}
