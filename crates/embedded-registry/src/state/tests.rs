use prost::bytes::Bytes;

use super::*;
use crate::pb::etcdserverpb::{
    Compare, RequestOp,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

fn put(key: &'static str, value: &'static str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ..PutRequest::default()
    }
}

impl State {
    fn run(&mut self, command: Command) -> Result<Reply, Error> {
        let reply = self.apply(&command, Instant::now(), &mut Vec::new());
        self.committed = self.mvcc.revision();
        reply
    }

    fn keys(&self) -> Vec<Bytes> {
        let all = Keys::From(Bytes::new());
        self.mvcc.range(&all, self.committed).map(|kv| kv.key.clone()).collect()
    }
}

fn started() -> State {
    State {
        committed: 1,
        ..State::default()
    }
}

#[test]
fn what_is_not_on_disk_is_not_seen() {
    let mut state = started();
    state
        .apply(&Command::Put(put("a", "1", 0)), Instant::now(), &mut Vec::new())
        .unwrap();
    let request = RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    };
    assert_eq!(state.range(&request).unwrap().count, 0);
    let interest = Interest {
        keys: Keys::One("a".into()),
        puts: true,
        deletes: true,
        previous: false,
    };
    assert_eq!(
        state.watch(&interest, 1, 100),
        Watched::Events {
            events: vec![],
            next: 2
        }
    );
    state.committed = 2;
    assert_eq!(state.range(&request).unwrap().count, 1);
    assert!(matches!(state.watch(&interest, 2, 100), Watched::Events { events, next: 3 } if events.len() == 1));
}

#[test]
fn a_refused_transaction_leaves_nothing() {
    let mut state = started();
    let op = |request| RequestOp {
        request: Some(Request::RequestPut(request)),
    };
    let txn = TxnRequest {
        success: vec![op(put("a", "1", 0)), op(put("b", "1", 99))],
        ..TxnRequest::default()
    };
    assert_eq!(state.run(Command::Txn(txn)).unwrap_err(), Error::LeaseNotFound);
    assert_eq!((state.mvcc.revision(), state.keys().len()), (1, 0));
}

#[test]
fn compares() {
    let mut state = started();
    state.run(Command::Put(put("a", "x", 0))).unwrap();
    state.run(Command::Put(put("a", "x", 0))).unwrap();
    let mut holds = |target, result, operand, key: &'static str| {
        let compare = Compare {
            result: i32::from(result),
            target: i32::from(target),
            key: key.into(),
            target_union: operand,
            ..Compare::default()
        };
        let txn = TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        };
        match state.run(Command::Txn(txn)) {
            Ok(Reply::Txn(response)) => response.succeeded,
            other => panic!("{other:?}"),
        }
    };
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    for (target, result, operand, key, expected) in [
        (Version, Equal, Some(TargetUnion::Version(2)), "a", true),
        (Version, Greater, Some(TargetUnion::Version(1)), "a", true),
        (Version, Less, Some(TargetUnion::Version(2)), "a", false),
        (Create, Equal, Some(TargetUnion::CreateRevision(2)), "a", true),
        (Mod, NotEqual, Some(TargetUnion::ModRevision(2)), "a", true),
        (Mod, Equal, Some(TargetUnion::ModRevision(0)), "absent", true),
        (Lease, Equal, None, "a", true),
        (Value, Equal, Some(TargetUnion::Value("x".into())), "a", true),
        (Value, Greater, Some(TargetUnion::Value("w".into())), "a", true),
        // As etcd: the value of a key that does not exist compares to nothing.
        (Value, NotEqual, Some(TargetUnion::Value("x".into())), "absent", false),
    ] {
        assert_eq!(
            holds(target, result, operand.clone(), key),
            expected,
            "{target:?} {result:?} {operand:?} {key}"
        );
    }
}

#[test]
fn leases_take_their_keys_along() {
    let mut state = started();
    let now = Instant::now();
    state.run(Command::Grant { id: 5, ttl_s: 10 }).unwrap();
    for key in ["b", "a"] {
        state.run(Command::Put(put(key, "1", 5))).unwrap();
    }
    // Written again without the lease: no longer its own.
    state.run(Command::Put(put("b", "2", 0))).unwrap();
    let mut notes = Vec::new();
    state.expire(now + std::time::Duration::from_secs(9), &mut notes);
    assert!(notes.is_empty());
    state.expire(now + std::time::Duration::from_secs(11), &mut notes);
    state.committed = state.mvcc.revision();
    assert_eq!(state.keys(), ["b"]);
    assert_eq!(notes.last(), Some(&Mutation::Revoke { id: 5 }));
    assert_eq!(notes.len(), 2);
    // A lease that holds nothing ends without a revision.
    state.run(Command::Grant { id: 6, ttl_s: 10 }).unwrap();
    let before = state.mvcc.revision();
    state.run(Command::Revoke { id: 6 }).unwrap();
    assert_eq!(state.mvcc.revision(), before);
}

#[test]
fn watchers_read_whole_revisions_and_learn_of_compaction() {
    let mut state = started();
    let op = |key| RequestOp {
        request: Some(Request::RequestPut(put(key, "1", 0))),
    };
    let txn = TxnRequest {
        success: vec![op("a"), op("b")],
        ..TxnRequest::default()
    };
    state.run(Command::Txn(txn)).unwrap();
    state.run(Command::Put(put("a", "2", 0))).unwrap();
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..DeleteRangeRequest::default()
    };
    state.run(Command::Delete(delete)).unwrap();

    let all = Interest {
        keys: Keys::From(Bytes::new()),
        puts: true,
        deletes: true,
        previous: true,
    };
    // The smallest limit still gives a revision at a time.
    let (mut from, mut seen) = (1, Vec::new());
    while from <= state.committed {
        match state.watch(&all, from, 1) {
            Watched::Events { events, next } => {
                seen.push(events.len());
                from = next;
            }
            Watched::Compacted { .. } => panic!("nothing is compacted"),
        }
    }
    assert_eq!(seen, [2, 1, 1]);
    let Watched::Events { events, .. } = state.watch(&all, 4, 1 << 20) else {
        panic!()
    };
    assert_eq!(events[0].r#type(), EventType::Delete);
    assert_eq!(events[0].prev_kv.as_ref().map(|kv| &kv.value[..]), Some(&b"2"[..]));

    let deletes = Interest {
        puts: false,
        ..all.clone()
    };
    assert!(matches!(state.watch(&deletes, 1, 1 << 20), Watched::Events { events, next: 5 } if events.len() == 1));

    assert_eq!(
        state
            .run(Command::Compact(CompactionRequest {
                revision: 9,
                physical: false
            }))
            .unwrap_err(),
        Error::FutureRevision
    );
    state
        .run(Command::Compact(CompactionRequest {
            revision: 4,
            physical: false,
        }))
        .unwrap();
    assert_eq!(
        state
            .run(Command::Compact(CompactionRequest {
                revision: 4,
                physical: false
            }))
            .unwrap_err(),
        Error::Compacted
    );
    assert_eq!(state.watch(&all, 3, 1), Watched::Compacted { revision: 4 });
    let Watched::Events { events, .. } = state.watch(&all, 4, 1) else {
        panic!()
    };
    assert_eq!(
        (events.len(), events[0].prev_kv.clone()),
        (1, None),
        "the value before is compacted"
    );
}

#[test]
fn history_is_trimmed_to_its_bounds() {
    let mut state = started();
    let mut notes = Vec::new();
    for _ in 0..=HISTORY_CHANGES_MAX + HISTORY_CHANGES_MAX / HISTORY_SLACK {
        assert!(notes.is_empty());
        state.run(Command::Put(put("a", "1", 0))).unwrap();
        state.trim(&mut notes);
    }
    let Some(Mutation::Compact { revision, dropped }) = notes.pop() else {
        panic!("not compacted")
    };
    assert_eq!(
        state.mvcc.revision() - revision + 1,
        i64::try_from(HISTORY_CHANGES_MAX).unwrap()
    );
    assert_eq!(dropped.len(), HISTORY_CHANGES_MAX / HISTORY_SLACK + 1);
}
