//! `etcdctl` works on both.

use std::{process::Stdio, time::Duration};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};

use crate::server::{Kind, Server};

impl Server {
    /// Standard output of a command that succeeds.
    async fn ctl(&self, args: &[&str]) -> String {
        let output = self
            .etcdctl()
            .args(args)
            .output()
            .await
            .expect("`etcdctl` is not installed: run `make setup`");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {args:?}: {error}");
        // `endpoint health` of etcdctl 3.4 writes there.
        format!("{}{error}", String::from_utf8_lossy(&output.stdout))
    }

    /// Standard error of a command that fails.
    async fn ctl_fails(&self, args: &[&str]) -> String {
        let output = self.etcdctl().args(args).output().await.unwrap();
        assert!(!output.status.success(), "etcdctl {args:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

pub(crate) async fn reads_and_writes(kind: Kind) {
    let server = Server::start(kind).await;
    assert_eq!(server.ctl(&["put", "a", "1"]).await, "OK\n");
    assert_eq!(server.ctl(&["put", "b", "2", "--prev-kv"]).await, "OK\n");
    assert_eq!(server.ctl(&["put", "a", "3", "--prev-kv"]).await, "OK\na\n1\n");
    assert_eq!(server.ctl(&["get", "a"]).await, "a\n3\n");
    assert_eq!(server.ctl(&["get", "", "--prefix", "--keys-only"]).await, "a\n\nb\n\n");
    assert_eq!(
        server.ctl(&["get", "a", "--rev", "2", "--print-value-only"]).await,
        "1\n"
    );
    let json = server.ctl(&["get", "a", "-w", "json"]).await;
    assert!(
        json.contains(r#""create_revision":2,"mod_revision":4,"version":2"#),
        "{json}"
    );
    assert_eq!(server.ctl(&["del", "a"]).await, "1\n");

    let mut child = server
        .etcdctl()
        .arg("txn")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let script = b"value(\"b\") = \"2\"\n\nput b 4\nget b\n\nput b 5\n\n";
    child.stdin.take().unwrap().write_all(script).await.unwrap();
    let output = String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["SUCCESS", "OK", "b", "4"]);

    assert_eq!(server.ctl(&["compaction", "5"]).await, "compacted revision 5\n");
    let error = server.ctl_fails(&["get", "a", "--rev", "2"]).await;
    assert!(error.contains("required revision has been compacted"), "{error}");
}

async fn lines(lines: &mut Lines<BufReader<tokio::process::ChildStdout>>, count: usize) -> Vec<String> {
    let mut read = Vec::new();
    while read.len() < count {
        let line = tokio::time::timeout(Duration::from_secs(10), lines.next_line())
            .await
            .expect("a line");
        read.push(line.unwrap().expect("a line"));
    }
    read
}

pub(crate) async fn leases_and_watches(kind: Kind) {
    let server = Server::start(kind).await;
    server.ctl(&["put", "p/a", "1"]).await;
    let mut child = server
        .etcdctl()
        .args(["watch", "p/", "--prefix", "--rev", "2", "--prev-kv"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut watch = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines(&mut watch, 3).await, ["PUT", "p/a", "1"]);

    let granted = server.ctl(&["lease", "grant", "60"]).await;
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    assert!(granted.contains("granted with TTL(60s)"), "{granted}");
    server.ctl(&["put", "p/b", "2", "--lease", &lease]).await;
    assert_eq!(lines(&mut watch, 3).await, ["PUT", "p/b", "2"]);
    let asked = server.ctl(&["lease", "timetolive", &lease, "--keys"]).await;
    assert!(
        asked.contains("granted with TTL(60s)") && asked.contains("attached keys([p/b])"),
        "{asked}"
    );
    assert!(server.ctl(&["lease", "list"]).await.contains(&lease));
    let kept = server.ctl(&["lease", "keep-alive", "--once", &lease]).await;
    assert!(kept.contains("keepalived with TTL(60)"), "{kept}");
    let revoked = server.ctl(&["lease", "revoke", &lease]).await;
    assert!(revoked.contains("revoked"), "{revoked}");
    assert_eq!(lines(&mut watch, 5).await, ["DELETE", "p/b", "2", "p/b", ""]);
    assert!(
        server
            .ctl_fails(&["lease", "revoke", &lease])
            .await
            .contains("requested lease not found")
    );
    child.kill().await.unwrap();
}

pub(crate) async fn asks_for_the_state(kind: Kind) {
    let server = Server::start(kind).await;
    server.ctl(&["put", "a", "1"]).await;
    let status = server.ctl(&["endpoint", "status", "-w", "json"]).await;
    for part in [r#""revision":2"#, r#""version":"3."#, r#""leader":"#, r#""dbSize":"#] {
        assert!(status.contains(part), "{part} is not in {status}");
    }
    let table = server.ctl(&["endpoint", "status", "-w", "table"]).await;
    assert!(table.contains("IS LEADER") && table.contains("true"), "{table}");
    let health = server.ctl(&["endpoint", "health"]).await;
    assert!(health.contains("is healthy"), "{health}");
    let members = server.ctl(&["member", "list"]).await;
    assert!(
        members.contains("started") && members.contains(&server.port().to_string()),
        "{members}"
    );
    assert_eq!(server.ctl(&["alarm", "list"]).await, "");
}
