use std::collections::BTreeMap as Map;

use proptest::prelude::*;

use super::*;

/// Each revision's whole content: key to (value, create revision, mod revision, version).
type Model = Vec<Map<Vec<u8>, (Vec<u8>, i64, i64, i64)>>;

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8),
    Delete(u8, u8),
    Compact(u8),
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..6u8, any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        3 => (0..6u8, 0..7u8).prop_map(|(from, to)| Op::Delete(from, to)),
        1 => any::<u8>().prop_map(Op::Compact),
        1 => Just(Op::Reload),
    ]
}

fn content(mvcc: &Mvcc, revision: i64) -> Map<Vec<u8>, (Vec<u8>, i64, i64, i64)> {
    let all = Keys::From(Bytes::new());
    let tuple = |kv: &KeyValue| (kv.value.to_vec(), kv.create_revision, kv.mod_revision, kv.version);
    mvcc.range(&all, revision)
        .map(|kv| (kv.key.to_vec(), tuple(kv)))
        .collect()
}

/// What the disk would hold.
#[derive(Default)]
struct Disk(Map<(i64, u32), (bool, KeyValue)>);

impl Disk {
    fn reload(&self, mvcc: &Mvcc) -> Mvcc {
        let changes = self.0.iter().map(|((_, sub), (deleted, kv))| Change {
            sub: *sub,
            deleted: *deleted,
            kv: kv.clone(),
        });
        Mvcc::load(changes, mvcc.revision(), mvcc.compacted())
    }
}

proptest! {
    #[test]
    fn every_kept_revision_is_as_it_was(ops in proptest::collection::vec(op(), 1..60)) {
        let mut mvcc = Mvcc::default();
        let mut disk = Disk::default();
        let mut model: Model = vec![Map::new(), Map::new()];
        for op in ops {
            let mut next = model.last().unwrap().clone();
            let revision = mvcc.revision() + 1;
            let mut writing = mvcc.write();
            match op {
                Op::Put(key, value) => {
                    let before = writing.put(&Bytes::from(vec![key]), Bytes::from(vec![value]), 0);
                    let old = next.get(&vec![key]).cloned();
                    prop_assert_eq!(before.map(|kv| kv.value.to_vec()), old.as_ref().map(|old| old.0.clone()));
                    let (created, version) = old.map_or((revision, 1), |old| (old.1, old.3 + 1));
                    next.insert(vec![key], (vec![value], created, revision, version));
                }
                Op::Delete(from, to) => {
                    let keys = Keys::Range(Bytes::from(vec![from]), Bytes::from(vec![to]));
                    let deleted = writing.delete(&keys).len();
                    let before = next.len();
                    next.retain(|key, _| key[0] < from || key[0] >= to);
                    prop_assert_eq!(deleted, before - next.len());
                }
                Op::Compact(place) => {
                    drop(writing);
                    let span = mvcc.revision() - mvcc.compacted();
                    let target = mvcc.compacted() + span * i64::from(place) / 255;
                    if target > mvcc.compacted() {
                        for place in mvcc.compact(target) {
                            prop_assert!(disk.0.remove(&place).is_some());
                        }
                    }
                    continue;
                }
                Op::Reload => {
                    drop(writing);
                    let reloaded = disk.reload(&mvcc);
                    prop_assert_eq!(reloaded.bytes(), mvcc.bytes());
                    prop_assert_eq!(reloaded.log_bytes, mvcc.log_bytes);
                    mvcc = reloaded;
                    continue;
                }
            }
            for change in writing.end() {
                disk.0.insert((change.revision(), change.sub), (change.deleted, change.kv.clone()));
            }
            if mvcc.revision() == revision {
                model.push(next);
            }
        }
        for revision in mvcc.compacted().max(1)..=mvcc.revision() {
            let expected = &model[usize::try_from(revision).unwrap()];
            prop_assert_eq!(&content(&mvcc, revision), expected, "at revision {}", revision);
        }
        // The history replays one content into the next.
        for revision in mvcc.compacted().max(1) + 1..=mvcc.revision() {
            let mut replayed = model[usize::try_from(revision - 1).unwrap()].clone();
            for change in mvcc.changes(revision, revision) {
                let kv = &change.kv;
                if change.deleted {
                    prop_assert!(replayed.remove(&kv.key.to_vec()).is_some());
                } else {
                    let entry = (kv.value.to_vec(), kv.create_revision, kv.mod_revision, kv.version);
                    replayed.insert(kv.key.to_vec(), entry);
                }
            }
            prop_assert_eq!(&replayed, &model[usize::try_from(revision).unwrap()]);
        }
    }
}

#[test]
fn ranges() {
    let keys = |key: &'static str, end: &'static str| Keys::new(Bytes::from(key), Bytes::from(end));
    let mut mvcc = Mvcc::default();
    for key in ["a", "b", "b/1", "b/2", "c"] {
        let mut writing = mvcc.write();
        writing.put(&Bytes::from(key), Bytes::new(), 0);
        writing.end();
    }
    for (key, end, expected) in [
        ("b", "", vec!["b"]),
        ("b/", "b0", vec!["b/1", "b/2"]),
        ("b", "\0", vec!["b", "b/1", "b/2", "c"]),
        ("\0", "\0", vec!["a", "b", "b/1", "b/2", "c"]),
        ("c", "a", vec![]),
        ("c", "c", vec![]),
        ("x", "", vec![]),
    ] {
        let keys = keys(key, end);
        let found: Vec<&[u8]> = mvcc.range(&keys, i64::MAX).map(|kv| &kv.key[..]).collect();
        assert_eq!(
            found,
            expected.iter().map(|key| key.as_bytes()).collect::<Vec<_>>(),
            "{key:?} to {end:?}"
        );
        for key in ["a", "b", "b/1", "b/2", "c"] {
            assert_eq!(keys.contains(key.as_bytes()), expected.contains(&key), "{keys:?} {key}");
        }
    }
}

#[test]
fn history_is_bounded() {
    let mut mvcc = Mvcc::default();
    for value in 0..100u8 {
        let mut writing = mvcc.write();
        writing.put(&Bytes::from_static(b"k"), Bytes::from(vec![value]), 0);
        writing.end();
    }
    assert_eq!(mvcc.excess(100, usize::MAX), None);
    let target = mvcc.excess(10, usize::MAX).unwrap();
    assert_eq!(mvcc.compact(target).len(), 90);
    assert_eq!(mvcc.changes(0, i64::MAX).count(), 10);
    assert_eq!(mvcc.excess(10, usize::MAX), None);
    let half = mvcc.log_bytes / 2;
    let target = mvcc.excess(10, half).unwrap();
    mvcc.compact(target);
    assert!(mvcc.log_bytes <= half && mvcc.changes(0, i64::MAX).count() == 5);
    // What lives stays, however small the bound.
    let target = mvcc.excess(0, 0).unwrap();
    mvcc.compact(target);
    assert_eq!(
        mvcc.get(b"k", i64::MAX).map(|kv| (kv.version, kv.value[0])),
        Some((100, 99))
    );
    assert_eq!(mvcc.excess(0, 0), None, "nothing is left to compact");
}
