//! Reads a script, line by line, into a [`World`].

use std::{collections::HashMap, time::Duration};

use understudy_rollout::{
    machine::Command,
    spec::{LabelGate, ShadowStage, Spec, Step, Strategy},
};

use crate::world::{Traffic, World};

type Words<'a> = HashMap<&'a str, &'a str>;

/// What came of the script, as text.
pub(crate) fn play(script: &str) -> Result<String, String> {
    let mut world: Option<World> = None;
    for (number, line) in script.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = |problem: String| format!("line {}: {problem}", number + 1);
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        if verb == "spec" {
            let spec = spec(rest).map_err(place)?;
            spec.check().map_err(|invalid| place(invalid.to_string()))?;
            world = Some(World::new(spec));
            continue;
        }
        let world = world
            .as_mut()
            .ok_or_else(|| place("the script begins with spec".to_owned()))?;
        world.say(&format!("> {line}"));
        act(world, verb, rest).map_err(place)?;
    }
    Ok(world.ok_or("the script is empty")?.finish())
}

fn act(world: &mut World, verb: &str, rest: &str) -> Result<(), String> {
    match verb {
        "observe" => observe(world, rest),
        "traffic" => {
            let mut words = words(rest)?;
            let traffic = traffic(&mut words)?;
            let time = take(&mut words, "for", span)?.ok_or("for=… is missing")?;
            none_left(&words)?;
            world.run(&traffic, time);
            Ok(())
        }
        "wait" => {
            world.run(&Traffic::default(), span(rest)?);
            Ok(())
        }
        "labels" => {
            let mut words = words(rest)?;
            let labels = &mut world.observation.labels;
            labels.both_right += take(&mut words, "both", count)?.unwrap_or(0);
            labels.only_stable_right += take(&mut words, "only_stable", count)?.unwrap_or(0);
            labels.only_candidate_right += take(&mut words, "only_candidate", count)?.unwrap_or(0);
            labels.both_wrong += take(&mut words, "neither", count)?.unwrap_or(0);
            none_left(&words)?;
            world.settle();
            Ok(())
        }
        "command" => {
            world.command(command(rest)?);
            Ok(())
        }
        "leader" => {
            world.change_leader();
            Ok(())
        }
        "show" => {
            world.show();
            Ok(())
        }
        _ => Err(format!("what is {verb}?")),
    }
}

fn spec(rest: &str) -> Result<Spec, String> {
    let (strategy, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let strategy = match strategy {
        "canary" => Strategy::Canary,
        "blue-green" => Strategy::BlueGreen,
        "shadow" => Strategy::Shadow,
        "ab" => Strategy::Ab,
        other => return Err(format!("what strategy is {other}?")),
    };
    let mut words = words(rest)?;
    let mut spec = Spec::new("v1", "v2", strategy);
    let hold = take(&mut words, "hold", span)?.unwrap_or(Duration::from_secs(60));
    let requests_min = take(&mut words, "requests", count)?.unwrap_or(100);
    if let Some(steps) = words.remove("steps") {
        let weights: Result<Vec<f64>, String> = steps.split(',').map(|text| share(&format!("{text}%"))).collect();
        spec.steps = weights?.into_iter().map(|weight| Step::new(ppm(weight))).collect();
    }
    let manual = words.remove("manual").unwrap_or("").to_owned();
    for (index, step) in spec.steps.iter_mut().enumerate() {
        (step.hold, step.requests_min) = (hold, requests_min);
        step.manual = manual.split(',').any(|number| number == (index + 1).to_string());
    }
    match words.remove("shadow") {
        Some("no") => spec.shadow = None,
        Some("yes") => {
            let shadow = spec.shadow.get_or_insert_with(ShadowStage::default);
            shadow.hold = hold;
        }
        Some(other) => return Err(format!("shadow is yes or no, not {other}")),
        None => {}
    }
    spec.gates.proof = words.remove("proof") != Some("no");
    if let Some(labels_min) = take(&mut words, "labels_min", count)? {
        spec.gates.labels = Some(LabelGate { labels_min });
    }
    for (name, field) in [
        ("watch", &mut spec.watch),
        ("standby", &mut spec.standby),
        ("deadline", &mut spec.progress_deadline),
    ] {
        if let Some(time) = take(&mut words, name, span)? {
            *field = time;
        }
    }
    none_left(&words)?;
    Ok(spec)
}

fn observe(world: &mut World, rest: &str) -> Result<(), String> {
    let mut words = words(rest)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text} is no number"));
    let seen = &mut world.observation;
    for (name, field) in [
        ("stable", &mut seen.stable_ready),
        ("candidate", &mut seen.candidate_ready),
    ] {
        if let Some(ready) = take(&mut words, name, number)? {
            *field = ready;
        }
    }
    if let Some(routers) = words.remove("routers") {
        let (current, all) = routers.split_once('/').ok_or("routers=current/all")?;
        (seen.routers_current, seen.routers) = (number(current)?, number(all)?);
    }
    if let Some(why) = words.remove("failed") {
        seen.candidate_failed = Some(why.to_owned()).filter(|why| why != "no");
    }
    if let Some(changed) = words.remove("route_changed") {
        seen.route_changed = changed == "yes";
    }
    none_left(&words)?;
    world.settle();
    Ok(())
}

fn traffic(words: &mut Words) -> Result<Traffic, String> {
    let usual = Traffic::default();
    let errors = take(words, "errors", share)?.unwrap_or(usual.errors[0]);
    let latency = take(words, "latency", span)?.unwrap_or(usual.latency[0]);
    Ok(Traffic {
        rate: take(words, "rate", count)?.ok_or("rate=… is missing")?,
        errors: [errors, take(words, "candidate_errors", share)?.unwrap_or(errors)],
        latency: [latency, take(words, "candidate_latency", span)?.unwrap_or(latency)],
        agree: take(words, "agree", share)?.unwrap_or(usual.agree),
        astray: take(words, "astray", share)?.unwrap_or(usual.astray),
    })
}

fn command(rest: &str) -> Result<Command, String> {
    let (verb, reason) = rest.split_once(' ').unwrap_or((rest, "\"\""));
    let reason = reason.trim_matches('"').to_owned();
    Ok(match verb {
        "pause" => Command::Pause { reason },
        "resume" => Command::Resume,
        "approve" => Command::Approve,
        "promote" => Command::Promote,
        "abort" => Command::Abort { reason },
        "undo" => Command::Undo { reason },
        "supersede" => Command::Supersede { reason },
        other => return Err(format!("what command is {other}?")),
    })
}

/// `name=value` or `name="value with spaces"`.
fn words(mut rest: &str) -> Result<Words<'_>, String> {
    let mut words = HashMap::new();
    while let Some((name, value)) = rest.trim_start().split_once('=') {
        let (value, left) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quotation mark is missing")?,
            None => value.split_once(' ').unwrap_or((value, "")),
        };
        words.insert(name, value);
        rest = left;
    }
    if rest.trim().is_empty() {
        Ok(words)
    } else {
        Err(format!("{rest} is no name=value"))
    }
}

fn take<T>(words: &mut Words, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    words.remove(name).map(read).transpose()
}

fn none_left(words: &Words) -> Result<(), String> {
    match words.keys().next() {
        Some(name) => Err(format!("what is {name}?")),
        None => Ok(()),
    }
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    percent
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("{text} is no share such as 5%"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares of a script"
)]
fn ppm(share: f64) -> u32 {
    (share * 1e6).round() as u32
}

fn span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no time such as 30s"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3_600)),
        unit => Err(format!("{unit} is no unit of time")),
    }
}
