//! A hash over the whole content, to compare members with.

use bytes::Bytes;
use store_api::{HashKv, Revision, StoreError};

use crate::{Pin, codec::put_i64, state::State};

/// Hashes in steps. Two stores with the same history, compacted at the same revision, give the same hash.
pub struct HashQuery {
    at: Revision,
    compacted: Revision,
    current: Revision,
    after: Option<Bytes>,
    crc: u32,
    scratch: Vec<u8>,
    _pin: Pin,
}

impl HashQuery {
    /// Hashes what was written up to `revision` (0: the newest).
    pub fn new(state: &State, revision: Revision) -> Result<Self, StoreError> {
        let at = state.check_revision(revision)?;
        let (compacted, current) = (state.compacted(), state.revision());
        Ok(HashQuery { at, compacted, current, after: None, crc: 0, scratch: Vec::new(), _pin: state.pin() })
    }

    /// Visits at most `budget` keys; returns whether all are done.
    pub fn step(&mut self, state: &State, budget: usize) -> bool {
        let mut last = None;
        let from = self.after.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        for (key, history) in state.index().range::<[u8], _>((from, std::ops::Bound::Unbounded)).take(budget) {
            for version in history.surviving(self.compacted).iter().take_while(|v| v.revision <= self.at) {
                self.scratch.clear();
                for n in [version.revision, i64::from(version.sub), version.create, version.version, version.lease] {
                    put_i64(&mut self.scratch, n);
                }
                self.scratch.push(u8::from(version.tombstone));
                for part in [&self.scratch[..], &key[..], &version.value[..]] {
                    self.crc = crc32c::crc32c_append(self.crc, part);
                }
            }
            last = Some(key.clone());
        }
        match last {
            Some(key) => {
                self.after = Some(key);
                false
            }
            None => true,
        }
    }

    pub fn finish(self) -> HashKv {
        HashKv { hash: self.crc, hash_revision: self.at, compact_revision: self.compacted, revision: self.current }
    }
}
