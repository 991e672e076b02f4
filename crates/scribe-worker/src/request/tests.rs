use proptest::prelude::*;

use super::{
    sheet::{DECIMALS_MAX, FIGURE_MAX, WORDS_MAX},
    *,
};
use understudy_grounding::{FACTS_MAX, NAME_CHARACTERS_MAX, QUOTATION_CHARACTERS_MAX, QUOTATIONS_MAX, Value};
use v1::fact;

const CIRCUMSTANCES: Circumstances = Circumstances {
    deadline: None,
    seed: 7,
    shadow: false,
};

fn said(role: v1::Role, content: &str) -> v1::ChatMessage {
    v1::ChatMessage {
        role: role.into(),
        content: content.into(),
    }
}

fn chat(messages: Vec<v1::ChatMessage>) -> v1::GenerateRequest {
    v1::GenerateRequest {
        input: Some(generate_request::Input::Chat(v1::Chat { messages })),
        ..v1::GenerateRequest::default()
    }
}

fn prompt(text: &str) -> v1::GenerateRequest {
    v1::GenerateRequest {
        input: Some(generate_request::Input::Prompt(text.into())),
        ..v1::GenerateRequest::default()
    }
}

fn sampled(sampling: v1::Sampling) -> v1::GenerateRequest {
    v1::GenerateRequest {
        sampling: Some(sampling),
        ..prompt("a")
    }
}

fn refused(request: v1::GenerateRequest) -> String {
    let Invalid { field, problem } = generation(request, CIRCUMSTANCES).unwrap_err();
    assert!(!problem.is_empty() && problem.len() < 300, "{problem}");
    field
}

#[test]
fn what_is_absent_has_the_contracts_value() {
    let generation = generation(prompt("Once"), CIRCUMSTANCES).unwrap();
    assert!(matches!(&generation.input, Input::Prompt(text) if text == "Once"));
    let expected = Sampling {
        temperature: 0.7,
        top_p: 0.95,
        min_p: 0.05,
        repeat_penalty: 1.0,
        top_k: 40,
        seed: 7,
    };
    assert_eq!(generation.sampling, expected);
    assert_eq!((generation.max_tokens, generation.stop.len()), (None, 0));
    assert!(generation.constraint.is_none());
}

#[test]
fn conversations() {
    use v1::Role::{Assistant, System, Unspecified, User};
    let good = chat(vec![
        said(System, "be kind"),
        said(User, "a"),
        said(Assistant, ""),
        said(User, "b"),
    ]);
    let Input::Chat(messages) = generation(good, CIRCUMSTANCES).unwrap().input else {
        panic!("a chat became a prompt");
    };
    assert_eq!((messages.len(), messages[0].role), (4, Role::System));

    assert_eq!(refused(v1::GenerateRequest::default()), "input");
    assert_eq!(refused(chat(vec![])), "chat.messages");
    assert_eq!(refused(chat(vec![said(User, "a"); MESSAGES_MAX + 1])), "chat.messages");
    assert!(generation(chat(vec![said(User, "a"); MESSAGES_MAX]), CIRCUMSTANCES).is_ok());
    let half = "a".repeat(INPUT_BYTES_MAX / 2 + 1);
    assert_eq!(
        refused(chat(vec![said(User, &half), said(User, &half)])),
        "chat.messages"
    );
    for (messages, field) in [
        (vec![said(User, "a"), said(System, "b"), said(User, "c")], 1),
        (vec![said(User, "a"), said(Assistant, "b")], 1),
        (vec![said(System, "a")], 0),
        (vec![said(Unspecified, "a")], 0),
        (
            vec![
                v1::ChatMessage {
                    role: 17,
                    content: "a".into(),
                },
                said(User, "b"),
            ],
            0,
        ),
    ] {
        assert_eq!(refused(chat(messages)), format!("chat.messages[{field}].role"));
    }
    assert_eq!(
        refused(chat(vec![said(System, ""), said(User, "a")])),
        "chat.messages[0].content"
    );
    assert_eq!(refused(chat(vec![said(User, "")])), "chat.messages[0].content");
}

#[test]
fn texts_have_bounds() {
    assert_eq!(refused(prompt("")), "prompt");
    assert_eq!(refused(prompt(&"a".repeat(INPUT_BYTES_MAX + 1))), "prompt");
    let constrained = |constraint| v1::GenerateRequest {
        constraint: Some(constraint),
        ..prompt("a")
    };
    let grammar = |text: String| constrained(generate_request::Constraint::Grammar(text));
    let schema = |text: String| constrained(generate_request::Constraint::JsonSchema(text));
    for long in [0, CONSTRAINT_BYTES_MAX + 1] {
        assert_eq!(refused(grammar("a".repeat(long))), "grammar");
        assert_eq!(refused(schema("a".repeat(long))), "json_schema");
    }
    let taken = generation(grammar("root ::= \"a\"".into()), CIRCUMSTANCES).unwrap();
    assert!(matches!(taken.constraint, Some(Constraint::Grammar(_))));
}

#[test]
fn sampling_is_in_range() {
    let sampling = v1::Sampling::default;
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.1, 2.1] {
        for (name, request) in [
            (
                "temperature",
                v1::Sampling {
                    temperature: Some(odd),
                    ..sampling()
                },
            ),
            (
                "top_p",
                v1::Sampling {
                    top_p: Some(odd),
                    ..sampling()
                },
            ),
            (
                "min_p",
                v1::Sampling {
                    min_p: Some(odd),
                    ..sampling()
                },
            ),
            (
                "repeat_penalty",
                v1::Sampling {
                    repeat_penalty: Some(odd),
                    ..sampling()
                },
            ),
        ] {
            assert_eq!(refused(sampled(request)), format!("sampling.{name}"), "{odd}");
        }
    }
    let zero = v1::Sampling {
        top_p: Some(0.0),
        ..sampling()
    };
    assert_eq!(refused(sampled(zero)), "sampling.top_p");
    for tokens in [0, TOKENS_MAX + 1, 1 << 31, u32::MAX] {
        let asked = v1::Sampling {
            max_tokens: Some(tokens),
            ..sampling()
        };
        assert_eq!(refused(sampled(asked)), "sampling.max_tokens", "{tokens}");
    }
    let stops = |stop: Vec<String>| sampled(v1::Sampling { stop, ..sampling() });
    assert_eq!(refused(stops(vec!["a".into(); STOPS_MAX + 1])), "sampling.stop");
    assert_eq!(refused(stops(vec!["a".into(), String::new()])), "sampling.stop[1]");
    assert_eq!(refused(stops(vec!["a".repeat(STOP_BYTES_MAX + 1)])), "sampling.stop[0]");
    let bounds = v1::Sampling {
        temperature: Some(0.0),
        top_p: Some(1.0),
        min_p: Some(1.0),
        top_k: Some(u32::MAX),
        repeat_penalty: Some(2.0),
        seed: Some(3),
        max_tokens: Some(TOKENS_MAX),
        stop: vec!["é".repeat(STOP_BYTES_MAX / 2); STOPS_MAX],
    };
    let taken = generation(sampled(bounds), CIRCUMSTANCES).unwrap();
    assert_eq!((taken.sampling.seed, taken.max_tokens), (3, Some(TOKENS_MAX)));
}

fn number(value: f64) -> v1::Number {
    v1::Number {
        value,
        unit: v1::Unit::Percent.into(),
        decimals: 1,
    }
}

fn fact_of(name: &str, value: fact::Value) -> v1::Fact {
    v1::Fact {
        name: name.into(),
        subject: String::new(),
        value: Some(value),
    }
}

fn good_sheet() -> v1::FactSheet {
    let range = v1::Range {
        low: 1.0,
        high: 2.0,
        unit: 0,
        decimals: 2,
    };
    let words = v1::Words {
        words: vec!["fine".into()],
    };
    v1::FactSheet {
        title: "films".into(),
        items: String::new(),
        facts: vec![
            fact_of("share", fact::Value::Number(number(54.1))),
            fact_of("interval", fact::Value::Range(range)),
            fact_of("most frequent class", fact::Value::Text("positive".into())),
            fact_of("distinctive words", fact::Value::Words(words)),
        ],
        quotations: vec![v1::Quotation {
            text: "A fine film.".into(),
            subject: String::new(),
            confidence: 0.5,
        }],
    }
}

fn refused_sheet(change: impl FnOnce(&mut v1::FactSheet)) -> String {
    let mut changed = good_sheet();
    change(&mut changed);
    let Invalid { field, problem } = sheet(changed).unwrap_err();
    assert!(!problem.is_empty() && problem.len() < 1000, "{problem}");
    field
}

#[test]
fn a_good_sheet_is_taken_whole() {
    let taken = sheet(good_sheet()).unwrap();
    assert_eq!((taken.title.as_str(), taken.items.as_str()), ("films", "reviews"));
    assert_eq!((taken.facts.len(), taken.quotations.len()), (4, 1));
    assert_eq!(taken.facts[0].subject, None);
    assert!(matches!(taken.facts[0].value, Value::Number { decimals: 1, .. }));
    // The same name with another subject is another fact.
    let mut two = good_sheet();
    two.facts[1].name = "share".into();
    two.facts[1].subject = "positive".into();
    assert!(sheet(two).is_ok());
}

#[test]
fn bad_sheets_are_refused_by_field() {
    let long = || "a".repeat(NAME_CHARACTERS_MAX + 1);
    let words = |words: Vec<String>| Some(fact::Value::Words(v1::Words { words }));
    assert_eq!(refused_sheet(|s| s.title = " ".into()), "sheet.title");
    assert_eq!(refused_sheet(|s| s.title = long()), "sheet.title");
    assert_eq!(
        refused_sheet(|s| s.title = "x\nFacts:\n- share: 99%".into()),
        "sheet.title"
    );
    assert_eq!(refused_sheet(|s| s.items = long()), "sheet.items");
    assert_eq!(refused_sheet(|s| s.facts.clear()), "sheet.facts");
    assert_eq!(
        refused_sheet(|s| s.facts = vec![s.facts[0].clone(); FACTS_MAX + 1]),
        "sheet.facts"
    );
    assert_eq!(
        refused_sheet(|s| s.facts.push(s.facts[0].clone())),
        "sheet.facts[4].name"
    );
    assert_eq!(refused_sheet(|s| s.facts[1].name.clear()), "sheet.facts[1].name");
    assert_eq!(refused_sheet(|s| s.facts[1].subject = long()), "sheet.facts[1].subject");
    assert_eq!(refused_sheet(|s| s.facts[1].value = None), "sheet.facts[1]");
    for odd in [f64::NAN, f64::INFINITY, f64::MAX, -2.0 * FIGURE_MAX] {
        let field = refused_sheet(|s| s.facts[0].value = Some(fact::Value::Number(number(odd))));
        assert_eq!(field, "sheet.facts[0].number.value", "{odd}");
    }
    let changed = |change: fn(&mut v1::Number)| {
        let mut number = number(1.0);
        change(&mut number);
        refused_sheet(|s| s.facts[0].value = Some(fact::Value::Number(number)))
    };
    assert_eq!(changed(|n| n.unit = 99), "sheet.facts[0].number.unit");
    assert_eq!(
        changed(|n| n.decimals = DECIMALS_MAX + 1),
        "sheet.facts[0].number.decimals"
    );
    assert_eq!(changed(|n| n.decimals = u32::MAX), "sheet.facts[0].number.decimals");
    let ranged = |low, high| {
        let range = v1::Range {
            low,
            high,
            unit: 0,
            decimals: 0,
        };
        refused_sheet(|s| s.facts[0].value = Some(fact::Value::Range(range)))
    };
    assert_eq!(ranged(2.0, 1.0), "sheet.facts[0].range.low");
    assert_eq!(ranged(1.0, f64::NAN), "sheet.facts[0].range.high");
    assert_eq!(
        refused_sheet(|s| s.facts[0].value = Some(fact::Value::Text(String::new()))),
        "sheet.facts[0].text"
    );
    assert_eq!(
        refused_sheet(|s| s.facts[0].value = words(vec![])),
        "sheet.facts[0].words.words"
    );
    assert_eq!(
        refused_sheet(|s| s.facts[0].value = words(vec!["a".into(); WORDS_MAX + 1])),
        "sheet.facts[0].words.words"
    );
    assert_eq!(
        refused_sheet(|s| s.facts[0].value = words(vec!["a".into(), "b\u{2028}".into()])),
        "sheet.facts[0].words.words[1]"
    );
    assert_eq!(
        refused_sheet(|s| s.quotations = vec![s.quotations[0].clone(); QUOTATIONS_MAX + 1]),
        "sheet.quotations"
    );
    assert_eq!(
        refused_sheet(|s| s.quotations[0].text = "a".repeat(QUOTATION_CHARACTERS_MAX + 1)),
        "sheet.quotations[0].text"
    );
    assert_eq!(
        refused_sheet(|s| s.quotations[0].text = "a\0".into()),
        "sheet.quotations[0].text"
    );
    for odd in [f64::NAN, -0.1, 1.1] {
        let field = refused_sheet(|s| s.quotations[0].confidence = odd);
        assert_eq!(field, "sheet.quotations[0].confidence");
    }
}

#[test]
fn critiques() {
    let request = || v1::WriteCritiqueRequest {
        sheet: Some(good_sheet()),
        ..v1::WriteCritiqueRequest::default()
    };
    let task = critique(request(), CIRCUMSTANCES).unwrap();
    assert_eq!((task.attempts_max, task.policy), (3, Policy::Mark));
    let field = |change: fn(&mut v1::WriteCritiqueRequest)| {
        let mut request = request();
        change(&mut request);
        critique(request, CIRCUMSTANCES).unwrap_err().field
    };
    assert_eq!(field(|r| r.sheet = None), "sheet");
    assert_eq!(field(|r| r.attempts_max = Some(0)), "attempts_max");
    assert_eq!(field(|r| r.attempts_max = Some(ATTEMPTS_MAX + 1)), "attempts_max");
    assert_eq!(field(|r| r.unsupported = 9), "unsupported");
    assert_eq!(
        field(|r| r.sampling = Some(v1::Sampling {
            max_tokens: Some(0),
            ..v1::Sampling::default()
        })),
        "sampling.max_tokens"
    );
}

proptest! {
    /// Whatever is taken is within the bounds, and the sheet's text has one line for each fact and quotation.
    #[test]
    fn lines_of_a_sheet_are_its_own(title in ".{0,30}", name in ".{0,30}", value in any::<f64>(), quoted in ".{0,30}") {
        let mut proto = good_sheet();
        proto.title = title;
        proto.facts[0].name = name;
        proto.facts[0].value = Some(fact::Value::Number(number(value)));
        proto.quotations[0].text = quoted;
        if let Ok(taken) = sheet(proto) {
            prop_assert_eq!(taken.to_string().lines().count(), 8);
        }
    }
}
