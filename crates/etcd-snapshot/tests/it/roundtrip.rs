//! What is written is read back, and what is damaged is told.

use etcd_snapshot::{Alarm, ConfState, Facts, HashCheck, Lease, Member, ReadError, Snapshot, WriteError};
use proptest::{prelude::*, sample::Index};

use crate::owned::{Owned, history, read, write};

pub fn facts() -> Facts {
    let member = |id, learner| Member {
        id,
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        is_learner: learner,
        name: if learner { String::new() } else { format!("m{id}") },
        client_urls: if learner { Vec::new() } else { vec!["http://10.0.0.1:2379".into()] },
    };
    Facts {
        consistent_index: 77,
        term: 3,
        conf_state: Some(ConfState { voters: vec![1, 3], learners: vec![9], ..ConfState::default() }),
        scheduled_compact: 20,
        finished_compact: 20,
        storage_version: None,
        cluster_version: Some("3.5.0".into()),
        downgrade: Some(br#"{"target-version":"","enabled":false}"#.to_vec()),
        leases: vec![Lease { id: 0x1234, ttl: 600, remaining_ttl: 0 }, Lease { id: -5, ttl: 60, remaining_ttl: 7 }],
        members: vec![member(1, false), member(3, false), member(9, true)],
        removed_members: vec![0xabc, u64::MAX],
        alarms: vec![Alarm { member: 1, kind: 1 }, Alarm { member: 3, kind: 2 }],
        auth: vec![(b"authEnabled".to_vec(), vec![0]), (b"authRevision".to_vec(), vec![0, 0, 0, 0, 0, 0, 0, 4])],
        auth_users: vec![(b"root".to_vec(), b"user".to_vec())],
        auth_roles: vec![(b"root".to_vec(), b"role".to_vec())],
    }
}

fn records(keys: usize) -> impl Strategy<Value = Vec<Owned>> {
    let length = prop_oneof![60 => 0..200usize, 4 => 3000..9000usize, 1 => 1_000_000..1_500_000usize];
    let key = (prop::collection::vec(any::<u8>(), 1..12), prop_oneof![20 => Just(0usize), 1 => 500..6000usize]);
    let one = (key, length, any::<(bool, u8, i64)>(), 0..3i64, (0..1i64 << 40, 0..1i64 << 20));
    prop::collection::vec(one, 0..keys).prop_map(|drawn| {
        let (mut revision, mut sub) = (1, 0);
        let records = drawn.into_iter().map(|((mut key, padding), length, (tombstone, byte, lease), step, numbers)| {
            (revision, sub) = if step == 0 { (revision, sub + 1) } else { (revision + step, 0) };
            key.resize(key.len() + padding, byte);
            if tombstone {
                return Owned { revision, sub, tombstone, key, ..Owned::default() };
            }
            let (create, version) = numbers;
            Owned { revision, sub, tombstone, key, value: vec![byte; length], create, version, lease }
        });
        records.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn records_come_back(written in records(500)) {
        let (file, _) = write(&facts(), &written).unwrap();
        let (found, records) = read(&file).unwrap();
        prop_assert_eq!(found, facts());
        prop_assert!(records == written);
    }

    #[test]
    fn a_damaged_file_is_told_by_its_hash_and_survived_without(at: Index, byte in 1..=255u8) {
        let (mut file, _) = write(&facts(), &history(300)).unwrap();
        let at = at.index(file.len());
        file[at] ^= byte;
        let told = matches!(read(&file), Err(ReadError::Hash { .. }));
        prop_assert!(told);
        if let Ok(mut snapshot) = Snapshot::open(&file[..], HashCheck::Skip) {
            let _ = snapshot.status();
            let _ = crate::owned::records(&mut snapshot);
        }
    }
}

#[test]
fn a_hundred_thousand_records_come_back() {
    let written = history(80_000);
    assert!(written.len() > 100_000);
    let (file, _) = write(&facts(), &written).unwrap();
    let mut snapshot = Snapshot::open(&file[..], HashCheck::Required).unwrap();
    assert_eq!(snapshot.status().unwrap().total_key, written.len() as u64 + 20);
    assert!(crate::owned::records(&mut snapshot).unwrap() == written);
    let middle = 40_000;
    let mut records = snapshot.records_from(middle).unwrap();
    assert_eq!(records.next().unwrap().map(|record| record.revision), Some(middle));
}

#[test]
fn a_database_may_be_empty() {
    let (file, _) = write(&Facts::default(), &[]).unwrap();
    assert_eq!(read(&file).unwrap(), (Facts::default(), Vec::new()));
}

#[test]
fn revisions_ascend() {
    let at = |revision, sub| Owned { revision, sub, tombstone: true, key: b"k".to_vec(), ..Owned::default() };
    let check = |records: &[Owned], expected: &str| {
        let error: WriteError = write(&Facts::default(), records).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(&[at(3, 0), at(3, 0)], "revision 3.0 is not after the one before it");
    check(&[at(3, 1), at(2, 5)], "revision 2.5 is not after the one before it");
    check(&[at(-3, 1)], "revision -3.1 is negative");
}

#[test]
fn a_file_without_its_hash() {
    let (mut file, saved) = write(&facts(), &history(10)).unwrap();
    file.truncate(usize::try_from(saved.size).unwrap());
    assert!(matches!(Snapshot::open(&file[..], HashCheck::Required), Err(ReadError::NoHash)));
    assert!(Snapshot::open(&file[..], HashCheck::IfPresent).is_ok());
}
