//! Merging what the registry says into what is known. Pure: takes the time as an argument.
//!
//! The registry's word is followed with three exceptions, because an outage of it must not become one of the data plane:
//! * a route with a lower epoch than the known one comes from a stale writer or a restored backup: ignored;
//! * an empty registry where routes were known has lost its data: the routes stay until it has some again;
//! * a worker that vanished although its last record had a ready version did not leave by itself: it died, or the
//!   registry lost its leases. It stays for a bounded time as long as a connection to it stands; and even without, as long as
//!   the registry knows no other worker of its kind.
//!
//! A worker that leaves by itself announces first that it drains, so it goes at once.
//!
//! An operator can overrule a model's route on this router ([`Known::abort`]): the registry need not be there for it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use understudy_protocol::v1::{ResidencyState, Route, Worker};

/// All traffic.
const WEIGHT_SUM: u32 = 1_000_000;

/// Routes and workers that hold now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// By model.
    pub routes: BTreeMap<String, Route>,
    /// By name.
    pub workers: BTreeMap<String, KnownWorker>,
    /// Models whose first arm gets all traffic, whatever the route says, with the highest epoch that this holds for.
    pub aborted: BTreeMap<String, u64>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownWorker {
    /// Its last record.
    pub record: Worker,
    /// Since when the registry does not know it any more.
    pub vanished: Option<Instant>,
}

impl Known {
    /// Takes over the registry's routes. Returns the models whose route was ignored as stale.
    pub fn merge_routes(&mut self, registry: &BTreeMap<String, Route>) -> Vec<String> {
        if registry.is_empty() {
            return Vec::new();
        }
        let mut stale = Vec::new();
        self.routes.retain(|model, _| registry.contains_key(model));
        for (model, route) in registry {
            match self.routes.get(model) {
                Some(known) if known.epoch > route.epoch => stale.push(model.clone()),
                _ => {
                    self.routes.insert(model.clone(), route.clone());
                }
            }
        }
        stale
    }

    /// From now on the model's first arm gets all traffic, until the registry has a newer route. Returns the route that
    /// is overruled, if there is one of that model.
    pub fn abort(&mut self, model: &str) -> Option<Route> {
        let route = self.routes.get(model)?.clone();
        self.aborted.insert(model.to_owned(), route.epoch);
        Some(route)
    }

    /// Forgets aborts whose route is gone or older than the one that holds now. Returns their models.
    pub fn expire_aborts(&mut self) -> Vec<String> {
        let (routes, mut expired) = (&self.routes, Vec::new());
        self.aborted.retain(|model, epoch| {
            let holds = routes.get(model).is_some_and(|route| route.epoch <= *epoch);
            if !holds {
                expired.push(model.clone());
            }
            holds
        });
        expired
    }

    /// What is served: [`Known::routes`] with what was aborted. An overruled route belongs to no rollout, because what it
    /// counts is no evidence for one.
    #[must_use]
    pub fn served(&self) -> Self {
        let mut served = self.clone();
        for route in self.aborted.keys().filter_map(|model| self.routes.get(model)) {
            let mut route = route.clone();
            for (index, arm) in route.arms.iter_mut().enumerate() {
                arm.weight_ppm = if index == 0 { WEIGHT_SUM } else { 0 };
            }
            (route.rollout, route.shadow) = (0, None);
            served.routes.insert(route.model.clone(), route);
        }
        served
    }

    /// Takes over the registry's workers.
    pub fn merge_workers(&mut self, registry: &BTreeMap<String, Worker>, now: Instant) {
        self.workers.retain(|name, worker| {
            let stays = registry.contains_key(name) || has_ready(&worker.record);
            worker.vanished = worker.vanished.or(Some(now));
            stays
        });
        for (name, record) in registry {
            self.workers.insert(
                name.clone(),
                KnownWorker {
                    record: record.clone(),
                    vanished: None,
                },
            );
        }
    }

    /// Lets go of vanished workers whose time is over.
    pub fn prune(&mut self, now: Instant, keep: Duration, is_connected: impl Fn(&str) -> bool) {
        let registered: Vec<i32> = self
            .workers
            .values()
            .filter(|worker| worker.vanished.is_none())
            .map(|worker| worker.record.kind)
            .collect();
        self.workers.retain(|name, worker| match worker.vanished {
            None => true,
            Some(since) => {
                let replaced = registered.contains(&worker.record.kind);
                now.saturating_duration_since(since) < keep && (is_connected(name) || !replaced)
            }
        });
    }
}

fn has_ready(worker: &Worker) -> bool {
    worker
        .versions
        .iter()
        .any(|residency| residency.state == i32::from(ResidencyState::Ready))
}

#[cfg(test)]
mod tests {
    use understudy_protocol::v1::{Arm, Residency, Shadow};

    use super::*;

    fn route(epoch: u64) -> Route {
        Route {
            model: "m".into(),
            epoch,
            ..Route::default()
        }
    }

    fn routes(routes: &[(&str, u64)]) -> BTreeMap<String, Route> {
        routes
            .iter()
            .map(|&(model, epoch)| (model.to_owned(), route(epoch)))
            .collect()
    }

    fn workers(workers: &[(&str, ResidencyState)]) -> BTreeMap<String, Worker> {
        let worker = |state| Worker {
            kind: 1,
            versions: vec![Residency {
                state: i32::from(state),
                ..Residency::default()
            }],
            ..Worker::default()
        };
        workers
            .iter()
            .map(|&(name, state)| (name.to_owned(), worker(state)))
            .collect()
    }

    fn names(known: &Known) -> Vec<&str> {
        known.workers.keys().map(String::as_str).collect()
    }

    const KEEP: Duration = Duration::from_secs(60);

    #[test]
    fn lower_epochs_lose_and_an_emptied_registry_is_not_believed() {
        let mut known = Known::default();
        assert!(known.merge_routes(&routes(&[("a", 3), ("b", 1)])).is_empty());
        assert_eq!(known.merge_routes(&routes(&[("a", 2), ("c", 1)])), ["a"]);
        assert_eq!((known.routes["a"].epoch, known.routes.len()), (3, 2));
        known.merge_routes(&routes(&[]));
        assert_eq!(known.routes.len(), 2);
        known.merge_routes(&routes(&[("a", 4)]));
        assert_eq!((known.routes["a"].epoch, known.routes.len()), (4, 1));
    }

    #[test]
    fn a_worker_that_drained_goes_at_once_and_one_that_vanished_by_its_connection() {
        use ResidencyState::{Draining, Ready};
        let (mut known, now) = (Known::default(), Instant::now());
        known.merge_workers(
            &workers(&[
                ("alive", Ready),
                ("dead", Ready),
                ("drained", Draining),
                ("stays", Ready),
            ]),
            now,
        );
        known.merge_workers(&workers(&[("stays", Ready)]), now);
        assert_eq!(names(&known), ["alive", "dead", "stays"]);
        known.prune(now, KEEP, |name| name == "alive");
        assert_eq!(names(&known), ["alive", "stays"]);
        known.merge_workers(&workers(&[("stays", Ready)]), now + KEEP / 2);
        known.prune(now + KEEP, KEEP, |_| true);
        assert_eq!(names(&known), ["stays"], "the time counts from when it vanished");
    }

    #[test]
    fn when_all_vanish_all_stay_for_a_time_and_come_back() {
        let (mut known, now) = (Known::default(), Instant::now());
        let all = workers(&[("a", ResidencyState::Ready), ("b", ResidencyState::Ready)]);
        known.merge_workers(&all, now);
        known.merge_workers(&BTreeMap::new(), now);
        known.prune(now, KEEP, |_| false);
        assert_eq!(names(&known), ["a", "b"]);
        let mut later = known.clone();
        later.prune(now + KEEP, KEEP, |_| false);
        assert!(later.workers.is_empty());
        known.merge_workers(&all, now);
        assert!(known.workers.values().all(|worker| worker.vanished.is_none()));
    }

    #[test]
    fn an_abort_holds_until_a_newer_route() {
        let arm = |name: &str, weight_ppm| Arm {
            name: name.into(),
            version: name.into(),
            weight_ppm,
        };
        let canary = |epoch| Route {
            arms: vec![arm("stable", 900_000), arm("candidate", 100_000)],
            rollout: 7,
            shadow: Some(Shadow::default()),
            ..route(epoch)
        };
        let mut known = Known::default();
        assert_eq!(known.abort("m"), None);
        known.merge_routes(&[("m".to_owned(), canary(4))].into());
        assert_eq!(known.served(), known);
        assert_eq!(known.abort("m"), Some(canary(4)));
        let expected = Route {
            arms: vec![arm("stable", 1_000_000), arm("candidate", 0)],
            rollout: 0,
            shadow: None,
            ..canary(4)
        };
        assert_eq!(known.served().routes["m"], expected);
        // The same route again, and an older one, change nothing; a newer one does.
        for epoch in [4, 3] {
            known.merge_routes(&[("m".to_owned(), canary(epoch))].into());
            assert!(known.expire_aborts().is_empty());
        }
        known.merge_routes(&[("m".to_owned(), canary(5))].into());
        assert_eq!(known.expire_aborts(), ["m"]);
        assert_eq!(known.served().routes["m"], canary(5));
    }
}
