//! MLflow's REST API 2.0, as much of it as a run needs.
//!
//! Metrics are sent by a thread of their own in batches, so that a slow server does not slow a training. When the server fails,
//! that is told once; what does not fit the queue meanwhile is left out there, not here.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::milliseconds;
use super::record::{Measured, Record, Status};

const TIMEOUT: Duration = Duration::from_secs(20);
const QUEUE_DEPTH_MAX: usize = 4096;
/// MLflow's own limits of one `log-batch`.
const BATCH_METRICS_MAX: usize = 1000;
const BATCH_PARAMETERS_MAX: usize = 100;
/// Characters of a parameter's value; some servers refuse longer ones.
const VALUE_CHARACTERS_MAX: usize = 500;
const ATTEMPTS: u32 = 3;

/// A tracking server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    agent: ureq::Agent,
    url: String,
    bearer: Option<String>,
}

impl Server {
    pub(super) fn new(url: &str, token: Option<&str>) -> Self {
        Self {
            agent: ureq::Agent::config_builder()
                .timeout_global(Some(TIMEOUT))
                .http_status_as_error(false)
                .build()
                .into(),
            url: url.trim_end_matches('/').to_owned(),
            bearer: token.map(|token| format!("Bearer {token}")),
        }
    }

    /// Calls an endpoint; what MLflow answers, or its error with its code.
    fn call(&self, endpoint: &str, body: &Value) -> anyhow::Result<Result<Value, Refusal>> {
        let mut request = self.agent.post(format!("{}/api/2.0/mlflow/{endpoint}", self.url));
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        let mut response = request
            .send_json(body)
            .with_context(|| format!("cannot reach MLflow at {}: is `mlflow server` running there?", self.url))?;
        let status = response.status();
        let text = response.body_mut().read_to_string()?;
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        match answer {
            Some(answer) if status.is_success() => Ok(Ok(answer)),
            Some(answer) if answer["error_code"].is_string() => Ok(Err(Refusal {
                code: answer["error_code"].as_str().unwrap_or_default().to_owned(),
                message: answer["message"].as_str().unwrap_or_default().to_owned(),
            })),
            _ => bail!("{} does not answer as MLflow does ({status}): check the URL", self.url),
        }
    }

    fn demand(&self, endpoint: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(endpoint, body)?
            .map_err(|refusal| anyhow!("MLflow refused {endpoint}: {} ({})", refusal.message, refusal.code))
    }

    /// The experiment's id; it is made if there is none.
    fn experiment(&self, name: &str) -> anyhow::Result<String> {
        let id = |answer: &Value| {
            let id = answer["experiment_id"].as_str();
            id.map(str::to_owned).context("MLflow named no experiment")
        };
        // Made first: asked for first, two runs that begin together would both find none.
        match self.call("experiments/create", &json!({ "name": name }))? {
            Ok(answer) => id(&answer),
            Err(refusal) if refusal.code == "RESOURCE_ALREADY_EXISTS" => {
                // The one call of this API that is a GET.
                let mut request = self
                    .agent
                    .get(format!("{}/api/2.0/mlflow/experiments/get-by-name", self.url))
                    .query("experiment_name", name);
                if let Some(bearer) = &self.bearer {
                    request = request.header("authorization", bearer);
                }
                let answer: Value = request.call()?.body_mut().read_json()?;
                if answer["experiment"]["lifecycle_stage"] == "deleted" {
                    bail!(
                        "MLflow's experiment {name:?} is deleted: restore it, or name another with --mlflow-experiment"
                    );
                }
                id(&answer["experiment"])
            }
            Err(refusal) => bail!(
                "MLflow refused the experiment {name:?}: {} ({})",
                refusal.message,
                refusal.code
            ),
        }
    }
}

/// An error that MLflow told.
struct Refusal {
    code: String,
    message: String,
}

enum Message {
    Measured(Measured),
    End(Status),
}

/// A run on a server.
pub(super) struct Mlflow {
    run_id: String,
    sender: SyncSender<Message>,
    thread: JoinHandle<()>,
    overflowed: bool,
}

impl Mlflow {
    /// Makes the run there, or takes up the one that the record names, and tells its parameters.
    pub(super) fn begin(server: Server, experiment: &str, record: &Record) -> anyhow::Result<Self> {
        let run_id = match &record.mlflow_run {
            Some(run_id) => {
                server.demand("runs/update", &json!({ "run_id": run_id, "status": "RUNNING" }))?;
                run_id.clone()
            }
            None => create(&server, experiment, record)?,
        };
        let (sender, receiver) = sync_channel(QUEUE_DEPTH_MAX);
        let id = run_id.clone();
        let thread = std::thread::Builder::new()
            .name("mlflow".to_owned())
            .spawn(move || send_all(&server, &id, &receiver))?;
        Ok(Self {
            run_id,
            sender,
            thread,
            overflowed: false,
        })
    }

    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    pub(super) fn metrics(&mut self, measured: Measured) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Measured(measured))
            && !self.overflowed
        {
            self.overflowed = true;
            eprintln!("warning: MLflow is too slow: it misses metrics; the run's folder has them all");
        }
    }

    /// Sends what is left and how the run ended.
    pub(super) fn finish(self, status: Status) {
        // The thread reads until it ends, so this waits for a full queue at most.
        if self.sender.send(Message::End(status)).is_ok() && self.thread.join().is_err() {
            eprintln!("warning: the thread that talks to MLflow failed");
        }
    }
}

fn create(server: &Server, experiment: &str, record: &Record) -> anyhow::Result<String> {
    let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
    let mut tags = vec![
        tag("mlflow.source.name", &record.software),
        tag("understudy.command", &record.command),
        tag("understudy.run", &record.id),
    ];
    tags.extend(record.code.as_ref().map(|code| tag("understudy.code", code)));
    let digests = record.data_sha256.iter();
    tags.extend(digests.map(|(file, sha256)| tag(&format!("data_sha256.{}", key(file)), sha256)));
    let body = json!({
        "experiment_id": server.experiment(experiment)?,
        "run_name": record.name,
        "start_time": milliseconds(SystemTime::now()),
        "tags": tags,
    });
    let answer = server.demand("runs/create", &body)?;
    let run_id = answer["run"]["info"]["run_id"]
        .as_str()
        .context("MLflow named no run")?;
    let parameters: Vec<(&String, &String)> = record.parameters.iter().collect();
    for part in parameters.chunks(BATCH_PARAMETERS_MAX) {
        let params: Vec<Value> = part
            .iter()
            .map(|(name, value)| {
                let value: String = value.chars().take(VALUE_CHARACTERS_MAX).collect();
                json!({ "key": key(name), "value": value })
            })
            .collect();
        server.demand("runs/log-batch", &json!({ "run_id": run_id, "params": params }))?;
    }
    Ok(run_id.to_owned())
}

/// A name with only what MLflow's names may have.
fn key(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "_-./ ".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn send_all(server: &Server, run_id: &str, receiver: &Receiver<Message>) {
    let mut told = false;
    let mut tell = |error: anyhow::Error| {
        if !std::mem::replace(&mut told, true) {
            eprintln!("warning: {error:#}; the run goes on, and its folder has all metrics");
        }
    };
    while let Ok(first) = receiver.recv() {
        let mut metrics = Vec::new();
        let mut end = None;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Measured(measured) => metrics.extend(entries(&measured)),
                Message::End(status) => end = Some(status),
            }
            next = if end.is_none() && metrics.len() < BATCH_METRICS_MAX / 2 {
                receiver.try_recv().ok()
            } else {
                None
            };
        }
        for part in metrics.chunks(BATCH_METRICS_MAX) {
            let body = json!({ "run_id": run_id, "metrics": part });
            if let Err(error) = patiently(|| server.demand("runs/log-batch", &body)) {
                tell(error);
            }
        }
        if let Some(status) = end {
            let status = match status {
                Status::Running => "RUNNING",
                Status::Finished => "FINISHED",
                Status::Interrupted => "KILLED",
                Status::Failed => "FAILED",
            };
            let body = json!({ "run_id": run_id, "status": status, "end_time": milliseconds(SystemTime::now()) });
            if let Err(error) = patiently(|| server.demand("runs/update", &body)) {
                tell(error);
            }
            return;
        }
    }
}

fn entries(measured: &Measured) -> impl Iterator<Item = Value> {
    let values: &BTreeMap<String, f64> = &measured.values;
    values.iter().map(|(name, value)| {
        json!({ "key": key(name), "value": value, "timestamp": measured.milliseconds, "step": measured.step })
    })
}

fn patiently<T>(mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for number in 1..ATTEMPTS {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(_) => std::thread::sleep(Duration::from_millis(250) * number),
        }
    }
    attempt()
}
