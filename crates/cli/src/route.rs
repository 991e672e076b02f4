//! `understudy route`: which versions answer.

pub(crate) mod arms;
mod wait;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use understudy_protocol::v1::{GetRouteRequest, GetRouteResponse, ListModelsRequest, Pinning, Route, SetRouteRequest};

pub(crate) use self::wait::Wait;
use crate::{
    models,
    output::{Output, thousands, time},
    problem::Explain as _,
    publish::checked_name,
    rollout,
    router::{Router, admin},
    table::{percent, table},
};

const EXAMPLES: &str = "\
Examples:
  understudy route set sentiment v1                               all traffic to v1
  understudy route set sentiment stable=v1:90 canary=v2:10        percent
  understudy route set sentiment stable=v1 canary=v2:0.5          the rest to stable
  understudy route set sentiment stable=v1 canary=v2:2500ppm      parts per million
  understudy route set sentiment stable=v1 next=v2:0              hold v2 ready, for pinned requests only";

#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    Set(SetOptions),
    /// Shows arms, weights, and what each arm really got
    Show {
        /// Model [default: all]
        model: Option<String>,
    },
}

/// Sets which versions of a model answer, and waits until they do
///
/// Workers load each version that an arm names and drop the others. The old versions go on answering until the new ones
/// are ready, so a route may be changed under full traffic.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SetOptions {
    #[arg(value_parser = checked_name)]
    model: String,
    /// VERSION alone, or ARM=VERSION[:WEIGHT] for each arm; one arm without weight gets the rest
    #[arg(required = true, value_name = "ARM")]
    arms: Vec<arms::ArmSpec>,
    /// Whether callers may choose a version by metadata [default: as it is, at first allowed]
    #[arg(long, value_enum)]
    pinning: Option<PinningChoice>,
    /// Change it only if the route still has this epoch (0: only if there is no route yet)
    #[arg(long, value_name = "EPOCH")]
    expect_epoch: Option<u64>,
    /// Return as soon as the route is recorded
    #[arg(long, conflicts_with_all = ["timeout", "drained"])]
    no_wait: bool,
    /// Wait also until the versions that left the route are freed
    #[arg(long)]
    drained: bool,
    /// How long to wait
    #[arg(long, default_value = "5m", value_parser = time, value_name = "TIME")]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PinningChoice {
    Allowed,
    Denied,
}

impl RouteCommand {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Set(options) => options.run(router, output).await,
            Self::Show { model } => show(router, output, model).await,
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

impl SetOptions {
    async fn run(self, router: &Router, output: &Output) -> anyhow::Result<()> {
        let arms = arms::resolve(&self.arms)?;
        let change = Change {
            model: self.model,
            arms,
            pinning: self.pinning,
            expected_epoch: self.expect_epoch,
        };
        let route = set(router, change).await?;
        if !self.no_wait {
            let wait = Wait {
                route: &route,
                timeout: self.timeout,
                drained: self.drained,
            };
            wait.run(router, output).await?;
        }
        if output.is_json() {
            return output.message(&route);
        }
        let shares = route.arms.iter().map(|arm| {
            format!(
                "{}={} {}",
                arm.name,
                arm.version,
                percent(f64::from(arm.weight_ppm) / 1e6)
            )
        });
        let state = if self.no_wait { "is recorded" } else { "answers" };
        output.line(format_args!(
            "{} {state}: {} (epoch {})",
            route.model,
            shares.collect::<Vec<_>>().join(", "),
            route.epoch
        ))
    }
}

struct Change {
    model: String,
    arms: Vec<understudy_protocol::v1::Arm>,
    pinning: Option<PinningChoice>,
    expected_epoch: Option<u64>,
}

async fn set(router: &Router, change: Change) -> anyhow::Result<Route> {
    let Change {
        model,
        arms,
        pinning,
        expected_epoch,
    } = change;
    let Some(summary) = models::find(router, &model).await? else {
        bail!("there is no model {model}: `understudy models list` shows what there is");
    };
    let kind = summary
        .versions
        .first()
        .map(|manifest| manifest.kind)
        .unwrap_or_default();
    if let Some(arm) = arms
        .iter()
        .find(|arm| !summary.versions.iter().any(|known| known.version == arm.version))
    {
        let known: Vec<_> = summary.versions.iter().map(|known| known.version.as_str()).collect();
        bail!(
            "there is no version {} of {model}: choose one of {}",
            arm.version,
            known.join(", ")
        );
    }
    let pinning = match (pinning, &summary.route) {
        (Some(PinningChoice::Denied), _) => Pinning::Denied.into(),
        (Some(PinningChoice::Allowed), _) | (None, None) => Pinning::Allowed.into(),
        (None, Some(route)) => route.pinning,
    };
    let route = Some(Route {
        model,
        kind,
        epoch: 0,
        arms,
        pinning,
        ..Route::default()
    });
    let answer = router
        .routes()
        .set_route(admin(SetRouteRequest { route, expected_epoch }))
        .await
        .explain()?;
    answer
        .route
        .context("the router did not say which route it set: it is older than this command")
}

/// Gives a version all the traffic of a model that has no route yet. `None` if it has one.
pub(crate) async fn set_first(router: &Router, model: &str, version: &str) -> anyhow::Result<Option<Route>> {
    if models::find(router, model)
        .await?
        .is_some_and(|summary| summary.route.is_some())
    {
        return Ok(None);
    }
    let arms = arms::resolve(&[version.parse().map_err(anyhow::Error::msg)?])?;
    let change = Change {
        model: model.to_owned(),
        arms,
        pinning: None,
        expected_epoch: Some(0),
    };
    set(router, change).await.map(Some)
}

async fn show(router: &Router, output: &Output, model: Option<String>) -> anyhow::Result<()> {
    let models = match &model {
        Some(model) => vec![model.clone()],
        None => {
            let all = router
                .models()
                .list_models(admin(ListModelsRequest {}))
                .await
                .explain()?
                .models;
            all.into_iter()
                .filter(|summary| summary.route.is_some())
                .map(|summary| summary.model)
                .collect()
        }
    };
    let mut answers = Vec::with_capacity(models.len());
    for model in models {
        answers.push(
            router
                .routes()
                .get_route(admin(GetRouteRequest { model }))
                .await
                .explain()?,
        );
    }
    if output.is_json() {
        let answers = answers
            .iter()
            .map(crate::output::json_value)
            .collect::<Result<Vec<_>, _>>()?;
        return match (model, answers.as_slice()) {
            (Some(_), [answer]) => output.value(answer),
            _ => output.value(&answers),
        };
    }
    if answers.is_empty() {
        output.remark("No model has a route yet. Set one:\n  understudy route set MODEL VERSION");
        return Ok(());
    }
    output.line(arms_table(&answers).trim_fmt())?;
    let is_shown = |model: &str| {
        answers
            .iter()
            .any(|answer| answer.route.as_ref().is_some_and(|route| route.model == model))
    };
    for running in rollout::running(router).await? {
        if is_shown(&running.model) {
            output.line(format_args!("\n{}", rollout::mention(&running)))?;
        }
    }
    for route in answers
        .iter()
        .filter(|answer| answer.aborted_locally)
        .filter_map(|answer| answer.route.as_ref())
    {
        output.warning(format_args!(
            "{}: aborted on this router alone, which gives all traffic to the first arm",
            route.model
        ));
    }
    Ok(())
}

/// Every arm of these routes, with what it got.
pub(crate) fn arms_table(answers: &[GetRouteResponse]) -> comfy_table::Table {
    let mut rows = table([
        "MODEL", "EPOCH", "ARM", "VERSION", "WEIGHT", "GOT", "REQUESTS", "FAILED", "READY ON",
    ]);
    for answer in answers {
        let Some(route) = &answer.route else { continue };
        let total: u64 = answer.traffic.iter().map(|arm| arm.requests).sum();
        for arm in &route.arms {
            let got = answer
                .traffic
                .iter()
                .find(|traffic| traffic.arm == arm.name)
                .cloned()
                .unwrap_or_default();
            rows.add_row([
                route.model.clone(),
                route.epoch.to_string(),
                arm.name.clone(),
                arm.version.clone(),
                percent(f64::from(arm.weight_ppm) / 1e6),
                if total == 0 {
                    String::new()
                } else {
                    percent((got.requests as f64 / total as f64 * 1e4).round() / 1e4)
                },
                thousands(got.requests),
                thousands(got.failures),
                match got.ready_workers {
                    0 => "no worker".to_owned(),
                    1 => "1 worker".to_owned(),
                    many => format!("{many} workers"),
                },
            ]);
        }
    }
    rows
}
