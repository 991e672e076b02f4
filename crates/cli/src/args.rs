//! The command line as a whole.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::{
    chat::ChatOptions,
    classify::ClassifyOptions,
    completions::CompletionsOptions,
    critique::CritiqueOptions,
    load::LoadOptions,
    models::ModelsCommand,
    output::Output,
    registry::RegistryCommandOptions,
    rollout::RolloutCommand,
    route::RouteCommand,
    router::{Router, RouterOptions},
    up::UpOptions,
};

const START: &str = "\
Start here:
  understudy up --serve sentiment=hf:distilbert/distilbert-base-uncased-finetuned-sst-2-english
  understudy classify 'A wonderful film with great performances.'
  understudy critique reviews.csv
  understudy status

Bring a new version into service, watch it, and take it back:
  understudy models publish ./my-model --model sentiment --version v2
  understudy rollout start sentiment v2
  understudy rollout watch sentiment
  understudy rollout abort sentiment";

/// Serves language models and changes them without a failed request
#[derive(Debug, Parser)]
#[command(name = "understudy", version, after_help = START, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    router: RouterOptions,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<UpOptions>),
    /// Publishes and shows the versions of models
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Decides which versions answer, and with what share of the traffic
    #[command(subcommand)]
    Route(RouteCommand),
    /// Brings new versions into service by evidence: shadow, canary, blue-green, A/B
    #[command(subcommand, after_help = crate::rollout::EXAMPLES)]
    Rollout(RolloutCommand),
    Classify(ClassifyOptions),
    Critique(CritiqueOptions),
    Chat(ChatOptions),
    Load(LoadOptions),
    /// Tells whether everything works, and what to do about what does not
    ///
    /// Exits with 1 if something is wrong.
    Status,
    Completions(CompletionsOptions),
    Registry(RegistryCommandOptions),
}

impl Cli {
    /// `up` runs on one thread: the kernel's parent-death signal is bound to the thread that started the child, so that
    /// thread must live as long as the process.
    pub(crate) fn runtime(&self) -> io::Result<Runtime> {
        match self.command {
            Command::Up(_) => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        }
        .enable_all()
        .build()
    }

    pub(crate) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Up(options) => options.run(&self.router, output).await,
            Command::Models(command) => command.run(&Router::connect(&self.router).await?, output).await,
            Command::Route(command) => command.run(&Router::connect(&self.router).await?, output).await,
            Command::Rollout(command) => command.run(&Router::connect(&self.router).await?, output).await,
            Command::Classify(options) => options.run(&Router::connect(&self.router).await?, output).await,
            Command::Critique(options) => options.run(&Router::connect(&self.router).await?, output).await,
            Command::Chat(options) => options.run(&Router::connect(&self.router).await?, output).await,
            Command::Load(options) => options.run(&self.router, output).await,
            Command::Status => crate::status::run(&self.router, output).await,
            Command::Completions(options) => options.run(output),
            Command::Registry(options) => options.run().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
