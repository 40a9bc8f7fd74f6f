//! The whole state as bytes, written in portions while the state moves on, and read back.
//!
//! The bytes are a stream of records: one head (revision, compact revision, leases), then each key with its versions,
//! in order; a key with many versions takes several records. The stream depends only on the commands applied, not on
//! how it was cut into portions nor on how far trimming got.

use std::{
    cmp::Ordering,
    collections::VecDeque,
    ops::{Bound, Range},
};

use bytes::Bytes;
use store_api::{LeaseId, Revision};

use crate::{
    codec::{DecodeError, Reader, put_bytes, put_i64, put_u64},
    command::codec::{left, put_left},
    history::History,
    keyspace::Loading,
    record::Facts,
    slab::Ref,
    state::{FIRST_REVISION, Pin, State},
};

const HEAD: u8 = 0;
const KEY: u8 = 1;
/// After the head, where something was noted of what is left of leases.
const LEFT: u8 = 2;
/// Versions of one record at most: a key that is written all the time must not be one endless portion.
const RECORD_VERSIONS: usize = 256;

/// A moment of the state. Taking it costs as much as there are leases.
pub struct SnapshotCut {
    pub revision: Revision,
    pub compacted: Revision,
    leases: Vec<(LeaseId, i64)>,
    /// What was noted to be left of some of them.
    left: Vec<(LeaseId, i64)>,
    pin: Pin,
}

impl State {
    /// Fixes this moment for a snapshot.
    pub fn cut(&self) -> SnapshotCut {
        let (revision, compacted) = (self.revision(), self.compacted());
        let left = self.leases_left().filter(|(.., left)| *left > 0).map(|(id, _, left)| (id, left)).collect();
        SnapshotCut { revision, compacted, leases: self.leases().collect(), left, pin: self.pin() }
    }
}

/// Writes out a cut, a portion at a time.
pub struct SnapshotReader {
    cut: SnapshotCut,
    started: bool,
    after: Option<Bytes>,
    /// A key that is written in part, and how many of its versions are.
    within: Option<(Bytes, usize)>,
}

impl SnapshotReader {
    pub fn new(cut: SnapshotCut) -> Self {
        SnapshotReader { cut, started: false, after: None, within: None }
    }

    /// Appends whole records to `out` until about `bytes` are in it or `keys` were visited; `false` when all is
    /// written. `state` is the one that was cut, maybe with more commands applied.
    pub fn next(&mut self, state: &State, out: &mut Vec<u8>, bytes: usize, keys: usize) -> bool {
        if !self.started {
            self.started = true;
            self.head(out);
        }
        if let Some((key, written)) = self.within.take() {
            let history = state.space.history(&key).expect("the pin keeps every key of the cut");
            if !self.key(&history, written, out, bytes) || out.len() >= bytes {
                return true;
            }
        }
        let after = self.after.take();
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for item in state.space.range((from, Bound::Unbounded)).flat_map(|(items, _)| items).take(keys) {
            let history = state.space.history_of(item.1);
            last = Some(history);
            if !self.key(&history, 0, out, bytes) || out.len() >= bytes {
                break;
            }
        }
        let more = last.is_some();
        self.after = last.map(|history| Bytes::copy_from_slice(history.get(0).key)).or(after);
        more
    }

    fn head(&self, out: &mut Vec<u8>) {
        out.push(HEAD);
        put_i64(out, self.cut.revision);
        put_i64(out, self.cut.compacted);
        put_u64(out, self.cut.leases.len() as u64);
        for (id, ttl) in &self.cut.leases {
            put_i64(out, *id);
            put_i64(out, *ttl);
        }
        if !self.cut.left.is_empty() {
            out.push(LEFT);
            put_left(out, &self.cut.left);
        }
    }

    /// Writes a key's versions after the first `written`; `false` if some are left for the next portion.
    fn key(&mut self, history: &History<'_>, mut written: usize, out: &mut Vec<u8>, bytes: usize) -> bool {
        let first = history.surviving(self.cut.compacted).start;
        let versions = history.up_to(self.cut.revision).saturating_sub(first);
        while written < versions {
            let part = written..versions.min(written + RECORD_VERSIONS);
            written = part.end;
            put_versions(out, history, first + part.start..first + part.end);
            if out.len() >= bytes && written < versions {
                self.within = Some((Bytes::copy_from_slice(history.get(0).key), written));
                return false;
            }
        }
        true
    }

    /// Lets go of what the cut kept.
    pub fn finish(self) {
        drop(self.cut.pin);
    }
}

fn put_versions(out: &mut Vec<u8>, history: &History<'_>, versions: Range<usize>) {
    out.push(KEY);
    put_bytes(out, history.get(versions.start).key);
    put_u64(out, versions.len() as u64);
    for version in versions.map(|i| history.get(i)) {
        let v = version.facts;
        out.push(u8::from(v.tombstone));
        put_i64(out, v.revision);
        put_u64(out, u64::from(v.sub));
        if !v.tombstone {
            put_i64(out, v.create);
            put_i64(out, v.version);
            put_i64(out, v.lease);
            put_bytes(out, version.value.bytes());
        }
    }
}

/// Builds a state from the portions of a snapshot.
#[derive(Default)]
pub struct Loader {
    state: State,
    head: bool,
    loading: Loading,
    /// The last key read, its versions and when the newest was written; more of its versions may follow.
    key: Vec<u8>,
    open: VecDeque<Ref>,
    newest: (Revision, u32),
    changes: Vec<(Revision, u32, Ref)>,
}

impl Loader {
    /// Takes the next portion; it consists of whole records.
    pub fn feed(&mut self, portion: Bytes) -> Result<(), DecodeError> {
        let mut reader = Reader::new(portion);
        while !reader.is_empty() {
            match (reader.u8()?, self.head) {
                (HEAD, false) => self.take_head(&mut reader)?,
                (KEY, true) => self.take_key(&mut reader)?,
                (LEFT, true) => {
                    let left = left(&mut reader)?;
                    left.iter().for_each(|(id, left)| self.state.leases.note(*id, *left));
                }
                (HEAD, true) => return Err(DecodeError("second head")),
                (KEY, false) => return Err(DecodeError("key before the head")),
                _ => return Err(DecodeError("unknown record")),
            }
        }
        Ok(())
    }

    /// The state, after the last portion.
    pub fn finish(mut self) -> Result<State, DecodeError> {
        if !self.head {
            return Err(DecodeError("no head"));
        }
        self.close();
        self.state.space = self.loading.finish();
        self.state.restore_changes(self.changes);
        Ok(self.state)
    }

    fn take_head(&mut self, r: &mut Reader) -> Result<(), DecodeError> {
        self.head = true;
        self.state.revision = r.i64()?;
        self.state.compacted = r.i64()?;
        if self.state.revision < FIRST_REVISION || !(0..=self.state.revision).contains(&self.state.compacted) {
            return Err(DecodeError("revisions make no sense"));
        }
        for _ in 0..r.count()? {
            let (id, ttl) = (r.i64()?, r.i64()?);
            self.state.leases.grant(id, ttl).map_err(|_| DecodeError("a lease twice"))?;
        }
        Ok(())
    }

    fn take_key(&mut self, r: &mut Reader) -> Result<(), DecodeError> {
        let key = r.slice()?;
        match key.cmp(&self.key[..]) {
            Ordering::Less if !self.open.is_empty() => return Err(DecodeError("keys out of order")),
            Ordering::Equal => {}
            Ordering::Less | Ordering::Greater => {
                self.close();
                self.key.clear();
                self.key.extend_from_slice(key);
            }
        }
        for _ in 0..r.count()? {
            self.take_version(r)?;
        }
        if self.open.is_empty() { Err(DecodeError("key without versions")) } else { Ok(()) }
    }

    fn take_version(&mut self, r: &mut Reader) -> Result<(), DecodeError> {
        let tombstone = r.bool()?;
        let (revision, sub) = (r.i64()?, r.u32()?);
        if !self.open.is_empty() && self.newest >= (revision, sub) || !(0..=self.state.revision).contains(&revision) {
            return Err(DecodeError("versions out of order"));
        }
        let (facts, value) = match tombstone {
            true => (Facts::tombstone(revision, sub), &[][..]),
            false => {
                let (create, version, lease) = (r.i64()?, r.i64()?, r.i64()?);
                (Facts { revision, sub, tombstone, create, version, lease }, r.slice()?)
            }
        };
        let at = self.loading.add(&self.key, &facts, value);
        self.newest = (revision, sub);
        self.open.push_back(at);
        if revision >= self.state.compacted {
            self.changes.push((revision, sub, at));
        }
        Ok(())
    }

    /// All versions of the last key were read.
    fn close(&mut self) {
        let Some(newest) = self.open.back().copied() else { return };
        if let Some(live) = self.loading.push(&mut self.open) {
            self.state.leases.move_key(None, (newest, live.facts.lease));
        }
    }
}
