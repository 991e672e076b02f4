//! `explore`: what is in a data set, before anything is trained on it.
//!
//! Files are read once, row by row, so their size does not matter; what is kept of a row are some 200 bytes (a fingerprint and a
//! sketch of its text). Texts are cleaned as `train` cleans them, and what `train` would leave out is counted with its reason.

mod facts;
mod groups;
mod lengths;
mod near;
mod page;
mod show;
mod survey;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context;
use understudy_corpus::Limits;
use understudy_distilbert::Tokenizer;

use crate::data::ColumnOptions;
use crate::outputs::Outputs;
use crate::train::Machine;
use facts::Survey;
use survey::Surveyor;

/// The vocabulary of the starter models, where the command is called in the repository.
const STARTER_TOKENIZER: &str = "models/starter/v2/tokenizer.json";

/// What `explore` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct ExploreOptions {
    /// Labelled reviews: CSV or tab-separated with a header; plain, .gz or .zst
    #[arg(value_name = "FILE")]
    data: PathBuf,
    /// Reviews without labels; may be given several times
    #[arg(long, value_name = "FILE")]
    unlabelled: Vec<PathBuf>,
    #[command(flatten)]
    columns: ColumnOptions,
    /// tokenizer.json, or the folder of a checkpoint, to count tokens with [default: models/starter/v2/tokenizer.json, if it is there]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Share of their word sequences that two texts have in common to be near duplicates
    #[arg(long, default_value_t = 0.8, value_name = "SHARE")]
    near: f64,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    machine: Machine,
}

/// Runs the command and returns what it prints.
pub(crate) fn explore(options: &ExploreOptions) -> anyhow::Result<String> {
    anyhow::ensure!(
        options.near > 0.3 && options.near <= 1.0,
        "--near is {}; it must be above 0.3 and at most 1",
        options.near
    );
    let threads = options.machine.apply()?;
    let tokenizer = tokenizer(options)?;
    let mut surveyor = Surveyor::new(tokenizer, Limits::training(), threads);
    surveyor.labelled(&options.data, &options.columns)?;
    for path in &options.unlabelled {
        surveyor.unlabelled(path, &options.columns)?;
    }
    let survey: Survey = surveyor.finish(options.near)?;
    options.outputs.tell(&survey, show::tables, page::page)
}

/// Texts are not cut: the point is to see how long they are.
fn tokenizer(options: &ExploreOptions) -> anyhow::Result<Option<(String, Tokenizer)>> {
    let path = match &options.tokenizer {
        Some(path) if path.is_dir() => path.join("tokenizer.json"),
        Some(path) => path.clone(),
        None => {
            let starter = PathBuf::from(STARTER_TOKENIZER);
            if !starter.exists() {
                return Ok(None);
            }
            starter
        }
    };
    let json = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let tokenizer = Tokenizer::from_json(&json, usize::MAX).with_context(|| path.display().to_string())?;
    Ok(Some((path.display().to_string(), tokenizer)))
}
