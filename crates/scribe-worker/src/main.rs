//! `understudy-scribe`: serves text generators over gRPC.

use std::env;

use anyhow::Context as _;
use clap::Parser as _;
use understudy_scribe::{
    app::App,
    backend,
    config::{Command, Options},
    probe, quantize,
};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // What libgomp reads when the process starts.
    backend::prepare_process();
    understudy_telemetry::init(&options.log)?;
    if let Some(file) = options.probe {
        return probe::run(&file, options.engine.device);
    }
    if let Some(Command::Quantize(quantize)) = options.command {
        return quantize::quantize(&quantize.input, &quantize.output, quantize.quantization);
    }
    let binary =
        env::current_exe().context("cannot find this binary, which tries model files in a process of its own")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = App::start(options.worker, options.engine, binary).await?;
        app.run(understudy_worker::shutdown_signal()).await
    })
}
