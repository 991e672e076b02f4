//! Watches, also slow ones.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_client::{Client, CompactionOptions, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use understudy_registry::{Registry, v1};

use crate::{
    records::worker,
    server::{Kind, Server, eventually, options},
};

async fn next(stream: &mut WatchStream) -> WatchResponse {
    tokio::time::timeout(Duration::from_secs(10), stream.message())
        .await
        .expect("an event")
        .unwrap()
        .expect("an event")
}

/// The next `count` events as "put key value" or "delete key".
async fn events(stream: &mut WatchStream, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        for event in next(stream).await.events() {
            let kv = event.kv().unwrap();
            let before = event
                .prev_kv()
                .map(|kv| format!(" was {}", kv.value_str().unwrap()))
                .unwrap_or_default();
            seen.push(match event.event_type() {
                EventType::Put => format!("put {} {}{before}", kv.key_str().unwrap(), kv.value_str().unwrap()),
                EventType::Delete => format!("delete {}{before}", kv.key_str().unwrap()),
            });
        }
    }
    seen
}

async fn watch(client: &mut Client, key: &str, options: WatchOptions) -> WatchStream {
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    let created = next(&mut stream).await;
    assert!(created.created() && !created.canceled());
    stream
}

pub(crate) async fn from_any_revision(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    for (key, value) in [("p/a", "1"), ("x", "1"), ("p/a", "2"), ("p/b", "1")] {
        client.put(key, value, None).await.unwrap();
    }
    client.delete("p/a", None).await.unwrap();

    let past = WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key();
    let mut stream = watch(&mut client, "p/", past).await;
    let all = ["put p/a 1", "put p/a 2 was 1", "put p/b 1", "delete p/a was 2"];
    assert_eq!(events(&mut stream, 4).await, all);
    client.put("p/c", "1", None).await.unwrap();
    assert_eq!(events(&mut stream, 1).await, ["put p/c 1"]);

    let mut one = watch(&mut client, "p/a", WatchOptions::new().with_start_revision(3)).await;
    assert_eq!(events(&mut one, 2).await, ["put p/a 2", "delete p/a"]);

    let no_puts = WatchOptions::new()
        .with_prefix()
        .with_start_revision(2)
        .with_filters([WatchFilterType::NoPut]);
    let mut deletes = watch(&mut client, "p/", no_puts).await;
    assert_eq!(events(&mut deletes, 1).await, ["delete p/a"]);

    // From now on, and from a revision that does not exist yet: 7 is the latest.
    let mut now = watch(&mut client, "p/", WatchOptions::new().with_prefix()).await;
    let mut later = watch(
        &mut client,
        "p/",
        WatchOptions::new().with_prefix().with_start_revision(9),
    )
    .await;
    client.put("p/d", "1", None).await.unwrap();
    client.put("p/d", "2", None).await.unwrap();
    assert_eq!(events(&mut now, 2).await, ["put p/d 1", "put p/d 2"]);
    assert_eq!(events(&mut later, 1).await, ["put p/d 2"]);

    // From before a compaction.
    client
        .compact(6, Some(CompactionOptions::new().with_physical()))
        .await
        .unwrap();
    let mut stream = client
        .watch("p/", Some(WatchOptions::new().with_prefix().with_start_revision(3)))
        .await
        .unwrap();
    let mut response = next(&mut stream).await;
    if response.created() && !response.canceled() {
        response = next(&mut stream).await;
    }
    assert!(response.canceled());
    assert_eq!(response.compact_revision(), 6);
    let mut kept = watch(
        &mut client,
        "p/",
        WatchOptions::new().with_prefix().with_start_revision(7),
    )
    .await;
    assert_eq!(events(&mut kept, 3).await, ["put p/c 1", "put p/d 1", "put p/d 2"]);
}

pub(crate) async fn many_on_one_stream(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    let mut stream = watch(&mut client, "a", WatchOptions::new().with_watch_id(5)).await;
    stream.watch("b", Some(WatchOptions::new())).await.unwrap();
    let second = next(&mut stream).await;
    assert!(second.created() && second.watch_id() != 5);
    stream
        .watch("c", Some(WatchOptions::new().with_watch_id(5)))
        .await
        .unwrap();
    let twice = next(&mut stream).await;
    assert!(twice.created() && twice.canceled(), "its id is taken");
    assert_eq!(
        twice.cancel_reason(),
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    stream
        .watch("z", Some(WatchOptions::new().with_range("b")))
        .await
        .unwrap();
    assert!(next(&mut stream).await.canceled(), "its range is empty");

    client.put("b", "1", None).await.unwrap();
    let event = next(&mut stream).await;
    assert_eq!((event.watch_id(), event.events().len()), (second.watch_id(), 1));
    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert_eq!((progress.events().len(), progress.header().unwrap().revision()), (0, 2));

    stream.cancel(second.watch_id()).await.unwrap();
    let canceled = next(&mut stream).await;
    assert_eq!((canceled.canceled(), canceled.watch_id()), (true, second.watch_id()));
    client.put("b", "2", None).await.unwrap();
    client.put("a", "1", None).await.unwrap();
    assert_eq!(next(&mut stream).await.watch_id(), 5);
}

/// Passes connections on until told to hold back what the server sends.
pub(crate) struct Proxy {
    port: u16,
    hold: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (port, hold) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let held = Arc::clone(&hold);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let held = Arc::clone(&held);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        while held.load(Ordering::Relaxed) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        let read = from_server.read(&mut buffer).await.unwrap_or(0);
                        if read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, hold }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn hold(&self, hold: bool) {
        self.hold.store(hold, Ordering::Relaxed);
    }
}

/// Writes more below a folder than any buffer on the way to a watcher holds, and compacts it away. Returns where.
pub(crate) async fn outrun(client: &Client, folder: &str) -> i64 {
    const WRITES: usize = 4_000;
    const VALUE_BYTES: usize = 8_192;
    let value = "x".repeat(VALUE_BYTES);
    let writes = (0..64).map(|task| {
        let (mut client, value, folder) = (client.clone(), value.clone(), folder.to_owned());
        tokio::spawn(async move {
            for n in 0..WRITES / 64 {
                let key = format!("/understudy/v1/{folder}/noise/{task}-{n}");
                client.put(key, value.clone(), None).await.unwrap();
            }
        })
    });
    for task in writes.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let mut client = client.clone();
    let last = format!("/understudy/v1/{folder}/noise/last");
    let last = client.put(last, "", None).await.unwrap();
    let revision = last.header().unwrap().revision();
    let physical = CompactionOptions::new().with_physical();
    client.compact(revision, Some(physical)).await.unwrap();
    revision
}

/// A watcher that cannot keep up falls out of the history: it is told, and a follower lists again.
pub(crate) async fn compaction_under_a_watch(kind: Kind) {
    let server = Server::start(kind).await;
    let proxy = Proxy::start(server.port()).await;
    let direct = server.registry().await;
    let client = server.client().await;
    let gone = direct.announce(worker("gone", 1), Duration::from_secs(60));
    let mut follow = direct.follow::<v1::Worker>();
    let through_proxy = Registry::connect(&options(proxy.port)).await.unwrap();
    let mut slow = through_proxy.follow::<v1::Worker>();
    tokio::time::timeout(Duration::from_secs(10), async {
        while slow.synced().await.records.is_empty() {
            slow.changed().await;
        }
    })
    .await
    .unwrap();
    let mut proxied = Client::connect([format!("http://127.0.0.1:{}", proxy.port)], None)
        .await
        .unwrap();
    let mut raw = watch(&mut proxied, "/understudy/v1/", WatchOptions::new().with_prefix()).await;

    proxy.hold(true);
    gone.withdraw().await;
    let _stays = direct.announce(worker("stays", 2), Duration::from_secs(60));
    follow.changed().await;
    let revision = outrun(&client, "workers").await;
    proxy.hold(false);

    loop {
        let response = next(&mut raw).await;
        if response.canceled() {
            assert_eq!(response.compact_revision(), revision);
            break;
        }
        assert!(response.header().unwrap().revision() <= revision);
    }
    eventually(
        "the slow follower has listed again",
        Duration::from_secs(10),
        async || {
            let view = slow.view();
            view.connected && view.revision >= revision && view.records.keys().eq(["stays"])
        },
    )
    .await;
    assert!(
        follow.view().records.keys().eq(["stays"]),
        "{:?}",
        follow.view().records
    );
}
