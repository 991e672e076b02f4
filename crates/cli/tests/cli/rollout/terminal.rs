//! `rollout watch` at a terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, tcgetattr},
};

use crate::{
    fake_router::{FakeRouter, rollouts::running},
    run::understudy,
};

/// A slow machine is no fault.
const PATIENCE: Duration = Duration::from_secs(20);

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn keys_steer_and_the_terminal_is_given_back() {
    let fake = FakeRouter::start().await;
    fake.state().rollouts.insert("sentiment".into(), running());
    let size = Winsize {
        ws_row: 30,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    let terminal = || pty.slave.try_clone().unwrap();
    let mut command = understudy();
    command
        .env("UNDERSTUDY_ROUTER", fake.url())
        .env("TERM", "xterm-256color")
        .args(["rollout", "watch"])
        .stdin(terminal())
        .stdout(terminal())
        .stderr(terminal());
    let mut child = command.spawn().unwrap();
    let mut keys = File::from(pty.master.try_clone().unwrap());
    let seen = Arc::new(Mutex::new(String::new()));
    let (mut screen, shown) = (File::from(pty.master), seen.clone());
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            shown
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    let sees = |text: &str| seen.lock().unwrap().contains(text);
    let commands = || fake.state().commands.clone();

    until("the picture", || {
        sees("step 2 of 4 at 5%, baking") && sees("q quit   p pause")
    })
    .await;
    keys.write_all(b"p").unwrap();
    until("a pause", || {
        commands() == ["pause sentiment"] && sees("paused in step 2 of 4")
    })
    .await;
    keys.write_all(b"r").unwrap();
    until("a resumption", || commands().len() == 2).await;
    keys.write_all(b"an").unwrap();
    until("a question", || {
        sees("Give all traffic back to the stable version? y/n")
    })
    .await;
    keys.write_all(b"p").unwrap();
    until("no abort", || {
        commands().last().is_some_and(|last| last == "pause sentiment")
    })
    .await;
    keys.write_all(b"ay").unwrap();
    until("an abort", || {
        commands().last().is_some_and(|last| last == "abort sentiment")
    })
    .await;
    keys.write_all(b"q").unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(5), "the rollout goes on");
    until("the end", || sees("\u{1b}[?1049l")).await;
    let flags = tcgetattr(&pty.slave).unwrap().local_flags;
    assert!(flags.contains(LocalFlags::ECHO | LocalFlags::ICANON), "{flags:?}");
    until("the last picture", || {
        let seen = seen.lock().unwrap();
        seen.rsplit("\u{1b}[?1049l")
            .next()
            .is_some_and(|rest| rest.contains("rolling back"))
    })
    .await;
}
