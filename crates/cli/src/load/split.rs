//! Whether each arm got its share.
//!
//! The router's split is exact over all requests since it took over a route, so what the arms got before this run is
//! added to what this run saw. Other callers' requests during the run are not seen, and look like a split that is off.

use std::collections::BTreeMap;

use serde::Serialize;
use tonic::Code;
use understudy_protocol::v1::{GetRouteRequest, GetRouteResponse, Kind, ListModelsRequest, Route};

use crate::{
    problem::{Explain as _, sentence},
    router::{Router, admin},
};

/// A route and what its arms got so far.
#[derive(Debug)]
pub(super) struct Snapshot {
    route: Route,
    requests: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Split {
    epoch: u64,
    /// Since the router took over the route.
    pub(super) requests: u64,
    pub(super) arms: Vec<ArmSplit>,
    /// Most that an arm may be off.
    bound: f64,
    pub(super) within_bound: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct ArmSplit {
    pub(super) arm: String,
    pub(super) weight_ppm: u32,
    pub(super) expected: f64,
    pub(super) got: u64,
    pub(super) off: f64,
}

impl Snapshot {
    /// `None` if there is no such route, or several analysts' and none was named, or a worker is called without a router.
    pub(super) async fn take(router: &Router, model: Option<&str>) -> anyhow::Result<Option<Self>> {
        let model = match model {
            Some(model) => model.to_owned(),
            None => {
                let listed = router.models().list_models(admin(ListModelsRequest {})).await;
                if listed
                    .as_ref()
                    .is_err_and(|status| status.code() == Code::Unimplemented)
                {
                    return Ok(None);
                }
                let mut routed = listed.explain()?.models.into_iter().filter(|summary| {
                    summary
                        .route
                        .as_ref()
                        .is_some_and(|route| route.kind() == Kind::Analyst)
                });
                match (routed.next(), routed.next()) {
                    (Some(only), None) => only.model,
                    _ => return Ok(None),
                }
            }
        };
        match router.routes().get_route(admin(GetRouteRequest { model })).await {
            Ok(response) => Ok(Self::of(response.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => anyhow::bail!(sentence(&status)),
        }
    }

    fn of(answer: GetRouteResponse) -> Option<Self> {
        let requests = answer.traffic.into_iter().map(|arm| (arm.arm, arm.requests)).collect();
        answer.route.map(|route| Self { route, requests })
    }
}

impl Split {
    /// `None` if the route changed between the two, or was not to be seen.
    pub(super) fn between(
        before: Option<Snapshot>,
        after: Option<Snapshot>,
        got: &BTreeMap<String, u64>,
    ) -> Option<Self> {
        let (before, after) = (before?, after?);
        if before.route != after.route {
            return None;
        }
        let count = |arm: &str| before.requests.get(arm).unwrap_or(&0) + got.get(arm).unwrap_or(&0);
        let requests: u64 = after.route.arms.iter().map(|arm| count(&arm.name)).sum();
        let arms: Vec<_> = after
            .route
            .arms
            .iter()
            .map(|arm| {
                let expected = requests as f64 * f64::from(arm.weight_ppm) / 1e6;
                let got = count(&arm.name);
                ArmSplit {
                    arm: arm.name.clone(),
                    weight_ppm: arm.weight_ppm,
                    expected,
                    got,
                    off: got as f64 - expected,
                }
            })
            .collect();
        let bound = (arms.len() as f64).log2().ceil().max(1.0);
        // The quotient of a count and a million is not exact in binary.
        let within_bound = arms.iter().all(|arm| arm.off.abs() <= bound + 1e-6);
        Some(Self {
            epoch: after.route.epoch,
            requests,
            arms,
            bound,
            within_bound,
        })
    }
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::Arm;

    use super::*;

    fn snapshot(epoch: u64, stable: u64, canary: u64) -> Option<Snapshot> {
        let arm = |name: &str, weight_ppm| Arm {
            name: name.into(),
            version: "v".into(),
            weight_ppm,
        };
        let route = Route {
            epoch,
            arms: vec![arm("stable", 900_000), arm("canary", 100_000)],
            ..Route::default()
        };
        let requests = [("stable".to_owned(), stable), ("canary".to_owned(), canary)].into();
        Some(Snapshot { route, requests })
    }

    fn got(stable: u64, canary: u64) -> BTreeMap<String, u64> {
        [("stable".to_owned(), stable), ("canary".to_owned(), canary)].into()
    }

    #[test]
    fn one_request_off_is_the_bound() {
        let within = |before, after, got| Split::between(before, after, &got).map(|split| split.within_bound);
        assert_eq!(
            within(snapshot(1, 0, 0), snapshot(1, 900, 100), got(900, 100)),
            Some(true)
        );
        assert_eq!(
            within(snapshot(1, 0, 0), snapshot(1, 899, 101), got(899, 101)),
            Some(true)
        );
        assert_eq!(
            within(snapshot(1, 0, 0), snapshot(1, 898, 102), got(898, 102)),
            Some(false)
        );
        assert_eq!(
            within(snapshot(1, 8, 2), snapshot(1, 0, 0), got(92, 8)),
            Some(true),
            "10 of 110 since the start"
        );
        assert_eq!(within(snapshot(1, 0, 0), snapshot(2, 0, 0), got(9, 1)), None);
        assert_eq!(within(None, snapshot(1, 0, 0), got(9, 1)), None);
    }
}
