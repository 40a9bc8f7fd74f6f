//! A hash over the whole content, to compare members with.

use std::ops::Bound;

use bytes::Bytes;
use store_api::{HashKv, Revision, StoreError};

use crate::{Pin, codec::put_i64, history::Version, state::State};

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
        let from = self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let items = state.space.range((from, Bound::Unbounded)).flat_map(|(items, _)| items);
        let mut last = None;
        for item in items.take(budget) {
            let history = state.space.history_of(item.1);
            last = Some(history);
            for i in history.surviving(self.compacted) {
                let Version { key, facts, value } = history.get(i);
                if facts.revision > self.at {
                    break;
                }
                self.scratch.clear();
                for n in [facts.revision, i64::from(facts.sub), facts.create, facts.version, facts.lease] {
                    put_i64(&mut self.scratch, n);
                }
                self.scratch.push(u8::from(facts.tombstone));
                for part in [&self.scratch[..], key, value.bytes()] {
                    self.crc = crc32c::crc32c_append(self.crc, part);
                }
            }
        }
        match last {
            Some(history) => {
                self.after = Some(Bytes::copy_from_slice(history.get(0).key));
                false
            }
            None => true,
        }
    }

    pub fn finish(self) -> HashKv {
        HashKv { hash: self.crc, hash_revision: self.at, compact_revision: self.compacted, revision: self.current }
    }
}
