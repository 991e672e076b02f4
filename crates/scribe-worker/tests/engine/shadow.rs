//! Copies that no client waits for are computed from spare capacity only.

use std::sync::atomic::Ordering;

use understudy_scribe::engine::{Engine as _, EngineError, Event, Generation};

use crate::support::{Hand, all, file, loaded, model, prompt, ready};

fn copy(text: &str, max_tokens: u32) -> Generation {
    Generation {
        shadow: true,
        ..prompt(text, max_tokens)
    }
}

#[test]
fn a_copy_pauses_while_a_client_is_served_and_says_the_same() {
    let (_folder, path) = file(true);
    let model = model(&path, 3);
    let alone = Hand::new(&model, 3).run(prompt("one says", 20)).0;
    let mut hand = Hand::new(&model, 3);
    let mut copied = hand.start(copy("one says", 20));
    (0..5).for_each(|_| hand.turn());
    let mut text: String = pieces(&ready(&mut copied));
    assert_eq!(text.len(), 5);

    // A client comes, with the same beginning even: it neither waits for the copy nor shares a turn with it.
    let mut client = hand.start(prompt("one says", 10));
    for turn in 0..10 {
        hand.turn();
        assert_eq!(ready(&mut copied), [], "turn {turn}");
    }
    assert_eq!(all(&mut client).0, alone[..10]);
    hand.finish();
    text += &all(&mut copied).0;
    assert_eq!(text, alone);
}

#[test]
fn a_copy_leaves_a_slot_free_and_gives_way() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let mut hand = Hand::new(&model, 2);
    let mut first = hand.start(copy("one", 100));
    let mut second = hand.start(copy("two", 100));
    hand.turn();
    assert_eq!(all(&mut second).1, Err(EngineError::NoSpare));
    assert_eq!((hand.busy(), ready(&mut first).len()), (1, 1));

    let mut clients = [hand.start(prompt("three", 3)), hand.start(prompt("four", 3))];
    hand.turn();
    assert_eq!(all(&mut first).1, Err(EngineError::NoSpare));
    for client in &mut clients {
        assert_eq!(ready(client).len(), 1, "no turn was lost");
    }
    hand.finish();
}

#[test]
fn a_long_prompt_of_a_copy_is_computed_in_chunks() {
    let (_folder, path) = file(true);
    let model = model(&path, 3);
    let mut hand = Hand::new(&model, 3);
    let _copied = hand.start(copy(&"long ".repeat(200), 2));
    hand.turn();
    assert_eq!(hand.gauges.prompt_tokens.load(Ordering::Relaxed), 128);
}

#[test]
fn engines_of_one_process_count_their_clients_together() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let mut stable = Hand::new(&model, 2);
    let mut candidate = Hand::beside(&stable, 2);
    let mut client = stable.start(prompt("one", 10));
    let mut copied = candidate.start(copy("one", 10));
    (0..3).for_each(|_| candidate.turn());
    assert_eq!(ready(&mut copied), []);
    stable.finish();
    // A request counts until it has ended.
    let answer = all(&mut client).0;
    candidate.finish();
    assert_eq!(all(&mut copied).0, answer);
}

#[test]
fn a_version_that_is_idle_but_for_copies_ends() {
    let (_folder, path) = file(true);
    let loaded = loaded(&path, 2);
    let mut copied = loaded.start(copy("one", 5)).unwrap();
    let mut text = String::new();
    while let Some(Event::Text(piece)) = copied.blocking_recv() {
        text += &piece;
    }
    assert_eq!(text.len(), 5);
    let paused = loaded.start(copy("two", 500)).unwrap();
    drop(paused);
    drop(loaded);
}

fn pieces(events: &[Event]) -> String {
    let text = |event: &Event| match event {
        Event::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    events.iter().map(text).collect()
}
