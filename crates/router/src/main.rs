//! `understudy-router`: see the library.

use clap::Parser;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use understudy_router::{Router, RouterOptions};
use understudy_telemetry::{LogOptions, init, serve_metrics};

/// The address that clients know: splits, forwards and observes gRPC traffic
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    router: RouterOptions,
    #[command(flatten)]
    log: LogOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    init(&cli.log)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut registry = Registry::default();
    let metrics_listen = cli.router.metrics_listen;
    let router = Router::start(cli.router, &mut registry).await?;
    let _metrics = serve_metrics(metrics_listen, registry).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining");
    router.drain().await;
    Ok(())
}
