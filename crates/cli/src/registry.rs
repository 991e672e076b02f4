use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use understudy_embedded_registry::Options;
use understudy_telemetry::LogOptions;

/// Runs the embedded registry alone (`up` does this for you)
///
/// It speaks the part of etcd's v3 API that Understudy uses, so `etcdctl` works on it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  understudy registry --data-dir /var/lib/understudy/registry --listen 127.0.0.1:2379"
)]
pub(crate) struct RegistryCommandOptions {
    #[command(flatten)]
    registry: Options,
    #[command(flatten)]
    log: LogOptions,
}

impl RegistryCommandOptions {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        understudy_telemetry::init(&self.log)?;
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let shutdown = async move {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        };
        understudy_embedded_registry::serve(self.registry, |_| {}, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    }
}
