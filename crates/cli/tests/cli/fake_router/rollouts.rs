//! Rollouts that go as a test says.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status};
use understudy_protocol::{
    status,
    v1::{rollouts_server::Rollouts, *},
};

use super::FakeRouter;

/// A canary of v2 in its second step, with what is known of it.
pub(crate) fn running() -> (Rollout, Live) {
    let transition = |second: i64, from: Phase, to: Phase, step, weight_ppm, reason: &str| Transition {
        at: Some(prost_types::Timestamp {
            seconds: 1_785_000_000 + second,
            nanos: 0,
        }),
        rollout: 1,
        from: from.into(),
        to: to.into(),
        step,
        weight_ppm,
        by: "controller r1".into(),
        reason: reason.into(),
    };
    let step = |weight_ppm| Step {
        weight_ppm,
        hold: Some(seconds(60)),
        requests_min: 100,
        manual: false,
    };
    let rollout = Rollout {
        model: "sentiment".into(),
        kind: Kind::Analyst.into(),
        number: 1,
        generation: 7,
        spec: Some(RolloutSpec {
            candidate: "v2".into(),
            stable: "v1".into(),
            strategy: Strategy::Canary.into(),
            shadow: Some(ShadowStage::default()),
            steps: [10_000, 50_000, 250_000, 500_000].map(step).to_vec(),
            watch: Some(seconds(600)),
            standby: Some(seconds(600)),
            ..RolloutSpec::default()
        }),
        status: Some(RolloutStatus {
            phase: Phase::Baking.into(),
            step: 1,
            elapsed: Some(seconds(12)),
            ..RolloutStatus::default()
        }),
        history: vec![
            transition(0, Phase::Unspecified, Phase::Pending, 0, 0, "started"),
            transition(1, Phase::Pending, Phase::Loading, 0, 0, "v2 has to be loaded"),
            transition(9, Phase::Loading, Phase::Shadow, 0, 0, "v2 is ready on 1 worker"),
            transition(80, Phase::Judging, Phase::Shifting, 1, 50_000, "130 requests at 1%"),
            transition(81, Phase::Shifting, Phase::Baking, 1, 50_000, "1 router serves it"),
        ],
        ..Rollout::default()
    };
    let arm = |requests, errors| {
        Some(ArmCard {
            requests,
            errors,
            ..ArmCard::default()
        })
    };
    let live = Live {
        slice: Some(Slice {
            epoch: 4,
            weight_ppm: 50_000,
            stable: arm(1_900, 19),
            candidate: arm(100, 1),
        }),
        gates: vec![GateReport {
            gate: "errors".into(),
            verdict: Verdict::Undecided.into(),
            e_worse: 0.7,
            e_worse_threshold: 20.0,
            e_good: 4.0,
            e_good_threshold: 20.0,
            detail: "1.0% of 100 against 1.0% of 1,900".into(),
        }],
        routers: 1,
        routers_current: 1,
        stable_ready: 1,
        candidate_ready: 1,
        leader: "r1".into(),
        waiting_for: "the step's hold: 12 s of 60 s".into(),
        ..Live::default()
    };
    (rollout, live)
}

/// The same after one more transition.
pub(crate) fn after(rollout: &Rollout, to: Phase, weight_ppm: u32, reason: &str) -> Rollout {
    let mut rollout = rollout.clone();
    let status = rollout.status.get_or_insert_default();
    let from = status.phase();
    let left = matches!(to, Phase::RollingBack | Phase::RolledBack | Phase::Paused);
    *status = RolloutStatus {
        phase: to.into(),
        paused_phase: if to == Phase::Paused { from } else { Phase::Unspecified }.into(),
        step: if to == Phase::Paused { status.step } else { 0 },
        reason: if left { reason.into() } else { String::new() },
        ..status.clone()
    };
    let at = rollout
        .history
        .last()
        .and_then(|last| last.at)
        .map(|at| prost_types::Timestamp {
            seconds: at.seconds + 60,
            nanos: 0,
        });
    rollout.history.push(Transition {
        at,
        rollout: rollout.number,
        from: from.into(),
        to: to.into(),
        step: 0,
        weight_ppm,
        by: "controller r1".into(),
        reason: reason.into(),
    });
    rollout
}

pub(crate) fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

impl FakeRouter {
    /// Changes the model's rollout as an operator does.
    fn operate(&self, call: &str, model: &str, to: Phase, reason: &str) -> Result<Option<Rollout>, Status> {
        let mut state = self.state();
        state
            .commands
            .push(format!("{call} {model} {reason}").trim_end().to_owned());
        if let Some(refusal) = state.refusal.take() {
            return Err(refusal);
        }
        let Some((rollout, live)) = state.rollouts.get(model).cloned() else {
            return Err(no_rollout(model));
        };
        let rollout = after(&rollout, to, 0, reason);
        state.rollouts.insert(model.into(), (rollout.clone(), live));
        Ok(Some(rollout))
    }
}

fn no_rollout(model: &str) -> Status {
    let message = format!("no rollout of \"{model}\" yet; begin one with `understudy rollout start`");
    status::reason(Code::NotFound, message, "NO_ROLLOUT")
}

#[tonic::async_trait]
impl Rollouts for FakeRouter {
    async fn start_rollout(
        &self,
        request: Request<StartRolloutRequest>,
    ) -> Result<Response<StartRolloutResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.started.push(request.clone());
        if let Some(refusal) = state.refusal.take() {
            return Err(refusal);
        }
        let spec = request.spec.unwrap();
        let number = state.rollouts.get(&request.model).map_or(1, |(old, _)| old.number + 1);
        let rollout = Rollout {
            model: request.model.clone(),
            number,
            spec: Some(RolloutSpec {
                stable: "v1".into(),
                ..spec
            }),
            status: Some(RolloutStatus {
                phase: Phase::Pending.into(),
                ..RolloutStatus::default()
            }),
            ..Rollout::default()
        };
        state.rollouts.insert(request.model, (rollout.clone(), Live::default()));
        Ok(Response::new(StartRolloutResponse { rollout: Some(rollout) }))
    }

    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Result<Response<GetRolloutResponse>, Status> {
        let model = request.into_inner().model;
        let found = self.state().rollouts.get(&model).cloned();
        let (rollout, live) = found.ok_or_else(|| no_rollout(&model))?;
        Ok(Response::new(GetRolloutResponse {
            rollout: Some(rollout),
            live: Some(live),
        }))
    }

    async fn list_rollouts(&self, _: Request<ListRolloutsRequest>) -> Result<Response<ListRolloutsResponse>, Status> {
        Ok(Response::new(ListRolloutsResponse {
            rollouts: self
                .state()
                .rollouts
                .values()
                .map(|(rollout, _)| rollout.clone())
                .collect(),
        }))
    }

    type WatchRolloutStream = Pin<Box<dyn Stream<Item = Result<WatchRolloutResponse, Status>> + Send>>;

    /// The rollout as it is, then what the test has in store; where that holds an error the stream breaks.
    async fn watch_rollout(
        &self,
        request: Request<WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let model = request.into_inner().model;
        let mut state = self.state();
        let now = state.rollouts.get(&model).cloned().ok_or_else(|| no_rollout(&model))?;
        let mut told = vec![Ok(now)];
        while let Some(next) = state.course.pop_front() {
            if let Ok(next) = &next {
                state.rollouts.insert(model.clone(), next.clone());
            }
            let broken = next.is_err();
            told.push(next);
            if broken {
                break;
            }
        }
        let answers = tokio_stream::iter(told).map(|told| {
            told.map(|(rollout, live)| WatchRolloutResponse {
                rollout: Some(rollout),
                live: Some(live),
            })
        });
        // Like a real one it goes on until the rollout has ended.
        Ok(Response::new(Box::pin(answers.chain(tokio_stream::pending()))))
    }

    async fn pause_rollout(
        &self,
        request: Request<PauseRolloutRequest>,
    ) -> Result<Response<PauseRolloutResponse>, Status> {
        let PauseRolloutRequest { model, reason } = request.into_inner();
        let rollout = self.operate("pause", &model, Phase::Paused, &reason)?;
        Ok(Response::new(PauseRolloutResponse { rollout }))
    }

    async fn resume_rollout(
        &self,
        request: Request<ResumeRolloutRequest>,
    ) -> Result<Response<ResumeRolloutResponse>, Status> {
        let rollout = self.operate("resume", &request.into_inner().model, Phase::Baking, "")?;
        Ok(Response::new(ResumeRolloutResponse { rollout }))
    }

    async fn promote_rollout(
        &self,
        request: Request<PromoteRolloutRequest>,
    ) -> Result<Response<PromoteRolloutResponse>, Status> {
        let PromoteRolloutRequest { model, force, reason } = request.into_inner();
        let call = if force { "promote by force" } else { "promote" };
        let rollout = self.operate(call, &model, Phase::Promoting, &reason)?;
        Ok(Response::new(PromoteRolloutResponse { rollout }))
    }

    async fn abort_rollout(
        &self,
        request: Request<AbortRolloutRequest>,
    ) -> Result<Response<AbortRolloutResponse>, Status> {
        let AbortRolloutRequest { model, reason, local } = request.into_inner();
        if local {
            let mut state = self.state();
            state.commands.push(format!("abort locally {model}"));
            state.aborted_locally = true;
            return Ok(Response::new(AbortRolloutResponse { rollout: None }));
        }
        let rollout = self.operate("abort", &model, Phase::RollingBack, &reason)?;
        Ok(Response::new(AbortRolloutResponse { rollout }))
    }

    async fn undo_rollout(
        &self,
        request: Request<UndoRolloutRequest>,
    ) -> Result<Response<UndoRolloutResponse>, Status> {
        let UndoRolloutRequest { model, reason } = request.into_inner();
        let rollout = self.operate("undo", &model, Phase::RollingBack, &reason)?;
        Ok(Response::new(UndoRolloutResponse { rollout }))
    }

    async fn list_disagreements(
        &self,
        request: Request<ListDisagreementsRequest>,
    ) -> Result<Response<ListDisagreementsResponse>, Status> {
        let ListDisagreementsRequest { limit, .. } = request.into_inner();
        let mut disagreements = self.state().disagreements.clone();
        disagreements.truncate(limit.try_into().unwrap());
        Ok(Response::new(ListDisagreementsResponse { disagreements }))
    }
}
