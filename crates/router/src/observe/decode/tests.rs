use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use understudy_protocol::v1::{
    ClassProbability, CritiqueFinish, Finish, GroundingReport, Refusal, Usage, write_critique_response::Event,
};

use super::*;

fn message(message: &impl Message, flag: u8) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

/// In frames of this many bytes, as HTTP/2 may cut them anywhere.
fn frames(messages: &[Bytes], size: usize) -> Frames {
    let mut frames = Frames::new(1 << 20, Arc::default());
    for chunk in messages.concat().chunks(size) {
        frames.push(&Bytes::copy_from_slice(chunk));
    }
    frames
}

fn classification(label: &str) -> Classification {
    let class = |name: &str, probability| ClassProbability {
        label: name.into(),
        probability,
    };
    Classification {
        label: label.into(),
        confidence: 0.75,
        probabilities: vec![class("negative", 0.25), class("positive", 0.75)],
        ..Classification::default()
    }
}

#[test]
fn answers_cut_anywhere_are_read() {
    let one = ClassifyResponse {
        classification: Some(classification("positive")),
    };
    let batch = ClassifyBatchResponse {
        classifications: vec![classification("positive"), classification("negative")],
    };
    let streamed = |index, result| ClassifyStreamResponse {
        index,
        result: Some(result),
    };
    let stream = [
        streamed(
            0,
            classify_stream_response::Result::Classification(classification("positive")),
        ),
        streamed(1, classify_stream_response::Result::Refusal(Refusal::default())),
    ];
    for size in [1, 7, 1_000] {
        let labels = |task, messages: &[Bytes]| match decode(task, &frames(messages, size)) {
            Ok(Answer::Classes(answers)) => answers
                .into_iter()
                .map(|answer| answer.map_or("refused".to_owned(), |answer| answer.label))
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(labels(Task::Classify, &[message(&one, 0)]), ["positive"]);
        assert_eq!(
            labels(Task::ClassifyBatch, &[message(&batch, 0)]),
            ["positive", "negative"]
        );
        let stream: Vec<_> = stream.iter().map(|answer| message(answer, 0)).collect();
        assert_eq!(labels(Task::ClassifyStream, &stream), ["positive", "refused"]);
    }
}

#[test]
fn texts_are_read_at_their_finish() {
    let event = |event| GenerateResponse { event: Some(event) };
    let usage = Some(Usage {
        completion_tokens: 12,
        ..Usage::default()
    });
    let messages = [
        message(&event(generate_response::Event::Text("a".into())), 0),
        message(
            &event(generate_response::Event::Finish(Finish {
                reason: FinishReason::Stop.into(),
                usage,
                ..Finish::default()
            })),
            0,
        ),
    ];
    let text = TextAnswer {
        tokens: 12,
        reason: Some(FinishReason::Stop),
        claims: None,
    };
    assert_eq!(decode(Task::Generate, &frames(&messages, 5)), Ok(Answer::Text(text)));
    assert_eq!(
        decode(Task::Generate, &frames(&messages[..1], 5)),
        Err(Undecodable::Malformed),
        "no finish"
    );
    let critique = WriteCritiqueResponse {
        event: Some(Event::Finish(CritiqueFinish {
            report: Some(GroundingReport {
                supported: 8,
                unsupported: 1,
                ..GroundingReport::default()
            }),
            usage,
            ..CritiqueFinish::default()
        })),
    };
    let text = TextAnswer {
        tokens: 12,
        reason: None,
        claims: Some((8, 9)),
    };
    assert_eq!(
        decode(Task::WriteCritique, &frames(&[message(&critique, 0)], 9)),
        Ok(Answer::Text(text))
    );
}

#[test]
fn what_cannot_be_read_is_told_and_never_panics() {
    let one = ClassifyResponse {
        classification: Some(classification("positive")),
    };
    let good = message(&one, 0);
    let read = |bytes: &[u8]| decode(Task::Classify, &frames(&[Bytes::copy_from_slice(bytes)], 1_000));
    assert_eq!(read(&message(&one, 1)), Err(Undecodable::Compressed));
    for cut in 0..good.len() {
        assert_eq!(read(&good[..cut]), Err(Undecodable::Malformed), "{cut}");
    }
    assert_eq!(read(&[&good[..], &good[..]].concat()), Err(Undecodable::Malformed));
    assert_eq!(read(&[0, 255, 255, 255, 255, 1]), Err(Undecodable::Malformed));
    let mut large = Frames::new(10, Arc::default());
    large.push(&good);
    assert_eq!(decode(Task::Classify, &large), Err(Undecodable::NotKept));
}

#[test]
fn request_texts() {
    let batch = ClassifyBatchRequest {
        texts: vec!["a".into(), "b".into()],
    };
    let frames_of = |messages: &[Bytes]| frames(messages, 3);
    assert_eq!(
        request_text(Task::ClassifyBatch, &frames_of(&[message(&batch, 0)]), 1).as_deref(),
        Some("b")
    );
    let stream: Vec<_> = ["x", "y"]
        .map(|text| message(&ClassifyStreamRequest { text: text.into() }, 0))
        .into();
    assert_eq!(
        request_text(Task::ClassifyStream, &frames_of(&stream), 1).as_deref(),
        Some("y")
    );
    assert_eq!(request_text(Task::ClassifyStream, &frames_of(&stream), 2), None);
}

#[test]
fn classes_keep_the_order_of_the_probabilities_and_strangers_come_last() {
    let classes = Classes::of(&classification("positive"));
    let indices = ["negative", "positive", "neutral"].map(|label| classes.index(label));
    assert_eq!((classes.named(), indices), (2, [0, 1, 2]));
}
