//! `up` with children that only pretend: the registry is real, router and workers are this test program again.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use understudy_protocol::v1::{Kind, ResidencyState};

use crate::{
    fake_router::{FakeRouter, worker},
    run::{Ran, understudy},
};

/// What the pretended children run. They log `name event pid` lines into $FAKE_EVENTS.
#[test]
#[ignore = "it is the program of the children that the other tests start"]
fn fake_child() {
    let arguments = flags("FAKE_ARGUMENTS");
    let flag = |name: &str| arguments.iter().skip_while(|found| *found != name).nth(1).cloned();
    let name = flag("--name").unwrap_or_else(|| "router".into());
    let settings = flags("FAKE_SETTINGS");
    let is = |setting: &str| settings.iter().any(|found| *found == format!("{name}-{setting}"));
    let event = |event: &str| {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(flags("FAKE_EVENTS").join(" "))
            .unwrap();
        // In one write: a reader never sees half a line.
        let line = format!("{name} {event} {}\n", std::process::id());
        file.write_all(line.as_bytes()).unwrap();
    };
    if is("fails") {
        eprintln!("cannot go on");
        std::process::exit(3);
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let fake = FakeRouter::empty(flag("--listen").unwrap().parse().unwrap()).await;
        let analyst = worker("analyst-1", &[("v1", ResidencyState::Ready, "")]);
        let mut scribe = analyst.clone();
        let held = scribe.worker.as_mut().unwrap();
        held.kind = Kind::Scribe.into();
        held.versions[0].model = "critic".into();
        fake.state().workers = vec![analyst.clone(), analyst, scribe];
        fake.state().store = flags("FAKE_STORE").join(" ");
        event("start");
        terminate.recv().await;
        event("told");
        if is("hangs") {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        event("end");
    });
    std::process::exit(0);
}

fn flags(variable: &str) -> Vec<String> {
    let value = std::env::var_os(variable).unwrap_or_default().into_string().unwrap();
    value.split_whitespace().map(str::to_owned).collect()
}

struct Up {
    folder: TempDir,
    process: Child,
    ready: Value,
}

impl Up {
    fn command(folder: &Path, settings: &str) -> Command {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let own = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nFAKE_ARGUMENTS=\"$*\" exec {} --exact up::fake_child --ignored --nocapture --test-threads 1\n",
            own.display()
        );
        for name in ["understudy-router", "understudy-analyst", "understudy-scribe"] {
            let path = bin.join(name);
            fs::write(&path, &script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = understudy();
        command
            .args(["up", "--json", "--free-ports", "--analysts", "2", "--data-dir"])
            .arg(folder.join("data"));
        command
            .env("UNDERSTUDY_BIN", bin)
            .env("FAKE_EVENTS", folder.join("events"))
            .env("FAKE_STORE", format!("file://{}/store", folder.display()))
            .env("FAKE_SETTINGS", settings);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Comes back when it is ready.
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = Self::command(folder.path(), settings);
        Self::ready(command, folder)
    }

    fn ready(mut command: Command, folder: TempDir) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut process = command.stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let log = || fs::read_to_string(folder.path().join("log")).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?} {}", log()));
        Self { folder, process, ready }
    }

    fn events(&self) -> Vec<(String, i32)> {
        let text = fs::read_to_string(self.folder.path().join("events")).unwrap_or_default();
        let event = |line: &str| {
            line.rsplit_once(' ')
                .map(|(event, id)| (event.to_owned(), id.parse().unwrap()))
        };
        text.lines().filter_map(event).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn signal(&self, to: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), to).unwrap();
    }

    fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{what}: {:?}\n{}",
                self.events(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_alive(id: i32) -> bool {
    // A zombie has no command line any more.
    fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn crashes_are_repaired_and_the_drain_has_an_order() {
    let mut up = Up::start("");
    assert_eq!(up.ready["analysts"].as_array().unwrap().len(), 2);
    let router = up.events().iter().find(|(event, _)| event == "router start").unwrap().1;
    kill(Pid::from_raw(router), Signal::SIGKILL).unwrap();
    up.wait_for("a new router", || {
        up.events().iter().filter(|(event, _)| event == "router start").count() == 2
    });
    assert!(
        up.log().contains("router was killed by SIGKILL; starting it again"),
        "{}",
        up.log()
    );

    let mut second = understudy();
    second
        .args(["up", "--free-ports", "--data-dir"])
        .arg(up.data())
        .env("UNDERSTUDY_BIN", up.folder.path().join("bin"));
    let second: Ran = second.output().unwrap().into();
    assert!(second.code == 1 && second.stderr.contains("runs already"), "{second:?}");

    up.signal(Signal::SIGTERM);
    let status = up.process.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", up.log());
    let events: Vec<_> = up.events().into_iter().map(|(event, _)| event).collect();
    let at = |event: &str| {
        events
            .iter()
            .position(|found| found == event)
            .unwrap_or_else(|| panic!("{event}: {events:?}"))
    };
    assert!(
        at("router end") < at("analyst-1 told").min(at("analyst-2 told")),
        "{events:?}"
    );
    assert!(at("analyst-1 end") < events.len() && at("analyst-2 end") < events.len());
    let log = up.log();
    assert!(
        log.contains(r#"{"process":"registry","#) && log.contains("stopped"),
        "{log}"
    );
}

#[test]
fn a_second_signal_kills() {
    let mut up = Up::start("router-hangs");
    up.signal(Signal::SIGINT);
    up.wait_for("the router was told", || {
        up.events().iter().any(|(event, _)| event == "router told")
    });
    assert!(up.process.try_wait().unwrap().is_none(), "it waits for the drain");
    up.signal(Signal::SIGINT);
    assert_eq!(up.process.wait().unwrap().code(), Some(1));
    assert!(up.events().iter().all(|(_, id)| !is_alive(*id)), "{:?}", up.events());
}

#[test]
fn children_do_not_outlive_the_supervisor() {
    let mut up = Up::start("");
    let children: Vec<_> = up.events().into_iter().map(|(_, id)| id).collect();
    assert!(children.len() == 3 && children.iter().all(|id| is_alive(*id)));
    up.signal(Signal::SIGKILL);
    assert_eq!(up.process.wait().unwrap().signal(), Some(9));
    up.wait_for("the children die", || children.iter().all(|id| !is_alive(*id)));
}

#[test]
fn a_child_that_dies_at_the_start_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let ran: Ran = Up::command(folder.path(), "analyst-2-fails").output().unwrap().into();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("analyst-2 exited with code 3 before it was ready"),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains(r#"{"message":"cannot go on","process":"analyst-2"}"#),
        "its log is shown: {ran:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_gguf_to_serve_gets_a_scribe() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("critic.gguf");
    fs::write(&gguf, "GGUF").unwrap();
    let mut command = Up::command(folder.path(), "");
    command.arg("--serve").arg(format!("critic/v1={}", gguf.display()));
    let up = Up::ready(command, folder);
    let listens = |kind: &str| up.ready[kind].as_array().unwrap().len();
    assert_eq!(
        (listens("analysts"), listens("scribes"), listens("scribe_metrics")),
        (2, 1, 1)
    );
    assert!(up.ready["scribes"][0] != up.ready["analysts"][0]);
    let started: Vec<_> = up.events().into_iter().map(|(event, _)| event).collect();
    assert!(started.contains(&"scribe-1 start".to_owned()), "{started:?}");
}

#[test]
fn a_scribe_that_is_not_installed_is_missed_only_when_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let missing = |more: &[&str]| -> Ran {
        let mut command = Up::command(folder.path(), "router-fails");
        fs::remove_file(folder.path().join("bin/understudy-scribe")).unwrap();
        command.args(more).output().unwrap().into()
    };
    let ran = missing(&["--scribes", "1"]);
    assert!(
        ran.code == 1 && ran.stderr.contains("there is no understudy-scribe in"),
        "{ran:?}"
    );
    let ran = missing(&[]);
    assert!(ran.stderr.contains("router exited with code 3"), "{ran:?}");
}
