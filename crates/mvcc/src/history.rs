//! One key's versions, oldest first.

use bytes::Bytes;
use smallvec::SmallVec;
use store_api::{KeyValue, LeaseId, Revision};

/// A write of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub revision: Revision,
    /// Position among the writes of one revision: a transaction's events keep their order.
    pub sub: u32,
    pub tombstone: bool,
    pub create: Revision,
    /// 1 for the first write after creation; 0 for a tombstone.
    pub version: i64,
    pub lease: LeaseId,
    pub value: Bytes,
}

impl Version {
    pub fn to_kv(&self, key: &Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            value: self.value.clone(),
            create_revision: self.create,
            mod_revision: self.revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// Never empty while it is in the index.
#[derive(Clone, Debug)]
pub struct History {
    key: Bytes,
    versions: SmallVec<[Version; 1]>,
}

impl History {
    pub fn new(key: Bytes) -> Self {
        History { key, versions: SmallVec::new() }
    }

    pub fn key(&self) -> &Bytes {
        &self.key
    }

    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    pub fn push(&mut self, version: Version) {
        debug_assert!(self.newest().is_none_or(|v| (v.revision, v.sub) < (version.revision, version.sub)));
        self.versions.push(version);
    }

    pub fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The newest version that is not a tombstone.
    pub fn live(&self) -> Option<&Version> {
        self.newest().filter(|v| !v.tombstone)
    }

    /// What a reader at `revision` sees.
    pub fn at(&self, revision: Revision) -> Option<&Version> {
        match self.newest() {
            Some(v) if v.revision <= revision => Some(v).filter(|v| !v.tombstone),
            _ => self.versions[..self.up_to(revision)].last().filter(|v| !v.tombstone),
        }
    }

    /// The version written at exactly (`revision`, `sub`) and the one before it.
    pub fn written(&self, revision: Revision, sub: u32) -> Option<(&Version, Option<&Version>)> {
        let i = self.versions.binary_search_by_key(&(revision, sub), |v| (v.revision, v.sub)).ok()?;
        Some((&self.versions[i], i.checked_sub(1).map(|i| &self.versions[i])))
    }

    /// The versions that a compaction at `compacted` leaves: what a reader there sees, and everything newer. A
    /// tombstone survives only on the very revision, where a watcher may still start.
    pub fn surviving(&self, compacted: Revision) -> &[Version] {
        let newer = self.up_to(compacted);
        let keep = match newer.checked_sub(1).map(|i| &self.versions[i]) {
            Some(last) if !last.tombstone || last.revision == compacted => newer - 1,
            _ => newer,
        };
        &self.versions[keep..]
    }

    /// Drops what does not survive; hands each dropped version to `freed`. Returns whether nothing is left.
    pub fn trim(&mut self, compacted: Revision, freed: impl FnMut(Version)) -> bool {
        let gone = self.versions.len() - self.surviving(compacted).len();
        self.versions.drain(..gone).for_each(freed);
        self.versions.is_empty()
    }

    /// How many versions have a revision of at most `revision`.
    fn up_to(&self, revision: Revision) -> usize {
        self.versions.partition_point(|v| v.revision <= revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(revisions: &[(Revision, bool)]) -> History {
        let mut history = History::new(Bytes::from_static(b"k"));
        for (revision, tombstone) in revisions {
            history.push(Version {
                revision: *revision,
                sub: 0,
                tombstone: *tombstone,
                create: 0,
                version: 0,
                lease: 0,
                value: Bytes::new(),
            });
        }
        history
    }

    #[test]
    fn what_survives_a_compaction() {
        let all: &[(Revision, bool)] = &[(2, false), (4, false), (6, true), (8, false)];
        for (compacted, left) in [
            (1, &[2, 4, 6, 8][..]),
            (2, &[2, 4, 6, 8]),
            (3, &[2, 4, 6, 8]),
            (4, &[4, 6, 8]),
            (6, &[6, 8]),
            (7, &[8]),
            (9, &[8]),
        ] {
            let mut history = history(all);
            let surviving: Vec<_> = history.surviving(compacted).iter().map(|v| v.revision).collect();
            assert_eq!(surviving, left, "compacted at {compacted}");
            assert!(!history.trim(compacted, drop));
            assert_eq!(history.versions.len(), left.len());
        }
        assert!(history(&[(2, false), (3, true)]).trim(4, drop), "a deleted key goes away");
    }
}
