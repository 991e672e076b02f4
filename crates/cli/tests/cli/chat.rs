use std::{
    fs,
    io::Write as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use understudy_protocol::v1::{Role, generate_request::Constraint, generate_request::Input};

use crate::{
    fake_router::FakeRouter,
    run::{Ran, run, understudy},
};

#[tokio::test]
async fn one_question_has_one_answer() {
    let fake = FakeRouter::start().await;
    fake.state().unavailable = 1;
    let ran = run(
        fake.url(),
        &["chat", "--stats", "--temperature", "0", "--stop", "END", "hello there"],
    )
    .await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "You said: hello there (1.)\n"),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains("101 tokens, 50 tokens/s; prompt 300 tokens, 250 of them cached"),
        "{ran:?}"
    );
    let sampling = fake.state().questions[1].sampling.clone().unwrap();
    assert_eq!(
        (sampling.temperature, sampling.stop, sampling.top_p),
        (Some(0.0), vec!["END".to_owned()], None)
    );

    let ran = run(fake.url(), &["chat", "--json", "--system", "Be brief.", "hi"]).await;
    let json = ran.json();
    assert_eq!(
        (&json["text"], &json["reason"]),
        (&"You said: hi (2.)".into(), &"end".into())
    );
    assert_eq!(
        (&json["version"], &json["usage"]["cached_prompt_tokens"]),
        (&"v1".into(), &250.into())
    );
    let ran = run(fake.url(), &["chat", "something forbidden"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("chat.messages[0].content: is not for me"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn an_answer_is_bound_by_a_grammar_or_a_schema() {
    let fake = FakeRouter::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (grammar, schema) = (file("a.gbnf", "root ::= \"x\""), file("a.json", "{}"));
    assert_eq!(run(fake.url(), &["chat", "q", "--grammar", &grammar]).await.code, 0);
    assert_eq!(run(fake.url(), &["chat", "q", "--json-schema", &schema]).await.code, 0);
    let both = run(
        fake.url(),
        &["chat", "q", "--json-schema", &schema, "--grammar", &grammar],
    )
    .await;
    assert_eq!(both.code, 2);
    let ran = run(fake.url(), &["chat", "q", "--grammar", "nowhere.gbnf"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("cannot read nowhere.gbnf"),
        "{ran:?}"
    );
    let constraints: Vec<_> = fake
        .state()
        .questions
        .iter()
        .map(|question| question.constraint.clone())
        .collect();
    let expected = [
        Constraint::Grammar("root ::= \"x\"".into()),
        Constraint::JsonSchema("{}".into()),
    ];
    assert_eq!(constraints, expected.map(Some));
}

fn talk(fake: &FakeRouter) -> Child {
    let mut command = understudy();
    command.args(["chat", "--router", fake.url()]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

async fn end(child: Child) -> Ran {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap().into())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_conversation_is_kept_until_it_is_reset() {
    let fake = FakeRouter::start().await;
    let mut child = talk(&fake);
    let lines = "one\n\n/system Be kind.\ntwo\nthree forbidden\n/reset\nfour\n/nonsense\n/exit\nnever\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let ran = end(child).await;
    assert_eq!(ran.code, 1, "one was refused, and nobody was there to see it: {ran:?}");
    assert_eq!(
        ran.stdout, "You said: one (1.)\nYou said: two (4.)\nYou said: four (2.)\n",
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("is not for me") && ran.stderr.contains("no command /nonsense"),
        "{ran:?}"
    );
    let state = fake.state();
    let Some(Input::Chat(chat)) = &state.questions[1].input else {
        panic!("{:?}", state.questions)
    };
    let said: Vec<_> = chat
        .messages
        .iter()
        .map(|message| (message.role(), message.content.as_str()))
        .collect();
    let expected = [
        (Role::System, "Be kind."),
        (Role::User, "one"),
        (Role::Assistant, "You said: one (1.)"),
        (Role::User, "two"),
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn an_interrupt_stops_the_answer_and_not_the_program() {
    let fake = FakeRouter::start().await;
    let mut child = talk(&fake);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"an endless one\n").unwrap();
    let wait_for = async |what: &str, is_so: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < Duration::from_secs(20), "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    wait_for("the question", &|| fake.state().questions.len() == 1).await;
    // So that a part of the answer was read.
    tokio::time::sleep(Duration::from_millis(300)).await;
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    wait_for("the cancellation", &|| fake.state().cancelled == 1).await;
    stdin.write_all(b"and now?\n").unwrap();
    drop(stdin);
    let ran = end(child).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("(stopped)"), "{ran:?}");
    assert!(ran.stdout.ends_with(" more\nYou said: and now? (3.)\n"), "{ran:?}");
}
