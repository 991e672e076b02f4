//! `understudy-trainer`: trains, evaluates and publishes DistilBERT classifiers, and trains the starter scribe.

mod batches;
mod card;
mod compare;
mod curve;
mod data;
mod evaluate;
mod explore;
mod files;
mod interrupt;
mod lora;
mod model;
mod optimizer;
mod outputs;
mod parallel;
mod pretrain;
mod progress;
mod publish;
mod recipe;
mod report;
mod retrain;
mod schedule;
mod scribe;
mod state;
mod steps;
mod teacher;
mod track;
mod train;
mod vocabulary;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use understudy_corpus::Limits;

use crate::interrupt::Stop;
use crate::parallel::{Launch, World};
use crate::steps::Outcome;

#[derive(Debug, Parser)]
#[command(name = "understudy-trainer", version, about)]
struct Arguments {
    #[command(flatten)]
    log: understudy_telemetry::LogOptions,
    #[command(flatten)]
    launch: Launch,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a WordPiece vocabulary and write its tokenizer.json
    Vocab(VocabOptions),
    /// Train a language model on texts without labels, or go on from a checkpoint
    Pretrain(Box<pretrain::PretrainOptions>),
    /// Train a new model, or go on from a checkpoint
    Train(Box<train::TrainOptions>),
    /// Look at a data set: classes, lengths, duplicates, leakage between splits, tokens
    Explore(explore::ExploreOptions),
    /// Measure a checkpoint or a baseline
    Evaluate(Box<evaluate::EvaluateOptions>),
    /// Measure several checkpoints on the same examples and name the best, if there is one
    Compare(Box<compare::CompareOptions>),
    /// List, show and compare tracked runs
    #[command(subcommand)]
    Runs(track::Command),
    /// Merge a LoRA adapter with the checkpoint that it adapts
    Merge(lora::MergeOptions),
    /// Put a checkpoint into the artifact store and the registry
    Publish(publish::PublishOptions),
    /// Learn from feedback, judge the new model beside the one that serves, and publish it
    Retrain(Box<retrain::RetrainOptions>),
    /// Make and measure the starter scribe, a small language model
    #[command(subcommand)]
    Scribe(scribe::Command),
}

#[derive(Debug, clap::Args)]
struct VocabOptions {
    /// Files with reviews, labelled or not
    #[arg(long, required = true, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Tokens
    #[arg(long, default_value_t = 12_000)]
    size: usize,
    /// Where to write it
    #[arg(long, short, default_value = "tokenizer.json", value_name = "FILE")]
    output: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    understudy_distilbert::init_process();
    understudy_distilbert::init_training();
    understudy_telemetry::init(&arguments.log)?;
    let launch = &arguments.launch;
    match arguments.command {
        Command::Vocab(options) => {
            let mut texts = Vec::new();
            for path in &options.data {
                texts.extend(understudy_corpus::load_unlabelled(path, &HashSet::new(), &Limits::training())?.texts);
            }
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let json = vocabulary::train(&texts, options.size, &[])?;
            files::write_whole(&options.output, json.as_bytes())?;
            println!("wrote {}", options.output.display());
        }
        Command::Train(options) => {
            return training(launch, |world, stop| Ok(train::train(*options, world, stop)?.into()));
        }
        Command::Pretrain(options) => {
            return training(launch, |world, stop| {
                Ok(pretrain::pretrain(*options, world, stop)?.into())
            });
        }
        Command::Evaluate(options) => println!("{}", evaluate::evaluate(&options)?),
        Command::Explore(options) => println!("{}", explore::explore(&options)?),
        Command::Compare(options) => println!("{}", compare::compare(&options)?),
        Command::Runs(command) => println!("{}", track::run(&command)?),
        Command::Merge(options) => println!("{}", lora::merge(&options)?),
        Command::Publish(options) => println!("{}", publish::publish(&options)?),
        Command::Retrain(options) => return training(launch, |world, stop| retrain::retrain(*options, world, stop)),
        Command::Scribe(command) => return scribe::run(command),
    }
    Ok(ExitCode::SUCCESS)
}

/// What several processes may share, and signals end between two steps.
fn training(launch: &Launch, run: impl FnOnce(&World, &Stop) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    stop.listen().context("cannot listen for Ctrl-C")?;
    let world = World::join(launch)?;
    run(&world, &stop).map_err(|error| world.fail(error))
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Finished => Self::SUCCESS,
            Outcome::Interrupted => Self::from(130),
        }
    }
}
