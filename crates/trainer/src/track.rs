//! Tracking of runs: what was run with which parameters on which data, what it measured step by step, and how it ended.
//!
//! ```text
//! runs/20261121-190312-sentiment/  run.json       parameters, digests, versions, status; replaced whole
//!                                  metrics.jsonl  one line each time something was measured; only appended to
//! ```
//!
//! The process that writes a run holds a lock on its `metrics.jsonl`, so a run that says `running` without that lock has died.
//! With `--mlflow` the same goes to an MLflow server as well. Tracking never stops a run: an unreachable server is told at the
//! beginning, before any work; later failures are told once, and the local files have everything.

mod mlflow;
mod record;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use prost_types::Timestamp;

use crate::files;
use crate::steps::Outcome;
use mlflow::Mlflow;
use record::{Measured, Record, Status};
pub(crate) use runs::{Command, run};

/// Steps whose loss is tracked, at most.
const STEPS_MAX: u64 = 1000;

/// Where runs are tracked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TrackOptions {
    /// Folder in which runs are tracked
    #[arg(
        long,
        env = "UNDERSTUDY_RUNS",
        default_value = "runs",
        value_name = "FOLDER",
        help_heading = "Tracking"
    )]
    pub(crate) runs: PathBuf,
    /// MLflow server that gets parameters and metrics too, e.g. http://127.0.0.1:5000
    #[arg(long, value_name = "URL", help_heading = "Tracking")]
    pub(crate) mlflow: Option<String>,
    /// MLflow experiment; made if it is not there
    #[arg(
        long,
        value_name = "NAME",
        default_value = "understudy",
        requires = "mlflow",
        help_heading = "Tracking"
    )]
    pub(crate) mlflow_experiment: String,
    /// Bearer token that the MLflow server asks for
    #[arg(
        long,
        env = "MLFLOW_TRACKING_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Tracking"
    )]
    pub(crate) mlflow_token: Option<String>,
}

/// What is known of a run when it begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beginning {
    /// The subcommand, e.g. `train`.
    pub(crate) command: &'static str,
    /// Folder that the run writes; its last part names the run.
    pub(crate) output: PathBuf,
    /// Every value that decides what comes out: see [`parameters`].
    pub(crate) parameters: BTreeMap<String, String>,
    /// sha256 by file name.
    pub(crate) data_sha256: BTreeMap<String, String>,
    /// Go on with the latest unfinished run of the same command and output, from this step.
    pub(crate) resume_from: Option<u64>,
}

/// The values of a recipe as it is written, and what the run began from.
pub(crate) fn parameters(recipe_toml: &str, parent: &str) -> BTreeMap<String, String> {
    let values = recipe_toml.lines().filter_map(|line| line.split_once(" = "));
    values
        .chain((!parent.is_empty()).then_some(("from", parent)))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

/// Whether a step's loss is tracked, in a run of `total` steps.
pub(crate) fn is_tracked(step: u64, total: u64) -> bool {
    step.is_multiple_of(total.div_ceil(STEPS_MAX).max(1)) || step == total
}

/// A run that is going on. Dropped without [`Tracker::end`], it has failed.
pub(crate) struct Tracker {
    folder: PathBuf,
    record: Record,
    metrics: File,
    mlflow: Option<Mlflow>,
    failed_to_write: bool,
}

impl Tracker {
    /// Begins to track a run, or goes on with an interrupted one.
    ///
    /// # Errors
    /// If the folder cannot be written, or an MLflow server is asked for that does not answer.
    pub(crate) fn begin(options: &TrackOptions, beginning: Beginning) -> anyhow::Result<Self> {
        let output = std::path::absolute(&beginning.output)?;
        if let Some(step) = beginning.resume_from
            && let Some(record) = record::latest_unfinished(&options.runs, beginning.command, &output)?
        {
            return Self::go_on(options, record, &beginning, step);
        }
        let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let now = SystemTime::now();
        let id = new_folder(&options.runs, &name, now)?;
        let record = Record {
            format: record::FORMAT,
            id: id.clone(),
            command: beginning.command.to_owned(),
            name,
            status: Status::Running,
            started: written(now),
            ended: None,
            error: None,
            software: concat!("understudy-trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
            code: describe_code(),
            output,
            parameters: beginning.parameters,
            data_sha256: beginning.data_sha256,
            mlflow_run: None,
        };
        let folder = options.runs.join(&id);
        let metrics = open_metrics(&folder)?;
        let mut tracker = Self {
            folder,
            record,
            metrics,
            mlflow: None,
            failed_to_write: false,
        };
        // Written first, so that a run whose server does not answer is in the list, as failed.
        tracker.save()?;
        tracker.connect(options)?;
        eprintln!("tracking as {}", tracker.folder.display());
        Ok(tracker)
    }

    fn go_on(options: &TrackOptions, old: Record, beginning: &Beginning, step: u64) -> anyhow::Result<Self> {
        let folder = options.runs.join(&old.id);
        ensure!(
            !record::is_locked(&folder.join(record::METRICS)),
            "another process is writing the run {}",
            folder.display()
        );
        // What was measured after the saved state will be measured again.
        let kept: String = record::measured(&folder)?
            .into_iter()
            .filter(|measured| measured.step <= step)
            .map(|measured| Ok(serde_json::to_string(&measured)? + "\n"))
            .collect::<anyhow::Result<_>>()?;
        files::write_whole(&folder.join(record::METRICS), kept.as_bytes())?;
        let mut tracker = Self {
            metrics: open_metrics(&folder)?,
            record: Record {
                status: Status::Running,
                ended: None,
                error: None,
                parameters: beginning.parameters.clone(),
                data_sha256: beginning.data_sha256.clone(),
                ..old
            },
            folder,
            mlflow: None,
            failed_to_write: false,
        };
        tracker.save()?;
        tracker.connect(options)?;
        eprintln!("tracking goes on as {}", tracker.folder.display());
        Ok(tracker)
    }

    fn connect(&mut self, options: &TrackOptions) -> anyhow::Result<()> {
        if let Some(url) = &options.mlflow {
            let server = mlflow::Server::new(url, options.mlflow_token.as_deref());
            let mlflow = Mlflow::begin(server, &options.mlflow_experiment, &self.record)?;
            self.record.mlflow_run = Some(mlflow.run_id().to_owned());
            self.mlflow = Some(mlflow);
            self.save()?;
        }
        Ok(())
    }

    /// Records what was measured at a step. Values that are not finite are left out.
    pub(crate) fn metrics(&mut self, step: u64, values: &[(&str, f64)]) {
        let measured = Measured {
            step,
            milliseconds: milliseconds(SystemTime::now()),
            values: values
                .iter()
                .filter(|(_, value)| value.is_finite())
                .map(|&(name, value)| (name.to_owned(), value))
                .collect(),
        };
        if measured.values.is_empty() {
            return;
        }
        if let Some(mlflow) = &mut self.mlflow {
            mlflow.metrics(measured.clone());
        }
        let written = serde_json::to_string(&measured)
            .map_err(anyhow::Error::from)
            .and_then(|line| Ok(self.metrics.write_all(format!("{line}\n").as_bytes())?));
        if let Err(error) = written
            && !self.failed_to_write
        {
            self.failed_to_write = true;
            eprintln!("warning: {} misses metrics: {error:#}", self.folder.display());
        }
    }

    /// Records how the run ended. What it made is whole by now, so that a folder that cannot be written is only told.
    pub(crate) fn end(mut self, outcome: &anyhow::Result<Outcome>) {
        let status = match outcome {
            Ok(Outcome::Finished) => Status::Finished,
            Ok(Outcome::Interrupted) => Status::Interrupted,
            Err(error) => {
                self.record.error = Some(format!("{error:#}"));
                Status::Failed
            }
        };
        if let Err(error) = self.close(status) {
            eprintln!("warning: {error:#}");
        }
    }

    fn close(&mut self, status: Status) -> anyhow::Result<()> {
        self.record.status = status;
        self.record.ended = Some(written(SystemTime::now()));
        if let Some(mlflow) = self.mlflow.take() {
            mlflow.finish(status);
        }
        self.metrics.sync_all()?;
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(&self.record)?;
        files::write_whole(&self.folder.join(record::FILE), format!("{json}\n").as_bytes())
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        if self.record.status == Status::Running
            && let Err(error) = self.close(Status::Failed)
        {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Makes `<time>-<name>`, with a number if there is one already, and returns its name.
fn new_folder(runs: &Path, name: &str, now: SystemTime) -> anyhow::Result<String> {
    std::fs::create_dir_all(runs).with_context(|| format!("cannot make the folder {}", runs.display()))?;
    let digits: String = written(now).chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, time) = digits.split_at(8.min(digits.len()));
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    for attempt in 1..1000 {
        let id = match attempt {
            1 => format!("{day}-{time}-{name}"),
            _ => format!("{day}-{time}-{name}-{attempt}"),
        };
        match std::fs::create_dir(runs.join(&id)) {
            Ok(()) => return Ok(id),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write to {}", runs.display())),
        }
    }
    anyhow::bail!("{} has a thousand runs of this second", runs.display())
}

fn open_metrics(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(record::METRICS);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    ensure!(
        file.try_lock().is_ok(),
        "another process is writing the run {}",
        folder.display()
    );
    Ok(file)
}

fn written(time: SystemTime) -> String {
    Timestamp {
        nanos: 0,
        ..Timestamp::from(time)
    }
    .to_string()
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The version of the repository that the command was called in: a team's recipes and scripts.
fn describe_code() -> Option<String> {
    let output = Process::new("git")
        .args(["describe", "--always", "--dirty", "--tags"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
