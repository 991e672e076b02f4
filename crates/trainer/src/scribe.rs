//! The starter scribe: a small language model that writes critiques from fact sheets, so that the demo works offline.
//!
//! It learns from texts that a grammar writes ([`grammar`]) about invented sheets with quotations from real reviews, and
//! from those reviews. It is no general model, and is not meant to be one. What it does have to do is what the real ones do
//! here: take figures, names and quotations from the prompt, which is taught ([`lessons`]) and measured ([`measure`],
//! [`evaluate`]) as copying.

mod batches;
mod evaluate;
mod export;
mod grammar;
mod lessons;
mod measure;
mod muon;
mod network;
mod recipe;
mod tokenizer;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use understudy_corpus::{Fractions, Limits, load_labelled, split};

use grammar::Material;

/// Held-out shares and seed where the data does not say what is for what.
const FRACTIONS: Fractions = Fractions {
    validation: 0.1,
    test: 0.1,
};
const SPLIT_SEED: u64 = 1;
/// Examples whose texts shape the vocabulary, and reviews beside them.
const VOCABULARY_EXAMPLES: u64 = 4000;
const VOCABULARY_REVIEWS: usize = 3000;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show examples that it learns from
    Examples(ExamplesOptions),
    /// Train the vocabulary and write its tokenizer.json
    Tokenizer(TokenizerOptions),
    /// Train, or go on from where a run stopped
    Train(train::TrainOptions),
    /// Write the trained model as a GGUF file
    Export(export::ExportOptions),
    /// Measure a served scribe on unseen fact sheets
    Evaluate(evaluate::EvaluateOptions),
}

/// Reviews to take sentences and words from.
#[derive(Debug, clap::Args)]
pub(crate) struct DataOptions {
    /// Labelled reviews; their test split is held out
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExamplesOptions {
    #[command(flatten)]
    data: DataOptions,
    /// How many
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Which ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenizerOptions {
    #[command(flatten)]
    data: DataOptions,
    /// How the scribe is made; the vocabulary's size is taken from it
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Where to write it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Reviews to learn from, and to be measured with.
struct Reviews {
    train: Vec<String>,
    test: Vec<String>,
}

impl Reviews {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let set = load_labelled(path, None, &Limits::training())?;
        let parts = split(set.examples, FRACTIONS, SPLIT_SEED)?;
        let texts =
            |examples: Vec<understudy_corpus::Example>| examples.into_iter().map(|example| example.text).collect();
        Ok(Self {
            train: texts(parts.train),
            test: texts(parts.test),
        })
    }
}

/// The generator of one example or step.
fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// Runs a command.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Examples(options) => examples(&options).map(|()| ExitCode::SUCCESS),
        Command::Tokenizer(options) => train_tokenizer(&options).map(|()| ExitCode::SUCCESS),
        Command::Train(options) => {
            let stop = crate::interrupt::Stop::default();
            stop.listen().context("cannot listen for Ctrl-C")?;
            let whole = train::train(&options, &stop)?;
            Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(130) })
        }
        Command::Export(options) => export::export(&options).map(|()| ExitCode::SUCCESS),
        Command::Evaluate(options) => evaluate::evaluate(&options),
    }
}

fn examples(options: &ExamplesOptions) -> anyhow::Result<()> {
    let material = Material::from_reviews(&Reviews::load(&options.data.data)?.train)?;
    for index in 0..options.count {
        let example = grammar::example(&material, &mut random(options.seed, index))?;
        for message in &example.messages {
            println!("[{:?}]\n{}\n", message.role, message.content);
        }
        println!("[Answer]\n{}\n", example.answer);
    }
    Ok(())
}

fn train_tokenizer(options: &TokenizerOptions) -> anyhow::Result<()> {
    let recipe = recipe::Recipe::load(&options.recipe)?;
    let reviews = Reviews::load(&options.data.data)?.train;
    let material = Material::from_reviews(&reviews)?;
    let mut texts: Vec<String> = reviews.iter().take(VOCABULARY_REVIEWS).cloned().collect();
    for index in 0..VOCABULARY_EXAMPLES {
        let example = grammar::example(&material, &mut random(recipe.seed, index))?;
        texts.extend(example.messages.into_iter().map(|message| message.content));
        texts.push(example.answer);
    }
    let json = tokenizer::train(&texts, usize::try_from(recipe.shape.vocabulary)?)?;
    crate::files::write_whole(&options.output, json.as_bytes())?;
    println!("wrote {}", options.output.display());
    Ok(())
}
