use super::*;
use crate::{
    pb::etcdserverpb::{DeleteRangeRequest, PutRequest},
    state::Command,
};

fn put(key: &'static str, lease: i64) -> Command {
    Command::Put(PutRequest {
        key: key.into(),
        value: "v".into(),
        lease,
        ..PutRequest::default()
    })
}

fn write(loaded: &mut Loaded, commands: &[Command]) {
    let mut notes = Vec::new();
    for command in commands {
        loaded.state.apply(command, Instant::now(), &mut notes).unwrap();
    }
    loaded.storage.commit(&notes, loaded.state.mvcc.revision()).unwrap();
}

#[test]
fn what_was_committed_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let mut loaded = open(folder.path(), now).unwrap();
    let cluster = loaded.cluster;
    let delete = Command::Delete(DeleteRangeRequest {
        key: "b".into(),
        ..DeleteRangeRequest::default()
    });
    let grant = |id| Command::Grant { id, ttl_s: 60 };
    write(
        &mut loaded,
        &[grant(7), grant(8), put("a", 7), put("b", 0), delete, put("c", 0)],
    );
    write(&mut loaded, &[Command::Revoke { id: 8 }]);
    loaded.state.committed = 5;
    let compact = crate::pb::etcdserverpb::CompactionRequest {
        revision: 5,
        physical: false,
    };
    write(&mut loaded, &[Command::Compact(compact)]);
    let in_use = open(folder.path(), now)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(in_use.contains("another registry runs on this folder"), "{in_use}");
    drop(loaded);

    let mut loaded = open(folder.path(), now).unwrap();
    let state = &mut loaded.state;
    assert_eq!(
        (loaded.cluster, state.committed, state.mvcc.compacted()),
        (cluster, 5, 5)
    );
    assert_eq!(state.leases.ids(), [7]);
    let lease = state.leases.time_to_live(7, now).unwrap();
    assert_eq!((lease.remaining_s, lease.keys), (60, vec!["a".into()]));
    assert_eq!(
        state
            .mvcc
            .get(b"a", 5)
            .map(|kv| (kv.create_revision, kv.version, kv.lease)),
        Some((2, 1, 7))
    );
    assert_eq!(state.mvcc.get(b"b", 5), None);
    assert_eq!(state.mvcc.changes(0, i64::MAX).count(), 1);
}

#[test]
fn other_formats_and_damage_are_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = || {
        open(folder.path(), Instant::now())
            .err()
            .map(|error| format!("{error:#}"))
            .unwrap_or_default()
    };
    let loaded = open(folder.path(), Instant::now()).unwrap();
    let change = loaded.storage.database.begin_write().unwrap();
    change
        .open_table(CHANGES)
        .unwrap()
        .insert((2, 0), [0xff_u8].as_slice())
        .unwrap();
    change.commit().unwrap();
    drop(loaded);
    assert!(refusal().contains("change 2.0 is damaged"), "{}", refusal());

    let database = Database::open(folder.path().join(FILE)).unwrap();
    let change = database.begin_write().unwrap();
    change
        .open_table(META)
        .unwrap()
        .insert(META_FORMAT, FORMAT + 1)
        .unwrap();
    change.commit().unwrap();
    drop(database);
    assert!(refusal().contains("another Understudy (format 2"), "{}", refusal());

    std::fs::write(folder.path().join(FILE), b"not a database, but longer than nothing").unwrap();
    assert!(refusal().contains("restore the folder from a backup"), "{}", refusal());
}
