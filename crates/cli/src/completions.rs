use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{args::Cli, output::Output};

/// Prints the completion script of a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  understudy completions bash > ~/.local/share/bash-completion/completions/understudy"
)]
pub(crate) struct CompletionsOptions {
    shell: Shell,
}

impl CompletionsOptions {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "understudy", &mut script);
        output.raw(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
