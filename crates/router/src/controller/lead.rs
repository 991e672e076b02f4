//! Deciding, while this router leads.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use understudy_protocol::v1;
use understudy_registry::{Commit, Error, Fence, Stored};
use understudy_rollout::machine::{Advance, Rollout};

use super::{
    Desk, ELAPSED_MAX, PERSIST_EVERY,
    change::{Before, Change, change},
    record::rollout_from,
};

/// A candidate that every worker failed to load is given up after this long: workers try again by themselves.
const FAILED_FOR: Duration = Duration::from_secs(2);

/// One term of leading.
pub(super) struct Lead {
    desk: Arc<Desk>,
    fence: Fence,
    by: String,
    models: BTreeMap<String, Managed>,
    /// Changes of which nobody knows whether they were written.
    unsure: BTreeMap<String, Change>,
    /// Generations of records that cannot be used.
    unusable: BTreeMap<String, u64>,
}

/// A running rollout.
struct Managed {
    record: Stored<v1::Rollout>,
    route: Option<Stored<v1::Route>>,
    /// As it was written, with the time that has passed since.
    rollout: Rollout,
    looked: Instant,
    written: Instant,
    /// Since when no worker could load the candidate.
    failed: Option<Instant>,
}

impl Lead {
    pub(super) fn new(desk: Arc<Desk>, fence: Fence) -> Self {
        Self {
            by: format!("controller {}", desk.name),
            desk,
            fence,
            models: BTreeMap::new(),
            unsure: BTreeMap::new(),
            unusable: BTreeMap::new(),
        }
    }

    /// Whether this is the fence's term.
    pub(super) fn is_of(&self, fence: &Fence) -> bool {
        self.fence.create_revision() == fence.create_revision()
    }

    /// Looks at each running rollout once.
    pub(super) async fn round(&mut self) {
        let now = Instant::now();
        if !self.desk.views.connected() {
            // No time passes that nobody could observe.
            self.models.values_mut().for_each(|managed| managed.looked = now);
            return;
        }
        let view = self.desk.views.rollouts.view();
        self.models.retain(|model, _| view.records.contains_key(model));
        for (model, record) in &view.records {
            let unusable = self.unusable.get(model) == Some(&record.generation);
            if unusable || (!self.models.contains_key(model) && record.is_over()) {
                continue;
            }
            match self.look(model).await {
                Ok(()) => {}
                Err(Error::NotLeader) => return,
                Err(error @ Error::Conflict(_)) => {
                    tracing::debug!(model, %error, "decided on an older state; looking again");
                    self.models.remove(model);
                }
                Err(error) => {
                    tracing::warn!(model, %error, "the rollout stands still");
                    self.models.remove(model);
                }
            }
        }
    }

    async fn look(&mut self, model: &str) -> Result<(), Error> {
        if self.models.get(model).is_some_and(|managed| self.is_outdated(managed)) {
            self.models.remove(model);
        }
        if !self.models.contains_key(model) && !self.read(model).await? {
            return Ok(());
        }
        let Some(managed) = self.models.get_mut(model) else {
            return Ok(());
        };
        let route = managed.route.as_ref().map(|stored| &stored.value);
        let mut observation = self.desk.observe(&managed.record.value, &managed.rollout, route);
        let now = Instant::now();
        let failed = observation
            .candidate_failed
            .as_ref()
            .map(|_| managed.failed.unwrap_or(now));
        managed.failed = failed;
        if failed.is_some_and(|since| now - since < FAILED_FOR) {
            observation.candidate_failed = None;
        }
        let elapsed = (now - managed.looked).min(ELAPSED_MAX);
        managed.looked = now;
        let advance = managed.rollout.advance(&observation, elapsed);
        let is_new = advance.rollout != managed.rollout && now - managed.written >= PERSIST_EVERY;
        if advance.transitions.is_empty() && !is_new {
            managed.rollout = advance.rollout;
            return Ok(());
        }
        self.write(model, advance, observation.route_changed).await
    }

    /// Whether somebody else wrote. A view that does not yet show our own writing says nothing.
    fn is_outdated(&self, managed: &Managed) -> bool {
        let model = &managed.record.value.model;
        let (rollouts, routes) = (self.desk.views.rollouts.view(), self.desk.views.routes.view());
        // Not the whole records: JSON is read to within the last digit of a fraction only.
        let version = |record: &v1::Rollout| (record.number, record.generation);
        let record_differs = rollouts.revision >= managed.record.mod_revision
            && rollouts.records.get(model).map(version) != Some(version(&managed.record.value));
        let route = managed.route.as_ref();
        let route_differs = routes.revision >= route.map_or(0, |stored| stored.mod_revision)
            && routes.records.get(model) != route.map(|stored| &stored.value);
        record_differs || route_differs
    }

    /// Reads a rollout and its route. Says whether there is something to decide.
    async fn read(&mut self, model: &str) -> Result<bool, Error> {
        let (record, route) = self.desk.read(model).await?;
        let Some(record) = record else { return Ok(false) };
        if let Some(change) = self.unsure.remove(model)
            && change.record.generation == record.value.generation
            && change.record.history == record.value.history
        {
            self.desk.announce(&change);
        }
        let rollout = match rollout_from(&record.value) {
            Ok(rollout) => rollout,
            Err(problem) => {
                tracing::error!(model, %problem, "the rollout's record cannot be used; start another one");
                self.unusable.insert(model.to_owned(), record.value.generation);
                return Ok(false);
            }
        };
        if rollout.is_over() {
            return Ok(false);
        }
        let now = Instant::now();
        let managed = Managed {
            record,
            route,
            rollout,
            looked: now,
            written: now,
            failed: None,
        };
        self.models.insert(model.to_owned(), managed);
        Ok(true)
    }

    async fn write(&mut self, model: &str, advance: Advance, route_changed: bool) -> Result<(), Error> {
        let Some(managed) = self.models.get(model) else {
            return Ok(());
        };
        let before = Before {
            record: &managed.record.value,
            route: managed.route.as_ref().map(|stored| &stored.value),
            route_changed,
            served_epoch: self.desk.served_epoch(model),
            by: &self.by,
            at: SystemTime::now(),
        };
        let change = change(&before, advance);
        let expected = managed.route.as_ref().map_or(0, |stored| stored.mod_revision);
        let commit = Commit {
            rollout: Some((change.record.clone(), managed.record.mod_revision)),
            route: change.route.clone().map(|route| (route, expected)),
        };
        let written = self.desk.registry.commit(Some(&self.fence), &commit).await;
        let mod_revision = match written {
            Ok(mod_revision) => mod_revision,
            Err(error) => {
                if matches!(error, Error::Unavailable { .. }) {
                    self.unsure.insert(model.to_owned(), change);
                }
                return Err(error);
            }
        };
        self.desk.announce(&change);
        if change.rollout.is_over() {
            self.models.remove(model);
        } else if let Some(managed) = self.models.get_mut(model) {
            managed.record = Stored {
                value: change.record,
                mod_revision,
            };
            if let Some(value) = change.route {
                managed.route = Some(Stored { value, mod_revision });
            }
            managed.rollout = change.rollout;
            managed.written = Instant::now();
        }
        Ok(())
    }
}
