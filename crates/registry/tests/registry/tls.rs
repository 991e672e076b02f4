//! Mutual TLS, with an etcd that asks for it.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use understudy_registry::{Registry, RegistryOptions, v1};

use crate::{
    records::route,
    server::{eventually, free_port},
};

/// Makes an authority and one certificate of its, which serves both sides.
fn make_certificates(folder: &Path) {
    std::fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 \
         -subj /CN=authority",
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out request -subj /CN=registry",
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem",
    ] {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split_whitespace()).current_dir(folder).output();
        let output = output.expect("`openssl` is not installed: run `make setup`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn mutual_tls() {
    let folder = tempfile::TempDir::with_prefix("understudy-registry-tls-").unwrap();
    make_certificates(folder.path());
    let url = format!("https://127.0.0.1:{}", free_port());
    let peer_url = format!("http://127.0.0.1:{}", free_port());
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "etcd", "--name", "test", "--data-dir", "data"])
        .current_dir(folder.path());
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args([
        "--listen-peer-urls",
        &peer_url,
        "--initial-advertise-peer-urls",
        &peer_url,
    ]);
    command
        .arg("--initial-cluster")
        .arg(format!("test={peer_url}"))
        .arg("--client-cert-auth");
    command.args([
        "--trusted-ca-file",
        "ca.pem",
        "--cert-file",
        "cert.pem",
        "--key-file",
        "key.pem",
    ]);
    let _etcd = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());

    let file = |name: &str| Some(folder.path().join(name));
    let options = RegistryOptions {
        endpoints: vec![url.clone()],
        cacert: file("ca.pem"),
        cert: file("cert.pem"),
        key: file("key.pem"),
        ..RegistryOptions::default()
    };
    let registry = Registry::connect(&options).await.unwrap();
    eventually("etcd answers", Duration::from_secs(30), async || {
        registry.route("a").await.is_ok()
    })
    .await;
    registry.put_route(&route("a", 1), 0).await.unwrap();
    let mut follow = registry.follow::<v1::Route>();
    assert!(follow.synced().await.records.contains_key("a"));

    // Neither without a certificate, nor with an authority that did not sign the server's.
    let anonymous = RegistryOptions {
        cert: None,
        key: None,
        ..options.clone()
    };
    let stranger = RegistryOptions {
        cacert: None,
        ..options
    };
    for options in [anonymous, stranger] {
        assert!(Registry::connect(&options).await.unwrap().route("a").await.is_err());
    }
}
