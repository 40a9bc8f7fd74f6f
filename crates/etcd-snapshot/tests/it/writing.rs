//! A database that no etcd has made, given to the real programs.

use std::{collections::BTreeMap, path::PathBuf};

use bolt::{Db, Value};
use etcd_snapshot::{Alarm, Facts, HashCheck, Lease, Snapshot};

use crate::{
    etcd::{Etcd, Stored, Tools},
    owned::{Owned, history, write},
};

/// HashKV as etcd defines it where nothing was compacted: over the bucket's name, and its keys and values up to a
/// revision.
fn hash_kv(file: &[u8], revision: i64) -> u64 {
    let mut db = Db::open(file).unwrap();
    let bucket = db.bucket(&[b"key"]).unwrap().unwrap();
    let mut cursor = db.cursor(&bucket).unwrap();
    let mut hash = crc32c::crc32c(b"key");
    while let Some(entry) = cursor.next().unwrap() {
        let Value::Bytes(value) = entry.value else { panic!("{entry:?}") };
        if entry.key[..8] <= revision.to_be_bytes()[..] {
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, entry.key), value);
        }
    }
    hash.into()
}

fn at(records: &[Owned], revision: i64) -> BTreeMap<Vec<u8>, Stored> {
    let mut map = BTreeMap::new();
    for r in records.iter().filter(|r| r.revision <= revision) {
        match r.tombstone {
            true => drop(map.remove(&r.key)),
            false => drop(map.insert(r.key.clone(), (r.value.clone(), r.create, r.revision, r.version, r.lease))),
        }
    }
    map
}

/// What a store has that has never been an etcd.
fn facts() -> Facts {
    let leases = vec![Lease { id: 0x1234, ttl: 600, remaining_ttl: 0 }, Lease { id: -9, ttl: 900, remaining_ttl: 0 }];
    Facts { consistent_index: 5, term: 1, leases, ..Facts::default() }
}

fn saved(folder: &tempfile::TempDir, file: &[u8]) -> PathBuf {
    let path = folder.path().join("written.db");
    std::fs::write(&path, file).unwrap();
    path
}

#[test]
fn a_real_etcd_restores_a_whole_history() {
    let tools = Tools::find();
    let folder = tempfile::tempdir().unwrap();
    let mut history = history(3000);
    let newest = history.last().unwrap().revision;
    // Values over a page and over a megabyte.
    for (n, length) in [(10, 5000), (1000, 1_200_000), (2000, 100_000)] {
        history[n].value = if history[n].tombstone { Vec::new() } else { vec![b'x'; length] };
    }
    let (file, _) = write(&facts(), &history).unwrap();
    let path = saved(&folder, &file);
    let status = Snapshot::open(&file[..], HashCheck::Required).unwrap().status().unwrap();
    assert_eq!(tools.status(&path), (status.hash.into(), status.revision, status.total_key, status.total_size));
    assert_eq!((status.revision, status.total_key), (newest, history.len() as u64 + 4));

    let mut etcd = Etcd::restore(&tools, &path, "");
    assert_eq!(etcd.revision(), newest);
    for revision in [2, 77, 500, 1700, newest] {
        assert!(etcd.all(revision) == at(&history, revision), "revision {revision}");
        assert_eq!(etcd.hash_kv(revision).0, hash_kv(&file, revision), "hash up to {revision}");
    }
    let leases = etcd.json("lease list")["leases"].as_array().unwrap().clone();
    let mut ids: Vec<i64> = leases.iter().map(|lease| lease["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [-9, 0x1234]);
    let leased = at(&history, newest).values().filter(|stored| stored.4 == 0x1234).count();
    let told = etcd.json("lease timetolive 1234 --keys");
    assert!(leased > 0 && told["keys"].as_array().unwrap().len() == leased, "{told}");
    // It goes on from there: it writes to what was written here, compacts and defragments it, and is sound after all.
    etcd.ctl("put after 1");
    etcd.ctl("del key/ --prefix");
    etcd.ctl(&format!("compaction {} --physical", newest + 2));
    etcd.ctl("defrag");
    assert_eq!(etcd.all(0).keys().collect::<Vec<_>>(), [b"after"]);
    let again = etcd.path("again.db");
    etcd.ctl(&format!("snapshot save {}", again.display()));
    tools.status(&again);
    etcd.stop();
}

#[test]
fn a_real_etcd_goes_on_writing_without_defragmentation() {
    let tools = Tools::find();
    let folder = tempfile::tempdir().unwrap();
    let history = history(20_000);
    let newest = history.last().unwrap().revision;
    let (file, _) = write(&facts(), &history).unwrap();
    let etcd = Etcd::restore(&tools, &saved(&folder, &file), "");
    // Compaction takes keys out of every page, so that bbolt merges pages all over the tree.
    for revision in [newest / 3, newest / 2, newest - 5, newest] {
        etcd.ctl(&format!("compaction {revision} --physical"));
        let again = etcd.path("again.db");
        etcd.ctl(&format!("snapshot save {}", again.display()));
        tools.status(&again);
        assert!(etcd.all(0) == at(&history, newest));
    }
}

#[test]
fn compaction_and_alarms_are_carried() {
    let tools = Tools::find();
    let folder = tempfile::tempdir().unwrap();
    let whole = history(200);
    let (compacted, newest) = (100, whole.last().unwrap().revision);
    let visible = at(&whole, compacted);
    let kept = |r: &&Owned| r.revision > compacted || visible.get(&r.key).is_some_and(|stored| stored.2 == r.revision);
    let history: Vec<Owned> = whole.iter().filter(kept).cloned().collect();
    assert!(history.len() < whole.len() - 20);
    let alarms = vec![Alarm { member: 0x77, kind: 1 }];
    let facts = Facts { scheduled_compact: compacted, finished_compact: compacted, alarms, ..facts() };
    let (file, _) = write(&facts, &history).unwrap();
    let etcd = Etcd::restore(&tools, &saved(&folder, &file), "");
    assert_eq!(etcd.hash_kv(0).1, compacted);
    for revision in [compacted, compacted + 1, newest] {
        assert!(etcd.all(revision) == at(&whole, revision), "revision {revision}");
    }
    let error = etcd.fails(&format!("get key --rev={}", compacted - 1));
    assert!(error.contains("required revision has been compacted"), "{error}");
    assert_eq!(etcd.ctl("alarm list"), "memberID:119 alarm:NOSPACE \n");
}

#[test]
fn a_hash_that_does_not_match_is_refused_by_etcdutl_too() {
    let tools = Tools::find();
    let folder = tempfile::tempdir().unwrap();
    let (mut file, _) = write(&facts(), &history(50)).unwrap();
    let last = file.len() - 1;
    file[last] ^= 1;
    let path = saved(&folder, &file);
    let line = format!("snapshot restore {} --data-dir {}", path.display(), folder.path().join("data").display());
    let error = tools.etcdutl(&line).expect_error();
    assert!(error.contains("expected sha256"), "{error}");
}
