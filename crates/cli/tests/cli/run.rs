//! Runs the command.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The command, without anything from the environment of whoever runs the tests.
pub(crate) fn understudy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs to the end, off the threads that the fake servers need.
pub(crate) async fn finish(mut command: Command) -> Ran {
    tokio::task::spawn_blocking(move || command.output().unwrap().into())
        .await
        .unwrap()
}

/// Runs with these arguments against this router.
pub(crate) async fn run(router: &str, arguments: &[&str]) -> Ran {
    let mut command = understudy();
    command.env("UNDERSTUDY_ROUTER", router).args(arguments);
    finish(command).await
}

#[tokio::test]
async fn completions_name_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run("http://127.0.0.1:1", &["completions", shell]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        for command in [
            "up", "models", "route", "rollout", "classify", "critique", "chat", "load", "status",
        ] {
            assert!(ran.stdout.contains(command), "{shell}: {command}");
        }
    }
}

#[tokio::test]
async fn wrong_usage_is_two_and_help_has_examples() {
    assert_eq!(run("", &["classify"]).await.code, 2);
    assert_eq!(run("", &["nonsense"]).await.code, 2);
    for command in [
        &["up"][..],
        &["models", "publish"],
        &["route", "set"],
        &["rollout"],
        &["rollout", "start"],
        &["rollout", "watch"],
        &["classify"],
        &["critique"],
        &["chat"],
        &["load"],
    ] {
        let ran = run("", &[command, &["--help"]].concat()).await;
        assert!(
            ran.code == 0 && ran.stdout.contains("Examples:\n  understudy "),
            "{command:?}: {ran:?}"
        );
    }
}
