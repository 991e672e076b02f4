//! KV and lease calls: results, and the errors that clients match on.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions, KeyValue, LeaseGrantOptions,
    LeaseTimeToLiveOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};
use tonic::Code;

use crate::server::{Kind, Server};

#[track_caller]
fn refused<T>(result: Result<T, Error>, code: Code, message: &str) {
    match result {
        Err(Error::GRpcStatus(status)) => {
            assert_eq!((status.code(), status.message()), (code, message));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused: {message}"),
    }
}

fn keys(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| kv.key_str().unwrap()).collect()
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> i64 {
    header.unwrap().revision()
}

pub(crate) async fn reading_and_writing(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    assert_eq!(
        revision(client.get("a", None).await.unwrap().header()),
        1,
        "an empty store"
    );
    let first = revision(client.put("a", "1", None).await.unwrap().header());
    assert_eq!(first, 2);
    let answer = client
        .put("a", "2", Some(PutOptions::new().with_prev_key()))
        .await
        .unwrap();
    assert_eq!(answer.prev_key().map(KeyValue::value), Some(&b"1"[..]));
    let answer = client.get("a", None).await.unwrap();
    let kv = &answer.kvs()[0];
    let numbers = (kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease());
    assert_eq!((kv.value(), numbers), (&b"2"[..], (2, 3, 2, 0)));

    // Any bytes, and none.
    client.put([0xff, 0x00], "", None).await.unwrap();
    assert_eq!(client.get([0xff, 0x00], None).await.unwrap().kvs()[0].value(), b"");

    // A put that keeps the value, or the lease.
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let options = PutOptions::new().with_ignore_value().with_lease(lease);
    client.put("a", "", Some(options)).await.unwrap();
    client
        .put("a", "3", Some(PutOptions::new().with_ignore_lease()))
        .await
        .unwrap();
    let answer = client.get("a", None).await.unwrap();
    assert_eq!((answer.kvs()[0].value(), answer.kvs()[0].lease()), (&b"3"[..], lease));

    let options = DeleteOptions::new().with_prev_key();
    let answer = client.delete("a", Some(options)).await.unwrap();
    assert_eq!((answer.deleted(), answer.prev_kvs()[0].value()), (1, &b"3"[..]));
    let deleted_at = revision(answer.header());
    let answer = client.delete("a", None).await.unwrap();
    assert_eq!(
        (answer.deleted(), revision(answer.header())),
        (0, deleted_at),
        "nothing deleted: no new revision"
    );
    client.put("a", "again", None).await.unwrap();
    assert_eq!(client.get("a", None).await.unwrap().kvs()[0].version(), 1);

    refused(
        client.put("", "x", None).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    refused(
        client.get("", None).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    refused(
        client.delete("", None).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let keep = |value: &'static str, key: &'static str| {
        let mut client = client.clone();
        async move {
            client
                .put(key, value, Some(PutOptions::new().with_ignore_value()))
                .await
        }
    };
    refused(
        keep("", "absent").await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    refused(
        keep("x", "a").await,
        Code::InvalidArgument,
        "etcdserver: value is provided",
    );
    let options = PutOptions::new().with_ignore_lease().with_lease(lease);
    let keep_lease = client.put("a", "x", Some(options)).await;
    refused(keep_lease, Code::InvalidArgument, "etcdserver: lease is provided");
    let large = vec![b'x'; 1_572_864];
    refused(
        client.put("a", large, None).await,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    client.put("a", vec![b'x'; 1_500_000], None).await.unwrap();
    let options = PutOptions::new().with_lease(12345);
    let no_lease = client.put("a", "x", Some(options)).await;
    refused(no_lease, Code::NotFound, "etcdserver: requested lease not found");
}

async fn get(client: &Client, key: &str, options: GetOptions) -> etcd_client::GetResponse {
    client.clone().get(key, Some(options)).await.unwrap()
}

pub(crate) async fn range_options(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    // Revisions 2 to 7; "b" is written twice.
    for (key, value) in [
        ("p/c", "1"),
        ("p/b", "4"),
        ("p/a", "3"),
        ("p/b", "2"),
        ("q", "0"),
        ("p/d", "5"),
    ] {
        client.put(key, value, None).await.unwrap();
    }
    let prefix = || GetOptions::new().with_prefix();
    assert_eq!(
        keys(get(&client, "p/", prefix()).await.kvs()),
        ["p/a", "p/b", "p/c", "p/d"]
    );
    assert_eq!(
        keys(get(&client, "p/c", GetOptions::new().with_from_key()).await.kvs()),
        ["p/c", "p/d", "q"]
    );
    assert_eq!(
        keys(get(&client, "p/a", GetOptions::new().with_range("p/c")).await.kvs()),
        ["p/a", "p/b"]
    );
    assert_eq!(
        keys(get(&client, "z", GetOptions::new().with_range("p")).await.kvs()),
        [""; 0]
    );
    assert_eq!(get(&client, "", GetOptions::new().with_all_keys()).await.count(), 5);

    let answer = get(&client, "p/", prefix().with_limit(3)).await;
    assert_eq!(
        (keys(answer.kvs()), answer.more(), answer.count()),
        (vec!["p/a", "p/b", "p/c"], true, 4)
    );
    let answer = get(&client, "p/", prefix().with_limit(4)).await;
    assert_eq!((answer.kvs().len(), answer.more()), (4, false));
    let answer = get(&client, "p/", prefix().with_count_only()).await;
    assert_eq!((answer.kvs().len(), answer.count()), (0, 4));
    let answer = get(&client, "p/", prefix().with_keys_only()).await;
    assert!(
        answer
            .kvs()
            .iter()
            .all(|kv| kv.value().is_empty() && kv.mod_revision() > 0)
    );

    for (target, ascending) in [
        (SortTarget::Key, ["p/a", "p/b", "p/c", "p/d"]),
        (SortTarget::Value, ["p/c", "p/b", "p/a", "p/d"]),
        (SortTarget::Create, ["p/c", "p/b", "p/a", "p/d"]),
        (SortTarget::Mod, ["p/c", "p/a", "p/b", "p/d"]),
    ] {
        assert_eq!(
            keys(
                get(&client, "p/", prefix().with_sort(target, SortOrder::Ascend))
                    .await
                    .kvs()
            ),
            ascending
        );
        let descending: Vec<&str> = ascending.into_iter().rev().collect();
        let answer = get(
            &client,
            "p/",
            prefix().with_sort(target, SortOrder::Descend).with_limit(2),
        )
        .await;
        assert_eq!(
            (keys(answer.kvs()), answer.more()),
            (descending[..2].to_vec(), true),
            "the limit comes after sorting"
        );
    }
    let answer = get(
        &client,
        "p/",
        prefix()
            .with_sort(SortTarget::Version, SortOrder::Descend)
            .with_limit(1),
    )
    .await;
    assert_eq!(keys(answer.kvs()), ["p/b"]);

    let answer = get(
        &client,
        "p/",
        prefix().with_min_mod_revision(4).with_max_mod_revision(5),
    )
    .await;
    assert_eq!((keys(answer.kvs()), answer.count()), (vec!["p/a", "p/b"], 4));
    let answer = get(&client, "p/", prefix().with_max_create_revision(3)).await;
    assert_eq!(keys(answer.kvs()), ["p/b", "p/c"]);

    // Old revisions, until they are compacted.
    let answer = get(&client, "p/b", GetOptions::new().with_revision(4)).await;
    assert_eq!((answer.kvs()[0].value(), revision(answer.header())), (&b"4"[..], 7));
    assert_eq!(
        keys(get(&client, "p/", prefix().with_revision(3)).await.kvs()),
        ["p/b", "p/c"]
    );
    client.compact(5, None).await.unwrap();
    let old = client.get("p/b", Some(GetOptions::new().with_revision(4))).await;
    refused(
        old,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
    let future = client.get("p/b", Some(GetOptions::new().with_revision(8))).await;
    refused(
        future,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let again = client.compact(5, None).await;
    refused(
        again,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
    let future = client.compact(100, None).await;
    refused(
        future,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    assert_eq!(
        keys(get(&client, "p/", prefix().with_revision(5)).await.kvs()),
        ["p/a", "p/b", "p/c"]
    );
}

pub(crate) async fn transactions(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    let create = |value: &'static str| {
        Txn::new()
            .when([Compare::create_revision("a", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("a", value, None)])
            .or_else([TxnOp::get("a", None)])
    };
    assert!(client.txn(create("1")).await.unwrap().succeeded());
    let lost = client.txn(create("2")).await.unwrap();
    assert!(!lost.succeeded());
    match &lost.op_responses()[..] {
        [TxnOpResponse::Get(found)] => assert_eq!(found.kvs()[0].value(), b"1"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        revision(lost.header()),
        2,
        "a transaction that only reads makes no revision"
    );

    // Operations see the ones before; all have one revision.
    let txn = Txn::new().and_then([
        TxnOp::put("b", "1", None),
        TxnOp::get("b", None),
        TxnOp::delete("a", None),
        TxnOp::get("a", None),
        TxnOp::put("c", "1", None),
    ]);
    let answer = client.txn(txn).await.unwrap();
    let responses = answer.op_responses();
    let (TxnOpResponse::Get(b), TxnOpResponse::Get(a)) = (&responses[1], &responses[3]) else {
        panic!()
    };
    assert_eq!((b.kvs()[0].mod_revision(), a.count()), (3, 0));
    let answer = get(&client, "b", GetOptions::new().with_from_key()).await;
    assert!(answer.kvs().iter().all(|kv| kv.mod_revision() == 3) && answer.count() == 2);

    let guarded = |compare: Compare| Txn::new().when([compare]);
    for (compare, expected) in [
        (Compare::version("b", CompareOp::Equal, 1), true),
        (Compare::version("b", CompareOp::Greater, 1), false),
        (Compare::mod_revision("b", CompareOp::Less, 4), true),
        (Compare::mod_revision("absent", CompareOp::Equal, 0), true),
        (Compare::create_revision("b", CompareOp::NotEqual, 3), false),
        (Compare::value("b", CompareOp::Equal, "1"), true),
        (Compare::value("absent", CompareOp::NotEqual, "1"), false),
        (Compare::lease("b", CompareOp::Equal, 0), true),
        (Compare::version("b", CompareOp::Greater, 0).with_range("d"), true),
        (Compare::value("b", CompareOp::Equal, "2").with_range("d"), false),
    ] {
        assert_eq!(
            client.txn(guarded(compare.clone())).await.unwrap().succeeded(),
            expected,
            "{compare:?}"
        );
    }

    let twice = Txn::new().and_then([TxnOp::put("x", "1", None), TxnOp::put("x", "2", None)]);
    let message = "etcdserver: duplicate key given in txn request";
    refused(client.txn(twice).await, Code::InvalidArgument, message);
    let delete = TxnOp::delete("x", Some(DeleteOptions::new().with_prefix()));
    let both = Txn::new().and_then([TxnOp::put("x1", "1", None), delete]);
    refused(client.txn(both).await, Code::InvalidArgument, message);
    let many: Vec<TxnOp> = (0..129).map(|n| TxnOp::put(format!("k{n}"), "", None)).collect();
    let message = "etcdserver: too many operations in txn request";
    refused(
        client.txn(Txn::new().and_then(many.clone())).await,
        Code::InvalidArgument,
        message,
    );
    client.txn(Txn::new().and_then(&many[..128])).await.unwrap();
    let half = [
        TxnOp::put("half", "", None),
        TxnOp::put("y", "", Some(PutOptions::new().with_lease(9))),
    ];
    let message = "etcdserver: requested lease not found";
    refused(client.txn(Txn::new().and_then(half)).await, Code::NotFound, message);
    assert_eq!(client.get("half", None).await.unwrap().count(), 0);
}

pub(crate) async fn leases(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    let granted = client
        .lease_grant(60, Some(LeaseGrantOptions::new().with_id(77)))
        .await
        .unwrap();
    assert_eq!((granted.id(), granted.ttl()), (77, 60));
    let again = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(77))).await;
    refused(again, Code::FailedPrecondition, "etcdserver: lease already exists");
    refused(
        client.lease_grant(9_000_000_001, None).await,
        Code::OutOfRange,
        "etcdserver: too large lease TTL",
    );
    assert_eq!(client.lease_grant(1, None).await.unwrap().ttl(), 2, "the shortest");

    client
        .put("a", "1", Some(PutOptions::new().with_lease(77)))
        .await
        .unwrap();
    client
        .put("b", "1", Some(PutOptions::new().with_lease(77)))
        .await
        .unwrap();
    client.put("b", "2", None).await.unwrap();
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let asked = client.lease_time_to_live(77, Some(options.clone())).await.unwrap();
    assert_eq!((asked.granted_ttl(), asked.keys()), (60, &[b"a".to_vec()][..]));
    assert!((50..=60).contains(&asked.ttl()), "{}", asked.ttl());
    assert_eq!(client.lease_time_to_live(1, None).await.unwrap().ttl(), -1);
    assert!(
        client
            .leases()
            .await
            .unwrap()
            .leases()
            .iter()
            .any(|lease| lease.id() == 77)
    );

    let (mut keeper, mut answers) = client.lease_keep_alive(77).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 60);

    client.lease_revoke(77).await.unwrap();
    assert_eq!(client.get("a", None).await.unwrap().count(), 0);
    assert_eq!(client.get("b", None).await.unwrap().count(), 1);
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 0, "it is gone");
    refused(
        client.lease_revoke(77).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
}

pub(crate) async fn leases_end(kind: Kind) {
    let server = Server::start(kind).await;
    let mut client = server.client().await;
    let kept = client.lease_grant(2, None).await.unwrap().id();
    let left = client.lease_grant(2, None).await.unwrap().id();
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("lease/", Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    client
        .put("lease/kept", "1", Some(PutOptions::new().with_lease(kept)))
        .await
        .unwrap();
    client
        .put("lease/left", "1", Some(PutOptions::new().with_lease(left)))
        .await
        .unwrap();
    let (mut keeper, mut answers) = client.lease_keep_alive(kept).await.unwrap();
    let mut deleted = None;
    let start = std::time::Instant::now();
    while deleted.is_none() || start.elapsed() < Duration::from_secs(4) {
        keeper.keep_alive().await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 2);
        if let Ok(response) = tokio::time::timeout(Duration::from_millis(400), stream.message()).await {
            for event in response.unwrap().unwrap().events() {
                if event.event_type() == EventType::Delete {
                    assert_eq!(event.prev_kv().unwrap().value(), b"1");
                    deleted = event.kv().map(|kv| (kv.key_str().unwrap().to_owned(), start.elapsed()));
                }
            }
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the lease does not end");
    }
    let (key, after) = deleted.unwrap();
    assert_eq!(key, "lease/left");
    assert!(after > Duration::from_millis(1500), "{after:?}");
    assert_eq!(client.get("lease/kept", None).await.unwrap().count(), 1);
}
