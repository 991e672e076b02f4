//! Servers as child processes on free ports, with their data in a temporary folder.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use etcd_client::Client;
use tempfile::TempDir;
use understudy_registry::{Registry, RegistryOptions};

const DATA_VARIABLE: &str = "UNDERSTUDY_TEST_DATA";
const PORT_VARIABLE: &str = "UNDERSTUDY_TEST_PORT";
/// etcd elects itself in about a second; the machine may be busy.
const START_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Etcd,
}

pub(crate) struct Server {
    kind: Kind,
    folder: TempDir,
    /// Counts fresh data folders.
    generation: u32,
    port: u16,
    peer_port: u16,
    child: Child,
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The child process of [`Kind::Embedded`].
pub(crate) fn embedded_main() {
    let (Some(data), Some(port)) = (std::env::var_os(DATA_VARIABLE), std::env::var_os(PORT_VARIABLE)) else {
        return;
    };
    let port = port.into_string().unwrap().parse().unwrap();
    let options = understudy_embedded_registry::Options {
        data_dir: PathBuf::from(data),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(understudy_embedded_registry::serve(
            options,
            |_| {},
            std::future::pending(),
        ))
        .unwrap();
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Self {
        let folder = TempDir::with_prefix("understudy-registry-").unwrap();
        let (port, peer_port) = (free_port(), free_port());
        let child = spawn(kind, &folder.path().join("data-0"), port, peer_port);
        let server = Self {
            kind,
            folder,
            generation: 0,
            port,
            peer_port,
            child,
        };
        server.ready().await;
        server
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// On the same data and port.
    pub(crate) async fn restart(&mut self) {
        let data = self.folder.path().join(format!("data-{}", self.generation));
        self.child = spawn(self.kind, &data, self.port, self.peer_port);
        self.ready().await;
    }

    /// On no data, as an installation that is built again.
    pub(crate) async fn restart_empty(&mut self) {
        self.generation += 1;
        self.restart().await;
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect([format!("http://127.0.0.1:{}", self.port)], None)
            .await
            .unwrap()
    }

    pub(crate) fn options(&self) -> RegistryOptions {
        options(self.port)
    }

    pub(crate) async fn registry(&self) -> Registry {
        Registry::connect(&self.options()).await.unwrap()
    }

    pub(crate) fn etcdctl(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=127.0.0.1:{}", self.port))
            .kill_on_drop(true);
        command
    }

    async fn ready(&self) {
        let what = format!("{:?} on port {} answers", self.kind, self.port);
        eventually(&what, START_MAX, async || {
            let mut client = self.client().await;
            let get = client.get("ready?", None);
            matches!(tokio::time::timeout(Duration::from_secs(1), get).await, Ok(Ok(_)))
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn options(port: u16) -> RegistryOptions {
    RegistryOptions {
        endpoints: vec![format!("http://127.0.0.1:{port}")],
        ..RegistryOptions::default()
    }
}

fn spawn(kind: Kind, data: &Path, port: u16, peer_port: u16) -> Child {
    // Does not outlive a test process that is killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match kind {
        Kind::Embedded => {
            command.arg(std::env::current_exe().unwrap());
            command.args(["--exact", "embedded_server", "--ignored"]);
            command.env(DATA_VARIABLE, data).env(PORT_VARIABLE, port.to_string());
        }
        Kind::Etcd => {
            let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
            assert!(found.is_ok(), "`etcd` is not installed: run `make setup`");
            let (url, peer_url) = (
                format!("http://127.0.0.1:{port}"),
                format!("http://127.0.0.1:{peer_port}"),
            );
            command
                .arg("etcd")
                .arg("--data-dir")
                .arg(data)
                .args(["--name", "test", "--logger", "zap"]);
            command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
            command.args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ]);
            command.arg("--initial-cluster").arg(format!("test={peer_url}"));
        }
    }
    command.spawn().expect("`setpriv` is not installed: run `make setup`")
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
