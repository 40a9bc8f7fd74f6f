//! What a real etcd has stored, read from its snapshot and from its data folder, against what it answers.

use std::collections::BTreeMap;

use bolt::Source;
use etcd_snapshot::{
    HashCheck, ReadError, Snapshot,
    folder::{open_data_dir, open_file},
};

use crate::{
    etcd::{Etcd, Stored, Tools},
    owned::{Owned, records, write},
};

/// Fills an etcd with everything that a database has. Returns the revision that it was compacted at.
fn fill(etcd: &Etcd) -> i64 {
    for round in 0..3 {
        for key in ["a", "b", "c"] {
            etcd.ctl(&format!("put key/{key} {round}"));
        }
        etcd.ctl("del key/b");
    }
    for start in (0..1000).step_by(100) {
        let puts = (start..start + 100).map(|n| format!("put many/{n:05} value-{}\n", n * n));
        let answer = etcd.told("txn", &format!("\n{}\n\n", puts.collect::<String>()));
        assert!(answer.starts_with("SUCCESS"), "{answer}");
    }
    etcd.told("put large/megabyte", &"m".repeat(1_100_000));
    etcd.told("put large/page", &"p".repeat(5000));
    etcd.ctl("del many/0001 --prefix");
    let granted = etcd.ctl("lease grant 600");
    let lease = granted.split(' ').nth(1).unwrap();
    etcd.ctl(&format!("put key/leased --lease={lease} 1"));
    etcd.ctl("lease grant 300");
    let compacted = etcd.revision() - 4;
    etcd.ctl("del key/c");
    etcd.ctl(&format!("compaction {compacted} --physical"));
    etcd.ctl("put key/c again");
    etcd.ctl("user add root:secret");
    etcd.ctl("role add reader");
    etcd.ctl("role grant-permission reader read key/ --prefix=true");
    etcd.ctl("user grant-role root reader");
    etcd.told("txn", "\nput key/x 1\nput key/y 2\ndel key/a\n\n\n");
    compacted
}

fn at(records: &[Owned], revision: i64) -> BTreeMap<Vec<u8>, Stored> {
    let mut map = BTreeMap::new();
    for r in records.iter().filter(|r| r.revision <= revision) {
        if r.tombstone {
            map.remove(&r.key);
        } else {
            map.insert(r.key.clone(), (r.value.clone(), r.create, r.revision, r.version, r.lease));
        }
    }
    map
}

/// Compares everything in a snapshot with what etcd answers.
fn compare<S: Source>(snapshot: &mut Snapshot<S>, etcd: &Etcd, compacted: i64) -> Vec<Owned> {
    let history = records(snapshot).unwrap();
    let newest = etcd.revision();
    assert_eq!(history.last().unwrap().revision, newest);
    for revision in compacted..=newest {
        assert!(at(&history, revision) == etcd.all(revision), "revision {revision}");
    }
    let facts = snapshot.facts();
    assert_eq!((facts.scheduled_compact, facts.finished_compact, facts.compacted()), (compacted, compacted, compacted));
    let list = |value: &serde_json::Value, field: &str| -> Vec<i64> {
        let mut ids: Vec<i64> = value.as_array().unwrap().iter().map(|item| item[field].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(facts.leases.iter().map(|l| l.id).collect::<Vec<_>>(), list(&etcd.json("lease list")["leases"], "id"));
    let mut ttls: Vec<i64> = facts.leases.iter().map(|l| l.ttl).collect();
    ttls.sort_unstable();
    assert_eq!(ttls, [300, 600]);
    let said = &etcd.json("member list")["members"][0];
    let [member] = &facts.members[..] else { panic!("{:?}", facts.members) };
    assert_eq!((Some(member.id), Some(&member.name[..])), (said["ID"].as_u64(), said["name"].as_str()));
    assert_eq!(serde_json::json!(member.peer_urls), said["peerURLs"]);
    assert_eq!(serde_json::json!(member.client_urls), said["clientURLs"]);
    assert_eq!(facts.conf_state.as_ref().unwrap().voters, [member.id]);
    assert_eq!(facts.cluster_version.as_deref(), Some("3.5.0"));
    assert!(facts.consistent_index > 0 && facts.term > 0 && facts.alarms.is_empty());
    let names = |pairs: &[(Vec<u8>, Vec<u8>)]| {
        pairs.iter().map(|(name, _)| String::from_utf8(name.clone()).unwrap() + "\n").collect::<String>()
    };
    assert_eq!(names(&facts.auth_users), etcd.ctl("user list"));
    assert_eq!(names(&facts.auth_roles), etcd.ctl("role list"));
    assert!(names(&facts.auth).contains("authRevision"));
    history
}

#[test]
fn a_snapshot_of_a_real_etcd_and_its_way_back() {
    let tools = Tools::find();
    let mut etcd = Etcd::start(&tools);
    let compacted = fill(&etcd);
    let file = etcd.path("saved.db");
    etcd.ctl(&format!("snapshot save {}", file.display()));
    let mut snapshot = open_file(&file, HashCheck::Required).unwrap();
    let history = compare(&mut snapshot, &etcd, compacted);
    let status = snapshot.status().unwrap();
    let figures = |s: etcd_snapshot::Status| (u64::from(s.hash), s.revision, s.total_key, s.total_size);
    assert_eq!(figures(status), tools.status(&file));

    // Written again, it has the same content to the byte, and a real etcd restores it to the same history.
    let (rewritten, _) = write(snapshot.facts(), &history).unwrap();
    let copy = etcd.path("rewritten.db");
    std::fs::write(&copy, &rewritten).unwrap();
    let (hash, revision, keys, size) = tools.status(&copy);
    assert_eq!((hash, revision, keys), (status.hash.into(), status.revision, status.total_key));
    assert_eq!(size, rewritten.len() as u64 - 32);
    let restored = Etcd::restore(&tools, &copy, "");
    for revision in [compacted + 1, status.revision] {
        assert_eq!(restored.hash_kv(revision), etcd.hash_kv(revision), "hash up to {revision}");
    }
    assert!(restored.all(0) == etcd.all(0));
    assert_eq!(restored.ctl("user get root"), etcd.ctl("user get root"));
    assert_eq!(restored.ctl("role get reader"), etcd.ctl("role get reader"));

    // The data folder itself: not while etcd runs on it, and then with the same history.
    let error = open_data_dir(&etcd.data_dir).map(|_| ()).unwrap_err();
    assert!(matches!(error, ReadError::InUse { .. }), "{error:?}");
    etcd.stop();
    let mut stopped = open_data_dir(&etcd.data_dir).unwrap();
    assert!(records(&mut stopped).unwrap() == history);
    assert_eq!(stopped.facts().members, snapshot.facts().members);
    let mut status = stopped.status().unwrap();
    status.hash = 0;
    assert_eq!((status.revision, status.total_key), (revision, keys));
}

#[test]
fn marks_of_a_bumped_revision_are_read() {
    let tools = Tools::find();
    let mut etcd = Etcd::start(&tools);
    etcd.ctl("put key 1");
    let file = etcd.path("saved.db");
    etcd.ctl(&format!("snapshot save {}", file.display()));
    etcd.stop();
    let mut bumped = Etcd::restore(&tools, &file, " --bump-revision 1000 --mark-compacted");
    let newest = bumped.revision();
    assert!(newest >= 1000, "{newest}");
    bumped.ctl("put key 2");
    bumped.stop();
    let mut snapshot = open_data_dir(&bumped.data_dir).unwrap();
    let history = records(&mut snapshot).unwrap();
    assert_eq!(snapshot.facts().compacted(), newest);
    assert_eq!(history.last().map(|r| (r.revision, r.value.clone())), Some((newest + 1, b"2".to_vec())));
    let marks: Vec<i64> = history.iter().filter(|r| r.record().is_mark()).map(|r| r.revision).collect();
    assert_eq!(marks, [newest]);
}
