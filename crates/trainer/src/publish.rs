//! `publish`: puts a checkpoint's files into the artifact store and records the version by way of a router.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::transport::Channel;
use understudy_distilbert::Checkpoint;
use understudy_protocol::v1::models_client::ModelsClient;
use understudy_protocol::v1::rollouts_client::RolloutsClient;
use understudy_protocol::{MANIFEST_FORMAT, name, v1};

use crate::card;
use crate::evaluate::{self, Selection};
use crate::model::Model;
use crate::train::Machine;

/// The files of a checkpoint that a worker reads.
const FILES: [&str; 5] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
];

/// What `publish` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct PublishOptions {
    /// Checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The model that it is a version of, e.g. sentiment
    #[arg(long)]
    pub(crate) model: String,
    /// The version's name, e.g. v2
    #[arg(long)]
    pub(crate) version: String,
    /// Any router of the platform
    #[arg(
        long,
        env = "UNDERSTUDY_ROUTER",
        default_value = "http://127.0.0.1:8470",
        value_name = "URL"
    )]
    pub(crate) router: String,
    /// Bearer token that the router asks for
    #[arg(long, env = "UNDERSTUDY_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Labelled reviews to measure on first; without them the figures of understudy.json are taken
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// Publishes and returns what to print.
pub(crate) fn publish(options: &PublishOptions) -> anyhow::Result<String> {
    for (flag, value) in [("--model", &options.model), ("--version", &options.version)] {
        name::check(value).map_err(|problem| anyhow!("{flag} {value:?} {problem}"))?;
    }
    let mut manifest = describe(options)?;
    manifest.format = MANIFEST_FORMAT;
    manifest.model.clone_from(&options.model);
    manifest.version.clone_from(&options.version);
    manifest.kind = v1::Kind::Analyst.into();
    tokio::runtime::Runtime::new()?.block_on(send(options, manifest))?;
    Ok(format!("published {} {}", options.model, options.version))
}

/// Opens the checkpoint, so that a bad one is never published, and puts together what is told of it.
fn describe(options: &PublishOptions) -> anyhow::Result<v1::Manifest> {
    let threads = options.machine.apply()?;
    let folder = &options.checkpoint;
    let checkpoint = Checkpoint::open(folder)?;
    let model = Model::load(&checkpoint, |_| {}, options.machine.device()?)?;
    let old = card::read(folder)?;
    if let Some(old) = &old {
        ensure!(
            old.labels == checkpoint.labels(),
            "{} has labels {:?}, config.json {:?}: write it again with `evaluate --write-card`",
            folder.join(card::FILE).display(),
            old.labels,
            checkpoint.labels()
        );
    }
    // Golden examples are always fresh: an old card must not make a worker refuse good weights.
    let mut card = evaluate::renew(old.clone(), &model)?;
    if let Some(data) = &options.data {
        let (metrics, answers) = evaluate::measure(folder, &model, data, &options.selection, threads)?;
        card::measured(&mut card, &metrics, &answers);
    } else if let Some(old) = old {
        card.metrics = old.metrics;
        card.reference_profile = old.reference_profile;
    }
    Ok(card)
}

/// Begins a rollout of a version that was published, with a shadow stage and the platform's default steps. Returns what to print.
pub(crate) fn start_rollout(options: &PublishOptions) -> anyhow::Result<String> {
    let PublishOptions { model, version, .. } = options;
    let spec = v1::RolloutSpec {
        candidate: version.clone(),
        shadow: Some(v1::ShadowStage::default()),
        ..v1::RolloutSpec::default()
    };
    let request = v1::StartRolloutRequest {
        model: model.clone(),
        spec: Some(spec),
        supersede: false,
    };
    tokio::runtime::Runtime::new()?.block_on(async {
        let (channel, bearer) = connect(options).await?;
        let mut rollouts = RolloutsClient::with_interceptor(channel, bearer);
        rollouts.start_rollout(request).await.map_err(told)
    })?;
    Ok(format!(
        "the rollout of {model} {version} begins; see how it goes: understudy rollout watch {model}"
    ))
}

/// Adds the token to each call.
#[derive(Clone)]
struct Bearer(Option<AsciiMetadataValue>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", Clone::clone(bearer));
        }
        Ok(request)
    }
}

async fn connect(options: &PublishOptions) -> anyhow::Result<(Channel, Bearer)> {
    let router = &options.router;
    let bearer = match &options.token {
        None => None,
        Some(token) => Some(
            format!("Bearer {token}")
                .parse()
                .context("--token has characters that no header takes")?,
        ),
    };
    let channel = tonic::transport::Endpoint::from_shared(router.clone())?
        .connect()
        .await
        .with_context(|| format!("cannot reach a router at {router}: is the platform up (`understudy up`)?"))?;
    Ok((channel, Bearer(bearer)))
}

async fn send(options: &PublishOptions, mut manifest: v1::Manifest) -> anyhow::Result<()> {
    let (channel, bearer) = connect(options).await?;
    let mut models = ModelsClient::with_interceptor(channel, bearer);
    let store = models
        .get_artifact_store(v1::GetArtifactStoreRequest {})
        .await
        .map_err(told)?
        .into_inner()
        .uri;
    let files: Vec<&str> = FILES
        .into_iter()
        .filter(|file| options.checkpoint.join(file).exists())
        .collect();
    let prefix = format!("{}/{}", options.model, options.version);
    let bar = indicatif::ProgressBar::new(0).with_message("uploading");
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let uploaded =
        understudy_artifacts::upload(&store, &prefix, Path::new(&options.checkpoint), &files, progress).await?;
    bar.finish_and_clear();
    manifest.artifact_uri = uploaded.uri;
    manifest.files = uploaded
        .files
        .into_iter()
        .map(|file| v1::ArtifactFile {
            path: file.path,
            sha256: file.sha256,
            size_bytes: file.size_bytes,
        })
        .collect();
    let request = v1::PublishVersionRequest {
        manifest: Some(manifest),
    };
    models.publish_version(request).await.map_err(told)?;
    Ok(())
}

fn told(status: tonic::Status) -> anyhow::Error {
    anyhow!("the router refused ({:?}): {}", status.code(), status.message())
}
