//! `understudy load`: a closed-loop load generator that knows versions and arms.
//!
//! Each of `--concurrency` callers sends its next request when the last one is answered, so the load follows what the
//! platform can take, and a request that hangs is seen as latency. With a command behind `--` the load goes on while the
//! command runs, and the figures are given for before, during and after: that is how a swap is measured.

mod phases;
mod report;
mod sender;
mod split;

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;

use crate::{
    classify::CallOptions,
    output::{Output, time},
    router::{Router, RouterOptions},
    texts::{Row, TextFile},
};

const EXAMPLES: &str = "\
Examples:
  understudy load --duration 30s --concurrency 16
  understudy load --duration 20m --rate 40 --file reviews.csv      steady traffic for a rollout
  understudy load --file reviews.csv --requests 10000 --check-split
  understudy load --duration 10s -- understudy route set sentiment v2 --drained";

/// Rows of --file that are sent in turn.
const ROWS_MAX: usize = 1_000_000;
/// Requests that one h2 connection carries at once before another is opened.
const STREAMS_PER_CONNECTION: usize = 32;

const TEXTS: [&str; 6] = [
    "A joy from start to finish.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, but the leads carry it with charm and wit.",
    "Badly lit, badly cut, and the sound is worse than either.",
    "I went in expecting little and came out humming the score; the last scene alone is worth the ticket.",
    "It has its moments. Sadly they are the ones already shown in the trailer.",
];

/// Sends requests as fast as they are answered, and reports by version, arm and phase
///
/// Without --file it sends six short film reviews of its own, again and again: enough for speed, but during a rollout the
/// versions are then compared on these alone, so name a --file with texts as your callers send them. Behind `--` stands a command to run under load: figures are given for before, during and after it. Exits with 1 if a
/// request failed, the command failed, or --check-split found the split off by more than one request.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LoadOptions {
    /// Requests in flight at all times
    #[arg(long, default_value = "8", value_name = "N")]
    concurrency: NonZeroUsize,
    /// Most requests per second, evenly spaced [default: as fast as they are answered]
    #[arg(long, value_parser = rate, value_name = "N")]
    rate: Option<f64>,
    /// How long to send; with a command, how long before it and again after it [default: 10s]
    #[arg(long, value_parser = time, value_name = "TIME")]
    duration: Option<Duration>,
    /// How many requests to send
    #[arg(long, conflicts_with_all = ["duration", "command"], value_name = "N")]
    requests: Option<u64>,
    /// CSV file with texts to send in turn; a column `sentiment` or `label` gives each version's accuracy
    #[arg(long, value_name = "CSV")]
    file: Option<PathBuf>,
    /// Column of --file that holds the texts
    #[arg(long, value_name = "NAME", requires = "file")]
    column: Option<String>,
    /// How long one request may take
    #[arg(long, default_value = "30s", value_parser = time, value_name = "TIME")]
    timeout: Duration,
    #[command(flatten)]
    call: CallOptions,
    /// Write one line for each request: start and latency in microseconds, code, version, arm
    #[arg(long, value_name = "CSV")]
    timeline: Option<PathBuf>,
    /// Fail unless each arm got its share of the requests to within one (K arms: the logarithm of K to base 2)
    #[arg(long, conflicts_with_all = ["command", "pin", "affinity"])]
    check_split: bool,
    /// Command to run under load
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl LoadOptions {
    pub(crate) async fn run(self, router_options: &RouterOptions, output: &Output) -> anyhow::Result<ExitCode> {
        let router = Router::connect(router_options).await?;
        let connections = self.concurrency.get().div_ceil(STREAMS_PER_CONNECTION);
        let mut clients = vec![router.analyst()];
        for _ in 1..connections {
            clients.push(Router::connect(router_options).await?.analyst());
        }
        let rows = match &self.file {
            Some(path) => TextFile::open(path, self.column.as_deref())?.all(path, ROWS_MAX)?,
            None => TEXTS.iter().map(|text| Row::of_text(text)).collect(),
        };
        let before = split::Snapshot::take(&router, self.call.model()).await?;
        let load = Arc::new(sender::Load::new(
            rows,
            self.call.metadata()?,
            self.timeout,
            self.requests,
            self.rate,
        ));
        let senders: Vec<_> = (0..self.concurrency.get())
            .map(|index| tokio::spawn(load.clone().send(clients[index % clients.len()].clone())))
            .collect();

        let duration = match self.requests {
            Some(_) => None,
            None => Some(self.duration.unwrap_or(Duration::from_secs(10))),
        };
        let plan = phases::Plan {
            duration,
            requests: self.requests,
            command: self.command,
        };
        let outcome = plan.run(&load, output).await;
        load.stop();
        let mut records = Vec::new();
        for sender in senders {
            records.append(&mut sender.await?);
        }
        records.sort_unstable_by_key(|record| record.start);
        let mut outcome = outcome?;
        // Not when sending stopped: the last answers came later, and belong to the rate.
        outcome.end = load.elapsed();

        if let Some(path) = &self.timeline {
            report::write_timeline(path, &records).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut report = report::Report::new(&records, &outcome);
        if self.call.pin.is_none() && self.call.affinity.is_none() {
            // A router that is gone by now takes nothing from what was measured.
            let after = split::Snapshot::take(&router, self.call.model())
                .await
                .unwrap_or_else(|error| {
                    output.warning(format_args!("the split is not known: {error:#}"));
                    None
                });
            report.split = split::Split::between(before, after, &report.total.arms);
        }
        report.tell(output)?;
        let split_is_off = self.check_split
            && match &report.split {
                Some(split) => !split.within_bound,
                None => {
                    output.warning("the split cannot be checked: the route is not to be seen, or it changed meanwhile");
                    true
                }
            };
        let failed =
            report.total.failures > 0 || report.total.requests == 0 || !outcome.command_succeeded || split_is_off;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| format!("{text:?} is no rate: write requests per second, from 0.001 to 1000000, e.g. 40"))
}
