//! The state machine: applies commands, answers at revisions, frees what is compacted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use store_api::{LeaseId, RangeRequest, RangeResponse, Revision, StoreError, TxnRequest, TxnResponse};

use crate::{
    command::{Command, Effects, Response},
    history::{History, Version},
    lease::Leases,
    range::RangeQuery,
    txn::{self, Write},
};

/// The revision of a store that was never written to.
pub const FIRST_REVISION: Revision = 1;
/// What a version costs in memory besides its key and value.
const VERSION_OVERHEAD: u64 = 160;

/// Everything that the log's commands have built.
#[derive(Debug)]
pub struct State {
    pub(crate) index: BTreeMap<Bytes, History>,
    pub(crate) revision: Revision,
    /// Nothing before this revision can be read. 0: never compacted.
    pub(crate) compacted: Revision,
    /// The compact revision that trimming has reached.
    trimmed: Revision,
    /// Every write from the compact revision on, in order: what a watcher replays, and what trimming visits, so
    /// that both cost as much as was written and not as much as is stored.
    pub(crate) changes: VecDeque<Change>,
    pub(crate) leases: Leases,
    live: u64,
    bytes: u64,
    pins: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub revision: Revision,
    pub sub: u32,
    pub key: Bytes,
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
            index: BTreeMap::new(),
            revision: FIRST_REVISION,
            compacted: 0,
            trimmed: 0,
            changes: VecDeque::new(),
            leases: Leases::default(),
            live: 0,
            bytes: 0,
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
        };
        Effects { response, events: write.finish() }
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
        self.live
    }

    /// Bytes that all versions take, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads a range under one lock. Large ranges are better read by [`RangeQuery`] in steps.
    pub fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let mut query = RangeQuery::new(self, request)?;
        query.step(self, usize::MAX);
        Ok(query.finish())
    }

    /// Runs a transaction that has no writes in either branch.
    pub fn read_txn(&self, txn: &TxnRequest) -> Result<TxnResponse, StoreError> {
        txn::read(self, txn)
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

    /// The seconds granted to a lease.
    pub fn lease_ttl(&self, id: LeaseId) -> Option<i64> {
        self.leases.ttl(id)
    }

    /// The keys attached to a lease, in order.
    pub fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.leases.keys(id)
    }

    /// Whether compacted versions still wait for [`State::trim`].
    pub fn needs_trim(&self) -> bool {
        self.trimmed < self.compacted
    }

    /// Frees compacted versions, visiting about `budget` writes. Does nothing while a [`Pin`] lives.
    pub fn trim(&mut self, mut budget: usize) {
        if !self.needs_trim() || self.pins.load(Ordering::Acquire) > 0 {
            return;
        }
        while let Some(change) = self.changes.pop_front_if(|c| c.revision < self.compacted) {
            self.trim_key(&change.key);
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return;
            }
        }
        let at: Vec<_> =
            self.changes.iter().take_while(|c| c.revision == self.compacted).map(|c| c.key.clone()).collect();
        at.iter().for_each(|key| self.trim_key(key));
        if self.changes.len() < self.changes.capacity() / 4 {
            self.changes.shrink_to(self.changes.len() * 2);
        }
        self.trimmed = self.compacted;
    }

    pub(crate) fn index(&self) -> &BTreeMap<Bytes, History> {
        &self.index
    }

    /// Adds a version to a key's history and everything that is derived from it. Returns the key that the index owns.
    pub(crate) fn record(&mut self, key: &[u8], version: Version) -> Bytes {
        let (existing, was_live, old_lease) = match self.index.get(key) {
            Some(history) => (true, history.live().is_some(), history.live().map_or(0, |v| v.lease)),
            None => (false, false, 0),
        };
        if !existing {
            // A copy: the key must not keep the whole command that first wrote it alive.
            let own = Bytes::copy_from_slice(key);
            self.index.insert(own.clone(), History::new(own));
        }
        let history = self.index.get_mut(key).expect("inserted above if it was not there");
        let own = history.key().clone();
        self.bytes += cost(&own, &version);
        self.live = self.live + u64::from(!version.tombstone) - u64::from(was_live);
        self.leases.move_key(&own, old_lease, version.lease);
        self.changes.push_back(Change { revision: version.revision, sub: version.sub, key: own.clone() });
        history.push(version);
        own
    }

    /// Puts back a key as a snapshot has it; changes are restored by [`State::restored`].
    pub(crate) fn restore_key(&mut self, history: History) {
        let key = history.key().clone();
        self.bytes += history.versions().iter().map(|v| cost(&key, v)).sum::<u64>();
        if let Some(live) = history.live() {
            self.live += 1;
            self.leases.move_key(&key, 0, live.lease);
        }
        let from = self.compacted;
        let changes = history.versions().iter().filter(|v| v.revision >= from);
        self.changes.extend(changes.map(|v| Change { revision: v.revision, sub: v.sub, key: key.clone() }));
        self.index.insert(key, history);
    }

    /// Called after the last [`State::restore_key`].
    pub(crate) fn restored(&mut self) {
        self.changes.make_contiguous().sort_unstable_by_key(|c| (c.revision, c.sub));
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
        Ok(self.revision)
    }

    fn trim_key(&mut self, key: &Bytes) {
        let Some(history) = self.index.get_mut(key) else { return };
        let bytes = &mut self.bytes;
        if history.trim(self.compacted, |v| *bytes -= cost(key, &v)) {
            self.index.remove(key);
        }
    }
}

fn cost(key: &[u8], version: &Version) -> u64 {
    VERSION_OVERHEAD + (key.len() + version.value.len()) as u64
}
