use std::{sync::Arc, time::Instant};

use tonic::{Code, Request, Response, Status};
use understudy_protocol::{
    status::{bad_request, reason},
    v1::{
        ArmTraffic, GetRouteRequest, GetRouteResponse, Kind, ListWorkersRequest, ListWorkersResponse, Route,
        SetRouteRequest, SetRouteResponse, WorkerStatus, routes_server::Routes,
    },
};
use understudy_registry::Error;

use crate::state::Model;

use super::{Admin, CONFLICTS_MAX, busy, registry_status, validate};

#[tonic::async_trait]
impl Routes for Admin {
    async fn set_route(&self, request: Request<SetRouteRequest>) -> Result<Response<SetRouteResponse>, Status> {
        let SetRouteRequest { route, expected_epoch } = request.into_inner();
        let mut route = route.ok_or_else(|| bad_request("route", "is missing"))?;
        self.check_route(&mut route).await?;
        // Those are a rollout's, and this route is none's.
        (route.rollout, route.shadow) = (0, None);
        let served = self.desk.served_epoch(&route.model);
        for _ in 0..CONFLICTS_MAX {
            self.check_no_rollout(&route.model).await?;
            let current = self
                .desk
                .registry
                .route(&route.model)
                .await
                .map_err(|e| registry_status(&e))?;
            let (epoch, revision) = current.map_or((0, 0), |current| (current.value.epoch, current.mod_revision));
            if let Some(expected) = expected_epoch.filter(|&expected| expected != epoch) {
                let message = format!(
                    "the route of \"{}\" has epoch {epoch}, not {expected}: look at it again and repeat the change",
                    route.model
                );
                return Err(reason(Code::Aborted, message, "EPOCH_MISMATCH"));
            }
            // Above the served one too: after the registry was restored from a backup, routers would ignore less.
            route.epoch = epoch.max(served).saturating_add(1);
            match self.desk.registry.put_route(&route, revision).await {
                Ok(_) => {
                    tracing::info!(model = route.model, epoch = route.epoch, "route set");
                    return Ok(Response::new(SetRouteResponse { route: Some(route) }));
                }
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(registry_status(&error)),
            }
        }
        Err(busy("route", &route.model))
    }

    async fn get_route(&self, request: Request<GetRouteRequest>) -> Result<Response<GetRouteResponse>, Status> {
        let name = request.into_inner().model;
        let state = self.desk.state.load_full();
        let served = state.models.get(&name);
        let aborted_locally = state.aborted.contains(&name);
        let route = match self.desk.registry.route(&name).await {
            Ok(stored) => stored.map(|stored| stored.value),
            // Away: what this router serves is the best answer there is.
            Err(Error::Unavailable { .. }) if served.is_some() => served.map(|model| model.route.clone()),
            Err(error) => return Err(registry_status(&error)),
        };
        let route = route.ok_or_else(|| {
            let models: Vec<&str> = state.models.keys().map(String::as_str).collect();
            let message = format!("no route for \"{name}\"; models with a route: {}", models.join(", "));
            reason(Code::NotFound, message, "UNKNOWN_MODEL")
        })?;
        let serves_it = |model: &&Arc<Model>| {
            let names = |route: &Route| -> Vec<_> {
                route
                    .arms
                    .iter()
                    .map(|arm| (arm.name.clone(), arm.version.clone()))
                    .collect()
            };
            model.route.arms == route.arms || (aborted_locally && names(&model.route) == names(&route))
        };
        let traffic = match served.filter(serves_it) {
            None => Vec::new(), // this router does not serve it yet
            Some(model) => {
                let requests = model.splitter.counts(model.splitter.drawn());
                let arms = route.arms.iter().zip(&model.arms).zip(requests);
                arms.map(|((arm, state), requests)| ArmTraffic {
                    arm: arm.name.clone(),
                    requests,
                    failures: state.counts.failures(),
                    ready_workers: u32::try_from(state.ready.len()).unwrap_or(u32::MAX),
                })
                .collect()
            }
        };
        Ok(Response::new(GetRouteResponse {
            route: Some(route),
            traffic,
            aborted_locally,
        }))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        let (state, now) = (self.desk.state.load(), Instant::now());
        let workers = state.workers.values().map(|worker| WorkerStatus {
            worker: Some(worker.record.clone()),
            in_flight: worker.endpoint.in_flight(),
            ejected: worker.endpoint.is_ejected(now),
        });
        Ok(Response::new(ListWorkersResponse {
            workers: workers.collect(),
            registry_connected: state.connected,
        }))
    }
}

impl Admin {
    /// A running rollout would take a route that is set by hand for somebody else's mistake, and pause.
    async fn check_no_rollout(&self, model: &str) -> Result<(), Status> {
        let rollout = self.desk.registry.rollout(model).await;
        let Some(stored) = rollout.map_err(|e| registry_status(&e))? else {
            return Ok(());
        };
        if stored.value.is_over() {
            return Ok(());
        }
        let message = format!(
            "rollout {} of \"{model}\" sets its route; end it first, by `understudy rollout abort {model}` or `understudy rollout \
             promote {model}`",
            stored.value.number
        );
        Err(reason(Code::FailedPrecondition, message, "ROLLOUT_RUNNING"))
    }

    /// Every arm must name a published version of the route's kind. A route without a kind takes that of its versions.
    async fn check_route(&self, route: &mut Route) -> Result<(), Status> {
        if route.kind == i32::from(Kind::Unspecified) {
            route.kind = Kind::Analyst.into();
            validate::record("route", route)?;
            route.kind = Kind::Unspecified.into();
        } else {
            validate::record("route", route)?;
        }
        for (index, arm) in route.arms.iter().enumerate() {
            let field = format!("route.arms[{index}].version");
            let manifest = self
                .desk
                .registry
                .manifest(&route.model, &arm.version)
                .await
                .map_err(|e| registry_status(&e))?
                .ok_or_else(|| bad_request(&field, &format!("\"{}/{}\" is not published", route.model, arm.version)))?;
            if route.kind == i32::from(Kind::Unspecified) {
                route.kind = manifest.kind;
            } else if route.kind != manifest.kind {
                let kind = manifest.kind().as_str_name();
                return Err(bad_request(
                    &field,
                    &format!("is of another kind than the route: {kind}"),
                ));
            }
        }
        Ok(())
    }
}
