//! A run's files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub(super) const FORMAT: u32 = 1;
pub(super) const FILE: &str = "run.json";
pub(super) const METRICS: &str = "metrics.jsonl";

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It goes on, or its process was killed.
    Running,
    /// It came to its end.
    Finished,
    /// It was stopped and can go on.
    Interrupted,
    /// An error ended it.
    Failed,
}

/// What is known of a run besides its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) format: u32,
    pub(super) id: String,
    pub(super) command: String,
    pub(super) name: String,
    pub(super) status: Status,
    /// RFC 3339.
    pub(super) started: String,
    pub(super) ended: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) software: String,
    /// `git describe` of the folder in which the command was called.
    pub(super) code: Option<String>,
    pub(super) output: PathBuf,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) data_sha256: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mlflow_run: Option<String>,
}

/// What was measured at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) step: u64,
    /// Since 1970.
    pub(super) milliseconds: u64,
    pub(super) values: BTreeMap<String, f64>,
}

/// A run with its metrics as read back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Run {
    #[serde(flatten)]
    pub(super) record: Record,
    /// It says that it is running, but no process writes it any more.
    pub(super) died: bool,
    /// By metric: (step, value) in the order of their steps.
    pub(super) series: BTreeMap<String, Vec<(u64, f64)>>,
    /// Since 1970, of the last line.
    pub(super) measured_last: Option<u64>,
}

impl Run {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let record: Record = serde_json::from_str(&text).with_context(|| format!("{} is no run", path.display()))?;
        if record.format > FORMAT {
            bail!("{} was written by a newer version", path.display());
        }
        let measured = measured(folder)?;
        let mut series: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
        for line in &measured {
            for (name, &value) in &line.values {
                series.entry(name.clone()).or_default().push((line.step, value));
            }
        }
        Ok(Self {
            died: record.status == Status::Running && !is_locked(&folder.join(METRICS)),
            measured_last: measured.last().map(|line| line.milliseconds),
            record,
            series,
        })
    }

    pub(super) fn status(&self) -> &'static str {
        match self.record.status {
            Status::Running if self.died => "died",
            Status::Running => "running",
            Status::Finished => "finished",
            Status::Interrupted => "interrupted",
            Status::Failed => "failed",
        }
    }
}

/// Whether a process writes the run.
pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_err())
}

/// The lines of a run's metrics. A last line that a kill cut off is left out.
pub(super) fn measured(folder: &Path) -> anyhow::Result<Vec<Measured>> {
    let path = folder.join(METRICS);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        lines.push(serde_json::from_str(line).with_context(|| format!("{} is damaged", path.display()))?);
    }
    Ok(lines)
}

/// Every run of a folder, the latest first, and the folders that hold none, with the reason.
pub(super) fn all(runs: &Path) -> anyhow::Result<(Vec<Run>, Vec<String>)> {
    let entries = match std::fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", runs.display())),
    };
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for entry in entries {
        let folder = entry?.path();
        if folder.is_dir() {
            match Run::read(&folder) {
                Ok(run) => found.push(run),
                Err(error) => unreadable.push(format!("{error:#}")),
            }
        }
    }
    found.sort_by(|a, b| (&b.record.started, &b.record.id).cmp(&(&a.record.started, &a.record.id)));
    unreadable.sort();
    Ok((found, unreadable))
}

/// The run that `--resume` goes on with.
pub(super) fn latest_unfinished(runs: &Path, command: &str, output: &Path) -> anyhow::Result<Option<Record>> {
    let (found, _) = all(runs)?;
    Ok(found
        .into_iter()
        .map(|run| run.record)
        .find(|record| record.command == command && record.output == output)
        .filter(|record| record.status != Status::Finished))
}
