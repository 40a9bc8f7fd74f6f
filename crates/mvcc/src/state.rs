//! The state machine: applies commands, answers at revisions, frees what is compacted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use store_api::{LeaseId, RangeRequest, RangeResponse, Revision, StoreError, TxnRequest, TxnResponse};

use crate::{
    changes::Changes,
    command::{Command, Effects, Response},
    history::Value,
    index::Place,
    keyspace::Keyspace,
    lease::Leases,
    range::{Progress, RangeQuery},
    record::Facts,
    slab::Ref,
    txn::{self, Write},
};

/// The revision of a store that was never written to.
pub const FIRST_REVISION: Revision = 1;

/// Records that a command which writes moves while much of the memory held is free but in pieces.
const MOVES: usize = 2;

/// Everything that the log's commands have built.
#[derive(Debug)]
pub struct State {
    pub(crate) space: Keyspace,
    pub(crate) revision: Revision,
    /// Nothing before this revision can be read. 0: never compacted.
    pub(crate) compacted: Revision,
    /// The compact revision that trimming has reached.
    trimmed: Revision,
    /// Writes at the compact revision itself that trimming has visited; those before it are gone by then.
    settled: usize,
    /// Every write from the compact revision on, in order: what a watcher replays, and what trimming visits, so
    /// that both cost as much as was written and not as much as is stored.
    pub(crate) changes: Changes,
    pub(crate) leases: Leases,
    pins: Arc<AtomicUsize>,
}

/// While it lives, nothing is trimmed: a reader that works in steps finds at the end what was there at the start.
#[derive(Debug)]
pub struct Pin(Arc<AtomicUsize>);

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for State {
    fn default() -> Self {
        State {
            space: Keyspace::default(),
            revision: FIRST_REVISION,
            compacted: 0,
            trimmed: 0,
            settled: 0,
            changes: Changes::default(),
            leases: Leases::default(),
            pins: Arc::default(),
        }
    }
}

impl State {
    /// Does one command of the log. Deterministic; all or nothing.
    pub fn apply(&mut self, command: Command) -> Effects {
        let mut write = Write::new(self);
        let response = match command {
            Command::Put(put) => write.check_put(&put).map(|()| Response::Put(write.put(put))),
            Command::DeleteRange(delete) => Ok(Response::DeleteRange(write.delete_range(&delete))),
            Command::Txn(txn) => txn::apply(&mut write, txn).map(Response::Txn),
            Command::Compact(revision) => write.state.compact(revision).map(Response::Compacted),
            Command::LeaseGrant { id, ttl } => write.state.leases.grant(id, ttl).map(Response::LeaseGranted),
            Command::LeaseRevoke { id } => write.revoke(id).map(Response::LeaseRevoked),
            Command::LeaseCheckpoint(left) => {
                left.iter().for_each(|(id, left)| write.state.leases.note(*id, *left));
                Ok(Response::LeasesNoted)
            }
        };
        let events = write.finish();
        if !events.is_empty() {
            self.tidy(MOVES);
        }
        Effects { response, events }
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read; 0 if none was compacted.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Keys that exist now.
    pub fn keys(&self) -> u64 {
        self.space.live_keys()
    }

    /// Bytes that all versions take in memory, about. The same for the same versions, whatever way they came about.
    pub fn bytes(&self) -> u64 {
        self.space.cost()
    }

    /// Bytes that the state holds, also those that are free for the next writes.
    pub fn held_bytes(&self) -> u64 {
        (self.space.held() + self.changes.held()) as u64
    }

    /// Reads a range under one lock. Large ranges are better read by [`RangeQuery`] in steps.
    pub fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let mut query = RangeQuery::new(self, request)?;
        query.step(self, usize::MAX);
        Ok(query.finish())
    }

    /// Runs a transaction that has no writes in either branch. Fails with [`StoreError::RangeTooLarge`] where its ranges
    /// take more than `room` bytes together; afterwards `room` is what is left.
    pub fn read_txn(&self, txn: &TxnRequest, room: &mut usize) -> Result<TxnResponse, StoreError> {
        txn::read(self, txn, room)
    }

    /// As [`State::range`], within `room` bytes, of which it takes what the answer weighs.
    pub(crate) fn range_within(&self, request: RangeRequest, room: &mut usize) -> Result<RangeResponse, StoreError> {
        let mut query = RangeQuery::new(self, request)?;
        query.set_room(*room);
        if let Progress::Full(next) = query.step(self, usize::MAX) {
            return Err(StoreError::RangeTooLarge { needed: query.weight() + next, budget: *room });
        }
        *room -= query.weight();
        Ok(query.finish())
    }

    /// The revision that a reader who asks for `revision` reads at; 0 asks for the newest.
    pub fn check_revision(&self, revision: Revision) -> Result<Revision, StoreError> {
        match revision {
            ..=0 => Ok(self.revision),
            r if r > self.revision => Err(StoreError::FutureRevision { requested: r, current: self.revision }),
            r if r < self.compacted => Err(StoreError::Compacted { requested: r, compacted: self.compacted }),
            r => Ok(r),
        }
    }

    /// Keeps everything that can be read now until the pin is dropped.
    pub fn pin(&self) -> Pin {
        self.pins.fetch_add(1, Ordering::AcqRel);
        Pin(self.pins.clone())
    }

    /// Whether a pin is one of this state's.
    pub(crate) fn has_pin(&self, pin: &Pin) -> bool {
        Arc::ptr_eq(&self.pins, &pin.0)
    }

    /// All leases, with the seconds granted to each.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        self.leases.iter()
    }

    /// All leases, with the seconds granted to each and those that were left when that was noted; 0 where nothing was.
    pub fn leases_left(&self) -> impl Iterator<Item = (LeaseId, i64, i64)> + '_ {
        self.leases.iter_left()
    }

    /// The seconds granted to a lease.
    pub fn lease_ttl(&self, id: LeaseId) -> Option<i64> {
        self.leases.ttl(id)
    }

    /// The keys attached to a lease, in order.
    pub fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        let mut keys: Vec<_> =
            self.leases.writes(id).map(|at| Bytes::copy_from_slice(self.space.version(at).key)).collect();
        keys.sort_unstable();
        keys
    }

    /// Whether compacted versions still wait for [`State::trim`].
    pub fn needs_trim(&self) -> bool {
        self.trimmed < self.compacted
    }

    /// Whether a [`Pin`] keeps compacted versions.
    pub fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Frees compacted versions, visiting about `budget` writes. Does nothing while a [`Pin`] lives.
    pub fn trim(&mut self, mut budget: usize) {
        if !self.needs_trim() || self.is_pinned() {
            return;
        }
        while self.settled == 0
            && let Some(write) = self.changes.get(0)
        {
            // One whose record is gone is of a compact revision before.
            if let Some(write) = write {
                if self.space.when(write).0 >= self.compacted {
                    break;
                }
                if budget == 0 {
                    return;
                }
                budget -= 1;
                self.space.forget_before(write, self.compacted);
            }
            self.changes.pop_front();
        }
        while let Some(write) = self.changes.get(self.settled) {
            if let Some(write) = write {
                if self.space.when(write).0 > self.compacted {
                    break;
                }
                if budget == 0 {
                    return;
                }
                budget -= 1;
                if !self.space.forget_before(write, self.compacted) {
                    self.changes.clear(self.settled);
                }
            }
            self.settled += 1;
        }
        self.trimmed = self.compacted;
    }

    /// Moves at most `limit` records together where compaction has left many pages hardly used, so that empty ones can
    /// be given back. Every write does a little of it; called by itself it makes use of an idle moment. Returns
    /// whether there is more to do.
    pub fn tidy(&mut self, limit: usize) -> bool {
        if !self.space.is_sparse() {
            return false;
        }
        let records = self.space.movable(limit);
        for from in &records {
            let facts = self.space.version(*from).facts;
            let to = self.space.move_record(*from);
            let at = self.changes.find((facts.revision, facts.sub), |write| self.space.when(write));
            if self.changes.get(at) == Some(Some(*from)) {
                self.changes.set(at, to);
            }
            self.leases.replace(facts.lease, *from, to);
            self.space.discard(*from);
        }
        !records.is_empty()
    }

    /// Adds a version and everything that is derived from it; `place` is where the key was found.
    pub(crate) fn record(&mut self, place: Result<Place, Place>, key: &[u8], facts: &Facts, value: &Value<'_>) {
        let written = self.space.write(place, key, facts, value);
        self.changes.push((facts.revision, facts.sub), written.at);
        self.leases.move_key(written.replaced, (written.at, facts.lease));
    }

    /// Puts back the changes of a snapshot: revision, position in it, record.
    pub(crate) fn restore_changes(&mut self, mut changes: Vec<(Revision, u32, Ref)>) {
        changes.sort_unstable();
        changes.iter().for_each(|(revision, sub, at)| self.changes.push((*revision, *sub), *at));
        self.trimmed = self.compacted;
    }

    fn compact(&mut self, revision: Revision) -> Result<Revision, StoreError> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted { requested: revision, compacted: self.compacted });
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision { requested: revision, current: self.revision });
        }
        self.compacted = revision;
        self.settled = 0;
        Ok(self.revision)
    }
}
