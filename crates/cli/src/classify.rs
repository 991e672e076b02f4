//! `understudy classify`.

mod ask;
mod file;
mod plain;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

pub(crate) use self::ask::CallOptions;
use crate::{
    output::{Output, time},
    router::Router,
};

const EXAMPLES: &str = "\
Examples:
  understudy classify 'A wonderful film with great performances.'
  understudy classify --file reviews.csv --out answers.csv
  tail -f reviews.txt | understudy classify --json -
  understudy classify --pin v2 'What does the new one say?'";

/// Classifies texts, lines of standard input or a CSV file
///
/// Of a CSV file the column `review` or `text` is classified, and the columns label, confidence and version are added. If it
/// has a column `sentiment` or `label`, the share of right answers is reported. Exits with 1 if a text was refused.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ClassifyOptions {
    /// Texts; `-` stands for the lines of standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Vec<String>,
    /// CSV file with a header
    #[arg(long, value_name = "CSV")]
    file: Option<PathBuf>,
    /// Where the answers to --file go [default: standard output]
    #[arg(long, value_name = "CSV", requires = "file")]
    out: Option<PathBuf>,
    /// Column of --file that holds the texts
    #[arg(long, value_name = "NAME", requires = "file")]
    column: Option<String>,
    #[command(flatten)]
    call: CallOptions,
    /// How long one call may take
    #[arg(long, default_value = "30s", value_parser = time, value_name = "TIME")]
    timeout: Duration,
}

impl ClassifyOptions {
    pub(crate) async fn run(self, router: &Router, output: &Output) -> anyhow::Result<ExitCode> {
        let asker = ask::Asker::new(router, &self.call, self.timeout)?;
        let refused = match self.file {
            Some(file) => {
                let job = file::Job {
                    file,
                    out: self.out,
                    column: self.column,
                };
                job.run(&asker, output).await?
            }
            None if self.text == ["-"] => plain::lines(&asker.patient(), output).await?,
            None => plain::texts(&asker, output, self.text).await?,
        };
        Ok(if refused == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
