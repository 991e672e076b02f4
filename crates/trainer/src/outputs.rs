//! How `explore`, `evaluate` and `compare` tell what they found.

use std::path::PathBuf;

use serde::Serialize;

use crate::files;

/// Where findings go.
#[derive(Debug, clap::Args)]
pub(crate) struct Outputs {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write the JSON to a file as well
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write an HTML report with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Outputs {
    /// Writes the files that are asked for, and returns what to print.
    pub(crate) fn tell<T: Serialize>(
        &self,
        findings: &T,
        tables: impl FnOnce(&T) -> String,
        page: impl FnOnce(&T) -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let json = serde_json::to_string_pretty(findings)?;
        if let Some(path) = &self.output {
            files::write_whole(path, format!("{json}\n").as_bytes())?;
        }
        if let Some(path) = &self.report {
            files::write_whole(path, page(findings)?.as_bytes())?;
            eprintln!("wrote {}", path.display());
        }
        Ok(if self.json { json } else { tables(findings) })
    }
}
