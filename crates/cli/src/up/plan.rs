//! What will run, where it listens, with which flags.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use console::style;
use serde_json::json;

use super::UpOptions;
use crate::output::Output;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Registry,
    Router,
    Analyst,
}

/// How to start a child.
#[derive(Debug, Clone)]
pub(super) struct ChildSpec {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, &'static str)>,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) registry: Option<ChildSpec>,
    pub(super) registry_listen: SocketAddr,
    pub(super) router: ChildSpec,
    pub(super) router_url: String,
    pub(super) analysts: Vec<ChildSpec>,
    registry_url: String,
    router_metrics: SocketAddr,
    analyst_addresses: Vec<(SocketAddr, SocketAddr)>,
    data_dir: PathBuf,
}

impl Plan {
    pub(super) fn new(options: &UpOptions, data_dir: &Path) -> anyhow::Result<Self> {
        let router_program = find("understudy-router", options.bin.as_deref())?;
        let analyst_program = find("understudy-analyst", options.bin.as_deref())?;
        let ports = &options.ports;
        let mut taken = Ports {
            free: ports.free_ports,
            listeners: Vec::new(),
        };
        let router_listen = taken.take(ports.router_listen, 8470, "--router-listen")?;
        let router_metrics = taken.take(ports.router_metrics, 9470, "--router-metrics")?;
        let mut analyst_addresses = Vec::new();
        for index in 0..options.analysts {
            analyst_addresses.push((
                taken.take_nth(ports.analyst_listen, 8480, index, "--analyst-listen")?,
                taken.take_nth(ports.analyst_metrics, 9480, index, "--analyst-metrics")?,
            ));
        }
        let registry_listen = match options.registry {
            Some(_) => SocketAddr::new(LOCALHOST, 0),
            None => taken.take(ports.registry_listen, 2379, "--registry-listen")?,
        };
        // Held until here, so that no two got the same one.
        drop(taken);

        let registry_url = options.registry.clone().unwrap_or_else(|| url(registry_listen));
        let log = |mut arguments: Vec<OsString>| {
            arguments.extend(["--log".into(), options.log.log.clone().into()]);
            arguments
        };
        let registry = match options.registry {
            Some(_) => None,
            None => Some(ChildSpec {
                role: Role::Registry,
                name: "registry".into(),
                program: std::env::current_exe().context("cannot find this program's own file")?,
                arguments: log(flags(&[
                    ("registry", None),
                    ("--data-dir", Some(data_dir.join("registry").into())),
                    ("--listen", Some(registry_listen.to_string().into())),
                ])),
                environment: vec![],
            }),
        };
        let artifact_store = match &options.artifact_store {
            Some(uri) => uri.clone(),
            None => {
                let folder = data_dir.join("artifacts");
                std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
                understudy_artifacts::uri_of_folder(&folder)?
            }
        };
        let router = ChildSpec {
            role: Role::Router,
            name: "router".into(),
            program: router_program,
            arguments: log(flags(&[
                ("--listen", Some(router_listen.to_string().into())),
                ("--metrics-listen", Some(router_metrics.to_string().into())),
                ("--registry", Some(registry_url.clone().into())),
                ("--state-dir", Some(data_dir.join("router").into())),
                ("--artifact-store", Some(artifact_store.into())),
            ])),
            environment: vec![],
        };
        let analysts = analyst_addresses.iter().enumerate().map(|(index, (listen, metrics))| {
            let name = format!("analyst-{}", index + 1);
            ChildSpec {
                role: Role::Analyst,
                program: analyst_program.clone(),
                arguments: log(flags(&[
                    ("--name", Some(name.clone().into())),
                    ("--listen", Some(listen.to_string().into())),
                    ("--advertise", Some(url(*listen).into())),
                    ("--metrics-listen", Some(metrics.to_string().into())),
                    ("--registry", Some(registry_url.clone().into())),
                    ("--cache-dir", Some(data_dir.join("cache").into())),
                ])),
                name,
                // Read when the process starts: busy neighbours make spinning threads slow, and arenas keep freed models.
                environment: vec![("MALLOC_ARENA_MAX", "2"), ("OMP_WAIT_POLICY", "passive")],
            }
        });
        Ok(Self {
            registry,
            registry_listen: reachable(registry_listen),
            router,
            router_url: url(router_listen),
            analysts: analysts.collect(),
            registry_url,
            router_metrics,
            analyst_addresses,
            data_dir: data_dir.to_owned(),
        })
    }

    /// The router's address and each worker's.
    pub(super) fn health_urls(&self) -> Vec<String> {
        let analysts = self.analyst_addresses.iter().map(|(listen, _)| url(*listen));
        std::iter::once(self.router_url.clone()).chain(analysts).collect()
    }

    pub(super) fn tell_ready(&self, output: &Output, serves: bool) -> anyhow::Result<()> {
        let metrics = |address: SocketAddr| format!("{}/metrics", url(address));
        if output.is_json() {
            return output.compact(&json!({
                "router": self.router_url,
                "router_metrics": metrics(self.router_metrics),
                "registry": self.registry_url,
                "analysts": self.analyst_addresses.iter().map(|(listen, _)| url(*listen)).collect::<Vec<_>>(),
                "analyst_metrics": self.analyst_addresses.iter().map(|(_, address)| metrics(*address)).collect::<Vec<_>>(),
                "data_dir": self.data_dir,
                "pid": std::process::id(),
            }));
        }
        let workers = match self.analysts.len() {
            1 => "1 worker".to_owned(),
            many => format!("{many} workers"),
        };
        let at = match self.router_url.as_str() {
            "http://127.0.0.1:8470" => String::new(),
            other => format!(" --router {other}"),
        };
        output.line(format_args!("\n{}", style("Understudy is ready").green().bold()))?;
        output.line(format_args!("  router    {}  ({workers})", self.router_url))?;
        output.line(format_args!("  registry  {}", self.registry_url))?;
        output.line(format_args!("  metrics   {}", metrics(self.router_metrics)))?;
        output.line(format_args!("  data      {}", self.data_dir.display()))?;
        output.line("\nNext, in another terminal:")?;
        if serves {
            output.line(format_args!(
                "  understudy{at} classify 'A wonderful film with great performances.'"
            ))?;
        } else {
            output.line(format_args!(
                "  understudy{at} models publish FOLDER|hf:OWNER/NAME --model sentiment --version v1"
            ))?;
            output.line(format_args!("  understudy{at} route set sentiment v1"))?;
        }
        output.line(format_args!("  understudy{at} status\n\nCtrl-C stops everything.\n"))
    }
}

fn flags(pairs: &[(&str, Option<OsString>)]) -> Vec<OsString> {
    pairs
        .iter()
        .flat_map(|(flag, value)| std::iter::once(OsString::from(flag)).chain(value.clone()))
        .collect()
}

/// Where this machine reaches what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => LOCALHOST,
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn url(address: SocketAddr) -> String {
    format!("http://{}", reachable(address))
}

/// Addresses that were free a moment ago. They are chosen here, not by the children, because a restarted child must
/// come back where the others look for it.
struct Ports {
    free: bool,
    listeners: Vec<TcpListener>,
}

impl Ports {
    fn take(&mut self, asked: Option<SocketAddr>, default: u16, flag: &str) -> anyhow::Result<SocketAddr> {
        let default = SocketAddr::new(LOCALHOST, if self.free { 0 } else { default });
        let address = asked.unwrap_or(default);
        let listener = TcpListener::bind(address).with_context(|| {
            format!("cannot listen on {address}; is another platform running? Choose another address with {flag}, or --free-ports")
        })?;
        let address = listener.local_addr()?;
        self.listeners.push(listener);
        Ok(address)
    }

    fn take_nth(
        &mut self,
        asked: Option<SocketAddr>,
        default: u16,
        index: u16,
        flag: &str,
    ) -> anyhow::Result<SocketAddr> {
        let nth = |port: u16| if port == 0 { Some(0) } else { port.checked_add(index) };
        let asked = asked
            .map(|address| {
                let port = nth(address.port()).with_context(|| format!("{flag} leaves no port for every worker"))?;
                anyhow::Ok(SocketAddr::new(address.ip(), port))
            })
            .transpose()?;
        self.take(asked, default + index, flag)
    }
}

/// Beside this program, or where the user says, or on PATH.
fn find(name: &str, bin: Option<&Path>) -> anyhow::Result<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    match bin {
        Some(bin) => folders.push(bin.to_owned()),
        None => {
            let own = std::env::current_exe()
                .ok()
                .and_then(|own| own.parent().map(Path::to_owned));
            folders.extend(own);
            folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        }
    }
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    match (found, bin) {
        (Some(path), _) => Ok(std::path::absolute(path)?),
        (None, Some(bin)) => bail!(
            "there is no {name} in {}, which --bin or UNDERSTUDY_BIN names",
            bin.display()
        ),
        (None, None) => {
            bail!("{name} is neither beside this program nor on PATH: install it there, or name its folder with --bin")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_used_ones_are_refused() {
        let mut ports = Ports {
            free: true,
            listeners: vec![],
        };
        let first = ports.take(None, 8470, "--a").unwrap();
        let second = ports.take_nth(None, 8480, 1, "--b").unwrap();
        assert!(first.port() != 0 && second.port() != 0 && first != second);
        let error = ports.take(Some(first), 1, "--router-listen").unwrap_err().to_string();
        assert!(
            error.contains("--router-listen") && error.contains("--free-ports"),
            "{error}"
        );
        assert!(
            ports
                .take_nth(Some("127.0.0.1:65535".parse().unwrap()), 1, 1, "--b")
                .is_err()
        );
    }

    #[test]
    fn all_interfaces_are_called_by_the_loopback_one() {
        assert_eq!(url("0.0.0.0:8470".parse().unwrap()), "http://127.0.0.1:8470");
        assert_eq!(url("[::]:8470".parse().unwrap()), "http://[::1]:8470");
        assert_eq!(url("10.1.2.3:1".parse().unwrap()), "http://10.1.2.3:1");
    }

    #[test]
    fn missing_programs_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = find("understudy-router", Some(folder.path())).unwrap_err().to_string();
        assert!(
            error.contains("understudy-router") && error.contains("UNDERSTUDY_BIN"),
            "{error}"
        );
    }
}
