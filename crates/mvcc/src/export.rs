//! The history of all keys in the order of its writes, read in steps while the state moves on; and a state from such a
//! history.
//!
//! ```text
//!   gather   every key once: the version of it that a compaction has left, as (revision, sub, key)
//!   rewind   sorts them, and begins a pass
//!   next     those versions first, then every write after the compact revision, as the state's changes list them
//! ```
//!
//! Knows no file format. Where versions are kept is asked in the functions at the end and nowhere else.

use std::ops::Bound;

use bytes::Bytes;
use store_api::{LeaseId, Revision, StoreError};

use crate::{
    history::{History, Value, Version},
    record::Facts,
    state::{FIRST_REVISION, Pin, State},
};

/// One write of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Write<'a> {
    pub revision: Revision,
    /// Position among the writes of one revision.
    pub sub: u32,
    /// A deletion: value, create, version and lease are empty.
    pub tombstone: bool,
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub create: Revision,
    pub version: i64,
    pub lease: LeaseId,
    /// Not after the compact revision, and not what a reader at the export's revision sees of the key.
    pub superseded: bool,
}

/// A version that a compaction has left. Its key is in the arena of all keys.
struct Old {
    revision: Revision,
    key_at: usize,
    key_len: u32,
    sub: u32,
    superseded: bool,
}

/// A moment of a state, being read. The state is kept from trimming meanwhile.
pub struct Export {
    revision: Revision,
    compacted: Revision,
    after: Option<Bytes>,
    old: Vec<Old>,
    keys: Vec<u8>,
    any_live: bool,
    next_old: usize,
    /// The next write after the compact revision: revision and position.
    next: (Revision, u32),
    pin: Pin,
}

impl Export {
    /// What was written up to `revision`, which must be one that can be read.
    pub fn new(state: &State, revision: Revision) -> Self {
        Self::since(state, state.compacted(), revision)
    }

    /// As [`Export::new`], with what a compaction after `compacted` is about to drop: nothing may be trimmed of it yet.
    pub fn since(state: &State, compacted: Revision, revision: Revision) -> Self {
        let pin = state.pin();
        let next = (compacted + 1, 0);
        let (old, keys) = (Vec::new(), Vec::new());
        Export { revision, compacted, after: None, old, keys, any_live: false, next_old: 0, next, pin }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Whether any key exists at the export's revision. Known once all is gathered.
    pub fn any_live(&self) -> bool {
        self.any_live
    }

    /// Whether this is the state that the export was begun on, and not one that has taken its place.
    pub fn is_of(&self, state: &State) -> bool {
        state.has_pin(&self.pin)
    }

    /// Visits at most `budget` keys; returns whether all are done.
    pub fn gather(&mut self, state: &State, budget: usize) -> bool {
        let after = self.after.take();
        let mut last = None;
        for history in histories_after(state, after.as_deref()).take(budget) {
            let seen = history.at(self.revision).map(|v| (v.facts.revision, v.facts.sub));
            self.any_live |= seen.is_some();
            let surviving = history.surviving(self.compacted).next().map(|i| history.get(i));
            if let Some(Version { key, facts, .. }) = surviving.filter(|v| v.facts.revision <= self.compacted) {
                let (revision, sub) = (facts.revision, facts.sub);
                let key_len = u32::try_from(key.len()).expect("a request's size is bounded far below");
                let superseded = seen != Some((revision, sub));
                self.old.push(Old { revision, sub, key_at: self.keys.len(), key_len, superseded });
                self.keys.extend_from_slice(key);
            }
            last = Some(history);
        }
        let done = last.is_none();
        self.after = last.map(|history| Bytes::copy_from_slice(history.get(0).key)).or(after);
        done
    }

    /// Begins a pass over what was gathered, as often as it is called.
    pub fn rewind(&mut self) {
        self.old.sort_unstable_by_key(|old| (old.revision, old.sub));
        self.next_old = 0;
        self.next = (self.compacted + 1, 0);
    }

    /// Hands out the next writes, at most `budget` of about `bytes` together; returns whether there may be more.
    pub fn next<E>(
        &mut self,
        state: &State,
        mut budget: usize,
        bytes: usize,
        mut sink: impl FnMut(Write<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut taken = 0;
        while budget > 0 && taken < bytes {
            let Some(old) = self.old.get(self.next_old) else { break };
            let key = &self.keys[old.key_at..old.key_at + old.key_len as usize];
            let version = version_of(state, key, old.revision, old.sub);
            sink(Write { superseded: old.superseded, ..write_of(&version) })?;
            taken += key.len() + version.value.bytes().len();
            (self.next_old, budget) = (self.next_old + 1, budget - 1);
        }
        if self.next_old < self.old.len() {
            return Ok(true);
        }
        for version in changes_from(state, self.next) {
            let facts = version.facts;
            if facts.revision > self.revision {
                return Ok(false);
            }
            if budget == 0 || taken >= bytes {
                return Ok(true);
            }
            sink(write_of(&version))?;
            taken += version.key.len() + version.value.bytes().len();
            (self.next, budget) = ((facts.revision, facts.sub + 1), budget - 1);
        }
        Ok(false)
    }
}

/// A history that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("revision {revision}.{sub} is not after the one before it")]
    Order { revision: Revision, sub: u32 },
    #[error("lease {0:x} comes twice")]
    Lease(LeaseId),
}

/// Builds a state from a history in the order of its writes.
pub struct Import {
    state: State,
    last: (Revision, u32),
}

impl Import {
    /// The history was compacted at `compacted`; what is left of before is dropped as a compaction does. A write's
    /// lease is one of `leases`, or nobody's.
    pub fn new(compacted: Revision, leases: impl IntoIterator<Item = (LeaseId, i64)>) -> Result<Self, ImportError> {
        let mut state = State::default();
        state.compacted = compacted.max(0);
        for (id, ttl) in leases {
            state.leases.grant(id, ttl).map_err(|_: StoreError| ImportError::Lease(id))?;
        }
        Ok(Import { state, last: (0, 0) })
    }

    pub fn write(&mut self, write: &Write<'_>) -> Result<(), ImportError> {
        let Write { revision, sub, .. } = *write;
        if (revision, sub) <= self.last {
            return Err(ImportError::Order { revision, sub });
        }
        self.last = (revision, sub);
        record(&mut self.state, write);
        Ok(())
    }

    /// Revisions go on after `revision`, though nothing was written there.
    pub fn reached(&mut self, revision: Revision) {
        self.last = self.last.max((revision, 0));
    }

    pub fn finish(mut self) -> State {
        self.state.revision = self.last.0.max(self.state.compacted).max(FIRST_REVISION);
        self.state.trim(usize::MAX);
        self.state
    }
}

fn write_of<'a>(version: &Version<'a>) -> Write<'a> {
    let Facts { revision, sub, tombstone, create, version: count, lease } = version.facts;
    let (key, value) = (version.key, version.value.bytes());
    Write { revision, sub, tombstone, key, value, create, version: count, lease, superseded: false }
}

fn histories_after<'a>(state: &'a State, after: Option<&'a [u8]>) -> impl Iterator<Item = History<'a>> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let leaves = state.space.range((from, Bound::Unbounded));
    leaves.flat_map(|(items, _)| items).map(|(_, item)| state.space.history_of(*item))
}

fn version_of<'a>(state: &'a State, key: &[u8], revision: Revision, sub: u32) -> Version<'a> {
    let history = state.space.history(key).expect("the pin keeps every key of the export");
    let before = (0..history.up_to(revision)).rev().map(|i| history.get(i));
    let mut at = before.take_while(|v| v.facts.revision == revision);
    at.find(|v| v.facts.sub == sub).expect("the pin keeps every version of the export")
}

fn changes_from(state: &State, from: (Revision, u32)) -> impl Iterator<Item = Version<'_>> {
    let first = state.changes.find(from, |write| state.space.when(write));
    (first..).map_while(|at| state.changes.get(at)).flatten().map(|write| state.space.version(write))
}

fn record(state: &mut State, write: &Write<'_>) {
    let Write { revision, sub, tombstone, key, create, version, lease, .. } = *write;
    let place = state.space.find(key);
    let facts = Facts { revision, sub, tombstone, create, version, lease };
    let value = Bytes::copy_from_slice(write.value);
    state.record(place, key, &facts, &Value::Shared(&value));
}
