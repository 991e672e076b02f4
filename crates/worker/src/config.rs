//! Flags that every worker has.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use understudy_protocol::name;
use understudy_registry::RegistryOptions;

use crate::{Error, FaultSpec};

/// Flags that every worker has.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Worker")]
pub struct WorkerOptions {
    /// Address to serve gRPC on
    #[arg(
        long,
        env = "UNDERSTUDY_LISTEN",
        default_value = "127.0.0.1:8480",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Where routers reach this worker, e.g. `http://10.0.0.7:8480` (default: the address it listens on)
    #[arg(long, env = "UNDERSTUDY_ADVERTISE", value_name = "URL")]
    pub advertise: Option<String>,
    /// Name in the registry, unique among the living workers (default: host name and a random suffix)
    #[arg(long, env = "UNDERSTUDY_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Address to serve Prometheus metrics on
    #[arg(
        long,
        env = "UNDERSTUDY_METRICS_LISTEN",
        default_value = "127.0.0.1:9480",
        value_name = "ADDRESS"
    )]
    pub metrics_listen: SocketAddr,
    /// Folder that keeps model files between runs; workers of one machine may share it (default: ~/.cache/understudy/artifacts)
    #[arg(long, env = "UNDERSTUDY_CACHE_DIR", value_name = "FOLDER")]
    pub cache_dir: Option<PathBuf>,
    /// Size above which the files that were not used for longest are removed from --cache-dir
    #[arg(long, env = "UNDERSTUDY_CACHE_BYTES_MAX", default_value = "50GiB", value_parser = parse_bytes, value_name = "SIZE")]
    pub cache_bytes_max: u64,
    /// After this long without a sign of life the registry forgets this worker
    #[arg(long, env = "UNDERSTUDY_LEASE_TTL", default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub lease_ttl: Duration,
    /// How long a version goes on answering after it was announced as draining, so that routers learn of it
    #[arg(long, env = "UNDERSTUDY_DRAIN_GRACE", default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub drain_grace: Duration,
    /// How long requests in flight may take to end when a version, or this process, stops
    #[arg(long, env = "UNDERSTUDY_DRAIN_TIMEOUT", default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub drain_timeout: Duration,
    /// Where the control plane's truth is
    #[command(flatten)]
    pub registry: RegistryOptions,
    /// Make calls of a version fail or wait on purpose: `error=SHARE` answers INTERNAL to that share of them, `delay=TIME` makes
    /// each wait before it is worked on; may be repeated for other versions. For trying out rollouts and alarms
    #[arg(
        long,
        env = "UNDERSTUDY_INJECT_FAULT",
        value_delimiter = ';',
        value_name = "MODEL/VERSION:FAULT[,FAULT]",
        help_heading = "Testing"
    )]
    pub inject_fault: Vec<FaultSpec>,
}

/// The shortest lease: etcd takes whole seconds, and a renewal must fit in.
const LEASE_TTL_MIN: Duration = Duration::from_secs(2);

impl WorkerOptions {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.lease_ttl < LEASE_TTL_MIN {
            return Err(Error::Options("--lease-ttl must be at least 2s".into()));
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            return Err(Error::Options(format!(
                "--listen {} is no address that routers can call; say with --advertise where they reach this worker, \
                 e.g. http://10.0.0.7:{}",
                self.listen,
                self.listen.port()
            )));
        }
        if let Some(url) = &self.advertise {
            let uri = url.parse::<http::Uri>().ok();
            if !uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()) {
                return Err(Error::Options(format!(
                    "--advertise {url:?} must be a URL like http://10.0.0.7:8480"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn name(&self) -> Result<String, Error> {
        let Some(name) = &self.name else {
            return Ok(name::unique("worker"));
        };
        match name::check(name) {
            Ok(()) => Ok(name.clone()),
            Err(problem) => Err(Error::Options(format!("--name {name:?} {problem}"))),
        }
    }

    pub(crate) fn cache_dir(&self) -> Result<PathBuf, Error> {
        if let Some(folder) = &self.cache_dir {
            return Ok(folder.clone());
        }
        match std::env::home_dir() {
            Some(home) if home.is_absolute() => Ok(home.join(".cache/understudy/artifacts")),
            _ => Err(Error::Options(
                "this user has no home folder; choose one for model files with --cache-dir".into(),
            )),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..at], text[at..].trim())
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("must be a whole number with its unit, e.g. 500ms, 2s or 1m".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "must begin with a whole number, e.g. 2s".to_owned())?;
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(|| "is too long".to_owned())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("must be a whole number of bytes or have a unit KiB, MiB, GiB or TiB, e.g. 50GiB".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "must begin with a whole number, e.g. 50GiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        worker: WorkerOptions,
    }

    fn options(args: &[&str]) -> Result<WorkerOptions, String> {
        let cli = Cli::try_parse_from([&["test"], args].concat()).map_err(|error| error.to_string())?;
        cli.worker.check().map_err(|error| error.to_string())?;
        Ok(cli.worker)
    }

    #[test]
    fn flags() {
        let defaults = options(&[]).unwrap();
        assert_eq!(
            (defaults.drain_grace, defaults.cache_bytes_max),
            (Duration::from_secs(2), 50 << 30)
        );
        assert_eq!(
            options(&["--drain-grace", "150ms"]).unwrap().drain_grace,
            Duration::from_millis(150)
        );
        for (args, expected) in [
            (["--listen", "0.0.0.0:1"], "--advertise"),
            (["--advertise", "10.0.0.7:8480"], "must be a URL"),
            (["--lease-ttl", "1s"], "at least 2s"),
            (["--lease-ttl", "5"], "with its unit"),
            (["--cache-bytes-max", "9GB"], "GiB"),
            (["--cache-bytes-max", "99999999TiB"], "too large"),
        ] {
            let error = options(&args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
        assert!(options(&["--name", "A b"]).unwrap().name().is_err());
        let faults = ["--inject-fault", "m/v4:delay=40ms,error=0.5;m/v5:error=1"];
        assert_eq!(options(&faults).unwrap().inject_fault.len(), 2);
    }
}
