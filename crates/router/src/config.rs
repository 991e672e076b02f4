//! Flags of the router, and every bound that it keeps.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use understudy_protocol::name;
use understudy_registry::RegistryOptions;

/// Flags of `understudy-router`.
#[derive(Debug, Clone, Args)]
pub struct RouterOptions {
    /// Address for clients
    #[arg(
        long,
        env = "UNDERSTUDY_LISTEN",
        default_value = "127.0.0.1:8470",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Address of the Prometheus metrics
    #[arg(
        long,
        env = "UNDERSTUDY_METRICS_LISTEN",
        default_value = "127.0.0.1:9470",
        value_name = "ADDRESS"
    )]
    pub metrics_listen: SocketAddr,
    /// Name among the routers, under which this one counts and decides for rollouts [default: host name and a random suffix]
    #[arg(long, env = "UNDERSTUDY_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Time after which another router decides on rollouts when the one that does gives no sign of life (whole seconds, at least 2s)
    #[arg(long, env = "UNDERSTUDY_CONTROLLER_TTL", default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub controller_ttl: Duration,
    /// Folder for the last known good state, from which a router serves while the registry is away
    #[arg(
        long,
        env = "UNDERSTUDY_STATE_DIR",
        default_value = ".understudy/router",
        value_name = "FOLDER"
    )]
    pub state_dir: PathBuf,
    /// Where publishers put artifacts: file://, s3://, gs:// or az:// [default: `artifacts` in the state folder]
    #[arg(long, env = "UNDERSTUDY_ARTIFACT_STORE", value_name = "URI")]
    pub artifact_store: Option<String>,
    /// Registry that holds models, routes and workers.
    #[command(flatten)]
    pub registry: RegistryOptions,
    /// Who may call, and how much.
    #[command(flatten)]
    pub admission: AdmissionOptions,
    /// TLS towards clients.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Bounds of the HTTP/2 server.
    #[command(flatten)]
    pub http2: Http2Options,
    /// How requests are forwarded.
    #[command(flatten)]
    pub forward: ForwardOptions,
    /// On shutdown, how long requests in flight may take to finish
    #[arg(long, env = "UNDERSTUDY_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub drain_timeout: Duration,
}

/// The shortest lease that etcd grants.
const CONTROLLER_TTL_MIN: Duration = Duration::from_secs(2);

impl RouterOptions {
    /// The router's name; another one each time unless it was given.
    ///
    /// # Errors
    /// If an option cannot work.
    pub fn identity(&self) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.controller_ttl >= CONTROLLER_TTL_MIN,
            "--controller-ttl must be at least 2s"
        );
        let Some(given) = &self.name else {
            return Ok(name::unique("router"));
        };
        if let Err(problem) = name::check(given) {
            anyhow::bail!("--name {given:?} {problem}");
        }
        Ok(given.clone())
    }
}

/// Who may call, and how much.
#[derive(Debug, Clone, Args)]
pub struct AdmissionOptions {
    /// Requests in flight at most; more are refused at once
    #[arg(
        long,
        env = "UNDERSTUDY_CONCURRENCY_MAX",
        default_value_t = 4_096,
        value_name = "REQUESTS"
    )]
    pub concurrency_max: usize,
    /// File with a line `name token` for each caller; without it anybody may call
    #[arg(long, env = "UNDERSTUDY_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Requests per second that one identity (TLS certificate or token name) may send, with bursts of one second
    #[arg(long, env = "UNDERSTUDY_RATE_LIMIT", value_name = "PER-SECOND")]
    pub rate_limit: Option<u32>,
}

/// TLS towards clients.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsOptions {
    /// Certificate chain (PEM); turns TLS on
    #[arg(long, env = "UNDERSTUDY_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM)
    #[arg(long, env = "UNDERSTUDY_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Authorities (PEM) that sign clients' certificates; with it a client must show one
    #[arg(long, env = "UNDERSTUDY_TLS_CLIENT_CA", requires = "tls_cert", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
}

/// Bounds of the HTTP/2 server. CONTINUATION frames are bounded by h2 itself, from the header list's size.
#[derive(Debug, Clone, Args)]
pub struct Http2Options {
    /// Client connections at most; more wait in the kernel's backlog
    #[arg(
        long,
        env = "UNDERSTUDY_CONNECTIONS_MAX",
        default_value_t = 10_000,
        value_name = "CONNECTIONS"
    )]
    pub connections_max: usize,
    /// Open requests on one client connection
    #[arg(long, env = "UNDERSTUDY_STREAMS_MAX", default_value_t = 256, value_name = "STREAMS")]
    pub streams_max: u32,
    /// Streams that a client may reset before they were looked at, before its connection is closed (rapid reset)
    #[arg(
        long,
        env = "UNDERSTUDY_RESET_STREAMS_MAX",
        default_value_t = 64,
        value_name = "STREAMS"
    )]
    pub reset_streams_max: usize,
    /// Size of one request's metadata
    #[arg(
        long,
        env = "UNDERSTUDY_METADATA_BYTES_MAX",
        default_value_t = 16_384,
        value_name = "BYTES"
    )]
    pub metadata_bytes_max: u32,
    /// Largest frame that is accepted
    #[arg(long, env = "UNDERSTUDY_FRAME_BYTES_MAX", default_value_t = 16_384, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(16_384..=16_777_215))]
    pub frame_bytes_max: u32,
    /// Silent connections are asked for a sign of life this often
    #[arg(long, env = "UNDERSTUDY_KEEP_ALIVE", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub keep_alive: Duration,
    /// A connection that gives no sign of life for this long after being asked is closed
    #[arg(long, env = "UNDERSTUDY_KEEP_ALIVE_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub keep_alive_timeout: Duration,
}

/// How requests are forwarded.
#[derive(Debug, Clone, Args)]
pub struct ForwardOptions {
    /// Deadline of requests that bring none or a longer one [default: none]
    #[arg(long, env = "UNDERSTUDY_DEADLINE_MAX", value_parser = duration, value_name = "TIME")]
    pub deadline_max: Option<Duration>,
    /// Connections to one worker
    #[arg(long, env = "UNDERSTUDY_WORKER_CONNECTIONS_MAX", default_value_t = 4, value_name = "CONNECTIONS",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    pub worker_connections_max: usize,
    /// Requests on one connection to a worker from which on another connection is opened
    #[arg(long, env = "UNDERSTUDY_WORKER_STREAMS", default_value_t = 100, value_name = "STREAMS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub worker_streams: u32,
    /// Time to reach a worker
    #[arg(long, env = "UNDERSTUDY_CONNECT_TIMEOUT", default_value = "2s", value_parser = duration, value_name = "TIME")]
    pub connect_timeout: Duration,
    /// Times that one request is sent to workers, at most
    #[arg(long, env = "UNDERSTUDY_ATTEMPTS_MAX", default_value_t = 3, value_name = "ATTEMPTS",
          value_parser = clap::value_parser!(u32).range(1..=10))]
    pub attempts_max: u32,
    /// Requests with a longer body are not retried
    #[arg(
        long,
        env = "UNDERSTUDY_RETRY_BODY_BYTES_MAX",
        default_value_t = 65_536,
        value_name = "BYTES"
    )]
    pub retry_body_bytes_max: usize,
    /// Share of the requests that may be retried, in percent
    #[arg(long, env = "UNDERSTUDY_RETRY_PERCENT", default_value_t = 20, value_name = "PERCENT",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retry_percent: u32,
    /// Retries that are allowed each second whatever the traffic, and a hundred times that in one burst
    #[arg(
        long,
        env = "UNDERSTUDY_RETRIES_MIN",
        default_value_t = 10,
        value_name = "PER-SECOND"
    )]
    pub retries_min: u32,
    /// How long a worker that vanished from the registry without draining is still used while it answers
    #[arg(long, env = "UNDERSTUDY_VANISHED_WORKER_KEEP", default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub vanished_worker_keep: Duration,
}

/// Reads a time such as `250ms`, `30s` or `5m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a time such as 250ms, 30s or 5m".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" if number <= 1_000_000 => Ok(Duration::from_secs(60 * number)),
        _ => Err("expected a time such as 250ms, 30s or 5m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "5h",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
