//! `WriteCritique`: attempts, and what is delivered.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use understudy_protocol::v1::{
    Attempt, CritiqueFinish, Fact, FactSheet, Number, Sampling, Unit, UnsupportedPolicy, WriteCritiqueRequest,
    WriteCritiqueResponse, fact, write_critique_response::Event,
};
use understudy_scribe::engine::{EngineError, FinishReason, Generation, Input, Role};

use crate::{
    fake::{Play, Running, says, serve, until},
    field_of,
};

const GOOD: &str = "The share of positive reviews is 60.0%. They are the majority.";
const BAD: &str = "The share of positive reviews is 83.0%. There are 1,000 reviews.";
const WORSE: &str = "The share of positive reviews is 83.0%. There are 77 reviews.";

fn number(name: &str, subject: &str, value: f64, unit: Unit, decimals: u32) -> Fact {
    Fact {
        name: name.into(),
        subject: subject.into(),
        value: Some(fact::Value::Number(Number {
            value,
            unit: unit.into(),
            decimals,
        })),
    }
}

fn request() -> WriteCritiqueRequest {
    WriteCritiqueRequest {
        sheet: Some(FactSheet {
            title: "films".into(),
            items: String::new(),
            facts: vec![
                number("number of reviews", "", 1000.0, Unit::Items, 0),
                number("share", "positive", 60.0, Unit::Percent, 1),
                number("share", "negative", 40.0, Unit::Percent, 1),
            ],
            quotations: vec![],
        }),
        sampling: Some(Sampling {
            seed: Some(1),
            ..Sampling::default()
        }),
        ..WriteCritiqueRequest::default()
    }
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    /// Each with its text.
    attempts: Vec<(Attempt, String)>,
    finish: Option<CritiqueFinish>,
}

impl Seen {
    fn finish(&self) -> &CritiqueFinish {
        self.finish.as_ref().unwrap()
    }

    /// Supported and unsupported claims, the attempt that was delivered and how many were made.
    fn report(&self) -> (u32, u32, u32, u32) {
        let report = self.finish().report.as_ref().unwrap();
        assert_eq!(
            report.claims.iter().filter(|claim| claim.supported).count(),
            report.supported as usize
        );
        (report.supported, report.unsupported, report.attempt, report.attempts)
    }
}

async fn next(stream: &mut Streaming<WriteCritiqueResponse>) -> Result<Option<Event>, Status> {
    let answer = timeout(Duration::from_secs(10), stream.message()).await.unwrap()?;
    Ok(answer.map(|answer| answer.event.unwrap()))
}

async fn write(running: &Running, request: WriteCritiqueRequest) -> Result<Seen, Status> {
    let response = running.client.clone().write_critique(request).await?;
    assert_eq!(response.metadata().get("understudy-version").unwrap(), "v1");
    let mut stream = response.into_inner();
    let mut seen = Seen::default();
    while let Some(event) = next(&mut stream).await? {
        assert!(seen.finish.is_none(), "nothing comes after the finish");
        match event {
            Event::Attempt(attempt) => seen.attempts.push((attempt, String::new())),
            Event::Text(text) => seen.attempts.last_mut().unwrap().1.push_str(&text),
            Event::Finish(finish) => seen.finish = Some(finish),
        }
    }
    Ok(seen)
}

fn messages(generation: &Generation) -> usize {
    let Input::Chat(messages) = &generation.input else {
        panic!("{generation:?}");
    };
    messages.len()
}

fn too_long() -> Play {
    Play::Refuse(EngineError::BadRequest {
        field: "prompt",
        reason: "has 3000 tokens".into(),
    })
}

#[tokio::test]
async fn a_supported_critique_needs_one_attempt() {
    let pieces = GOOD.split_inclusive(' ').map(str::to_owned).collect();
    let running = serve([Play::Say(pieces, FinishReason::End)]).await;
    let seen = write(&running, request()).await.unwrap();
    assert_eq!(seen.attempts.len(), 1);
    let (attempt, text) = &seen.attempts[0];
    assert_eq!((attempt.number, attempt.unsupported.len(), text.as_str()), (1, 0, GOOD));
    assert_eq!(seen.finish().text, GOOD);
    assert_eq!(seen.finish().version, "v1");
    let (supported, unsupported, attempt, attempts) = seen.report();
    assert!(supported >= 1);
    assert_eq!((unsupported, attempt, attempts), (0, 1, 1));
    let claim = &seen.finish().report.as_ref().unwrap().claims[0];
    assert!(claim.text.contains("60.0"), "{claim:?}");
    assert_eq!(claim.sentence, "The share of positive reviews is 60.0%.");
    assert!(!claim.fact.is_empty() && claim.reason.is_empty());
    assert_eq!(running.metric(&["critique_attempts_count", "v1"]), 1.0);
    assert_eq!(
        running.metric(&["critique_claims_total", "\"Supported\""]),
        f64::from(supported)
    );
}

#[tokio::test]
async fn a_second_attempt_is_told_what_was_wrong_and_used() {
    let running = serve([says(BAD), says(GOOD)]).await;
    let seen = write(&running, request()).await.unwrap();
    assert_eq!(seen.attempts.len(), 2);
    let (second, text) = &seen.attempts[1];
    assert_eq!((second.number, text.as_str()), (2, GOOD));
    assert_eq!(second.unsupported.len(), 1);
    assert!(second.unsupported[0].text.contains("83.0") && !second.unsupported[0].supported);
    assert!(!second.unsupported[0].reason.is_empty());
    assert_eq!(seen.finish().text, GOOD);
    assert_eq!(seen.report().1, 0);
    assert_eq!((seen.report().2, seen.report().3), (2, 2));
    let usage = seen.finish().usage.as_ref().unwrap();
    assert_eq!(
        (usage.prompt_tokens, usage.completion_tokens),
        (200, 22),
        "of both attempts"
    );
    assert!((seen.finish().timings.as_ref().unwrap().decode_seconds - 1.0).abs() < 1e-9);

    let asked = running.fake().asked();
    assert_eq!((messages(&asked[0]), messages(&asked[1])), (2, 4));
    let Input::Chat(revision) = &asked[1].input else {
        panic!();
    };
    assert_eq!((revision[2].role, revision[2].content.as_str()), (Role::Assistant, BAD));
    assert_ne!(asked[0].sampling.seed, asked[1].sampling.seed);
}

#[tokio::test]
async fn the_best_of_all_attempts_is_delivered_under_the_policy() {
    let plays = || [says(WORSE), says(BAD), says(WORSE), says(GOOD)];
    for (policy, expected) in [
        (
            UnsupportedPolicy::Unspecified,
            "The share of positive reviews is 83.0%. [unsupported] There are 1,000 reviews.",
        ),
        (
            UnsupportedPolicy::Mark,
            "The share of positive reviews is 83.0%. [unsupported] There are 1,000 reviews.",
        ),
        (UnsupportedPolicy::Remove, "There are 1,000 reviews."),
    ] {
        let running = serve(plays()).await;
        let request = WriteCritiqueRequest {
            attempts_max: Some(3),
            unsupported: policy.into(),
            ..request()
        };
        let seen = write(&running, request).await.unwrap();
        assert_eq!(seen.attempts.len(), 3);
        assert_eq!(seen.finish().text, expected);
        assert_eq!(seen.report(), (1, 1, 2, 3));
        assert_eq!(running.metric(&["critique_attempts_sum"]), 3.0);
        assert_eq!(running.metric(&["critique_claims_total", "Unsupported"]), 1.0);
    }
    let running = serve(plays()).await;
    let request = WriteCritiqueRequest {
        attempts_max: Some(1),
        ..request()
    };
    let seen = write(&running, request).await.unwrap();
    assert_eq!((seen.attempts.len(), seen.report()), (1, (0, 2, 1, 1)));
}

#[tokio::test]
async fn a_draft_too_long_to_revise_is_written_afresh() {
    let running = serve([says(BAD), too_long(), says(GOOD)]).await;
    let seen = write(&running, request()).await.unwrap();
    assert_eq!(seen.attempts.len(), 2);
    assert_eq!((seen.report().2, seen.report().3), (2, 2));
    let asked = running.fake().asked();
    assert_eq!(asked.iter().map(messages).collect::<Vec<_>>(), [2, 4, 2]);
    assert_ne!(asked[0].sampling.seed, asked[2].sampling.seed);

    // Greedy text would be the same, and a full queue is no reason to throw away what there is.
    let greedy = WriteCritiqueRequest {
        sampling: Some(Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        }),
        ..request()
    };
    for (refusal, request) in [(too_long(), greedy), (Play::Refuse(EngineError::Busy(64)), request())] {
        let running = serve([says(BAD), refusal, says(GOOD)]).await;
        let seen = write(&running, request).await.unwrap();
        assert_eq!((seen.attempts.len(), seen.report()), (1, (1, 1, 1, 1)));
    }
}

#[tokio::test]
async fn what_was_cut_off_loses_its_broken_sentence() {
    let cut = Play::Say(vec![format!("{GOOD} There are 99")], FinishReason::Length);
    let running = serve([cut]).await;
    let seen = write(&running, request()).await.unwrap();
    assert_eq!(seen.finish().text, GOOD);
    assert_eq!(seen.report().3, 1);

    // Nothing whole was written: that is worth another attempt.
    let cut = Play::Say(vec!["There are".into()], FinishReason::Length);
    let running = serve([cut, says(GOOD)]).await;
    let seen = write(&running, request()).await.unwrap();
    assert_eq!((seen.finish().text.as_str(), seen.report().3), (GOOD, 2));
    assert_eq!(messages(&running.fake().asked()[1]), 2, "there was nothing to revise");
}

#[tokio::test]
async fn failures_end_the_critique_with_their_code() {
    let bad = WriteCritiqueRequest {
        attempts_max: Some(9),
        ..request()
    };
    let running = serve([]).await;
    assert_eq!(field_of(&write(&running, bad).await.unwrap_err()), "attempts_max");
    let mut bad = request();
    bad.sheet.as_mut().unwrap().facts[1].value = None;
    assert_eq!(field_of(&write(&running, bad).await.unwrap_err()), "sheet.facts[1]");
    assert!(running.fake().asked().is_empty());

    let running = serve([too_long()]).await;
    let error = write(&running, request()).await.unwrap_err();
    assert_eq!(field_of(&error), "sheet", "the caller knows of no prompt");

    let running = serve([
        says(BAD),
        Play::Fail(vec!["x".into()], EngineError::Failed("NaN".into())),
    ])
    .await;
    let error = write(&running, request()).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(error.metadata().get("understudy-version").unwrap(), "v1");
    assert_eq!(running.metric(&["requests_total", "WriteCritique", "Internal"]), 1.0);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_attempts() {
    let running = serve([says(BAD), Play::Wait(vec!["x".into()])]).await;
    let mut stream = running
        .client
        .clone()
        .write_critique(request())
        .await
        .unwrap()
        .into_inner();
    while !matches!(next(&mut stream).await.unwrap().unwrap(), Event::Text(text) if text == "x") {}
    drop(stream);
    until("the engine's stream is dropped", || running.fake().dropped() == 1).await;
    until("the call is in the books", || {
        running.metric(&["requests_total", "WriteCritique", "Cancelled"]) == 1.0
    })
    .await;
    assert_eq!(running.fake().asked().len(), 2);
}
