//! A scribe that writes what a test told it to, and otherwise one sentence.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use understudy_protocol::{
    status,
    v1::{scribe_server::Scribe, *},
};

use super::{FakeRouter, draw_of};

#[tonic::async_trait]
impl Scribe for FakeRouter {
    type GenerateStream = ReceiverStream<Result<GenerateResponse, Status>>;

    /// Says again what was said, in small pieces; for ever if it is asked to be endless.
    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        self.check_token(&request)?;
        let request = request.into_inner();
        {
            let mut state = self.state();
            state.questions.push(request.clone());
            if state.unavailable > 0 {
                state.unavailable -= 1;
                return Err(status::retry_later(Code::Unavailable, "", Duration::from_millis(10)));
            }
        }
        let Some(generate_request::Input::Chat(Chat { messages })) = request.input else {
            return Err(status::bad_request("chat", "is missing"));
        };
        let last = messages.last().unwrap().content.clone();
        if last.contains("forbidden") {
            return Err(status::bad_request("chat.messages[0].content", "is not for me"));
        }
        let (sender, receiver) = mpsc::channel(1);
        let fake = self.clone();
        tokio::spawn(async move {
            let text = |text: &str| GenerateResponse {
                event: Some(generate_response::Event::Text(text.into())),
            };
            for piece in [format!("You said: {last}"), format!(" ({}.)", messages.len())] {
                for part in piece.split_inclusive(' ') {
                    let _ = sender.send(Ok(text(part))).await;
                }
            }
            while last.contains("endless") {
                if sender.send(Ok(text(" more"))).await.is_err() {
                    fake.state().cancelled += 1;
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let finish = Finish {
                reason: FinishReason::End.into(),
                usage: Some(usage()),
                timings: Some(timings()),
                version: "v1".into(),
            };
            let event = Some(generate_response::Event::Finish(finish));
            let _ = sender.send(Ok(GenerateResponse { event })).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type WriteCritiqueStream = tokio_stream::Iter<std::vec::IntoIter<Result<WriteCritiqueResponse, Status>>>;

    async fn write_critique(
        &self,
        request: Request<WriteCritiqueRequest>,
    ) -> Result<Response<Self::WriteCritiqueStream>, Status> {
        self.check_token(&request)?;
        let draw = draw_of(&request);
        let mut state = self.state();
        state.sheets.push((draw, request.into_inner()));
        if state.unavailable > 0 {
            state.unavailable -= 1;
            return Err(status::retry_later(Code::Unavailable, "", Duration::from_millis(10)));
        }
        let critique = state.critiques.pop_front();
        let critique = critique.unwrap_or_else(|| {
            let text = "The reviews speak for themselves.";
            vec![attempt(1, vec![]), piece(text), finish(text, 1, vec![])]
        });
        Ok(Response::new(tokio_stream::iter(critique)))
    }

    async fn get_scribe_info(&self, _: Request<GetScribeInfoRequest>) -> Result<Response<ScribeInfo>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

type Event = Result<WriteCritiqueResponse, Status>;

fn event(event: write_critique_response::Event) -> Event {
    Ok(WriteCritiqueResponse { event: Some(event) })
}

pub(crate) fn attempt(number: u32, unsupported: Vec<Claim>) -> Event {
    event(write_critique_response::Event::Attempt(Attempt { number, unsupported }))
}

pub(crate) fn piece(text: &str) -> Event {
    event(write_critique_response::Event::Text(text.into()))
}

/// The last of `attempts` attempts is delivered.
pub(crate) fn finish(text: &str, attempts: u32, claims: Vec<Claim>) -> Event {
    let count = |supported| claims.iter().filter(|claim| claim.supported == supported).count();
    event(write_critique_response::Event::Finish(CritiqueFinish {
        text: text.into(),
        report: Some(GroundingReport {
            supported: count(true).try_into().unwrap(),
            unsupported: count(false).try_into().unwrap(),
            claims,
            attempt: attempts,
            attempts,
        }),
        usage: Some(usage()),
        timings: Some(timings()),
        version: "v3".into(),
    }))
}

/// A number; supported unless there is a reason why not.
pub(crate) fn number(text: &str, sentence: &str, fact: &str, reason: &str) -> Claim {
    Claim {
        kind: ClaimKind::Number.into(),
        text: text.into(),
        sentence: sentence.into(),
        supported: reason.is_empty(),
        fact: fact.into(),
        reason: reason.into(),
    }
}

fn usage() -> Usage {
    Usage {
        prompt_tokens: 300,
        cached_prompt_tokens: 250,
        completion_tokens: 101,
    }
}

fn timings() -> Timings {
    Timings {
        queue_seconds: 0.0,
        prompt_seconds: 0.5,
        decode_seconds: 2.0,
    }
}
