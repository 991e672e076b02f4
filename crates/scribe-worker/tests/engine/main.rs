//! The engine with llama.cpp and a small model of random weights.

mod requests;
mod shadow;
mod support;

use std::{sync::atomic::Ordering, time::Duration};

use support::{CONTEXT, Hand, all, file, model, prompt, ready};
use understudy_scribe::engine::{EngineError, Event, FinishReason, Input, Message, Role};

#[test]
fn eight_streams_progress_together() {
    let (_folder, path) = file(true);
    let model = model(&path, 8);
    let mut hand = Hand::new(&model, 8);
    let mut streams: Vec<_> = (0..8).map(|n| hand.start(prompt(&format!("{n} says"), 40))).collect();
    for turn in 0..40 {
        hand.turn();
        for stream in &mut streams {
            let events = ready(stream);
            let texts = events.iter().filter(|event| matches!(event, Event::Text(_))).count();
            assert_eq!(texts, 1, "turn {turn}: {events:?}");
        }
    }
    assert!(hand.runner.idle());
    assert_eq!(hand.gauges.decode_tokens.load(Ordering::Relaxed), 320);
    assert_eq!(hand.gauges.steps.load(Ordering::Relaxed), 40);
}

#[test]
fn cancelling_frees_the_slot_in_the_next_turn() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let mut hand = Hand::new(&model, 2);
    let first = hand.start(prompt("one", 500));
    let mut second = hand.start(prompt("two", 500));
    let mut queued = hand.start(prompt("three", 3));
    (0..5).for_each(|_| hand.turn());
    assert_eq!(
        (hand.busy(), ready(&mut second).len(), ready(&mut queued).len()),
        (2, 5, 0)
    );
    drop(first);
    hand.turn();
    assert_eq!(
        (hand.busy(), ready(&mut second).len(), ready(&mut queued).len()),
        (2, 1, 1)
    );
    // One that waits is cancelled too.
    let waiting = hand.start(prompt("four", 3));
    drop(waiting);
    drop(second);
    assert_eq!(hand.finish(), 2);
    assert_eq!(all(&mut queued).1.unwrap().reason, FinishReason::Length);
}

#[test]
fn long_prompt_delays_no_stream_by_more_than_a_chunk() {
    let (_folder, path) = file(true);
    let model = model(&path, 3);
    let mut hand = Hand::new(&model, 3);
    let mut streams = [hand.start(prompt("one", 100)), hand.start(prompt("two", 100))];
    (0..3).for_each(|_| hand.turn());
    streams.iter_mut().for_each(|stream| assert_eq!(ready(stream).len(), 3));
    let mut long = hand.start(prompt(&"long ".repeat(800), 2));
    let mut turns = 0;
    while ready(&mut long).is_empty() {
        let before = hand.gauges.prompt_tokens.load(Ordering::Relaxed);
        hand.turn();
        turns += 1;
        let chunk = hand.gauges.prompt_tokens.load(Ordering::Relaxed) - before;
        assert!(chunk <= 128, "a chunk of {chunk} tokens");
        for stream in &mut streams {
            assert_eq!(ready(stream).len(), 1, "turn {turns}");
        }
    }
    // 4,000 bytes and the begin of the text.
    assert_eq!(turns, 4001_usize.div_ceil(128));
}

#[test]
fn greedy_is_the_same_alone_and_in_a_batch_of_eight() {
    let (_folder, path) = file(true);
    let model = model(&path, 8);
    let prompts: Vec<String> = (1..=8)
        .map(|n| "Once upon a time ".repeat(n) + &n.to_string())
        .collect();
    // Work is split among threads in different ways.
    let threads = |threads| Hand::with(&model, 8, threads);
    let alone: Vec<String> = prompts.iter().map(|text| threads(2).run(prompt(text, 48)).0).collect();
    let mut hand = threads(2);
    let mut streams: Vec<_> = prompts.iter().map(|text| hand.start(prompt(text, 48))).collect();
    hand.finish();
    let together: Vec<String> = streams.iter_mut().map(|stream| all(stream).0).collect();
    assert_eq!(alone, together);
    assert!(alone.iter().all(|text| text.len() == 48), "{alone:?}");
    // Sampled too, with a seed.
    let sampled = |hand: &mut Hand<'_>| {
        let mut generation = prompt("seed", 30);
        generation.sampling.temperature = 1.0;
        hand.run(generation).0
    };
    assert_eq!(sampled(&mut hand), sampled(&mut Hand::new(&model, 1)));
}

#[test]
fn what_was_computed_is_used_again() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let chat = |turns: &[(Role, &str)]| {
        let mut generation = prompt("", 20);
        let messages = turns.iter().map(|(role, content)| Message {
            role: *role,
            content: (*content).to_owned(),
        });
        generation.input = Input::Chat(messages.collect());
        generation
    };
    let system = "You are a critic. ".repeat(10);
    let one = chat(&[(Role::System, &system), (Role::User, "First?")]);
    let mut hand = Hand::new(&model, 2);
    let (answer, end) = hand.run(one.clone());
    assert_eq!(end.unwrap().usage.cached, 0);
    assert_eq!(answer.len(), 20);

    // The same again, another question, and the next turn: each like in an engine that knows nothing.
    let other = chat(&[(Role::System, &system), (Role::User, "Second?")]);
    let next = chat(&[
        (Role::System, &system),
        (Role::User, "First?"),
        (Role::Assistant, &answer),
        (Role::User, "And then?"),
    ]);
    for (generation, least) in [(one, 200), (other, 180), (next, 225)] {
        let (text, end) = hand.run(generation.clone());
        let usage = end.unwrap().usage;
        assert!(usage.cached >= least && usage.cached < usage.prompt, "{usage:?}");
        assert_eq!(text, Hand::new(&model, 2).run(generation).0);
    }
}

#[test]
fn prompts_that_begin_alike_are_computed_once() {
    let (_folder, path) = file(true);
    let model = model(&path, 4);
    let mut hand = Hand::new(&model, 4);
    let generation = |n: usize| prompt(&("The same beginning. ".repeat(60) + &n.to_string()), 10);
    let mut streams: Vec<_> = (0..4).map(|n| hand.start(generation(n))).collect();
    hand.finish();
    let usages: Vec<_> = streams.iter_mut().map(all).collect();
    let computed = hand.gauges.prompt_tokens.load(Ordering::Relaxed);
    // One beginning of 1,201 tokens, and a last one for each.
    assert_eq!(computed, 1201 + 4);
    for (n, (text, end)) in usages.into_iter().enumerate() {
        assert_eq!(end.unwrap().usage.prompt, 1202);
        assert_eq!(text, Hand::new(&model, 4).run(generation(n)).0);
    }
}

#[test]
fn leader_that_is_cancelled_leaves_what_it_computed() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let mut hand = Hand::new(&model, 2);
    let beginning = "The same beginning. ".repeat(60);
    let leader = hand.start(prompt(&(beginning.clone() + "1"), 10));
    let mut follower = hand.start(prompt(&(beginning + "2"), 10));
    hand.turn();
    drop(leader);
    hand.finish();
    let usage = all(&mut follower).1.unwrap().usage;
    assert_eq!((usage.cached, usage.completion), (512, 10));
}

#[test]
fn deadlines_end_what_runs_and_what_waits() {
    let (_folder, path) = file(true);
    let model = model(&path, 1);
    let mut hand = Hand::new(&model, 1);
    let now = std::time::Instant::now();
    let late = |seconds| {
        let mut generation = prompt("late", 100);
        generation.deadline = Some(now + Duration::from_secs(seconds));
        generation
    };
    let (mut running, mut waiting) = (hand.start(late(100)), hand.start(late(50)));
    hand.runner.turn(now);
    assert_eq!(ready(&mut running).len(), 1);
    hand.runner.turn(now + Duration::from_secs(60));
    assert_eq!(all(&mut waiting).1, Err(EngineError::Deadline));
    hand.runner.turn(now + Duration::from_secs(100));
    assert_eq!(all(&mut running).1, Err(EngineError::Deadline));
    assert!(hand.runner.idle());
}

#[test]
fn streams_that_are_moved_say_the_same_and_are_kept() {
    let (_folder, path) = file(true);
    let model = model(&path, 8);
    let mut hand = Hand::new(&model, 8);
    let text = |n: usize| format!("{n} ").repeat(20 + n);
    // Those with even numbers end early, so that the others lie apart, and are moved.
    let tokens = |n: usize| if n.is_multiple_of(2) { 5 } else { 60 };
    let mut streams: Vec<_> = (0..8).map(|n| hand.start(prompt(&text(n), tokens(n)))).collect();
    hand.finish();
    let whole: Vec<String> = streams.iter_mut().map(|stream| all(stream).0).collect();
    for (n, whole) in whole.iter().enumerate() {
        assert_eq!(*whole, Hand::new(&model, 1).run(prompt(&text(n), tokens(n))).0);
    }
    // All are found where they lie now, and are what they were.
    for (n, whole) in whole.iter().enumerate() {
        let next = text(n) + whole + " and";
        let (answer, end) = hand.run(prompt(&next, 20));
        let usage = end.unwrap().usage;
        // All but the answer's last token, which was not computed, and what is new.
        assert_eq!(usage.prompt - usage.cached, 5, "{n}");
        assert_eq!(answer, Hand::new(&model, 1).run(prompt(&next, 20)).0);
    }
}

#[test]
fn a_stream_may_take_its_whole_context_beside_others() {
    let (_folder, path) = file(true);
    let model = model(&path, 2);
    let mut hand = Hand::new(&model, 2);
    let whole = |n: usize| prompt(&format!("{n}").repeat(CONTEXT as usize - 9), 8);
    let mut streams: Vec<_> = (1..6).map(|n| hand.start(whole(n))).collect();
    hand.finish();
    for stream in &mut streams {
        assert_eq!(all(stream).1.unwrap().usage.completion, 8);
    }
}
