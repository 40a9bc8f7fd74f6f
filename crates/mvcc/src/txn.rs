//! Writing: one command's puts and deletions, all at one new revision, and transactions made of them.

use std::cmp::Ordering;

use bytes::Bytes;
use store_api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Event, EventKind, KeyValue,
    LeaseId, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseOp, Revision, StoreError,
    TxnRequest, TxnResponse,
};

use crate::{
    history::{Value, Version, key_value},
    range::{KeyRange, RangeEnd, RangeQuery},
    record::{Facts, INLINE},
    shelf::Shelf,
    state::State,
};

/// The writes of one command. The state's revision moves when it is finished, if anything was written.
pub(crate) struct Write<'a> {
    pub state: &'a mut State,
    events: Vec<Event>,
}

impl<'a> Write<'a> {
    pub fn new(state: &'a mut State) -> Self {
        Write { state, events: Vec::new() }
    }

    /// Makes the writes' revision the state's own.
    pub fn finish(self) -> Vec<Event> {
        self.state.revision += i64::from(!self.events.is_empty());
        self.events
    }

    /// What a reader inside the command sees.
    fn revision(&self) -> Revision {
        self.state.revision + i64::from(!self.events.is_empty())
    }

    /// What must hold before a put; checked for the whole command before its first write.
    pub fn check_put(&self, put: &PutRequest) -> Result<(), StoreError> {
        check_put(self.state, put)
    }

    pub fn put(&mut self, put: PutRequest) -> PutResponse {
        let (revision, sub) = (self.state.revision + 1, self.next_sub());
        let place = self.state.space.find(&put.key);
        let prev = place.ok().and_then(|place| self.state.space.live_at(place));
        // One allocation for what the event tells. It and the state keep copies: the request is part of a larger
        // buffer.
        let inline = |len: usize| if len > INLINE { 0 } else { len };
        let prev_len = prev.map_or(0, |p| inline(p.value.bytes().len()));
        let mut shelf = Shelf::with_capacity(put.key.len() + inline(put.value.len()) + prev_len);
        let key = shelf.copy(&put.key);
        let prev = prev.map(|prev| prev.with(key.clone(), shelf.value(prev.value)));
        let value = match &prev {
            Some(prev) if put.ignore_value => prev.value.clone(),
            _ if put.value.len() > INLINE => Bytes::copy_from_slice(&put.value),
            _ => shelf.copy(&put.value),
        };
        let facts = Facts {
            revision,
            sub,
            tombstone: false,
            create: prev.as_ref().map_or(revision, |p| p.create_revision),
            version: prev.as_ref().map_or(1, |p| p.version + 1),
            lease: prev.as_ref().filter(|_| put.ignore_lease).map_or(put.lease, |p| p.lease),
        };
        self.state.record(place, &key, &facts, &Value::Shared(&value));
        let answer = if put.prev_kv { prev.clone() } else { None };
        self.events.push(Event { kind: EventKind::Put, kv: key_value(&facts, key, value), prev_kv: prev });
        PutResponse { revision, prev_kv: answer }
    }

    pub fn delete_range(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::new(&delete.key, &delete.range_end);
        let mut prev_kvs = Vec::new();
        let mut deleted = 0;
        for prev in self.live_in(&range) {
            deleted += 1;
            self.delete(prev.clone());
            if delete.prev_kv {
                prev_kvs.push(prev);
            }
        }
        DeleteRangeResponse { revision: self.revision(), deleted, prev_kvs }
    }

    /// Ends a lease and deletes its keys in order. Returns the revision after it.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Revision, StoreError> {
        if !self.state.leases.exists(id) {
            return Err(StoreError::LeaseNotFound(id));
        }
        let mut shelf = Shelf::default();
        for key in self.state.lease_keys(id) {
            if let Some(prev) = self.state.space.live(&key).map(|v| v.to_kv(&mut shelf)) {
                self.delete(prev);
            }
        }
        self.state.leases.remove(id);
        Ok(self.revision())
    }

    /// Deletes a key, if it exists.
    pub fn delete_key(&mut self, key: &[u8]) {
        let prev = self.state.space.live(key).map(|v| v.to_kv(&mut Shelf::exact(&v)));
        if let Some(prev) = prev {
            self.delete(prev);
        }
    }

    fn delete(&mut self, prev: KeyValue) {
        let facts = Facts::tombstone(self.state.revision + 1, self.next_sub());
        let key = prev.key.clone();
        let place = self.state.space.find(&key);
        self.state.record(place, &key, &facts, &Value::Inline(&[]));
        let kv = key_value(&facts, key, Bytes::new());
        self.events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(prev) });
    }

    fn live_in(&self, range: &KeyRange) -> Vec<KeyValue> {
        if range.end == RangeEnd::Single {
            let live = self.state.space.live(&range.start);
            return live.into_iter().map(|version| version.to_kv(&mut Shelf::exact(&version))).collect();
        }
        let mut shelf = Shelf::default();
        live(self.state, range).map(|version| version.to_kv(&mut shelf)).collect()
    }

    fn range(&self, request: RangeRequest) -> RangeResponse {
        let at = if request.revision > 0 { request.revision } else { self.revision() };
        let mut query = RangeQuery::at(request, at, self.revision());
        query.step(self.state, usize::MAX);
        query.finish()
    }

    fn next_sub(&self) -> u32 {
        u32::try_from(self.events.len()).expect("a command touches fewer than 2^32 keys: memory ends before")
    }
}

/// Does a transaction. As in etcd, every comparison, also of nested transactions, sees the state before the first
/// write, and every precondition of the operations chosen is checked before it.
pub(crate) fn apply(write: &mut Write<'_>, txn: TxnRequest) -> Result<TxnResponse, StoreError> {
    let mut path = Vec::new();
    plan(write.state, &txn, &mut path)?;
    Ok(execute(write, txn, &mut path.into_iter()))
}

/// Does a transaction without writes.
pub(crate) fn read(state: &State, txn: &TxnRequest, room: &mut usize) -> Result<TxnResponse, StoreError> {
    let succeeded = txn.compare.iter().all(|c| holds(state, c));
    let ops = if succeeded { &txn.success } else { &txn.failure };
    let responses = ops.iter().map(|op| match op {
        RequestOp::Range(range) => Ok(ResponseOp::Range(state.range_within(range.clone(), room)?)),
        RequestOp::Txn(txn) => Ok(ResponseOp::Txn(read(state, txn, room)?)),
        RequestOp::Put(_) | RequestOp::DeleteRange(_) => {
            Err(StoreError::InvalidArgument("a transaction with writes must be proposed".to_owned()))
        }
    });
    let responses = responses.collect::<Result<_, _>>()?;
    Ok(TxnResponse { revision: state.revision(), succeeded, responses, ..Default::default() })
}

/// Decides the branches taken, outer before inner, and checks what they will do.
fn plan(state: &State, txn: &TxnRequest, path: &mut Vec<bool>) -> Result<(), StoreError> {
    let succeeded = txn.compare.iter().all(|c| holds(state, c));
    path.push(succeeded);
    for op in if succeeded { &txn.success } else { &txn.failure } {
        match op {
            RequestOp::Range(range) => drop(state.check_revision(range.revision)?),
            RequestOp::Put(put) => check_put(state, put)?,
            RequestOp::DeleteRange(_) => {}
            RequestOp::Txn(txn) => plan(state, txn, path)?,
        }
    }
    Ok(())
}

fn execute(write: &mut Write<'_>, txn: TxnRequest, path: &mut impl Iterator<Item = bool>) -> TxnResponse {
    let succeeded = path.next().expect("the plan visited the same transactions in the same order");
    let ops = if succeeded { txn.success } else { txn.failure };
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        responses.push(match op {
            RequestOp::Range(range) => ResponseOp::Range(write.range(range)),
            RequestOp::Put(put) => ResponseOp::Put(write.put(put)),
            RequestOp::DeleteRange(delete) => ResponseOp::DeleteRange(write.delete_range(&delete)),
            RequestOp::Txn(txn) => ResponseOp::Txn(execute(write, txn, path)),
        });
    }
    TxnResponse { revision: write.revision(), succeeded, responses, ..Default::default() }
}

fn check_put(state: &State, put: &PutRequest) -> Result<(), StoreError> {
    let exists = || state.space.live(&put.key).is_some();
    if (put.ignore_value || put.ignore_lease) && !exists() {
        return Err(StoreError::KeyNotFound);
    }
    if put.lease != 0 && !state.leases.exists(put.lease) {
        return Err(StoreError::LeaseNotFound(put.lease));
    }
    Ok(())
}

/// The newest versions of a range's keys.
pub(crate) fn live<'a>(state: &'a State, range: &KeyRange) -> impl Iterator<Item = Version<'a>> {
    let leaves = range.bounds().map(|bounds| state.space.range(bounds));
    leaves.into_iter().flatten().flat_map(|(items, _)| items).filter_map(|item| state.space.live_item(item.1))
}

/// Whether every key in the comparison's range compares.
fn holds(state: &State, compare: &Compare) -> bool {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut any = false;
    for version in live(state, &range) {
        any = true;
        let facts = version.facts;
        let order = match &compare.target {
            CompareTarget::Version(n) => facts.version.cmp(n),
            CompareTarget::CreateRevision(n) => facts.create.cmp(n),
            CompareTarget::ModRevision(n) => facts.revision.cmp(n),
            CompareTarget::Value(value) => version.value.bytes().cmp(value),
            CompareTarget::Lease(n) => facts.lease.cmp(n),
        };
        if !matches(compare.result, order) {
            return false;
        }
    }
    any || match &compare.target {
        CompareTarget::Version(n)
        | CompareTarget::CreateRevision(n)
        | CompareTarget::ModRevision(n)
        | CompareTarget::Lease(n) => matches(compare.result, 0.cmp(n)),
        // A missing value is not an empty one: no comparison with it is true.
        CompareTarget::Value(_) => false,
    }
}

fn matches(wanted: CompareResult, order: Ordering) -> bool {
    match wanted {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}
