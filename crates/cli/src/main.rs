//! `understudy`: what an operator types.
//!
//! One file for each subcommand. All of them but `up` and `registry` are plain clients of a router: whatever they do can
//! be done with the gRPC API. A command's answer goes to standard output, everything else (progress, remarks, errors)
//! to standard error, so that output can be piped. `--json` makes the answer JSON.
//!
//! Exit codes: 0 done; 1 failed, or something is wrong (`status`), or something was refused (`classify`, `load`); 2 wrong
//! usage. `rollout start --wait`, `rollout wait` and `rollout watch`: 0 promoted, 3 rolled back, 4 paused, 5 if they ended
//! before the rollout did.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc comments are also the help text, where brackets mean optional"
)]

mod args;
mod chat;
mod classify;
mod completions;
mod critique;
mod hub;
mod load;
mod models;
mod output;
mod problem;
mod publish;
mod registry;
mod retry;
mod rollout;
mod route;
mod router;
mod sampling;
mod status;
mod table;
mod texts;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{args::Cli, output::Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let result = cli.runtime().map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(cli.run(&output));
        // A blocking read of standard input must not hold the process back.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(code) => code,
        Err(error) => output.error(&error),
    }
}
