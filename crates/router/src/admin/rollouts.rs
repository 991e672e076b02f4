mod command;
mod live;
mod start;

use std::{pin::Pin, time::Duration};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status};
use understudy_protocol::{
    status::{reason, retry_later},
    v1::{
        AbortRolloutRequest, AbortRolloutResponse, GetRolloutRequest, GetRolloutResponse, ListDisagreementsRequest,
        ListDisagreementsResponse, ListRolloutsRequest, ListRolloutsResponse, PauseRolloutRequest,
        PauseRolloutResponse, Phase, PromoteRolloutRequest, PromoteRolloutResponse, ResumeRolloutRequest,
        ResumeRolloutResponse, Rollout, StartRolloutRequest, StartRolloutResponse, Strategy, UndoRolloutRequest,
        UndoRolloutResponse, WatchRolloutRequest, WatchRolloutResponse, rollouts_server::Rollouts,
    },
};
use understudy_registry::Error;
use understudy_rollout::machine::Command;

use super::{Admin, RETRY_AFTER, operator, registry_status};

/// Between two answers of a watch in which nothing went on.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Answers of a watch that its reader has not taken yet.
const WATCH_QUEUE_MAX: usize = 4;
/// Disagreements that are answered if nobody says how many.
const DISAGREEMENTS: u32 = 50;

#[tonic::async_trait]
impl Rollouts for Admin {
    async fn start_rollout(
        &self,
        request: Request<StartRolloutRequest>,
    ) -> Result<Response<StartRolloutResponse>, Status> {
        let by = operator(&request);
        let rollout = Some(self.start(&by, request.into_inner()).await?);
        Ok(Response::new(StartRolloutResponse { rollout }))
    }

    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Result<Response<GetRolloutResponse>, Status> {
        let rollout = self.rollout(&request.into_inner().model).await?;
        let live = live::live(&self.desk, &rollout);
        Ok(Response::new(GetRolloutResponse {
            rollout: Some(rollout),
            live,
        }))
    }

    async fn list_rollouts(&self, _: Request<ListRolloutsRequest>) -> Result<Response<ListRolloutsResponse>, Status> {
        let rollouts = match self.desk.registry.list::<Rollout>().await {
            Ok(listing) => listing.records.into_values().map(|stored| stored.value).collect(),
            Err(Error::Unavailable { .. }) if self.desk.views.rollouts.view().synced => {
                self.desk.views.rollouts.view().records.values().cloned().collect()
            }
            Err(error) => return Err(registry_status(&error)),
        };
        Ok(Response::new(ListRolloutsResponse { rollouts }))
    }

    type WatchRolloutStream = Pin<Box<dyn Stream<Item = Result<WatchRolloutResponse, Status>> + Send>>;

    async fn watch_rollout(
        &self,
        request: Request<WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let first = self.rollout(&request.into_inner().model).await?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE_MAX);
        tokio::spawn(self.clone().watch(first, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn pause_rollout(
        &self,
        request: Request<PauseRolloutRequest>,
    ) -> Result<Response<PauseRolloutResponse>, Status> {
        let by = operator(&request);
        let PauseRolloutRequest { model, reason } = request.into_inner();
        let reason = or(reason, || format!("paused by {by}"));
        let rollout = Some(self.command(&model, &by, &Command::Pause { reason }, "").await?);
        Ok(Response::new(PauseRolloutResponse { rollout }))
    }

    async fn resume_rollout(
        &self,
        request: Request<ResumeRolloutRequest>,
    ) -> Result<Response<ResumeRolloutResponse>, Status> {
        let by = operator(&request);
        let model = request.into_inner().model;
        let rollout = Some(self.command(&model, &by, &Command::Resume, "").await?);
        Ok(Response::new(ResumeRolloutResponse { rollout }))
    }

    async fn promote_rollout(
        &self,
        request: Request<PromoteRolloutRequest>,
    ) -> Result<Response<PromoteRolloutResponse>, Status> {
        let by = operator(&request);
        let PromoteRolloutRequest { model, force, reason } = request.into_inner();
        let command = if force { Command::Promote } else { Command::Approve };
        let rollout = Some(self.command(&model, &by, &command, &reason).await?);
        Ok(Response::new(PromoteRolloutResponse { rollout }))
    }

    async fn abort_rollout(
        &self,
        request: Request<AbortRolloutRequest>,
    ) -> Result<Response<AbortRolloutResponse>, Status> {
        let by = operator(&request);
        let AbortRolloutRequest { model, reason, local } = request.into_inner();
        let rollout = if local {
            self.abort_locally(&model, &by).await?;
            None
        } else {
            let reason = or(reason, || format!("aborted by {by}"));
            Some(self.command(&model, &by, &Command::Abort { reason }, "").await?)
        };
        Ok(Response::new(AbortRolloutResponse { rollout }))
    }

    async fn undo_rollout(
        &self,
        request: Request<UndoRolloutRequest>,
    ) -> Result<Response<UndoRolloutResponse>, Status> {
        let by = operator(&request);
        let UndoRolloutRequest { model, reason } = request.into_inner();
        let reason = or(reason, || format!("undone by {by}"));
        let rollout = self.rollout(&model).await?;
        let promoted = rollout
            .spec
            .as_ref()
            .is_some_and(|spec| spec.strategy() != Strategy::Shadow);
        let rollout = if promoted && rollout.phase() == Phase::Done {
            self.start_back(&by, &rollout, &reason).await?
        } else {
            self.command(&model, &by, &Command::Undo { reason }, "").await?
        };
        Ok(Response::new(UndoRolloutResponse { rollout: Some(rollout) }))
    }

    async fn list_disagreements(
        &self,
        request: Request<ListDisagreementsRequest>,
    ) -> Result<Response<ListDisagreementsResponse>, Status> {
        let ListDisagreementsRequest { model, limit } = request.into_inner();
        let limit = if limit == 0 { DISAGREEMENTS } else { limit };
        let observers = self.desk.observers();
        let Some(observer) = observers.get(&model) else {
            // An answer without any would look like agreement.
            self.rollout(&model).await?;
            let message = format!("this router counted nothing for a rollout of \"{model}\" since it started");
            return Err(reason(Code::FailedPrecondition, message, "NOT_COUNTED"));
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Response::new(ListDisagreementsResponse {
            disagreements: observer.disagreements(limit),
        }))
    }
}

impl Admin {
    /// A model's latest rollout. While the registry is away, what is known of it.
    async fn rollout(&self, model: &str) -> Result<Rollout, Status> {
        let view = self.desk.views.rollouts.view();
        let found = match self.desk.registry.rollout(model).await {
            Ok(stored) => stored.map(|stored| stored.value),
            Err(Error::Unavailable { .. }) if view.records.contains_key(model) => view.records.get(model).cloned(),
            Err(error) => return Err(registry_status(&error)),
        };
        found.ok_or_else(|| {
            let message = format!("no rollout of \"{model}\" yet; begin one with `understudy rollout start`");
            reason(Code::NotFound, message, "NO_ROLLOUT")
        })
    }

    /// Sends what is known at each change and once a second, until the rollout has ended or nobody listens.
    async fn watch(self, first: Rollout, sender: mpsc::Sender<Result<WatchRolloutResponse, Status>>) {
        let mut views = self.desk.views.clone();
        let mut tick = interval(WATCH_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        let mut rollout = first;
        loop {
            let ended = rollout.is_over();
            let answer = WatchRolloutResponse {
                live: live::live(&self.desk, &rollout),
                rollout: Some(rollout.clone()),
            };
            if sender.send(Ok(answer)).await.is_err() || ended {
                return;
            }
            loop {
                let told = tokio::select! {
                    () = self.stop.cancelled() => {
                        let message = "this router stops; watch through another one";
                        _ = sender.send(Err(retry_later(Code::Unavailable, message, RETRY_AFTER))).await;
                        return;
                    }
                    () = sender.closed() => return,
                    () = views.rollouts.changed() => false,
                    _ = tick.tick() => true,
                };
                let view = views.rollouts.view();
                // A view that lags behind what was told is not told.
                let known = view.records.get(&rollout.model);
                let newer =
                    known.filter(|known| (known.number, known.generation) > (rollout.number, rollout.generation));
                if let Some(newer) = newer {
                    rollout = newer.clone();
                    break;
                }
                if told {
                    break;
                }
            }
        }
    }
}

fn or(text: String, otherwise: impl FnOnce() -> String) -> String {
    if text.is_empty() { otherwise() } else { text }
}
