//! A hash over the whole history, to compare members with: the one that etcd 3.5 has, so that a member of etcd's with
//! the same history tells the same.
//!
//! It is the CRC-32C over the name of etcd's bucket, "key", and each write's key and value in it, in the order of the
//! writes: the revision as 17 bytes ("t" follows for a deletion), and the write as mvccpb.KeyValue. Of what a
//! compaction has left of before it, only what still exists at the hash's revision counts, unless nothing does.
//!
//! etcd also makes a hash while compacting, of what was there before. [`HashQuery::of_compaction`] makes the same; who
//! remembers it, and when it is the answer, is the store's business.

use store_api::{HashKv, Revision, StoreError};

use crate::{
    codec::{put_bytes, put_i64},
    export::{Export, Write},
    state::State,
};

const BUCKET: &[u8] = b"key";
/// Writes that are hashed in one step weigh about so much at most.
const STEP_BYTES: usize = 1 << 20;

/// Hashes in steps. Two stores with the same history, compacted at the same revision, give the same hash.
pub struct HashQuery {
    export: Export,
    gathered: bool,
    /// The history is that of a compaction, and cannot be read once another state has taken its place.
    once: bool,
    current: Revision,
    crc: u32,
    scratch: Vec<u8>,
}

impl HashQuery {
    /// Hashes what was written up to `revision` (0: the newest).
    pub fn new(state: &State, revision: Revision) -> Result<Self, StoreError> {
        let at = state.check_revision(revision)?;
        Ok(HashQuery::of(state, Export::new(state, at), false))
    }

    /// Hashes what was written up to the compact revision, of a state that was compacted just now and at `before` the
    /// time before, and of which nothing was trimmed since.
    pub fn of_compaction(state: &State, before: Revision) -> Self {
        HashQuery::of(state, Export::since(state, before, state.compacted()), true)
    }

    fn of(state: &State, export: Export, once: bool) -> Self {
        let (crc, scratch) = (crc32c::crc32c(BUCKET), Vec::new());
        HashQuery { export, gathered: false, once, current: state.revision(), crc, scratch }
    }

    /// Visits at most `budget` keys or writes; returns whether all are done. Begins anew where another state, of a
    /// snapshot from the leader, has taken the place of the one that was hashed.
    pub fn step(&mut self, state: &State, budget: usize) -> Result<bool, StoreError> {
        if !self.export.is_of(state) {
            if self.once {
                let (requested, compacted) = (self.export.revision(), state.compacted());
                return Err(StoreError::Compacted { requested, compacted });
            }
            *self = HashQuery::new(state, self.export.revision())?;
        }
        if !self.gathered {
            self.gathered = self.export.gather(state, budget);
            if self.gathered {
                self.export.rewind();
            }
            return Ok(false);
        }
        let (compacted, any_live) = (self.export.compacted(), self.export.any_live());
        let (crc, scratch) = (&mut self.crc, &mut self.scratch);
        let more = self.export.next(state, budget, STEP_BYTES, |write| {
            // Older etcds drop a deletion at the compact revision itself, newer ones keep it; none counts it.
            let dropped = write.tombstone && write.revision == compacted || write.superseded && any_live;
            if !dropped {
                scratch.clear();
                put_write(scratch, &write);
                *crc = crc32c::crc32c_append(*crc, scratch);
            }
            Ok::<(), StoreError>(())
        })?;
        Ok(!more)
    }

    pub fn finish(self) -> HashKv {
        let (hash_revision, compact_revision) = (self.export.revision(), self.export.compacted());
        HashKv { hash: self.crc, hash_revision, compact_revision, revision: self.current }
    }
}

/// A write's key and value in etcd's bucket, one after the other.
fn put_write(out: &mut Vec<u8>, write: &Write<'_>) {
    out.extend_from_slice(&write.revision.to_be_bytes());
    out.push(b'_');
    out.extend_from_slice(&i64::from(write.sub).to_be_bytes());
    if write.tombstone {
        out.push(b't');
    }
    put_text(out, 1, write.key);
    if write.tombstone {
        return;
    }
    put_number(out, 2, write.create);
    put_number(out, 3, write.revision);
    put_number(out, 4, write.version);
    put_text(out, 5, write.value);
    put_number(out, 6, write.lease);
}

/// A protobuf field of bytes; absent where there are none.
fn put_text(out: &mut Vec<u8>, field: u8, text: &[u8]) {
    if !text.is_empty() {
        out.push(field << 3 | 2);
        put_bytes(out, text);
    }
}

/// A protobuf field of an int64; absent where it is 0.
fn put_number(out: &mut Vec<u8>, field: u8, number: i64) {
    if number != 0 {
        out.push(field << 3);
        put_i64(out, number);
    }
}
