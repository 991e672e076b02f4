//! One supervised process.
//!
//! ```text
//!   spawn ─▶ running ─▶ exited ─(was healthy)─▶ wait (backoff) ─▶ spawn
//!               │          └─(never healthy)──▶ finished
//!               └─(told to stop: SIGTERM, or SIGKILL)─▶ finished
//! ```

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{Pid, getppid},
};
use tokio::{io::BufReader, process::Command, sync::watch, time::sleep};

use super::{
    logs::LogStyle,
    plan::{ChildSpec, Role},
};
use crate::output::{Output, duration};

const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A process that ran this long is no crash loop.
const STEADY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run,
    Stop,
    Kill,
}

/// A process that is kept running until it is told to stop.
#[derive(Debug)]
pub(super) struct Child {
    role: Role,
    name: String,
    order: watch::Sender<Order>,
    healthy: Arc<AtomicBool>,
    /// Why it is not coming back; empty if it was told to stop.
    finished: watch::Receiver<Option<String>>,
}

impl Child {
    pub(super) fn supervise(spec: ChildSpec, style: LogStyle, output: Output, index: usize) -> Self {
        let (order, orders) = watch::channel(Order::Run);
        let (finish, finished) = watch::channel(None);
        let healthy = Arc::new(AtomicBool::new(false));
        let (role, name) = (spec.role, spec.name.clone());
        let keeper = Keeper {
            spec,
            style,
            output,
            index,
            orders,
            healthy: healthy.clone(),
        };
        tokio::spawn(async move {
            let why = keeper.run().await;
            finish.send_replace(Some(why));
        });
        Self {
            role,
            name,
            order,
            healthy,
            finished,
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// From now on a crash is followed by a restart.
    pub(super) fn mark_healthy(&self) {
        self.healthy.store(true, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.raise(Order::Stop);
    }

    pub(super) fn kill(&self) {
        self.raise(Order::Kill);
    }

    fn raise(&self, to: Order) {
        self.order.send_if_modified(|order| {
            let is_more = *order < to;
            *order = (*order).max(to);
            is_more
        });
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.borrow().is_some()
    }

    /// Comes back when the process is gone for good, and says why.
    pub(super) async fn finished(&mut self) -> String {
        let why = self.finished.wait_for(Option::is_some).await.map(|why| why.clone());
        why.ok().flatten().unwrap_or_else(|| "its supervision ended".into())
    }
}

struct Keeper {
    spec: ChildSpec,
    style: LogStyle,
    output: Output,
    index: usize,
    orders: watch::Receiver<Order>,
    healthy: Arc<AtomicBool>,
}

impl Keeper {
    async fn run(mut self) -> String {
        let mut backoff = BACKOFF;
        loop {
            if *self.orders.borrow() != Order::Run {
                return String::new();
            }
            let started = Instant::now();
            let why = match self.spawn() {
                Ok(mut process) => {
                    let status = self.watch(&mut process).await;
                    if *self.orders.borrow() != Order::Run {
                        return String::new();
                    }
                    status.map_or_else(|error| error.to_string(), |status| ended(&status))
                }
                Err(error) => format!("could not be started: {error}"),
            };
            let why = format!("{} {why}", self.spec.name);
            if !self.healthy.load(Ordering::Relaxed) {
                return why;
            }
            if started.elapsed() >= STEADY {
                backoff = BACKOFF;
            }
            self.style.say(
                &self.output,
                &format!("{why}; starting it again in {}", duration(backoff)),
            );
            tokio::select! {
                () = sleep(backoff) => {}
                _ = self.orders.wait_for(|order| *order != Order::Run) => return String::new(),
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn spawn(&self) -> io::Result<tokio::process::Child> {
        let spec = &self.spec;
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.arguments)
            .envs(spec.environment.iter().copied())
            .env("UNDERSTUDY_LOG_FORMAT", self.style.child_format())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let supervisor = Pid::this();
        let die_with_supervisor = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // It may have died before the kernel knew.
            if getppid() == supervisor {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(nix::libc::ESRCH))
            }
        };
        #[expect(
            unsafe_code,
            reason = "the parent-death signal can only be set in the child, between fork and exec"
        )]
        // SAFETY: the closure makes two system calls and neither allocates nor locks.
        unsafe {
            command.pre_exec(die_with_supervisor);
        }
        let mut process = command.spawn()?;
        let (output, name, style) = (&self.output, &spec.name, self.style);
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(style.pump(output.clone(), name.clone(), self.index, BufReader::new(stdout)));
        }
        if let Some(stderr) = process.stderr.take() {
            tokio::spawn(style.pump(output.clone(), name.clone(), self.index, BufReader::new(stderr)));
        }
        Ok(process)
    }

    /// Waits for the end of the process, and passes orders on to it.
    async fn watch(&mut self, process: &mut tokio::process::Child) -> io::Result<ExitStatus> {
        let mut told = Order::Run;
        while told != Order::Kill {
            let order = tokio::select! {
                status = process.wait() => return status,
                order = next_order(&mut self.orders, told) => order,
            };
            told = order;
            let signal = if told == Order::Kill {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            };
            if let Some(id) = process.id().and_then(|id| i32::try_from(id).ok()) {
                // It may have ended by itself this moment.
                let _ = kill(Pid::from_raw(id), signal);
            }
        }
        process.wait().await
    }
}

/// The next order that is more than the last one. A supervisor that is gone takes its children with it.
async fn next_order(orders: &mut watch::Receiver<Order>, told: Order) -> Order {
    orders
        .wait_for(|order| *order > told)
        .await
        .map_or(Order::Kill, |order| *order)
}

fn ended(status: &ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (
        status.code(),
        status.signal().and_then(|signal| Signal::try_from(signal).ok()),
    ) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by {signal}"),
        (None, None) => "ended".into(),
    }
}
