//! `understudy-analyst`: serves text classifiers over gRPC.

use clap::Parser as _;
use understudy_analyst::{app::App, config::Options};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    understudy_telemetry::init(&options.log)?;
    // Before any thread is started.
    understudy_distilbert::init_process();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = App::start(options.worker, options.analyst).await?;
        app.run(understudy_worker::shutdown_signal()).await
    })
}
