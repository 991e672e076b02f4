//! `understudy models`: what versions there are.

use std::process::ExitCode;

use clap::Subcommand;
use understudy_protocol::v1::{
    GetVersionRequest, Kind, ListModelsRequest, Manifest, ModelSummary, ResidencyState, Route,
};

use crate::{
    output::{Output, moment, thousands},
    problem::Explain as _,
    publish::PublishOptions,
    router::{Router, admin},
    table::{percent, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    Publish(Box<PublishOptions>),
    /// Lists every model, its versions and their shares of the traffic
    List,
    /// Shows a model's versions, or one version in full
    #[command(
        after_help = "Examples:\n  understudy models show sentiment\n  understudy models show sentiment v2 --json"
    )]
    Show {
        model: String,
        version: Option<String>,
    },
}

impl ModelsCommand {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Publish(options) => options.run(router, output).await,
            Self::List => list(router, output).await,
            Self::Show { model, version: None } => show_model(router, output, &model).await,
            Self::Show {
                model,
                version: Some(version),
            } => show_version(router, output, model, version).await,
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// The model, if any version of it was published.
pub(crate) async fn find(router: &Router, model: &str) -> anyhow::Result<Option<ModelSummary>> {
    let models = all(router).await?;
    Ok(models.into_iter().find(|summary| summary.model == model))
}

pub(crate) async fn all(router: &Router) -> anyhow::Result<Vec<ModelSummary>> {
    let answer = router.models().list_models(admin(ListModelsRequest {})).await;
    Ok(answer.explain()?.models)
}

async fn list(router: &Router, output: &Output) -> anyhow::Result<()> {
    let answer = router
        .models()
        .list_models(admin(ListModelsRequest {}))
        .await
        .explain()?;
    if output.is_json() {
        return output.message(&answer);
    }
    if answer.models.is_empty() {
        output.remark("There are no models yet. Publish one:\n  understudy models publish FOLDER|FILE.gguf|hf:OWNER/NAME --model NAME --version v1");
        return Ok(());
    }
    let mut rows = table(["MODEL", "KIND", "VERSION", "TRAFFIC", "METRICS", "SIZE", "PUBLISHED"]);
    for summary in &answer.models {
        for manifest in &summary.versions {
            rows.add_row([
                &summary.model,
                &kind(manifest.kind),
                &manifest.version,
                &traffic(summary.route.as_ref(), &manifest.version),
                &metrics(manifest),
                &size(manifest),
                &published(manifest),
            ]);
        }
    }
    output.line(rows.trim_fmt())
}

async fn show_model(router: &Router, output: &Output, model: &str) -> anyhow::Result<()> {
    let Some(summary) = find(router, model).await? else {
        anyhow::bail!("there is no model {model}: `understudy models list` shows what there is");
    };
    if output.is_json() {
        return output.message(&summary);
    }
    let mut rows = table(["VERSION", "TRAFFIC", "METRICS", "SIZE", "PUBLISHED", "FROM"]);
    for manifest in &summary.versions {
        rows.add_row([
            &manifest.version,
            &traffic(summary.route.as_ref(), &manifest.version),
            &metrics(manifest),
            &size(manifest),
            &published(manifest),
            &manifest
                .lineage
                .as_ref()
                .map(|lineage| lineage.parent.clone())
                .unwrap_or_default(),
        ]);
    }
    output.line(rows.trim_fmt())?;
    if summary.route.is_none() {
        output.remark(format_args!(
            "{model} has no route yet. Set one:\n  understudy route set {model} VERSION"
        ));
    }
    Ok(())
}

async fn show_version(router: &Router, output: &Output, model: String, version: String) -> anyhow::Result<()> {
    let answer = router
        .models()
        .get_version(admin(GetVersionRequest { model, version }))
        .await
        .explain()?;
    if output.is_json() {
        return output.message(&answer);
    }
    let manifest = answer.manifest.unwrap_or_default();
    output.line(format_args!(
        "{}/{}  {}",
        manifest.model,
        manifest.version,
        kind(manifest.kind)
    ))?;
    let mut facts = vec![
        ("labels", manifest.labels.join(", ")),
        ("metrics", metrics(&manifest)),
        ("golden examples", manifest.golden_examples.len().to_string()),
        ("published", published(&manifest)),
        ("files", manifest.artifact_uri.clone()),
    ];
    if let Some(lineage) = &manifest.lineage {
        facts.push(("made from", lineage.parent.clone()));
        facts.push(("made by", lineage.recipe.clone()));
    }
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        output.line(format_args!("  {name:<16}{value}"))?;
    }
    for file in &manifest.files {
        output.line(format_args!(
            "    {:<28}{:>14} bytes  sha256 {}",
            file.path,
            thousands(file.size_bytes),
            file.sha256
        ))?;
    }
    if answer.workers.is_empty() {
        output.line("  no worker holds it")?;
    }
    for worker in answer.workers {
        let residency = worker.residency.unwrap_or_default();
        output.line(format_args!(
            "  on {:<13}{}",
            worker.worker,
            state(residency.state, &residency.reason)
        ))?;
    }
    Ok(())
}

/// `analyst` or `scribe`.
pub(crate) fn kind(kind: i32) -> String {
    let kind = Kind::try_from(kind).unwrap_or_default();
    kind.as_str_name().trim_start_matches("KIND_").to_lowercase()
}

/// `ready`, or `failed: no such file`.
pub(crate) fn state(state: i32, reason: &str) -> String {
    let state = match ResidencyState::try_from(state).unwrap_or_default() {
        ResidencyState::Loading => "loading",
        ResidencyState::Ready => "ready",
        ResidencyState::Draining => "draining",
        ResidencyState::Failed => "failed",
        ResidencyState::Unspecified => "unknown",
    };
    if reason.is_empty() {
        state.to_owned()
    } else {
        format!("{state}: {reason}")
    }
}

fn traffic(route: Option<&Route>, version: &str) -> String {
    let arms = route
        .iter()
        .flat_map(|route| &route.arms)
        .filter(|arm| arm.version == version);
    arms.map(|arm| format!("{} {}", arm.name, percent(f64::from(arm.weight_ppm) / 1e6)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn metrics(manifest: &Manifest) -> String {
    let mut metrics: Vec<_> = manifest.metrics.iter().collect();
    metrics.sort_by_key(|(name, _)| *name);
    metrics
        .into_iter()
        .map(|(name, &value)| {
            let decimals = if value > 1.0 && value.fract() == 0.0 { 0 } else { 4 };
            format!("{name} {value:.decimals$}")
        })
        .collect::<Vec<_>>()
        .join(", ")
}

pub(crate) fn size(manifest: &Manifest) -> String {
    let bytes: u64 = manifest.files.iter().map(|file| file.size_bytes).sum();
    indicatif::HumanBytes(bytes).to_string()
}

fn published(manifest: &Manifest) -> String {
    moment(manifest.created_at)
}
