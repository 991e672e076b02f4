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

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use understudy_protocol::v1::{ResidencyState, Route, Worker};

/// Routes and workers that hold now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// By model.
    pub routes: BTreeMap<String, Route>,
    /// By name.
    pub workers: BTreeMap<String, KnownWorker>,
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
    use understudy_protocol::v1::Residency;

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
}
