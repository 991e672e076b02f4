//! `understudy status`: whether everything works, and what to do about what does not.

use std::{process::ExitCode, time::Instant};

use anyhow::bail;
use console::style;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use understudy_protocol::v1::{
    GetRouteRequest, GetRouteResponse, Kind, ListModelsRequest, ListWorkersRequest, ListWorkersResponse, ModelSummary,
    ResidencyState, Rollout,
};

use crate::{
    models,
    output::{Output, duration, json_value},
    problem::{Explain as _, sentence},
    rollout,
    route::arms_table,
    router::{Router, RouterOptions, admin},
    table::table,
};

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Problem {
    what: String,
    next: String,
}

/// Everything that there is to see.
struct State {
    serving: bool,
    /// The router may not know yet that it is away.
    registry_answers: bool,
    workers: ListWorkersResponse,
    models: Vec<ModelSummary>,
    routes: Vec<GetRouteResponse>,
    /// The running ones.
    rollouts: Vec<Rollout>,
}

pub(crate) async fn run(options: &RouterOptions, output: &Output) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let router = match Router::connect(options).await {
        Ok(router) => router,
        Err(error) if output.is_json() => {
            output.value(&serde_json::json!({
                "router": { "address": options.router, "serving": false },
                "problems": [{ "what": format!("{error:#}"), "next": "" }],
            }))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error),
    };
    let state = State::take(&router).await?;
    let latency = started.elapsed();
    let problems = state.problems();
    if output.is_json() {
        output.value(&serde_json::json!({
            "router": { "address": router.address(), "serving": state.serving },
            "registry_connected": state.registry_answers,
            "workers": json_value(&state.workers)?.get("workers").cloned().unwrap_or_else(|| serde_json::json!([])),
            "routes": state.routes.iter().map(json_value).collect::<Result<Vec<_>, _>>()?,
            "rollouts": state.rollouts.iter().map(json_value).collect::<Result<Vec<_>, _>>()?,
            "problems": problems,
        }))?;
    } else {
        let registry = if state.registry_answers {
            "connected"
        } else {
            "does not answer"
        };
        output.line(format_args!(
            "router    {} answers ({})",
            router.address(),
            duration(latency)
        ))?;
        output.line(format_args!("registry  {registry}\n"))?;
        state.tell(output)?;
        for problem in &problems {
            output.line(format_args!(
                "{} {}\n  {}",
                style("!").red().bold(),
                problem.what,
                problem.next
            ))?;
        }
        if problems.is_empty() {
            output.line(format_args!("{} everything works", style("✓").green().bold()))?;
        }
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

impl State {
    async fn take(router: &Router) -> anyhow::Result<Self> {
        let health = router
            .health()
            .check(admin(HealthCheckRequest { service: String::new() }))
            .await
            .explain()?;
        let workers = router
            .routes()
            .list_workers(admin(ListWorkersRequest {}))
            .await
            .explain()?;
        // A registry that is away is one of the things that this command is there to tell.
        let mut registry_answers = true;
        let models = match router.models().list_models(admin(ListModelsRequest {})).await {
            Ok(answer) => answer.into_inner().models,
            Err(status) if is_away(&status) => {
                registry_answers = false;
                Vec::new()
            }
            Err(status) => bail!(sentence(&status)),
        };
        let mut routes = Vec::new();
        for summary in models.iter().filter(|summary| summary.route.is_some()) {
            let model = summary.model.clone();
            match router.routes().get_route(admin(GetRouteRequest { model })).await {
                Ok(answer) => routes.push(answer.into_inner()),
                Err(status) if is_away(&status) => registry_answers = false,
                Err(status) => bail!(sentence(&status)),
            }
        }
        Ok(Self {
            serving: health.status() == ServingStatus::Serving,
            registry_answers: registry_answers && workers.registry_connected,
            workers,
            models,
            routes,
            rollouts: rollout::running(router).await?,
        })
    }

    fn tell(&self, output: &Output) -> anyhow::Result<()> {
        if !self.workers.workers.is_empty() {
            let mut rows = table(["WORKER", "KIND", "ADDRESS", "ENGINE", "IN FLIGHT", "VERSIONS"]);
            for status in &self.workers.workers {
                let Some(worker) = &status.worker else { continue };
                let held = worker
                    .versions
                    .iter()
                    .map(|held| format!("{}/{} {}", held.model, held.version, models::state(held.state, "")));
                rows.add_row([
                    worker.worker.clone(),
                    models::kind(worker.kind),
                    worker.address.clone(),
                    worker.engine.clone(),
                    status.in_flight.to_string(),
                    held.collect::<Vec<_>>().join(", "),
                ]);
            }
            output.line(format_args!("{}\n", rows.trim_fmt()))?;
        }
        if !self.routes.is_empty() {
            output.line(format_args!("{}\n", arms_table(&self.routes).trim_fmt()))?;
        }
        for running in &self.rollouts {
            output.line(format_args!("{}\n", rollout::mention(running)))?;
        }
        let unrouted = self.models.iter().filter(|summary| summary.route.is_none());
        for summary in unrouted {
            let version = summary
                .versions
                .last()
                .map_or("VERSION", |manifest| manifest.version.as_str());
            output.line(format_args!(
                "{0} has no route: understudy route set {0} {version}\n",
                summary.model
            ))?;
        }
        if self.models.is_empty() && self.registry_answers {
            output.line("There are no models yet: understudy models publish --help\n")?;
        }
        Ok(())
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |what: String, next: String| problems.push(Problem { what, next });
        if !self.serving {
            add(
                "the router says that it is not serving".into(),
                "it is starting or draining: try again, or see its log".into(),
            );
        }
        if !self.registry_answers {
            add(
                "the router cannot reach the registry, and serves from what it last knew".into(),
                "traffic goes on, changes do not: start etcd or `understudy registry` again, or check the router's --registry".into(),
            );
        }
        for status in &self.workers.workers {
            let Some(worker) = &status.worker else { continue };
            if status.ejected {
                add(
                    format!("worker {} is out of rotation: its last calls failed", worker.worker),
                    "see its log; it comes back by itself once it answers".into(),
                );
            }
            for held in worker
                .versions
                .iter()
                .filter(|held| held.state() == ResidencyState::Failed)
            {
                add(
                    format!(
                        "worker {} cannot load {}/{}: {}",
                        worker.worker, held.model, held.version, held.reason
                    ),
                    format!(
                        "publish a corrected checkpoint as a new version, or set another route for {}",
                        held.model
                    ),
                );
            }
        }
        for answer in &self.routes {
            let Some(route) = &answer.route else { continue };
            if answer.aborted_locally {
                add(
                    format!(
                        "{} was aborted on this router alone, which gives it all to its first arm",
                        route.model
                    ),
                    format!(
                        "once the registry is back, end its rollout everywhere: understudy rollout abort {}",
                        route.model
                    ),
                );
            }
            let is_there = self
                .workers
                .workers
                .iter()
                .any(|status| status.worker.as_ref().is_some_and(|w| w.kind == route.kind));
            if !is_there {
                add(
                    format!("no worker is there to serve {}", route.model),
                    match route.kind() {
                        Kind::Scribe => "start one: `understudy up --scribes 1` on one machine, or understudy-scribe with the same --registry",
                        _ => "start one: `understudy up` on one machine, or understudy-analyst with the same --registry",
                    }
                    .into(),
                );
                continue;
            }
            for arm in &route.arms {
                let ready = answer
                    .traffic
                    .iter()
                    .any(|traffic| traffic.arm == arm.name && traffic.ready_workers > 0);
                if !ready {
                    add(
                        format!(
                            "arm {} of {}: no worker has {} ready",
                            arm.name, route.model, arm.version
                        ),
                        "if it is loading, wait; the other arms answer for it meanwhile".into(),
                    );
                }
            }
        }
        problems
    }
}
