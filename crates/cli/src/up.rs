//! `understudy up`: the whole platform on one machine, as supervised child processes.
//!
//! ```text
//!            start                                   stop (Ctrl-C, SIGTERM, SIGHUP)
//!   registry ─────▶ router, workers ─▶ --serve      router ─▶ workers ─▶ registry
//!                   (all healthy)      └▶ ready     (each drains before the next is told; a second Ctrl-C kills all)
//! ```
//!
//! The data folder, which one `up` at a time may use:
//!
//! ```text
//!   up.lock       held by the running supervisor; its text says which process that is
//!   registry/     the embedded registry's database (models, versions, routes)
//!   artifacts/    files of published versions
//!   cache/        workers' checked copies of artifacts; may be deleted while nothing runs
//!   router/       the router's last known good state
//! ```
//!
//! Invariants: a child that was once healthy is restarted for ever, with backoff; one that dies before that ends the
//! start, as it would die again. Children have process groups of their own, so that a Ctrl-C at the terminal reaches the
//! supervisor alone and the order of the drain is ours. The kernel kills them if the supervisor dies.

mod child;
mod health;
mod lock;
mod logs;
mod plan;
mod ports;
mod serve;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use console::style;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use understudy_protocol::v1::Kind;
use understudy_telemetry::LogOptions;

use self::{child::Child, logs::LogStyle, plan::Plan, serve::ServeSpec};
use crate::{
    hub::HubOptions,
    models,
    output::{Output, duration, time},
    router::{Router, RouterOptions},
};

const EXAMPLES: &str = "\
Examples:
  understudy up --serve sentiment=hf:distilbert/distilbert-base-uncased-finetuned-sst-2-english
  understudy up --serve sentiment=./checkpoint --analysts 2
  understudy up --serve sentiment=./checkpoint --serve critic=critic.gguf
  understudy up --data-dir ./run --free-ports --json        a second platform beside the first
  understudy up --registry http://etcd-0:2379               with an etcd instead of the embedded registry";

/// Runs the whole platform on this machine until Ctrl-C
///
/// Starts the registry, the router and the workers, restarts those that crash, and on Ctrl-C or SIGTERM stops them in order, so
/// that no request is lost; a second Ctrl-C kills them.
///
/// The data folder holds: up.lock (one `up` at a time), registry/ (models, versions, routes), artifacts/ (files of published
/// versions), cache/ (the workers' copies), router/ (last known good state).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpOptions {
    /// Publish SOURCE (a folder, FILE.gguf, hf:OWNER/NAME[/FILE.gguf][@REVISION], or the URI of a GGUF) as NAME's version, by
    /// default v1, unless it is published, and route NAME to it unless it has a route; may be repeated
    #[arg(long, value_name = "NAME[/VERSION]=SOURCE")]
    serve: Vec<ServeSpec>,
    /// Where everything is kept [default: $XDG_DATA_HOME/understudy or ~/.local/share/understudy]
    #[arg(long, env = "UNDERSTUDY_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    #[arg(long, env = "XDG_DATA_HOME", hide = true)]
    xdg_data_home: Option<PathBuf>,
    /// Workers that classify
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=64))]
    analysts: u16,
    /// Workers that write [default: 1 if --serve names a GGUF, otherwise 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=64))]
    scribes: Option<u16>,
    /// Use this etcd instead of the embedded registry; several addresses of one cluster with commas
    #[arg(long, env = "UNDERSTUDY_REGISTRY", value_name = "URL")]
    registry: Option<String>,
    /// Where publishers put artifacts: file://, s3://, gs:// or az:// [default: artifacts/ in the data folder]
    #[arg(long, env = "UNDERSTUDY_ARTIFACT_STORE", value_name = "URI")]
    artifact_store: Option<String>,
    /// How long each process may take to drain when the platform stops
    #[arg(long, default_value = "40s", value_parser = time, value_name = "TIME")]
    stop_timeout: Duration,
    /// Folder with understudy-router, understudy-analyst and understudy-scribe [default: beside this program, then PATH]
    #[arg(long, env = "UNDERSTUDY_BIN", value_name = "FOLDER")]
    bin: Option<PathBuf>,
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    hub: HubOptions,
    #[command(flatten)]
    log: LogOptions,
    /// Have the workers make calls of a version fail (error=SHARE) or wait (delay=TIME) on purpose, e.g.
    /// sentiment/v5:error=0.3; may be repeated. For trying out rollouts and alarms
    #[arg(long, value_name = "MODEL/VERSION:FAULT[,FAULT]", help_heading = "Testing")]
    inject_fault: Vec<String>,
}

/// Where the processes listen; port 0 takes a free one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Addresses (port 0 takes a free one)")]
struct Ports {
    /// Listen on free ports wherever no address is given
    #[arg(long)]
    free_ports: bool,
    /// The router, which clients call [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDRESS")]
    router_listen: Option<SocketAddr>,
    /// The router's metrics [default: 127.0.0.1:9470]
    #[arg(long, value_name = "ADDRESS")]
    router_metrics: Option<SocketAddr>,
    /// The first analyst; others take the ports after it [default: 127.0.0.1:8480]
    #[arg(long, value_name = "ADDRESS")]
    analyst_listen: Option<SocketAddr>,
    /// The first analyst's metrics; others take the ports after it [default: 127.0.0.1:9480]
    #[arg(long, value_name = "ADDRESS")]
    analyst_metrics: Option<SocketAddr>,
    /// The first scribe; others take the ports after it [default: 127.0.0.1:8490]
    #[arg(long, value_name = "ADDRESS")]
    scribe_listen: Option<SocketAddr>,
    /// The first scribe's metrics; others take the ports after it [default: 127.0.0.1:9490]
    #[arg(long, value_name = "ADDRESS")]
    scribe_metrics: Option<SocketAddr>,
    /// The embedded registry [default: 127.0.0.1:2379]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "registry")]
    registry_listen: Option<SocketAddr>,
}

impl UpOptions {
    pub(crate) async fn run(self, router_options: &RouterOptions, output: &Output) -> anyhow::Result<ExitCode> {
        self.check_workers()?;
        let data_dir = self.data_dir()?;
        let _lock = lock::Lock::take(&data_dir)?;
        let plan = Plan::new(&self, &data_dir)?;
        let style = LogStyle::choose(self.log.log_format, output.is_interactive());
        let mut stop = Stop::listen()?;
        let mut platform = Platform {
            children: Vec::new(),
            output: output.clone(),
            style,
        };

        let started = tokio::select! {
            started = self.start(&plan, router_options, &mut platform) => Some(started),
            () = stop.asked() => None,
        };
        let result = match started {
            Some(Ok(())) => {
                stop.asked().await;
                Ok(ExitCode::SUCCESS)
            }
            Some(Err(error)) => Err(error),
            None => Ok(ExitCode::SUCCESS),
        };
        let drained = platform.stop(self.stop_timeout, &mut stop).await;
        Ok(if drained {
            result?
        } else {
            result.and(Ok(ExitCode::FAILURE))?
        })
    }

    async fn start(&self, plan: &Plan, router_options: &RouterOptions, platform: &mut Platform) -> anyhow::Result<()> {
        if let Some(registry) = &plan.registry {
            let child = platform.launch(registry.clone());
            health::accepts(child, plan.registry_listen).await?;
            child.mark_healthy();
        }
        let first = platform.children.len();
        platform.launch(plan.router.clone());
        for worker in &plan.workers {
            platform.launch(worker.clone());
        }
        for (child, url) in platform.children[first..].iter_mut().zip(plan.health_urls()) {
            health::serves(child, &url).await?;
            child.mark_healthy();
        }
        let options = RouterOptions {
            router: plan.router_url.clone(),
            ..router_options.clone()
        };
        let router = Router::connect(&options).await?;
        health::knows_workers(&router, plan.workers.len()).await?;
        for spec in &self.serve {
            serve::serve(spec, &router, &platform.output, &self.hub).await?;
        }
        let models = models::all(&router).await?.into_iter();
        let routed = models.filter_map(|summary| Some((summary.model, summary.route?.kind() == Kind::Scribe)));
        if let Err(error) = plan.tell_ready(&platform.output, &routed.collect::<Vec<_>>()) {
            // No reason to stop serving.
            platform
                .style
                .say(&platform.output, &format!("ready, but nobody reads it: {error:#}"));
        }
        Ok(())
    }

    /// With an etcd, workers may run elsewhere; alone, what is served needs one here.
    fn check_workers(&self) -> anyhow::Result<()> {
        if self.registry.is_some() {
            return Ok(());
        }
        for spec in &self.serve {
            let (workers, flag) = match spec.is_scribe() {
                true => (self.scribes(), "--scribes"),
                false => (self.analysts, "--analysts"),
            };
            ensure!(
                workers > 0,
                "--serve {}: nothing would load it with {flag} 0: leave {flag} out, or say {flag} 1",
                spec.model()
            );
        }
        Ok(())
    }

    fn scribes(&self) -> u16 {
        let is_needed = self.serve.iter().any(ServeSpec::is_scribe);
        self.scribes.unwrap_or(u16::from(is_needed))
    }

    fn data_dir(&self) -> anyhow::Result<PathBuf> {
        let folder = match (&self.data_dir, &self.xdg_data_home) {
            (Some(folder), _) => folder.clone(),
            (None, Some(xdg)) if xdg.is_absolute() => xdg.join("understudy"),
            (None, _) => std::env::home_dir()
                .context("there is no home folder: name a folder with --data-dir")?
                .join(".local/share/understudy"),
        };
        std::fs::create_dir_all(&folder).with_context(|| {
            format!(
                "cannot create {}: name another folder with --data-dir",
                folder.display()
            )
        })?;
        Ok(std::path::absolute(folder)?)
    }
}

/// The children, in the order of their start.
struct Platform {
    children: Vec<Child>,
    output: Output,
    style: LogStyle,
}

impl Platform {
    fn launch(&mut self, spec: plan::ChildSpec) -> &mut Child {
        let index = self.children.len();
        self.children
            .push(Child::supervise(spec, self.style, self.output.clone(), index));
        &mut self.children[index]
    }

    /// Router first, registry last. False if something had to be killed.
    async fn stop(&mut self, timeout: Duration, stop: &mut Stop) -> bool {
        if self.children.is_empty() {
            return true;
        }
        self.style.say(&self.output, "stopping; once more to kill");
        let mut drained = true;
        for role in [plan::Role::Router, plan::Role::Worker, plan::Role::Registry] {
            let mut group: Vec<_> = self.children.iter_mut().filter(|child| child.role() == role).collect();
            for child in &group {
                child.stop();
            }
            let finished = async {
                for child in &mut group {
                    child.finished().await;
                }
            };
            tokio::select! {
                () = finished => {}
                () = stop.asked() => {
                    self.style.say(&self.output, "killing everything");
                    drained = false;
                    break;
                }
                () = tokio::time::sleep(timeout) => {
                    let names: Vec<_> = group.iter().filter(|child| !child.is_finished()).map(|child| child.name()).collect();
                    self.style.say(&self.output, &format!("{} did not stop within {}: killing", names.join(", "), duration(timeout)));
                    drained = false;
                    for child in &mut group {
                        child.kill();
                        child.finished().await;
                    }
                }
            }
        }
        for child in &mut self.children {
            child.kill();
            child.finished().await;
        }
        if drained {
            self.style.say(&self.output, "stopped");
        }
        drained
    }
}

/// Counts how often the user asked to stop.
struct Stop {
    asked: watch::Receiver<u32>,
    seen: u32,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let (sender, asked) = watch::channel(0);
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signal, sender) = (signal(kind)?, sender.clone());
            tokio::spawn(async move {
                while signal.recv().await.is_some() {
                    sender.send_modify(|count| *count += 1);
                }
            });
        }
        Ok(Self { asked, seen: 0 })
    }

    /// Comes back once for each time.
    async fn asked(&mut self) {
        let next = self.seen + 1;
        // The senders live as long as the process.
        let _ = self.asked.wait_for(|count| *count >= next).await;
        self.seen = next;
    }
}

/// A name in the colour of its process.
fn coloured(name: &str, index: usize) -> String {
    let styled = style(name).for_stderr();
    match index % 5 {
        0 => styled.blue(),
        1 => styled.magenta(),
        2 => styled.cyan(),
        3 => styled.green(),
        _ => styled.yellow(),
    }
    .to_string()
}
