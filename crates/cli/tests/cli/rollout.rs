//! `rollout` against a router whose rollouts go as the test says.

mod terminal;

use std::fs;

use tempfile::TempDir;
use tonic::{Code, Status};
use understudy_protocol::{
    status,
    v1::{Disagreement, Phase, StartRolloutRequest, Strategy},
};

use crate::{
    fake_router::{
        FakeRouter,
        rollouts::{after, running, seconds},
    },
    run::{Ran, run},
};

async fn rollout(fake: &FakeRouter, arguments: &[&str]) -> Ran {
    run(fake.url(), &[&["rollout"], arguments].concat()).await
}

fn file(name: &str, text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn started(fake: &FakeRouter) -> StartRolloutRequest {
    fake.state().started.last().unwrap().clone()
}

#[tokio::test]
async fn a_start_without_anything_has_all_the_defaults() {
    let fake = FakeRouter::start().await;
    let ran = rollout(&fake, &["start"]).await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "sentiment: v1 → v2 (canary, rollout 1) begins\n"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("understudy rollout watch sentiment"), "{ran:?}");
    let request = started(&fake);
    let spec = request.spec.unwrap();
    assert_eq!((request.model.as_str(), spec.candidate.as_str()), ("sentiment", "v2"));
    assert!(!request.supersede);
    assert_eq!(spec.strategy(), Strategy::Canary);
    let weights: Vec<_> = spec.steps.iter().map(|step| step.weight_ppm).collect();
    assert_eq!(weights, [10_000, 50_000, 250_000, 500_000]);
    assert_eq!(spec.shadow.unwrap().sample_ppm, 100_000);
    let gates = spec.gates.unwrap();
    assert!((gates.alpha - 0.05).abs() < 1e-12 && gates.proof == Some(true) && !gates.errors.unwrap().off);
    assert_eq!(spec.standby, Some(seconds(600)));
}

#[tokio::test]
async fn flags_override_the_file_and_the_file_the_defaults() {
    let fake = FakeRouter::start().await;
    let (_folder, path) = file(
        "canary.yaml",
        "model: sentiment\ncandidate: v2\nshadow: off\nsteps:\n  - 5%\n  - {weight: 2500ppm, manual: true}\nwatch: 1h\n\
         keep_text: true\ngates:\n  alpha: 1%\n  agreement: off\nwebhooks:\n  - url: https://example.org/hook\n    secret_env: HOOK\n",
    );
    let ran = rollout(
        &fake,
        &[
            "start",
            "--spec",
            &path,
            "--steps",
            "10,50",
            "--hold",
            "5s",
            "--alpha",
            "0.02",
            "--supersede",
            "--json",
        ],
    )
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["spec"]["steps"][1]["weightPpm"], 500_000, "{ran:?}");
    let request = started(&fake);
    let spec = request.spec.unwrap();
    assert!(request.supersede && spec.keep_text && spec.shadow.is_none());
    let steps: Vec<_> = spec
        .steps
        .iter()
        .map(|step| (step.weight_ppm, step.hold, step.manual))
        .collect();
    assert_eq!(
        steps,
        [(100_000, Some(seconds(5)), false), (500_000, Some(seconds(5)), false)]
    );
    let gates = spec.gates.unwrap();
    assert!((gates.alpha - 0.02).abs() < 1e-12 && gates.agreement.unwrap().off);
    assert_eq!(spec.watch, Some(seconds(3600)));
    assert_eq!(spec.webhooks[0].secret_env, "HOOK");
}

#[tokio::test]
async fn mistakes_are_told_with_their_line_and_nothing_begins() {
    let fake = FakeRouter::start().await;
    for (name, text, said) in [
        (
            "a.yaml",
            "candidate: v2\nstep:\n  - 1%\n",
            "a.yaml:2:1: step: there is no such key: choose from model, candidate",
        ),
        (
            "b.yaml",
            "steps:\n  - 50%\n  - weight: 5%\n",
            "b.yaml:3:5: steps[1].weight: 5% is not above the step before, 50%",
        ),
        (
            "c.toml",
            "steps = ['5%']\n[gates]\nalpha = 0.7\n",
            "c.toml:3:1: gates.alpha: 0.7 is not between 0 and 0.5",
        ),
        ("d.toml", "steps = ['5%'\nwatch = '1m'\n", "d.toml:2:"),
    ] {
        let (_folder, path) = file(name, text);
        let ran = rollout(&fake, &["start", "sentiment", "v2", "--spec", &path]).await;
        assert!(ran.code == 1 && ran.stderr.contains(said), "{name}: {ran:?}");
        assert!(ran.stderr.contains(" | "), "{name} shows the line: {ran:?}");
    }
    for (arguments, code, said) in [
        (&["nobody"][..], 1, "there is no model nobody"),
        (&["sentiment", "v1"], 1, "v1 of sentiment serves already"),
        (&["sentiment", "v9"], 1, "choose one of v1, v2"),
        (&["--steps", "50,5"], 1, "--steps: steps[1].weight: 5% is not above"),
        (
            &["--strategy", "blue-green", "--steps", "50"],
            1,
            "--steps: steps: only the strategies canary and ab",
        ),
        (
            &["--strategy", "blue-green", "--hold", "5m"],
            1,
            "--hold: a rollout of strategy blue-green without a shadow stage has nothing to hold",
        ),
        (&["--spec", "nowhere.yaml"], 1, "cannot read --spec nowhere.yaml"),
        (&["--strategy", "red"], 2, "blue-green"),
        (&["--timeout", "5s"], 2, "--wait"),
        (&["--hold", "soon"], 2, "write e.g. 30s, 10m or 1h"),
    ] {
        let ran = rollout(&fake, &[&["start"], arguments].concat()).await;
        assert!(ran.code == code && ran.stderr.contains(said), "{arguments:?}: {ran:?}");
    }
    assert_eq!(fake.state().started, []);
}

#[tokio::test]
async fn what_only_the_router_finds_wrong_is_told_by_line_too() {
    let fake = FakeRouter::start().await;
    let (_folder, path) = file(
        "spec.yaml",
        "candidate: v2\n\nwebhooks:\n  - url: ftp://example.org\n    secret_env: HOOK\n",
    );
    for (field, said) in [
        (
            "spec.webhooks[0].url",
            "spec.yaml:4:5: webhooks[0].url: must be http or https",
        ),
        ("spec.candidate", "spec.yaml:1:1: candidate: must be http or https"),
        (
            "spec.steps[2].weight_ppm",
            "--steps: steps[2].weight: must be http or https",
        ),
        ("spec.watch", "error: watch: must be http or https"),
    ] {
        fake.state().refusal = Some(status::bad_request(field, "must be http or https"));
        let ran = rollout(&fake, &["start", "--spec", &path, "--steps", "1,2,3"]).await;
        assert!(ran.code == 1 && ran.stderr.contains(said), "{field}: {ran:?}");
    }
    let message = "rollout 1 of \"sentiment\" is running; end it first, or replace it with --supersede";
    fake.state().refusal = Some(status::reason(Code::FailedPrecondition, message, "ROLLOUT_RUNNING"));
    let ran = rollout(&fake, &["start", "--spec", &path]).await;
    assert!(ran.code == 1 && ran.stderr.contains(message), "{ran:?}");
}

#[tokio::test]
async fn scripts_learn_the_outcome_by_the_exit_code() {
    let (now, live) = running();
    for (to, reason, arguments, code) in [
        (Phase::Done, "promoted", &[][..], 0),
        (Phase::Watching, "every gate says good", &["--until", "promoted"], 0),
        (Phase::RolledBack, "errors: 9% of 200 against 1%", &[], 3),
        (Phase::Paused, "no progress for 1 h", &[], 4),
        (Phase::Superseded, "rollout 2, of v3, took its place", &[], 1),
    ] {
        let fake = FakeRouter::start().await;
        fake.state()
            .rollouts
            .insert("sentiment".into(), (now.clone(), live.clone()));
        let end = after(&now, to, 0, reason);
        // The router restarts meanwhile.
        fake.state().course = [Err(Status::unavailable("restarting")), Ok((end, live.clone()))].into();
        let ran = rollout(&fake, &[&["wait"], arguments].concat()).await;
        assert_eq!(ran.code, code, "{to:?}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{to:?}: {ran:?}");
        assert!(
            ran.stdout.starts_with("sentiment: v1 → v2 (canary, rollout 1): "),
            "{ran:?}"
        );
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    }
    let fake = FakeRouter::start().await;
    fake.state()
        .rollouts
        .insert("sentiment".into(), (now.clone(), live.clone()));
    let ran = rollout(&fake, &["wait", "--timeout", "200ms"]).await;
    assert!(
        ran.code == 5 && ran.stderr.contains("after 200 ms the rollout has not ended"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_start_waits_for_its_own_rollout() {
    let (mut old, live) = running();
    old = after(&old, Phase::RolledBack, 0, "latency p95: slower");
    let fake = FakeRouter::start().await;
    fake.state()
        .rollouts
        .insert("sentiment".into(), (old.clone(), live.clone()));
    let mut new = old.clone();
    (new.number, new.history) = (2, vec![]);
    new.status = None;
    let done = after(&new, Phase::Done, 1_000_000, "promoted");
    // The router does not know of the new one at first.
    fake.state().course = [Ok((old, live.clone())), Ok((done, live))].into();
    let ran = rollout(&fake, &["start", "sentiment", "v2", "--wait"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, "sentiment: v1 → v2 (canary, rollout 2): done\n");
}

#[tokio::test]
async fn a_watch_in_a_pipe_is_one_line_for_each_change() {
    let (now, live) = running();
    let fake = FakeRouter::start().await;
    fake.state()
        .rollouts
        .insert("sentiment".into(), (now.clone(), live.clone()));
    let judging = after(&now, Phase::Judging, 50_000, "held for 60 s");
    let mut worse = live.clone();
    worse.gates[0].verdict = understudy_protocol::v1::Verdict::Worse.into();
    let back = after(&judging, Phase::RolledBack, 0, "errors: 9% of 200 against 1% of 3,800");
    fake.state().course = [
        Ok((now.clone(), live.clone())),
        Ok((judging.clone(), live.clone())),
        Ok((judging, worse.clone())),
        Ok((back, worse)),
    ]
    .into();
    let ran = rollout(&fake, &["watch"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{ran:?}");
    assert_eq!(
        lines.remove(0),
        "sentiment: v1 → v2 (canary, rollout 1): step 2 of 4 at 5%, baking"
    );
    assert!(
        lines[0].ends_with("  baking → judging at 5%: held for 60 s (controller r1)"),
        "{ran:?}"
    );
    assert!(
        lines[1].ends_with("  errors: worse: 1.0% of 100 against 1.0% of 1,900"),
        "{ran:?}"
    );
    assert!(
        lines[2].ends_with("  judging → rolled back at 0%: errors: 9% of 200 against 1% of 3,800 (controller r1)"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn commands_need_no_model_when_only_one_can_be_meant() {
    let fake = FakeRouter::start().await;
    let ran = rollout(&fake, &["pause"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("there was no rollout yet: start one"),
        "{ran:?}"
    );
    let (now, live) = running();
    fake.state()
        .rollouts
        .insert("sentiment".into(), (now.clone(), live.clone()));
    for (arguments, said) in [
        (
            &["pause", "--reason", "lunch"][..],
            "sentiment: v1 → v2 (canary, rollout 1): paused in step 2 of 4 at 5%, baking: lunch\n",
        ),
        (
            &["resume"],
            "sentiment: v1 → v2 (canary, rollout 1): step 1 of 4 at 1%, baking\n",
        ),
        (
            &["promote", "--force"],
            "sentiment: v1 → v2 (canary, rollout 1): promoting\n",
        ),
        (&["promote"], "sentiment: v1 → v2 (canary, rollout 1): promoting\n"),
        (&["abort"], "sentiment: v1 → v2 (canary, rollout 1): rolling back\n"),
        (
            &["undo", "sentiment", "--reason", "wrong"],
            "sentiment: v1 → v2 (canary, rollout 1): rolling back: wrong\n",
        ),
    ] {
        let ran = rollout(&fake, arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, said), "{arguments:?}: {ran:?}");
    }
    let ran = rollout(&fake, &["abort", "--local"]).await;
    assert!(
        ran.code == 0 && ran.stdout.contains("gives all traffic to the stable version"),
        "{ran:?}"
    );
    let ran = run(fake.url(), &["status"]).await;
    assert!(
        ran.code == 1 && ran.stdout.contains("sentiment was aborted on this router alone"),
        "{ran:?}"
    );
    assert_eq!(
        fake.state().commands,
        [
            "pause sentiment lunch",
            "resume sentiment",
            "promote by force sentiment",
            "promote sentiment",
            "abort sentiment",
            "undo sentiment wrong",
            "abort locally sentiment",
        ]
    );
    let mut other = now.clone();
    other.model = "critic".into();
    fake.state().rollouts.insert("critic".into(), (other, live));
    let ran = rollout(&fake, &["abort"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("Name one of critic, sentiment"),
        "{ran:?}"
    );
    let ran = rollout(&fake, &["abort", "nobody"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("begin one with `understudy rollout start`\n"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn an_abort_says_what_else_helps() {
    let fake = FakeRouter::start().await;
    let (now, live) = running();
    let refused = || {
        Some(status::reason(
            Code::FailedPrecondition,
            "it has gone back",
            "NOT_IN_THIS_PHASE",
        ))
    };
    fake.state()
        .rollouts
        .insert("sentiment".into(), (now.clone(), live.clone()));
    fake.state().refusal = refused();
    let ran = rollout(&fake, &["abort"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("it has gone back"), "{ran:?}");
    let back = after(&now, Phase::RolledBack, 0, "lunch");
    fake.state().rollouts.insert("sentiment".into(), (back, live));
    fake.state().refusal = refused();
    let ran = rollout(&fake, &["abort"]).await;
    assert!(
        ran.code == 0 && ran.stdout.contains("rolled back: lunch"),
        "it is done: {ran:?}"
    );
    fake.state().refusal = Some(Status::unavailable("the registry does not answer"));
    let ran = rollout(&fake, &["abort"]).await;
    assert!(
        ran.code == 1 && ran.stderr.contains("rollout abort sentiment --local"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_dry_run_prints_the_plan_and_begins_nothing() {
    let fake = FakeRouter::start().await;
    let ran = rollout(&fake, &["start", "--dry-run", "--steps", "5,50"]).await;
    for said in [
        "model: sentiment\n",
        "candidate: v2 ",
        "  - weight: 50%\n",
        "progress_deadline: 1h ",
    ] {
        assert!(ran.code == 0 && ran.stdout.contains(said), "{said}: {ran:?}");
    }
    assert!(
        ran.stderr
            .contains("plan: shadow with 10% of the requests → 5% → 50% → 100%")
    );
    assert_eq!(fake.state().started, []);
    let (_folder, path) = file("again.yaml", &ran.stdout);
    let ran = rollout(&fake, &["start", "--spec", &path]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(started(&fake).spec.unwrap().steps.len(), 2);
}

#[tokio::test]
async fn what_was_compared_only_says_how_it_came_out() {
    let fake = FakeRouter::start().await;
    let (mut now, live) = running();
    now.spec.as_mut().unwrap().strategy = Strategy::Shadow.into();
    fake.state()
        .rollouts
        .insert("sentiment".into(), (now.clone(), live.clone()));
    fake.state().course = [Ok((after(&now, Phase::Done, 0, "compared only"), live))].into();
    let ran = rollout(&fake, &["wait"]).await;
    assert!(
        ran.code == 0
            && ran
                .stderr
                .contains("errors: undecided (1.0% of 100 against 1.0% of 1,900)"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn what_there_is_to_see() {
    let fake = FakeRouter::start().await;
    let (now, live) = running();
    fake.state().rollouts.insert("sentiment".into(), (now, live));
    let ran = rollout(&fake, &["status"]).await;
    for said in [
        "load ●  shadow ●  1% ●  5% ◐  25% ○  50% ○  100% ○  watch ○  standby ○\n",
        "5% wanted, 5.00% actual of 2,000 requests · 1 of 1 router have it",
        "phase      step 2 of 4 at 5%, baking, 12 s of 60 s\n",
        "waits for  the step's hold\n",
        "then       25%\n",
        "errors  undecided  ░░░░░░░░   0%  ███░░░░░  46%  1.0% of 100 against 1.0% of 1,900\n",
    ] {
        assert!(ran.code == 0 && ran.stdout.contains(said), "{said}: {ran:?}");
    }
    let ran = rollout(&fake, &["status", "--json"]).await;
    assert_eq!(ran.json()["live"]["leader"], "r1", "{ran:?}");
    assert_eq!(ran.json()["rollout"]["status"]["phase"], "PHASE_BAKING", "{ran:?}");
    let ran = rollout(&fake, &["list"]).await;
    assert!(
        ran.code == 0 && ran.stdout.contains("step 2 of 4 at 5%, baking"),
        "{ran:?}"
    );
    let ran = rollout(&fake, &["history"]).await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 6), "{ran:?}");
    let ran = rollout(&fake, &["diff"]).await;
    assert!(ran.code == 0 && ran.stderr.contains("did not differ"), "{ran:?}");
    let differs = |id: &str| Disagreement {
        request_id: id.into(),
        text: "not \u{1b}[2Jbad".into(),
        stable: "negative 0.55".into(),
        candidate: "positive 0.98".into(),
        ..Disagreement::default()
    };
    fake.state().disagreements = vec![differs("r-1"), differs("r-2")];
    let ran = rollout(&fake, &["diff", "--limit", "1"]).await;
    assert!(
        ran.stdout.contains("positive 0.98") && !ran.stdout.contains("r-2"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
    for command in [&["status"][..], &["route", "show"], &["route", "show", "sentiment"]] {
        let ran = run(fake.url(), command).await;
        let said = "sentiment: v1 → v2 (canary, rollout 1): step 2 of 4 at 5%, baking";
        assert!(ran.code == 0 && ran.stdout.contains(said), "{command:?}: {ran:?}");
    }
    let ran = run(fake.url(), &["status", "--json"]).await;
    assert_eq!(ran.json()["rollouts"][0]["number"], "1", "{ran:?}");
}
