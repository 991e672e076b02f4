//! Commands that change a rollout's course.

use anyhow::bail;
use tonic::{Code, Status};
use understudy_protocol::v1::{
    AbortRolloutRequest, PauseRolloutRequest, Phase, PromoteRolloutRequest, ResumeRolloutRequest, Rollout,
    UndoRolloutRequest,
};

use super::{RolloutCommand, follow::get, words};
use crate::{
    output::Output,
    problem::{Explain as _, sentence},
    router::{Router, admin},
};

impl RolloutCommand {
    /// What changes a rollout's course.
    pub(super) async fn steer(self, router: &Router, output: &Output) -> anyhow::Result<()> {
        let mut rollouts = router.rollouts();
        let mut opened = false;
        let rollout = match self {
            Self::Pause { model, reason } => {
                let model = model.find(router).await?;
                let request = PauseRolloutRequest { model, reason };
                rollouts.pause_rollout(admin(request)).await.explain()?.rollout
            }
            Self::Resume(model) => {
                let model = model.find(router).await?;
                let request = ResumeRolloutRequest { model };
                rollouts.resume_rollout(admin(request)).await.explain()?.rollout
            }
            Self::Promote { model, force, reason } => {
                let model = model.find(router).await?;
                let request = PromoteRolloutRequest { model, force, reason };
                opened = !force;
                rollouts.promote_rollout(admin(request)).await.explain()?.rollout
            }
            Self::Abort { model, reason, local } => {
                let model = model.find(router).await?;
                let request = AbortRolloutRequest {
                    model: model.clone(),
                    reason,
                    local,
                };
                let answer = rollouts.abort_rollout(admin(request)).await;
                if local {
                    answer.explain()?;
                    return local_abort(router, output, &model);
                }
                match answer {
                    Ok(answer) => answer.into_inner().rollout,
                    Err(status) => Some(not_aborted(router, &model, &status).await?),
                }
            }
            Self::Undo { model, reason } => {
                let model = model.find(router).await?;
                let request = UndoRolloutRequest { model, reason };
                rollouts.undo_rollout(admin(request)).await.explain()?.rollout
            }
            _ => return Ok(()),
        };
        let rollout = rollout.unwrap_or_default();
        if output.is_json() {
            return output.message(&rollout);
        }
        // The gate's opening alone changes no phase.
        if opened && rollout.phase() == Phase::Judging {
            return output.line(format_args!(
                "{}: the manual gate is open, and it goes on",
                words::title(&rollout)
            ));
        }
        output.line(words::sentence(&rollout))
    }
}

/// What has gone back already is what was asked for; and without a registry there is another way.
async fn not_aborted(router: &Router, model: &str, status: &Status) -> anyhow::Result<Rollout> {
    match status.code() {
        Code::FailedPrecondition => {
            if let Ok((rollout, _)) = get(router, model).await
                && rollout.phase() == Phase::RolledBack
            {
                return Ok(rollout);
            }
            bail!(sentence(status));
        }
        Code::Unavailable | Code::DeadlineExceeded => bail!(
            "{}\nWithout the registry each router can be told on its own:\n  understudy --router {} rollout abort {model} --local",
            sentence(status),
            router.address()
        ),
        _ => bail!(sentence(status)),
    }
}

fn local_abort(router: &Router, output: &Output, model: &str) -> anyhow::Result<()> {
    let address = router.address();
    if output.is_json() {
        return output.value(&serde_json::json!({ "model": model, "router": address, "abortedLocally": true }));
    }
    output.line(format_args!(
        "{model}: the router at {address} gives all traffic to the stable version, until the registry has a newer route"
    ))?;
    output.remark(format_args!(
        "Other routers go on as they did: do it on each of them. Once the registry is back, end the rollout everywhere: \
         understudy rollout abort {model}"
    ));
    Ok(())
}
