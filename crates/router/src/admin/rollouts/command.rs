use std::time::SystemTime;

use tokio::sync::oneshot;
use tonic::{Code, Status};
use understudy_protocol::{
    status::{reason, retry_later},
    v1::Rollout,
};
use understudy_registry::{Commit, Error};
use understudy_rollout::machine::Command;

use crate::{
    admin::{Admin, CONFLICTS_MAX, RETRY_AFTER, busy, registry_status},
    controller::{
        change::{Before, change},
        record::{Invalid, rollout_from},
    },
    state::writer::Abort,
};

impl Admin {
    /// Does what an operator says, whoever leads. The note, if any, is added to the history's reason.
    pub(super) async fn command(
        &self,
        model: &str,
        by: &str,
        command: &Command,
        note: &str,
    ) -> Result<Rollout, Status> {
        for _ in 0..CONFLICTS_MAX {
            let (record, route) = self.desk.read(model).await.map_err(|e| registry_status(&e))?;
            let Some(record) = record else {
                return self.rollout(model).await;
            };
            let rollout = rollout_from(&record.value).map_err(|invalid| unusable(model, &invalid))?;
            let expected = route.as_ref().map_or(0, |stored| stored.mod_revision);
            let route = route.map(|stored| stored.value);
            let observation = self.desk.observe(&record.value, &rollout, route.as_ref());
            let mut advance = rollout
                .command(command.clone(), &observation)
                .map_err(|refused| reason(Code::FailedPrecondition, refused.to_string(), "NOT_IN_THIS_PHASE"))?;
            if advance.transitions.is_empty() {
                return Ok(record.value); // done already
            }
            if let Some(last) = advance.transitions.last_mut().filter(|_| !note.is_empty()) {
                last.reason = format!("{} ({note})", last.reason);
            }
            let before = Before {
                record: &record.value,
                route: route.as_ref(),
                route_changed: observation.route_changed,
                served_epoch: self.desk.served_epoch(model),
                by,
                at: SystemTime::now(),
            };
            let change = change(&before, advance);
            let commit = Commit {
                rollout: Some((change.record.clone(), record.mod_revision)),
                route: change.route.clone().map(|route| (route, expected)),
            };
            match self.desk.registry.commit(None, &commit).await {
                Ok(_) => {
                    self.desk.announce(&change);
                    return Ok(change.record);
                }
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(registry_status(&error)),
            }
        }
        Err(busy("rollout", model))
    }

    /// Overrules the route on this router, whether or not the registry is there.
    pub(super) async fn abort_locally(&self, model: &str, by: &str) -> Result<(), Status> {
        let (done, told) = oneshot::channel();
        let abort = Abort {
            model: model.to_owned(),
            by: by.to_owned(),
            done,
        };
        let stopping = || retry_later(Code::Unavailable, "this router stops", RETRY_AFTER);
        self.aborts.try_send(abort).map_err(|_| stopping())?;
        match told.await.map_err(|_| stopping())? {
            Some(_) => Ok(()),
            None => {
                let message = format!("this router serves no route of \"{model}\"");
                Err(reason(Code::NotFound, message, "UNKNOWN_MODEL"))
            }
        }
    }
}

fn unusable(model: &str, invalid: &Invalid) -> Status {
    let message = format!(
        "the rollout of \"{model}\" in the registry cannot be used ({invalid}); start another one, or use the software that wrote it"
    );
    reason(Code::FailedPrecondition, message, "INVALID_RECORD")
}
