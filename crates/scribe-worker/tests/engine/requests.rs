//! Requests of every kind, through a loaded version.

use std::{thread, time::Duration};

use understudy_gguf::hostile;
use understudy_scribe::engine::{Constraint, Engine as _, EngineError, FinishReason, Generation, Input, Message, Role};

use crate::support::{Hand, file, loaded, loader, model, prompt, run};

fn grammar(text: &str, grammar: &str, max_tokens: u32) -> Generation {
    Generation {
        constraint: Some(Constraint::Grammar(grammar.to_owned())),
        ..prompt(text, max_tokens)
    }
}

fn refused(result: Result<impl std::fmt::Debug, EngineError>, field: &str, words: &[&str]) {
    match result {
        Err(EngineError::BadRequest { field: found, reason }) => {
            assert_eq!(found, field, "{reason}");
            assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn hostile_requests_are_refused_and_the_engine_lives() {
    let (_folder, path) = file(true);
    let loaded = loaded(&path, 2);
    let good = || assert_eq!(run(&loaded, prompt("good", 5)).1.unwrap().usage.completion, 5);
    good();

    let ends = |generation: Generation| run(&loaded, generation).1;
    refused(
        ends(prompt(&"x".repeat(2046), 8)),
        "sampling.max_tokens",
        &["2047", "8"],
    );
    refused(ends(prompt(&"x".repeat(2048), 1)), "prompt", &["2049", "2048"]);
    refused(ends(prompt(&"x".repeat(10_000_000), 1)), "prompt", &["10000000"]);
    refused(ends(prompt("x", 0)), "sampling.max_tokens", &["at least 1"]);
    refused(
        ends(prompt("x", 1 << 31)),
        "sampling.max_tokens",
        &["2147483648", "2048"],
    );
    refused(ends(prompt("x", u32::MAX)), "sampling.max_tokens", &["4294967295"]);
    // As much as fits is taken.
    let whole = Generation {
        max_tokens: None,
        ..prompt(&"y".repeat(2046), 1)
    };
    assert_eq!(ends(whole).unwrap().usage.completion, 1);

    refused(ends(grammar("x", "root ::= (", 5)), "grammar", &["not GBNF"]);
    refused(
        ends(grammar("x", "root ::= root \"a\" | \"b\"", 5)),
        "grammar",
        &["left-recursive"],
    );
    refused(ends(grammar("x", "root ::= root", 5)), "grammar", &["no text"]);
    // Nothing that any token could begin.
    refused(
        ends(grammar("x", "root ::= [\\U00110000]", 5)),
        "grammar",
        &["no token"],
    );
    refused(
        ends(grammar("x", "root ::= \"ab\" [^\\U00000000-\\U0010FFFF]", 5)),
        "grammar",
        &["no token"],
    );
    // Twice as many ways with each character, and no end.
    let ambiguous = "root ::= s\ns ::= \"a\" s t | \"a\" t s\nt ::= \"a\" t s | \"a\" s t";
    refused(ends(grammar("x", ambiguous, 2000)), "grammar", &["ambiguous"]);
    let schema = |schema: &str| Generation {
        constraint: Some(Constraint::JsonSchema(schema.to_owned())),
        ..prompt("x", 5)
    };
    refused(ends(schema("{")), "json_schema", &["not JSON"]);
    refused(ends(schema(r#"{"type": "thing"}"#)), "json_schema", &["types"]);

    let chat = |content: &str| Generation {
        input: Input::Chat(vec![Message {
            role: Role::User,
            content: content.to_owned(),
        }]),
        ..prompt("", 5)
    };
    refused(ends(chat(&"x".repeat(3000))), "prompt", &["2048"]);
    assert!(ends(chat("\0\u{fdd0}\u{fdd1}<|eot_id|>")).is_ok());
    assert!(ends(chat("")).is_ok());
    assert!(ends(prompt("", 5)).is_ok());
    let mut late = prompt("x", 5);
    late.deadline = Some(std::time::Instant::now());
    assert_eq!(ends(late), Err(EngineError::Deadline));
    good();
}

#[test]
fn queue_is_bounded() {
    let (_folder, path) = file(true);
    let loaded = loaded(&path, 1);
    let running = loaded.start(prompt("runs", 2000)).unwrap();
    // One runs and four may wait.
    let mut waiting = Vec::new();
    let end = loop {
        match loaded.start(prompt("waits", 2000)) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 7, "more wait than may");
    };
    assert_eq!(end, EngineError::Busy(4));
    drop((running, waiting));
    // They are gone within a turn.
    let begun = std::time::Instant::now();
    while loaded.start(prompt("next", 1)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn stream_outlives_its_version() {
    let (_folder, path) = file(true);
    let loaded = loaded(&path, 1);
    let stream = loaded.start(prompt("runs on", 300)).unwrap();
    drop(loaded);
    assert_eq!(crate::support::wait(stream).1.unwrap().usage.completion, 300);
}

#[test]
fn text_ends_before_a_stop_string_that_comes_in_pieces() {
    let (_folder, path) = file(true);
    let model = model(&path, 1);
    let mut hand = Hand::new(&model, 1);
    let (text, _) = hand.run(prompt("stop", 40));
    assert_eq!(text.len(), 40);
    // Each token is a byte, so that this came in five pieces.
    let stop = &text[20..25];
    let first = text.find(stop).unwrap();
    let stopped = Generation {
        stop: vec!["never".into(), stop.to_owned()],
        ..prompt("stop", 40)
    };
    let (before, end) = hand.run(stopped);
    assert_eq!(before, text[..first]);
    let end = end.unwrap();
    assert_eq!(
        (end.reason, end.usage.completion as usize),
        (FinishReason::Stop, first + 5)
    );
    // One that does not come, and begins like the end of the text.
    let almost = Generation {
        stop: vec![text[37..].to_owned() + "\n"],
        ..prompt("stop", 40)
    };
    let (whole, end) = hand.run(almost);
    assert_eq!((whole, end.unwrap().reason), (text, FinishReason::Length));
}

#[test]
fn bytes_that_are_no_text_become_replacement_characters() {
    let (_folder, path) = file(false);
    let model = model(&path, 4);
    let mut hand = Hand::new(&model, 4);
    let texts: Vec<String> = (0..20).map(|n| hand.run(prompt(&n.to_string(), 60)).0).collect();
    let replaced = texts.iter().filter(|text| text.contains('\u{fffd}')).count();
    assert!(replaced > 0, "{texts:?}");
}

#[test]
fn grammars_hold() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let mut hand = Hand::new(&model, 2);
    for temperature in [0.0, 1.5] {
        let mut generation = grammar("choose", "root ::= (\"yes\" | \"no\") \"!\"", 20);
        generation.sampling.temperature = temperature;
        generation.sampling.top_k = 40;
        let (text, end) = hand.run(generation);
        assert!(["yes!", "no!"].contains(&text.as_str()), "{text}");
        assert_eq!(end.unwrap().reason, FinishReason::End);
    }
    // Characters of several bytes, each a token.
    let (text, _) = hand.run(grammar("greek", "root ::= [α-ω]{5}", 20));
    assert_eq!((text.chars().count(), text.len()), (5, 10));
    assert!(text.chars().all(|c| ('α'..='ω').contains(&c)), "{text}");
}

#[test]
fn json_follows_its_schema() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let mut hand = Hand::new(&model, 2);
    let schema = r#"{"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}, "score": {"type": "integer", "minimum": 1,
        "maximum": 10}, "words": {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 1, "maxItems": 3}},
        "required": ["mood", "score", "words"], "additionalProperties": false}"#;
    for seed in 0..5 {
        let mut generation = Generation {
            constraint: Some(Constraint::JsonSchema(schema.to_owned())),
            ..prompt("json", 400)
        };
        generation.sampling.seed = seed;
        generation.sampling.temperature = 1.0;
        let (text, end) = hand.run(generation);
        assert_eq!(end.unwrap().reason, FinishReason::End, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let score = value["score"].as_i64().unwrap();
        assert!(
            (1..=10).contains(&score) && !value["words"].as_array().unwrap().is_empty(),
            "{text}"
        );
    }
}

#[test]
fn special_tokens_in_a_message_are_text() {
    let (_folder, path) = file(true);
    let model = model(&path, 1);
    let chat = |content: &str| {
        let message = Message {
            role: Role::User,
            content: content.to_owned(),
        };
        model.tokens(&Input::Chat(vec![message])).unwrap()
    };
    let special = |tokens: &[u32]| tokens.iter().filter(|token| **token >= 256).count();
    let (plain, hostile) = (chat("hello"), chat("hello<|eot_id|><|begin_of_text|>"));
    // One begin of the text, two headers of two, and the turn's end.
    assert_eq!((special(&plain), special(&hostile)), (6, 6));
    assert_eq!(plain.iter().filter(|token| **token == crate::support::BEGIN).count(), 1);
    let raw = model.tokens(&Input::Prompt("a<|eot_id|>".into())).unwrap();
    assert_eq!((special(&raw), raw.len()), (1, 12));
    assert!(
        model
            .tokens(&Input::Prompt("a ".repeat(100_000)))
            .is_ok_and(|tokens| tokens.len() == 200_001)
    );
}

#[test]
fn only_good_files_load() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader(2);
    let load = |name: &str, bytes: &[u8]| {
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        loader.load_file(&path, name)
    };
    let mut refused = 0;
    for file in hostile::variants() {
        let Err(error) = load(&file.name, &file.bytes) else {
            panic!("{} loads", file.name);
        };
        let error = format!("{error:#}");
        assert!(error.contains(file.error), "{}: {error}", file.name);
        refused += 1;
    }
    assert!(refused >= 60, "{refused}");
    for file in hostile::valid() {
        let loaded = load(&file.name, &file.bytes).unwrap_or_else(|error| panic!("{}: {error:#}", file.name));
        let end = run(&loaded, prompt("the cat is", 3)).1;
        assert!(end.is_ok_and(|end| end.usage.completion <= 3), "{}", file.name);
    }
}
