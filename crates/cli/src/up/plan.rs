//! What will run, where it listens, with which flags.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use console::style;
use serde_json::json;

use super::{
    UpOptions,
    ports::{LOCALHOST, Ports, reachable, url},
};
use crate::output::Output;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Registry,
    Router,
    Worker,
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
    /// Analysts, then scribes.
    pub(super) workers: Vec<ChildSpec>,
    registry_url: String,
    router_metrics: SocketAddr,
    analysts: Vec<Addresses>,
    scribes: Vec<Addresses>,
    data_dir: PathBuf,
}

/// Where a worker listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    listen: SocketAddr,
    metrics: SocketAddr,
}

/// Workers of one kind.
struct Crew {
    name: &'static str,
    program: &'static str,
    count: u16,
    listen: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    /// The first one's, of what it serves and of its metrics.
    ports: (u16, u16),
    flags: (&'static str, &'static str),
    environment: &'static [(&'static str, &'static str)],
}

impl Crew {
    fn all(options: &UpOptions) -> [Self; 2] {
        let ports = &options.ports;
        [
            Self {
                name: "analyst",
                program: "understudy-analyst",
                count: options.analysts,
                listen: ports.analyst_listen,
                metrics: ports.analyst_metrics,
                ports: (8480, 9480),
                flags: ("--analyst-listen", "--analyst-metrics"),
                // Read when the process starts: busy neighbours make spinning threads slow, and arenas keep freed models.
                environment: &[("MALLOC_ARENA_MAX", "2"), ("OMP_WAIT_POLICY", "passive")],
            },
            Self {
                name: "scribe",
                program: "understudy-scribe",
                count: options.scribes(),
                listen: ports.scribe_listen,
                metrics: ports.scribe_metrics,
                ports: (8490, 9490),
                flags: ("--scribe-listen", "--scribe-metrics"),
                // As above; libgomp spins by another variable.
                environment: &[("MALLOC_ARENA_MAX", "2"), ("GOMP_SPINCOUNT", "0")],
            },
        ]
    }

    fn addresses(&self, taken: &mut Ports) -> anyhow::Result<Vec<Addresses>> {
        let of = |index| {
            Ok(Addresses {
                listen: taken.take_nth(self.listen, self.ports.0, index, self.flags.0)?,
                metrics: taken.take_nth(self.metrics, self.ports.1, index, self.flags.1)?,
            })
        };
        (0..self.count).map(of).collect()
    }
}

impl Plan {
    pub(super) fn new(options: &UpOptions, data_dir: &Path) -> anyhow::Result<Self> {
        let router_program = find("understudy-router", options.bin.as_deref())?;
        let ports = &options.ports;
        let mut taken = Ports::new(ports.free_ports);
        let router_listen = taken.take(ports.router_listen, 8470, "--router-listen")?;
        let router_metrics = taken.take(ports.router_metrics, 9470, "--router-metrics")?;
        let [analyst_crew, scribe_crew] = Crew::all(options);
        let analysts = analyst_crew.addresses(&mut taken)?;
        let scribes = scribe_crew.addresses(&mut taken)?;
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
        let mut workers = Vec::new();
        for (crew, addresses) in [(&analyst_crew, &analysts), (&scribe_crew, &scribes)] {
            if addresses.is_empty() {
                continue;
            }
            let program = find(crew.program, options.bin.as_deref())?;
            for (index, Addresses { listen, metrics }) in addresses.iter().enumerate() {
                let name = format!("{}-{}", crew.name, index + 1);
                let faults = options.inject_fault.iter();
                let faults = faults.flat_map(|fault| flags(&[("--inject-fault", Some(fault.into()))]));
                workers.push(ChildSpec {
                    role: Role::Worker,
                    program: program.clone(),
                    arguments: log(flags(&[
                        ("--name", Some(name.clone().into())),
                        ("--listen", Some(listen.to_string().into())),
                        ("--advertise", Some(url(*listen).into())),
                        ("--metrics-listen", Some(metrics.to_string().into())),
                        ("--registry", Some(registry_url.clone().into())),
                        ("--cache-dir", Some(data_dir.join("cache").into())),
                    ])
                    .into_iter()
                    .chain(faults)
                    .collect()),
                    name,
                    environment: crew.environment.to_vec(),
                });
            }
        }
        Ok(Self {
            registry,
            registry_listen: reachable(registry_listen),
            router,
            router_url: url(router_listen),
            workers,
            registry_url,
            router_metrics,
            analysts,
            scribes,
            data_dir: data_dir.to_owned(),
        })
    }

    /// The router's address and each worker's.
    pub(super) fn health_urls(&self) -> Vec<String> {
        let workers = self
            .analysts
            .iter()
            .chain(&self.scribes)
            .map(|worker| url(worker.listen));
        std::iter::once(self.router_url.clone()).chain(workers).collect()
    }

    /// `routed`: models with a route, and whether they are scribes.
    pub(super) fn tell_ready(&self, output: &Output, routed: &[(String, bool)]) -> anyhow::Result<()> {
        let metrics = |address: SocketAddr| format!("{}/metrics", url(address));
        if output.is_json() {
            let listens = |workers: &[Addresses]| workers.iter().map(|worker| url(worker.listen)).collect::<Vec<_>>();
            let counts =
                |workers: &[Addresses]| workers.iter().map(|worker| metrics(worker.metrics)).collect::<Vec<_>>();
            return output.compact(&json!({
                "router": self.router_url,
                "router_metrics": metrics(self.router_metrics),
                "registry": self.registry_url,
                "analysts": listens(&self.analysts),
                "analyst_metrics": counts(&self.analysts),
                "scribes": listens(&self.scribes),
                "scribe_metrics": counts(&self.scribes),
                "data_dir": self.data_dir,
                "pid": std::process::id(),
            }));
        }
        let count = |workers: &[Addresses], name: &str| match workers.len() {
            0 => None,
            1 => Some(format!("1 {name}")),
            many => Some(format!("{many} {name}s")),
        };
        let workers = [count(&self.analysts, "analyst"), count(&self.scribes, "scribe")];
        let workers = workers.into_iter().flatten().collect::<Vec<_>>().join(", ");
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
        let (scribe, analyst) = (
            routed.iter().any(|(_, is_scribe)| *is_scribe),
            routed.iter().any(|(_, is_scribe)| !is_scribe),
        );
        if analyst {
            output.line(format_args!(
                "  understudy{at} classify 'A wonderful film with great performances.'"
            ))?;
        }
        if scribe {
            output.line(format_args!("  understudy{at} chat"))?;
        }
        if scribe && analyst {
            output.line(format_args!("  understudy{at} critique reviews.csv"))?;
        }
        if routed.is_empty() {
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
    fn missing_programs_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = find("understudy-router", Some(folder.path())).unwrap_err().to_string();
        assert!(
            error.contains("understudy-router") && error.contains("UNDERSTUDY_BIN"),
            "{error}"
        );
    }
}
