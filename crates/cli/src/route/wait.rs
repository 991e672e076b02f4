//! Waits until a route is what answers.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::bail;
use understudy_protocol::v1::{
    Arm, GetRouteRequest, GetRouteResponse, ListWorkersRequest, ListWorkersResponse, Residency, ResidencyState, Route,
    Worker,
};

use crate::{
    output::{Output, duration},
    problem::Explain as _,
    router::{Router, admin},
};

const POLL: Duration = Duration::from_millis(200);
/// Workers retry a fetch that failed, so a failure counts only once it lasts.
const FAILURE_LASTS: Duration = Duration::from_secs(5);

/// What to wait for.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    pub(crate) route: &'a Route,
    pub(crate) timeout: Duration,
    /// Also until no worker holds another version of the model.
    pub(crate) drained: bool,
}

/// How far a route is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done,
    /// What is waited for.
    Waiting(String),
    /// Every worker failed to load a version.
    Failed(String),
}

impl Wait<'_> {
    pub(crate) async fn run(&self, router: &Router, output: &Output) -> anyhow::Result<()> {
        let started = Instant::now();
        let spinner = output.spinner("setting the route");
        let mut failing_since = None;
        let result = loop {
            let workers = router
                .routes()
                .list_workers(admin(ListWorkersRequest {}))
                .await
                .explain()?;
            let served = router
                .routes()
                .get_route(admin(GetRouteRequest {
                    model: self.route.model.clone(),
                }))
                .await
                .explain()?;
            let waiting_for = match self.progress(&workers, &served) {
                Progress::Done => break Ok(()),
                Progress::Waiting(what) => {
                    failing_since = None;
                    what
                }
                Progress::Failed(why) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= FAILURE_LASTS {
                        break Err(why);
                    }
                    why
                }
            };
            spinner.set_message(format!("{waiting_for} ({})", duration(started.elapsed())));
            if started.elapsed() >= self.timeout {
                break Err(format!("after {} {waiting_for}", duration(self.timeout)));
            }
            tokio::time::sleep(POLL).await;
        };
        spinner.finish_and_clear();
        match result {
            Ok(()) => Ok(()),
            Err(why) => {
                let meanwhile = match self.route.epoch {
                    0 | 1 => format!("; until then nothing answers for {}", self.route.model),
                    _ => ", and what answered before goes on answering".to_owned(),
                };
                bail!(
                    "{why}\nThe route is recorded (epoch {}){meanwhile}. `understudy status` shows the workers; \
                     `understudy route set {} VERSION` sets another route",
                    self.route.epoch,
                    self.route.model
                )
            }
        }
    }

    fn progress(&self, answer: &ListWorkersResponse, served: &GetRouteResponse) -> Progress {
        let route = self.route;
        let workers = || answer.workers.iter().filter_map(|status| status.worker.as_ref());
        let of_kind = || workers().filter(|worker| worker.kind == route.kind);
        let wanted: BTreeSet<&str> = route.arms.iter().map(|arm| arm.version.as_str()).collect();
        for version in &wanted {
            let all: Vec<_> = of_kind()
                .map(|worker| (worker, residency(worker, &route.model, version)))
                .collect();
            let name = format!("{}/{version}", route.model);
            let is = |residency: &Option<&Residency>, state| residency.is_some_and(|r| r.state() == state);
            if all.iter().any(|(_, residency)| is(residency, ResidencyState::Ready)) {
                continue;
            }
            if all.is_empty() {
                return Progress::Waiting(format!("no worker is there to load {name}"));
            }
            let failures: Vec<_> = all
                .iter()
                .filter(|(_, residency)| is(residency, ResidencyState::Failed))
                .filter_map(|(worker, residency)| Some(format!("{}: {}", worker.worker, (*residency)?.reason)))
                .collect();
            if failures.len() == all.len() {
                return Progress::Failed(format!("{name} cannot be loaded: {}", failures.join("; ")));
            }
            if let Some((worker, _)) = all.iter().find(|(_, residency)| is(residency, ResidencyState::Loading)) {
                return Progress::Waiting(format!("{} is loading {name}", worker.worker));
            }
            return Progress::Waiting(format!("{name} is not ready yet"));
        }
        let epoch = served.route.as_ref().map_or(0, |served| served.epoch);
        let is_served = |arm: &Arm| {
            served
                .traffic
                .iter()
                .any(|got| got.arm == arm.name && got.ready_workers > 0)
        };
        if epoch < route.epoch || !route.arms.iter().all(is_served) {
            return Progress::Waiting("the router has not taken over the route yet".into());
        }
        if self.drained {
            let old = of_kind().find_map(|worker| {
                let mut held = worker.versions.iter();
                let old = held.find(|held| held.model == route.model && !wanted.contains(held.version.as_str()));
                old.map(|old| format!("{} still holds {}/{}", worker.worker, old.model, old.version))
            });
            if let Some(old) = old {
                return Progress::Waiting(old);
            }
        }
        Progress::Done
    }
}

fn residency<'a>(worker: &'a Worker, model: &str, version: &str) -> Option<&'a Residency> {
    worker
        .versions
        .iter()
        .find(|held| held.model == model && held.version == version)
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::{ArmTraffic, Kind, WorkerStatus};

    use super::*;

    fn route() -> Route {
        let arm = |name: &str, version: &str| Arm {
            name: name.into(),
            version: version.into(),
            weight_ppm: 500_000,
        };
        let arms = vec![arm("stable", "v1"), arm("canary", "v2")];
        Route {
            model: "m".into(),
            kind: Kind::Analyst.into(),
            epoch: 3,
            arms,
            ..Route::default()
        }
    }

    /// What a router says that serves this epoch.
    fn served(epoch: u64) -> GetRouteResponse {
        let traffic = |arm: &Arm| ArmTraffic {
            arm: arm.name.clone(),
            ready_workers: 1,
            ..ArmTraffic::default()
        };
        GetRouteResponse {
            traffic: route().arms.iter().map(traffic).collect(),
            route: Some(Route { epoch, ..route() }),
            aborted_locally: false,
        }
    }

    fn workers(held: &[&[(&str, ResidencyState)]]) -> ListWorkersResponse {
        let workers = held.iter().enumerate().map(|(index, held)| {
            let versions = held.iter().map(|(version, state)| Residency {
                model: "m".into(),
                version: (*version).into(),
                state: (*state).into(),
                reason: if *state == ResidencyState::Failed {
                    "NaN weights".into()
                } else {
                    String::new()
                },
            });
            let worker = Worker {
                worker: format!("analyst-{index}"),
                kind: Kind::Analyst.into(),
                versions: versions.collect(),
                ..Worker::default()
            };
            WorkerStatus {
                worker: Some(worker),
                ..WorkerStatus::default()
            }
        });
        ListWorkersResponse {
            workers: workers.collect(),
            registry_connected: true,
        }
    }

    #[test]
    fn every_arm_must_be_ready_somewhere() {
        use ResidencyState::{Draining, Failed, Loading, Ready};
        let route = route();
        let wait = Wait {
            route: &route,
            timeout: Duration::from_secs(1),
            drained: false,
        };
        let waiting = |text: &str| Progress::Waiting(text.into());
        for (held, epoch, expected) in [
            (&[&[("v1", Ready), ("v2", Ready)][..]][..], 3, Progress::Done),
            (&[&[("v1", Ready)], &[("v2", Ready)]], 3, Progress::Done),
            (
                &[&[("v1", Ready), ("v2", Ready)]],
                2,
                waiting("the router has not taken over the route yet"),
            ),
            (
                &[&[("v1", Ready), ("v2", Loading)]],
                3,
                waiting("analyst-0 is loading m/v2"),
            ),
            (&[&[("v1", Ready)]], 3, waiting("m/v2 is not ready yet")),
            (&[], 3, waiting("no worker is there to load m/v1")),
            (
                &[&[("v1", Ready), ("v2", Failed)]],
                3,
                Progress::Failed("m/v2 cannot be loaded: analyst-0: NaN weights".into()),
            ),
            (
                &[&[("v1", Ready), ("v2", Failed)], &[("v2", Loading)]],
                3,
                waiting("analyst-1 is loading m/v2"),
            ),
            (&[&[("v1", Ready), ("v2", Ready), ("v0", Draining)]], 3, Progress::Done),
        ] {
            assert_eq!(wait.progress(&workers(held), &served(epoch)), expected, "{held:?}");
        }
        let behind = GetRouteResponse {
            traffic: vec![],
            ..served(3)
        };
        let held: &[&[_]] = &[&[("v1", Ready), ("v2", Ready)]];
        let not_yet = waiting("the router has not taken over the route yet");
        assert_eq!(wait.progress(&workers(held), &behind), not_yet);
        let drained = Wait { drained: true, ..wait };
        let held: &[&[_]] = &[&[("v1", Ready), ("v2", Ready), ("v0", Draining)]];
        assert_eq!(
            drained.progress(&workers(held), &served(3)),
            waiting("analyst-0 still holds m/v0")
        );
    }
}
