//! Records that own their bytes, and files in memory.

use bolt::Source;
use etcd_snapshot::{Facts, HashCheck, ReadError, Record, Saved, Snapshot, WriteError, save};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    pub revision: i64,
    pub sub: i64,
    pub tombstone: bool,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub create: i64,
    pub version: i64,
    pub lease: i64,
}

impl From<Record<'_>> for Owned {
    fn from(r: Record<'_>) -> Self {
        let (key, value) = (r.key.to_vec(), r.value.to_vec());
        let (create, version, lease) = (r.create, r.version, r.lease);
        Owned { revision: r.revision, sub: r.sub, tombstone: r.tombstone, key, value, create, version, lease }
    }
}

impl Owned {
    pub fn record(&self) -> Record<'_> {
        Record {
            revision: self.revision,
            sub: self.sub,
            tombstone: self.tombstone,
            key: &self.key,
            value: &self.value,
            create: self.create,
            version: self.version,
            lease: self.lease,
        }
    }
}

pub fn write(facts: &Facts, records: &[Owned]) -> Result<(Vec<u8>, Saved), WriteError> {
    let mut file = Vec::new();
    let saved = save(facts, || records.iter().map(Owned::record), &mut file)?;
    assert_eq!(file.len() as u64, saved.size + 32, "the size was known before");
    assert_eq!(file[file.len() - 32..], saved.hash);
    Ok((file, saved))
}

pub fn records<S: Source>(snapshot: &mut Snapshot<S>) -> Result<Vec<Owned>, ReadError> {
    let mut found = Vec::new();
    let mut records = snapshot.records()?;
    while let Some(record) = records.next()? {
        found.push(record.into());
    }
    Ok(found)
}

pub fn read(file: &[u8]) -> Result<(Facts, Vec<Owned>), ReadError> {
    let mut snapshot = Snapshot::open(file, HashCheck::Required)?;
    let records = records(&mut snapshot)?;
    Ok((snapshot.facts().clone(), records))
}

/// A history with puts, deletions, leases and transactions, some compacted away before `compacted`.
pub fn history(revisions: i64) -> Vec<Owned> {
    let mut history: Vec<Owned> = Vec::new();
    let mut alive: std::collections::BTreeMap<Vec<u8>, (i64, i64)> = Default::default();
    for revision in 2..2 + revisions {
        // Every seventh revision is a transaction of three writes.
        for sub in 0..if revision % 7 == 0 { 3 } else { 1 } {
            let key = format!("key/{:04}", (revision * 31 + sub * 17) % 97).into_bytes();
            if revision % 5 == 0 && alive.remove(&key).is_some() {
                history.push(Owned { revision, sub, tombstone: true, key, ..Owned::default() });
                continue;
            }
            let (create, version) = alive.get(&key).map_or((revision, 1), |(create, version)| (*create, version + 1));
            alive.insert(key.clone(), (create, version));
            let lease = if revision % 11 == 0 { 0x1234 } else { 0 };
            let value = vec![b'a' + (revision % 26) as u8; (revision * revision % 300) as usize];
            history.push(Owned { revision, sub, tombstone: false, key, value, create, version, lease });
        }
    }
    history
}
