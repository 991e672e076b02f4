use std::{collections::BTreeSet, time::SystemTime};

use tonic::{Code, Status};
use understudy_protocol::{
    status::{bad_request, reason},
    v1::{Manifest, Phase, Rollout, RolloutSpec, Route, StartRolloutRequest, Transition},
};
use understudy_registry::{Commit, Error, Stored};
use understudy_rollout::{
    machine,
    machine::Command,
    spec::{Gates, Spec, Strategy},
};

use crate::{
    admin::{Admin, CONFLICTS_MAX, busy, registry_status, validate},
    controller::{
        change::{Before, Change, change, full_version, remember},
        record::{Invalid, complete, rollout_from, spec_from, spec_to, status_to},
    },
};

/// What is begun, by whom and why.
struct Wanted {
    by: String,
    reason: String,
    model: String,
    spec: RolloutSpec,
    supersede: bool,
}

impl Admin {
    /// Begins a rollout.
    pub(super) async fn start(&self, by: &str, request: StartRolloutRequest) -> Result<Rollout, Status> {
        let StartRolloutRequest { model, spec, supersede } = request;
        let mut spec = spec.ok_or_else(|| bad_request("spec", "is missing"))?;
        if spec.candidate.is_empty() {
            return Err(bad_request("spec.candidate", "is missing: name the version on trial"));
        }
        complete(&mut spec).map_err(|invalid| bad_spec(&invalid))?;
        let wanted = Wanted {
            by: by.to_owned(),
            reason: "started".to_owned(),
            model,
            spec,
            supersede,
        };
        self.begin(wanted).await
    }

    /// Begins to go back to the version before, after the rollout of the present one is over. Nothing is judged: an
    /// operator has judged.
    pub(super) async fn start_back(&self, by: &str, over: &Rollout, why: &str) -> Result<Rollout, Status> {
        let number = over.number;
        let done = over.spec.clone().unwrap_or_default();
        let mut spec = Spec::new(&done.candidate, &done.stable, Strategy::BlueGreen);
        spec.gates = Gates {
            errors: None,
            latency: None,
            agreement: None,
            confidence: None,
            text: None,
            labels: None,
            proof: false,
            ..spec.gates
        };
        let mut spec = spec_to(&spec, done.webhooks, done.keep_text);
        (spec.watch, spec.standby) = (done.watch, done.standby);
        let wanted = Wanted {
            by: by.to_owned(),
            reason: format!("undoes rollout {number}: {why}"),
            model: over.model.clone(),
            spec,
            supersede: false,
        };
        self.begin(wanted).await
    }

    async fn begin(&self, wanted: Wanted) -> Result<Rollout, Status> {
        let model = &wanted.model;
        for _ in 0..CONFLICTS_MAX {
            let (record, route) = self.desk.read(model).await.map_err(|e| registry_status(&e))?;
            let route = route.ok_or_else(|| {
                let message = format!(
                    "\"{model}\" has no route, so there is no stable version; set one with `understudy route set`"
                );
                reason(Code::FailedPrecondition, message, "NO_ROUTE")
            })?;
            let before = record.as_ref().map_or(0, |stored| stored.value.number);
            let number = before.max(route.value.rollout).saturating_add(1);
            let superseded = match record.as_ref().filter(|stored| !stored.value.is_over()) {
                Some(stored) => self.supersede(&wanted, number, stored, &route)?,
                None => None,
            };
            let after = superseded.as_ref().and_then(|change| change.route.as_ref());
            let (spec, labels) = self.resolve(&wanted, after.unwrap_or(&route.value)).await?;
            let rollout = machine::Rollout::start(number, spec_from(&spec).map_err(|invalid| bad_spec(&invalid))?);
            let started = started(&wanted, number);
            let old = superseded.as_ref().map(|change| &change.record);
            let old = old.or(record.as_ref().map(|stored| &stored.value));
            let mut new = Rollout {
                model: model.clone(),
                kind: route.value.kind,
                number,
                generation: old.map_or(0, |old| old.generation).saturating_add(1),
                spec: Some(spec),
                status: Some(status_to(&rollout)),
                history: old.map_or_else(Vec::new, |old| old.history.clone()),
                labels,
            };
            remember(&mut new, std::slice::from_ref(&started));
            validate::record("rollout", &new)?;
            let commit = Commit {
                rollout: Some((new.clone(), record.as_ref().map_or(0, |stored| stored.mod_revision))),
                route: superseded
                    .as_ref()
                    .and_then(|change| change.route.clone())
                    .map(|new| (new, route.mod_revision)),
            };
            match self.desk.registry.commit(None, &commit).await {
                Ok(_) => {
                    if let Some(change) = &superseded {
                        self.desk.announce(change);
                    }
                    self.desk.announce(&Change {
                        record: new.clone(),
                        rollout,
                        route: None,
                        transitions: vec![started],
                    });
                    return Ok(new);
                }
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(registry_status(&error)),
            }
        }
        Err(busy("rollout", model))
    }

    /// Ends the running rollout, if that was asked for. One whose record cannot be used is replaced without a word.
    fn supersede(
        &self,
        wanted: &Wanted,
        number: u64,
        running: &Stored<Rollout>,
        route: &Stored<Route>,
    ) -> Result<Option<Change>, Status> {
        let model = &wanted.model;
        let record = &running.value;
        if !wanted.supersede {
            let message = format!(
                "rollout {} of \"{model}\" is running; end it first, e.g. by `understudy rollout abort {model}`, or replace it with \
                 --supersede",
                record.number
            );
            return Err(reason(Code::FailedPrecondition, message, "ROLLOUT_RUNNING"));
        }
        let Ok(rollout) = rollout_from(record) else {
            return Ok(None);
        };
        let observation = self.desk.observe(record, &rollout, Some(&route.value));
        let why = format!("rollout {number}, of {}, took its place", wanted.spec.candidate);
        let advance = rollout
            .command(Command::Supersede { reason: why }, &observation)
            .map_err(|refused| reason(Code::FailedPrecondition, refused.to_string(), "NOT_IN_THIS_PHASE"))?;
        let before = Before {
            record,
            route: Some(&route.value),
            route_changed: observation.route_changed,
            served_epoch: self.desk.served_epoch(model),
            by: &wanted.by,
            at: SystemTime::now(),
        };
        Ok(Some(change(&before, advance)))
    }

    /// Fills in the stable version, tells its labels, and checks that the two can take each other's place.
    async fn resolve(&self, wanted: &Wanted, route: &Route) -> Result<(RolloutSpec, Vec<String>), Status> {
        let (model, mut spec) = (&wanted.model, wanted.spec.clone());
        let candidate = spec.candidate.clone();
        let stable = full_version(route).filter(|&stable| {
            let others = route.arms.iter().filter(|arm| arm.weight_ppm == 0);
            others
                .clone()
                .all(|arm| arm.version == candidate || arm.version == *stable)
        });
        let stable = stable.ok_or_else(|| {
            let message = format!(
                "the route of \"{model}\" splits its traffic, or holds further versions, so it is open which one is stable; give one version all \
                 traffic with `understudy route set` first"
            );
            reason(Code::FailedPrecondition, message, "ROUTE_IS_SPLIT")
        })?;
        if !spec.stable.is_empty() && spec.stable != *stable {
            let problem = format!("{} does not serve now, {stable} does; leave it out", spec.stable);
            return Err(bad_request("spec.stable", &problem));
        }
        if candidate == *stable {
            return Err(bad_request("spec.candidate", &format!("{candidate} serves already")));
        }
        spec.stable.clone_from(stable);
        let new = self.published("spec.candidate", model, &candidate).await?;
        let old = self.published("spec.stable", model, stable).await?;
        if new.kind != route.kind {
            let kinds = [new.kind().as_str_name(), route.kind().as_str_name()];
            let problem = format!("is a {}, and \"{model}\" serves a {}", kinds[0], kinds[1]);
            return Err(bad_request("spec.candidate", &problem));
        }
        let labels = |manifest: &Manifest| manifest.labels.iter().cloned().collect::<BTreeSet<String>>();
        if labels(&new) != labels(&old) {
            let problem = format!(
                "has the labels {}, and {stable} has {}: publish it as another model",
                new.labels.join(", "),
                old.labels.join(", ")
            );
            return Err(bad_request("spec.candidate", &problem));
        }
        Ok((spec, old.labels))
    }

    async fn published(&self, field: &str, model: &str, version: &str) -> Result<Manifest, Status> {
        let manifest = self.desk.registry.manifest(model, version).await;
        manifest
            .map_err(|e| registry_status(&e))?
            .ok_or_else(|| bad_request(field, &format!("\"{model}/{version}\" is not published")))
    }
}

fn started(wanted: &Wanted, number: u64) -> Transition {
    Transition {
        at: Some(SystemTime::now().into()),
        rollout: number,
        from: Phase::Unspecified.into(),
        to: Phase::Pending.into(),
        step: 0,
        weight_ppm: 0,
        by: wanted.by.clone(),
        reason: wanted.reason.clone(),
    }
}

fn bad_spec(invalid: &Invalid) -> Status {
    bad_request(&format!("spec.{}", invalid.field), &invalid.problem)
}
