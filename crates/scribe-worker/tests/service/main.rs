//! The service over real gRPC, with an engine that needs no llama.cpp.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod critique;
mod fake;
mod swap;

use std::time::Duration;

use fake::{Play, Running, says, serve, until};
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;
use understudy_protocol::v1::{
    Chat, ChatMessage, FinishReason, GenerateRequest, GenerateResponse, GetScribeInfoRequest, Role, Sampling,
    generate_request::{Constraint, Input},
    generate_response::Event,
};
use understudy_scribe::engine::{self, EngineError};

const SOON: Duration = Duration::from_secs(10);

fn prompt(text: &str) -> GenerateRequest {
    GenerateRequest {
        input: Some(Input::Prompt(text.into())),
        ..GenerateRequest::default()
    }
}

pub(crate) fn field_of(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0]
        .field
        .clone()
}

async fn generate(running: &Running, request: GenerateRequest) -> Result<Streaming<GenerateResponse>, Status> {
    running
        .client
        .clone()
        .generate(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn next(stream: &mut Streaming<GenerateResponse>) -> Result<Event, Status> {
    let answer = timeout(SOON, stream.message()).await.unwrap()?;
    Ok(answer.unwrap().event.unwrap())
}

/// How a call ends that must not end well, at once or later.
async fn failure(running: &Running, request: GenerateRequest) -> Status {
    match generate(running, request).await {
        Err(status) => status,
        Ok(mut stream) => loop {
            match next(&mut stream).await {
                Err(status) => return status,
                Ok(event) => assert!(matches!(event, Event::Text(_)), "{event:?}"),
            }
        },
    }
}

#[tokio::test]
async fn text_comes_in_order_and_then_the_finish() {
    let pieces = vec!["Once ".to_owned(), "upon ".into(), "é…".into()];
    let running = serve([Play::Say(pieces.clone(), engine::FinishReason::Stop)]).await;
    let request = GenerateRequest {
        input: Some(Input::Chat(Chat {
            messages: vec![ChatMessage {
                role: Role::User.into(),
                content: "Tell me a story".into(),
            }],
        })),
        sampling: Some(Sampling {
            seed: Some(5),
            max_tokens: Some(9),
            stop: vec!["END".into()],
            ..Sampling::default()
        }),
        constraint: Some(Constraint::Grammar("root ::= [a-z]+".into())),
    };
    let response = running.client.clone().generate(request).await.unwrap();
    assert_eq!(response.metadata().get("understudy-version").unwrap(), "v1");
    let mut stream = response.into_inner();
    for piece in pieces {
        assert_eq!(next(&mut stream).await.unwrap(), Event::Text(piece));
    }
    let Event::Finish(finish) = next(&mut stream).await.unwrap() else {
        panic!("the finish is missing");
    };
    assert_eq!((finish.reason(), finish.version.as_str()), (FinishReason::Stop, "v1"));
    let (usage, timings) = (finish.usage.unwrap(), finish.timings.unwrap());
    assert_eq!(
        (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens),
        (100, 60, 11)
    );
    assert!((timings.decode_seconds - 0.5).abs() < 1e-9 && timings.prompt_seconds > 0.0);
    assert!(stream.message().await.unwrap().is_none());

    let asked = running.fake().asked();
    assert_eq!(
        (asked[0].sampling.seed, asked[0].max_tokens, asked[0].stop.as_slice()),
        (5, Some(9), &["END".to_owned()][..])
    );
    assert!(matches!(&asked[0].input, engine::Input::Chat(messages) if messages.len() == 1));
    assert!(asked[0].constraint.is_some());
    until("the call is in the books", || {
        running.metric(&["understudy_scribe_requests_total", "Generate", "Ok", "v1"]) == 1.0
    })
    .await;
    assert_eq!(running.metric(&["first_text_seconds_count", "critic"]), 1.0);
    assert_eq!(running.metric(&["stage_seconds_count", "Decode"]), 1.0);
    // 40 prompt tokens in 20 milliseconds, 10 tokens in half a second.
    assert_eq!(running.metric(&["prompt_tokens_per_second_sum"]), 2000.0);
    assert_eq!(running.metric(&["decode_tokens_per_second_sum"]), 20.0);
    assert_eq!(running.metric(&["understudy_scribe_kv_cells{", "critic"]), 4096.0);
    assert_eq!(running.metric(&["understudy_scribe_slots{"]), 8.0);
    assert_eq!(running.metric(&["understudy_scribe_busy_seconds_total"]), 1.5);
}

#[tokio::test]
async fn text_is_passed_on_before_the_next_is_there() {
    let running = serve([Play::Wait(vec!["a".into()])]).await;
    let mut stream = generate(&running, prompt("x")).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), Event::Text("a".into()));
    running.fake().go_on();
    assert_eq!(next(&mut stream).await.unwrap(), Event::Text("the end".into()));
    assert!(matches!(next(&mut stream).await.unwrap(), Event::Finish(_)));
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let running = serve([Play::Wait(vec!["a".into()]), Play::Wait(vec![])]).await;
    let idle = running.holders();
    let mut stream = generate(&running, prompt("x")).await.unwrap();
    next(&mut stream).await.unwrap();
    assert!(running.holders() > idle);
    drop(stream);
    until("the engine's stream is dropped", || running.fake().dropped() == 1).await;
    // Also one that never got a text.
    drop(generate(&running, prompt("x")).await.unwrap());
    until("the engine's stream is dropped", || running.fake().dropped() == 2).await;
    until("the version is let go", || running.holders() == idle).await;
    until("the calls are in the books", || {
        running.metric(&["requests_total", "Generate", "Cancelled"]) == 2.0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_version_for_ever() {
    // More than the windows of HTTP/2 take in.
    let pieces = vec!["text".repeat(4000); 1000];
    let running = serve([Play::Say(pieces, engine::FinishReason::End)]).await;
    let idle = running.holders();
    let stream = generate(&running, prompt("x")).await.unwrap();
    until("the task holds the version", || running.holders() > idle).await;
    running.expired.cancel();
    until("the version is let go", || running.holders() == idle).await;
    drop(stream);
}

#[tokio::test]
async fn deadlines_hold() {
    let running = serve([Play::Wait(vec!["a".into()]), Play::Wait(vec![])]).await;
    let path = "/understudy.v1.Scribe/Generate";
    for _ in 0..2 {
        let code = timeout(SOON, running.raw_call(path, &prompt("x"), "200m"))
            .await
            .unwrap();
        assert_eq!(code, Code::DeadlineExceeded);
    }
    until("the engine's streams are dropped", || running.fake().dropped() == 2).await;
    assert!(running.fake().asked()[0].deadline.is_some(), "the engine knows it too");
    assert_eq!(running.metric(&["requests_total", "Generate", "DeadlineExceeded"]), 2.0);
}

#[tokio::test]
async fn an_expired_version_ends_its_streams() {
    let running = serve([Play::Wait(vec!["a".into()])]).await;
    let mut stream = generate(&running, prompt("x")).await.unwrap();
    next(&mut stream).await.unwrap();
    running.expired.cancel();
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(error.metadata().get("understudy-version").unwrap(), "v1");
    until("the engine's stream is dropped", || running.fake().dropped() == 1).await;
}

#[tokio::test]
async fn each_failure_of_the_engine_has_its_code() {
    let bad = EngineError::BadRequest {
        field: "grammar",
        reason: "is not GBNF".into(),
    };
    let refusals = [
        (bad.clone(), Code::InvalidArgument),
        (EngineError::Busy(64), Code::ResourceExhausted),
        (EngineError::Deadline, Code::DeadlineExceeded),
        (EngineError::Lost, Code::Unavailable),
        (EngineError::Failed("NaN".into()), Code::Internal),
    ];
    for (error, code) in refusals {
        let running = serve([
            Play::Refuse(error.clone()),
            Play::Fail(vec!["a".into()], error),
            says("fine"),
        ])
        .await;
        for _ in 0..2 {
            let status = failure(&running, prompt("x")).await;
            assert_eq!(status.code(), code);
            assert_eq!(status.metadata().get("understudy-version").unwrap(), "v1");
            match code {
                Code::InvalidArgument => assert_eq!(field_of(&status), "grammar"),
                Code::ResourceExhausted => {
                    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
                }
                Code::Unavailable => assert_eq!(status.get_details_error_info().unwrap().reason, "ENGINE_LOST"),
                _ => {}
            }
        }
        assert_eq!(
            running.metric(&["requests_total", "Generate", &format!("{code:?}")]),
            2.0
        );
        assert!(generate(&running, prompt("x")).await.is_ok(), "it goes on");
    }
    let running = serve([Play::Die(vec!["a".into()])]).await;
    assert_eq!(failure(&running, prompt("x")).await.code(), Code::Unavailable);
}

#[tokio::test]
async fn hostile_requests_are_refused_by_field() {
    let running = serve([]).await;
    let sampled = |sampling: Sampling| GenerateRequest {
        sampling: Some(sampling),
        ..prompt("x")
    };
    let said = |role: i32, content: &str| ChatMessage {
        role,
        content: content.into(),
    };
    let chat = |messages| GenerateRequest {
        input: Some(Input::Chat(Chat { messages })),
        ..GenerateRequest::default()
    };
    let constrained = |constraint| GenerateRequest {
        constraint: Some(constraint),
        ..prompt("x")
    };
    let (system, user) = (i32::from(Role::System), i32::from(Role::User));
    let tokens = |tokens| Sampling {
        max_tokens: Some(tokens),
        ..Sampling::default()
    };
    let cases = [
        (GenerateRequest::default(), "input"),
        (prompt(""), "prompt"),
        (prompt(&"a ".repeat(600_000)), "prompt"),
        (chat(vec![]), "chat.messages"),
        (chat(vec![said(user, "x"); 257]), "chat.messages"),
        (chat(vec![said(user, "x"), said(system, "x")]), "chat.messages[1].role"),
        (chat(vec![said(system, "x")]), "chat.messages[0].role"),
        (chat(vec![said(i32::MIN, "x")]), "chat.messages[0].role"),
        (chat(vec![said(user, "")]), "chat.messages[0].content"),
        (sampled(tokens(0)), "sampling.max_tokens"),
        (sampled(tokens(1 << 31)), "sampling.max_tokens"),
        (
            sampled(Sampling {
                temperature: Some(f32::NAN),
                ..Sampling::default()
            }),
            "sampling.temperature",
        ),
        (
            sampled(Sampling {
                top_p: Some(-0.0),
                ..Sampling::default()
            }),
            "sampling.top_p",
        ),
        (
            sampled(Sampling {
                stop: vec![String::new()],
                ..Sampling::default()
            }),
            "sampling.stop[0]",
        ),
        (
            sampled(Sampling {
                stop: vec!["x".into(); 9],
                ..Sampling::default()
            }),
            "sampling.stop",
        ),
        (constrained(Constraint::Grammar(String::new())), "grammar"),
        (constrained(Constraint::Grammar("x".repeat(70_000))), "grammar"),
        (constrained(Constraint::JsonSchema("{".repeat(70_000))), "json_schema"),
    ];
    let count = cases.len();
    for (request, field) in cases {
        let status = failure(&running, request).await;
        assert_eq!(field_of(&status), field, "{status:?}");
        assert!(status.message().len() < 300, "{status:?}");
        assert_eq!(status.metadata().get("understudy-version").unwrap(), "v1");
    }
    assert!(running.fake().asked().is_empty(), "they cost nothing");
    assert_eq!(
        running.metric(&["requests_total", "Generate", "InvalidArgument", "v1"]),
        f64::from(u32::try_from(count).unwrap())
    );
    // Larger than any message may be, and text that is none.
    let status = failure(&running, prompt(&"a".repeat(5_000_000))).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(
        running.metric(&["requests_total", "Generate", "InvalidArgument", "version=\"\""]),
        1.0
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_the_callers_fault() {
    /// Has the wire form of `GenerateRequest`, but with bytes for a prompt.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Raw {
        #[prost(bytes = "vec", tag = "2")]
        prompt: Vec<u8>,
    }
    let running = serve([]).await;
    let code = running
        .raw_call(
            "/understudy.v1.Scribe/Generate",
            &Raw {
                prompt: b"caf\xe9".to_vec(),
            },
            "5S",
        )
        .await;
    assert_eq!(code, Code::InvalidArgument);
}

#[tokio::test]
async fn versions_are_chosen_by_metadata_and_tell_what_they_are() {
    let running = serve([]).await;
    let mut request = Request::new(prompt("x"));
    request
        .metadata_mut()
        .insert("understudy-version", "v9".parse().unwrap());
    let error = running.client.clone().generate(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);

    let info = running
        .client
        .clone()
        .get_scribe_info(GetScribeInfoRequest {})
        .await
        .unwrap();
    assert_eq!(info.metadata().get("understudy-version").unwrap(), "v1");
    let info = info.into_inner();
    assert_eq!(
        (info.model.as_str(), info.version.as_str(), info.name.as_str()),
        ("critic", "v1", "Fake 1B")
    );
    assert_eq!(
        (info.context_tokens, info.slots, info.quantization.as_str()),
        (2048, 8, "Q4_K_M")
    );
    assert_eq!(running.metric(&["requests_total", "GetScribeInfo", "Ok"]), 1.0);
}
