//! What happens while the load is on.

use std::{process::Stdio, time::Duration};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tokio::{process::Command, signal, time::sleep};

use super::sender::Load;
use crate::output::{Output, thousands};

const TICK: Duration = Duration::from_millis(100);

pub(super) struct Plan {
    pub(super) duration: Option<Duration>,
    pub(super) requests: Option<u64>,
    pub(super) command: Vec<String>,
}

/// What happened.
#[derive(Debug)]
pub(super) struct Outcome {
    /// When each phase began.
    pub(super) phases: Vec<(&'static str, Duration)>,
    pub(super) end: Duration,
    pub(super) command_succeeded: bool,
}

impl Plan {
    /// Comes back when it is time to stop, or Ctrl-C was pressed.
    pub(super) async fn run(self, load: &Load, output: &Output) -> anyhow::Result<Outcome> {
        let total = self.requests.unwrap_or_default();
        let bar = match self.requests {
            Some(_) => output.bar(total, "{bar:30} {pos} of {len} requests  {per_sec}  {eta} left"),
            None => output.spinner("sending"),
        };
        let mut outcome = Outcome {
            phases: vec![("all", Duration::ZERO)],
            end: Duration::ZERO,
            command_succeeded: true,
        };
        let result = tokio::select! {
            result = self.act(load, output, &mut outcome) => result,
            () = show(load, &bar, self.requests.is_some()) => Ok(()),
            interrupted = signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
        };
        bar.finish_and_clear();
        result.map(|()| outcome)
    }

    async fn act(&self, load: &Load, output: &Output, outcome: &mut Outcome) -> anyhow::Result<()> {
        let Some(duration) = self.duration else {
            // The request count ends the run.
            return std::future::pending().await;
        };
        let [program, arguments @ ..] = self.command.as_slice() else {
            sleep(duration).await;
            return Ok(());
        };
        outcome.phases = vec![("before", Duration::ZERO)];
        sleep(duration).await;
        // The command's output is not part of the answer.
        let stdout = std::io::stderr();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::from(stdout))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        outcome.phases.push(("during", load.elapsed()));
        let status = child
            .wait()
            .await
            .with_context(|| format!("cannot wait for {program}"))?;
        outcome.phases.push(("after", load.elapsed()));
        if !status.success() {
            output.warning(format_args!("{program} failed ({status})"));
            outcome.command_succeeded = false;
        }
        sleep(duration).await;
        Ok(())
    }
}

/// Keeps the bar up to date; ends when all requests are answered.
async fn show(load: &Load, bar: &ProgressBar, counted: bool) {
    let (mut before, mut rate) = (0, 0.0);
    while !load.is_exhausted() {
        sleep(TICK).await;
        let answered = load.answered();
        if counted {
            bar.set_position(answered);
        } else {
            let now = (answered - before) as f64 / TICK.as_secs_f64();
            rate = if rate == 0.0 { now } else { 0.9 * rate + 0.1 * now };
            bar.set_message(format!("{} requests, {rate:.0}/s", thousands(answered)));
            before = answered;
        }
    }
}
