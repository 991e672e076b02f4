use std::path::Path;

use clap::Parser;
use understudy_rollout::spec::LatencyGate;

use super::*;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    options: SpecOptions,
}

fn options(typed: &[&str]) -> SpecOptions {
    Typed::parse_from([&["understudy"], typed].concat()).options
}

fn draft(name: &str, text: &str, typed: &[&str]) -> Result<Draft, String> {
    let document = Document::parse(name.into(), text.to_owned()).map_err(|error| error.to_string())?;
    let plan = Plan::new(options(typed), Some(document)).map_err(|error| error.to_string())?;
    plan.draft("v1", "v2").map_err(|error| error.to_string())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn nothing_said_is_the_default() {
    let plan = Plan::new(SpecOptions::default(), None).unwrap();
    let expected = Spec::new("v1", "v2", Strategy::Canary);
    assert_eq!(plan.draft("v1", "v2").unwrap().spec, expected);
    assert_eq!(draft("a.yaml", "{}", &[]).unwrap().spec, expected);
    assert_eq!(draft("a.toml", "", &[]).unwrap().spec, expected);
}

#[test]
fn yaml_and_toml_say_the_same() {
    let yaml = "\
strategy: canary
shadow: {sample: 25%, noise: 0%, hold: 2m, pairs_min: 1_000}
steps:
  - 2500ppm
  - 5
  - weight: '12.5%'
    hold: 0
    requests_min: 7
    manual: true
gates:
  proof: false
  errors: off
  latency: {quantiles: [p99, 0.5], increase_max: 2}
  agreement:
    agreement_min: 97%
progress_deadline: 90
keep_text: true
webhooks:
  - {url: 'http://127.0.0.1:1/hook', secret_env: SECRET}
";
    let toml = "\
progress_deadline = 90
strategy = 'canary'
keep_text = true
steps = ['2500ppm', 5, {weight = '12.5%', hold = 0, requests_min = 7, manual = true}]

[shadow]
sample = '25%'
noise = '0%'
hold = '2m'
pairs_min = 1_000

[gates]
proof = false
errors = 'off'

[gates.latency]
quantiles = ['p99', 0.5]
increase_max = 2

[gates.agreement]
agreement_min = '97%'

[[webhooks]]
url = 'http://127.0.0.1:1/hook'
secret_env = 'SECRET'
";
    let mut expected = Spec::new("v1", "v2", Strategy::Canary);
    expected.shadow = Some(ShadowStage {
        sample_ppm: 250_000,
        noise_ppm: 0,
        hold: seconds(120),
        pairs_min: 1000,
    });
    expected.steps = vec![
        Step::new(2_500),
        Step::new(50_000),
        Step {
            weight_ppm: 125_000,
            hold: Duration::ZERO,
            requests_min: 7,
            manual: true,
        },
    ];
    expected.gates.proof = false;
    expected.gates.errors = None;
    expected.gates.latency = Some(LatencyGate {
        quantiles: vec![0.99, 0.5],
        increase_max: 2.0,
        ..LatencyGate::default()
    });
    expected.gates.agreement.as_mut().unwrap().agreement_min = 0.97;
    expected.progress_deadline = seconds(90);
    for (name, text) in [("a.yaml", yaml), ("a.toml", toml)] {
        let draft = draft(name, text, &[]).unwrap();
        assert_eq!(draft.spec, expected, "{name}");
        assert!(draft.keep_text && draft.webhooks[0].secret_env == "SECRET", "{name}");
    }
}

#[test]
fn flags_win() {
    let text = "strategy: canary\nshadow: off\nsteps: [{weight: 5%, hold: 1h, requests_min: 9}]\ngates: {agreement: off}\nwatch: 1h";
    let typed = [
        "--hold=2s",
        "--shadow=50",
        "--pairs-min=3",
        "--agreement-min=90%",
        "--watch=0s",
        "--no-proof",
    ];
    let spec = draft("a.yaml", text, &typed).unwrap().spec;
    let shadow = spec.shadow.unwrap();
    assert_eq!(
        (shadow.sample_ppm, shadow.pairs_min, shadow.hold),
        (500_000, 3, seconds(2))
    );
    assert_eq!(
        (spec.steps[0].hold, spec.steps[0].requests_min),
        (seconds(2), 9),
        "kept"
    );
    assert!((spec.gates.agreement.unwrap().agreement_min - 0.9).abs() < 1e-12);
    assert_eq!((spec.watch, spec.gates.proof), (Duration::ZERO, false));
    let spec = draft("a.yaml", "strategy: canary", &["--strategy=blue-green"])
        .unwrap()
        .spec;
    assert_eq!(spec, Spec::new("v1", "v2", Strategy::BlueGreen));
    let spec = draft("a.yaml", "shadow: 20%", &["--no-shadow"]).unwrap().spec;
    assert_eq!(spec.shadow, None);
}

/// `place` is the beginning of the message: line and column must be right, as editors jump there.
#[test]
fn every_mistake_has_its_place_and_says_what_would_be_right() {
    let cases = [
        (
            "a.yaml",
            "steps:\n  - wieght: 5%\n",
            "a.yaml:2:5: steps[0].wieght: there is no such key: choose from weight, hold, requests_min, manual",
        ),
        ("a.yaml", "candidate: V2!\n", "a.yaml:1:12: candidate: "),
        (
            "a.yaml",
            "strategy: rolling\n",
            "a.yaml:1:11: strategy: \"rolling\" is no strategy: choose from canary, blue-green, shadow, ab",
        ),
        (
            "a.yaml",
            "gates:\n  errors:\n    ratio_max: much\n",
            "a.yaml:3:16: gates.errors.ratio_max: \"much\" is no number",
        ),
        (
            "a.yaml",
            "gates:\n  latency: [p95]\n",
            "a.yaml:2:3: gates.latency: must be a table with some of quantiles",
        ),
        ("a.yaml", "steps: 5%\n", "a.yaml:1:8: steps: must be a list"),
        (
            "a.yaml",
            "steps:\n  - 0.05\n",
            "a.yaml:2:5: steps[0]: 0.05 may be a part or percent: write the unit",
        ),
        (
            "a.yaml",
            "steps:\n  - hold: 5s\n",
            "a.yaml:2:5: steps[0]: needs a weight",
        ),
        ("a.yaml", "watch:\n", "a.yaml:1:1: watch: has no value"),
        (
            "a.yaml",
            "watch: later\n",
            "a.yaml:1:8: watch: \"later\" is no time under a year: write e.g. 30s, 10m or 1h",
        ),
        (
            "a.yaml",
            "keep_text: yes\n",
            "a.yaml:1:12: keep_text: \"yes\" is neither true nor false",
        ),
        (
            "a.yaml",
            "watch: 1m\nwatch: 2m\n",
            "a.yaml:2:1: watch is here a second time",
        ),
        (
            "a.yaml",
            "watch: &w 1m\nstandby: *w\n",
            "a.yaml:1:8: anchors and aliases are not read",
        ),
        ("a.yaml", "watch: !!str 1m\n", "a.yaml:1:8: tags are not read"),
        (
            "a.yaml",
            "watch: 1m\n---\nwatch: 2m\n",
            "a.yaml:2:1: a second document begins here",
        ),
        ("a.yaml", "? [a]\n: 1\n", "a.yaml:1:3: a key must be a word"),
        ("a.yaml", "steps: [1%\n", "a.yaml:2:1: "),
        (
            "a.yaml",
            "gates:\n  agreement: {agreement_min: 750%}\n",
            "a.yaml:2:15: gates.agreement.agreement_min: 750% is not from 0% to less than 100%",
        ),
        ("a.yaml", "", "a.yaml:1:1: the file is empty"),
        (
            "a.yaml",
            "- 1\n",
            "a.yaml:1:1: must be a table with some of model, candidate",
        ),
        (
            "a.yaml",
            "webhooks:\n  - secret_env: X\n",
            "a.yaml:2:5: webhooks[0]: needs a url",
        ),
        (
            "a.yaml",
            "webhooks:\n  - url: http://h/\n",
            "a.yaml:2:5: webhooks[0]: needs a secret_env",
        ),
        (
            "a.yaml",
            "gates:\n  alpha: 2\n",
            "a.yaml:2:3: gates.alpha: 2 is not between 0 and 0.5",
        ),
        (
            "a.yaml",
            "steps:\n  - 5%\n  - 100%\n",
            "a.yaml:3:5: steps[1].weight: 100% is not from 0.0001% to 99.9999%",
        ),
        (
            "a.toml",
            "watch = '1m'\nwacth = '1m'\n",
            "a.toml:2:1: wacth: there is no such key",
        ),
        (
            "a.toml",
            "watch = 1979-05-27\n",
            "a.toml:1:9: no part of a spec is a date",
        ),
        ("a.toml", "watch = 0x10\n", "a.toml:1:9: write the number in decimal"),
        ("a.toml", "# é\nwatch = 'ü' 1\n", "a.toml:2:"),
        (
            "a.toml",
            "[gates]\n[gates.text]\ngrounding_drop_max = 'x'\n",
            "a.toml:3:22: gates.text.grounding_drop_max: \"x\" is no part",
        ),
        ("a.ini", "", "--spec a.ini must be called .yaml, .yml, .json or .toml"),
    ];
    let wrong: Vec<_> = cases
        .iter()
        .map(|&(name, text, said)| (text, draft(name, text, &[]).unwrap_err(), said))
        .filter(|(_, error, said)| !error.starts_with(said))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let error = draft("a.yaml", "watch: 1m\n\n  # so\nsteps:\n  - weight: 5 parts\n", &[]).unwrap_err();
    let picture = "\n    5 |   - weight: 5 parts\n      |             ^";
    assert!(error.ends_with(picture), "{error}");
}

#[test]
fn a_file_cannot_be_too_much() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for (name, text) in [("a.yaml", deep(20)), ("a.toml", format!("a = {}", deep(20)))] {
        let error = draft(name, &text, &[]).unwrap_err();
        assert!(error.contains("nested too deeply"), "{name}: {error}");
    }
    for (name, text) in [("a.yaml", deep(100_000)), ("a.toml", format!("a = {}", deep(100_000)))] {
        assert!(draft(name, &text, &[]).is_err(), "{name}");
    }
    let long = format!("{}: 1", "x".repeat(100_000));
    assert!(draft("a.yaml", &long, &[]).is_err());
    let escape = draft("a.yaml", "watch: \u{9b}2J\n", &[]).unwrap_err();
    assert!(!escape.contains('\u{9b}'), "{escape}");
}

#[test]
fn a_field_of_the_message_is_found_in_the_file() {
    let text = "steps:\n  - 1%\n  - {weight: 5%, hold: 1s}\ngates:\n  errors: {negligible: 1%}\n".to_owned();
    let document = Document::parse("a.yaml".into(), text).unwrap();
    for (field, place) in [
        ("steps[1].weight_ppm", Some((3, 6))),
        ("steps[1].requests_min", Some((3, 5))),
        ("steps[0].weight_ppm", Some((2, 5))),
        ("steps[7].hold", Some((1, 1))),
        ("gates.errors.negligible", Some((5, 12))),
        ("gates.errors.ratio_max", Some((5, 3))),
        ("gates.latency.quantiles[0]", Some((4, 1))),
        ("candidate", None),
        ("", None),
    ] {
        let found = document.place_of(field).map(|place| (place.line, place.column));
        assert_eq!(found, place, "{field}");
    }
}

#[test]
fn the_examples_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/rollouts");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let document = Document::open(&entry.unwrap().path()).unwrap();
        let plan = Plan::new(SpecOptions::default(), Some(document)).unwrap();
        plan.draft("v1", "v2").unwrap_or_else(|error| panic!("{error}"));
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let full = "strategy: canary\nshadow: off\nsteps: [2500ppm, {weight: 5%, hold: 0, requests_min: 7, manual: true}]\n\
                gates: {proof: false, errors: off, latency: {quantiles: [p99.9, 0.5]}, labels: {labels_min: 9}}\n\
                watch: 90s\nstandby: 250ms\nkeep_text: true\n\
                webhooks: [{url: 'http://a.example/?b=\"c\"', secret_env: SECRET}]\n";
    for (text, typed) in [
        ("{}", &[][..]),
        ("strategy: blue-green", &[]),
        ("strategy: shadow", &[]),
        (full, &["--alpha=1%"]),
        ("strategy: ab\nsteps: [50%]", &["--shadow=33.3333"]),
    ] {
        let draft = draft("a.yaml", text, typed).unwrap();
        let written = draft.written("sentiment");
        let read = self::draft("b.yaml", &written, &[]).unwrap();
        assert_eq!(read, draft, "{written}");
        assert!(written.starts_with("model: sentiment\n"), "{written}");
        let wide = written.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None);
    }
}

#[test]
fn a_flag_that_would_do_nothing_is_refused() {
    for (text, typed, said) in [
        ("strategy: blue-green", "--hold=5s", "has nothing to hold"),
        ("strategy: blue-green\nshadow: 10%", "--requests-min=5", "has no steps"),
        ("shadow: off", "--pairs-min=5", "has no shadow stage"),
    ] {
        let error = draft("a.yaml", text, &[typed]).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert!(draft("a.yaml", "strategy: blue-green\nshadow: 10%", &["--hold=5s"]).is_ok());
}
