//! For `bench/router/mirror.py`: sends single texts at random moments of a fixed mean rate (a Poisson process), whether or not
//! earlier ones were answered, and writes one CSV line for each: when it was due (microseconds of the Unix epoch), how long
//! after that its answer came (microseconds), the gRPC code, and the version that answered. Ends with SIGTERM.
//!
//! Latency counts from the moment that a request was due, so a platform that stalls cannot hide it by slowing its caller down.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Parser;
use rand::Rng as _;
use tokio::{signal::unix, sync::mpsc};
use tonic::{Code, transport::Channel};
use understudy_protocol::{
    metadata,
    v1::{ClassifyRequest, analyst_client::AnalystClient},
};

/// Open requests, beyond which the rate is more than the platform can take.
const OPEN_MAX: usize = 2_000;

/// Sends texts at a fixed mean rate
#[derive(Debug, Parser)]
struct Cli {
    /// Address of the router
    #[arg(long, value_name = "URL")]
    router: String,
    /// Requests per second
    #[arg(long)]
    rate: f64,
    /// File with a text on each line; they are sent in turn
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// Where the lines are written
    #[arg(long, value_name = "CSV")]
    out: PathBuf,
}

/// A request that is due.
struct Due {
    text: String,
    at: Instant,
    /// Of the Unix epoch.
    micros: u128,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    anyhow::ensure!(cli.rate > 0.0, "--rate must be above 0");
    let texts: Vec<String> = std::fs::read_to_string(&cli.texts)?
        .lines()
        .map(str::to_owned)
        .collect();
    anyhow::ensure!(!texts.is_empty(), "{} has no lines", cli.texts.display());
    let channel = Channel::from_shared(cli.router)?.connect().await?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(&cli.out)?);
    let (due, mut requests) = mpsc::channel(OPEN_MAX);
    // A thread of its own: the runtime's timer counts in milliseconds.
    thread::spawn(move || send_due(&texts, cli.rate, &due));
    let (done, mut lines) = mpsc::channel::<String>(OPEN_MAX);
    let mut end = unix::signal(unix::SignalKind::terminate())?;
    let places = Arc::new(tokio::sync::Semaphore::new(OPEN_MAX));
    loop {
        tokio::select! {
            _ = end.recv() => break,
            Some(line) = lines.recv() => writeln!(out, "{line}")?,
            request = requests.recv() => {
                let request = request.context("the thread that sends died")?;
                let place = Arc::clone(&places).try_acquire_owned();
                let place = place.with_context(|| format!("{OPEN_MAX} requests are open: use a lower --rate"))?;
                let (client, done) = (AnalystClient::new(channel.clone()), done.clone());
                tokio::spawn(async move {
                    // The end came first if nobody takes it.
                    let _ = done.send(ask(client, request).await).await;
                    drop(place);
                });
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn send_due(texts: &[String], rate: f64, due: &mpsc::Sender<Due>) {
    let (mut at, clock, mut random) = (Instant::now(), SystemTime::now(), rand::rng());
    let began = at;
    for text in texts.iter().cycle() {
        // Times between the events of a Poisson process are exponential.
        at += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / rate);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let micros = (clock + (at - began))
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let text = text.clone();
        if due.blocking_send(Due { text, at, micros }).is_err() {
            return;
        }
    }
}

async fn ask(mut client: AnalystClient<Channel>, Due { text, at, micros }: Due) -> String {
    let answer = client.classify(ClassifyRequest { text }).await;
    let latency = at.elapsed().as_micros();
    let (code, metadata) = match &answer {
        Ok(answer) => (Code::Ok, answer.metadata()),
        Err(status) => (status.code(), status.metadata()),
    };
    let version = metadata.get(metadata::VERSION).and_then(|value| value.to_str().ok());
    format!("{micros},{latency},{code:?},{}", version.unwrap_or_default())
}
