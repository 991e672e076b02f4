use tonic::{Request, Response, Status};
use understudy_protocol::v1::{SendLabelsRequest, SendLabelsResponse, feedback_server::Feedback};

use super::Admin;
use crate::observe::Labelled;

#[tonic::async_trait]
impl Feedback for Admin {
    async fn send_labels(&self, request: Request<SendLabelsRequest>) -> Result<Response<SendLabelsResponse>, Status> {
        let observers = self.desk.observers();
        let mut answer = SendLabelsResponse::default();
        for label in request.into_inner().labels {
            // An id does not tell its model, and there are few with a rollout.
            let taken = observers
                .values()
                .any(|observer| observer.label(&label.request_id, &label.label) == Labelled::Taken);
            let count = if taken { &mut answer.taken } else { &mut answer.unknown };
            *count += 1;
        }
        Ok(Response::new(answer))
    }
}
