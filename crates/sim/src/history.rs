//! Between what the store is asked and what the checker reads.

use bytes::Bytes;
use checker::history as seen;
use mvcc::Command;
use replica::Response;
use store_api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, Event, EventKind, KeyValue, PutRequest, RangeRequest,
    RangeResponse, RequestOp, ResponseOp, StoreError, TxnRequest,
};

use crate::member::{Call, Outcome, Reply};

/// A request in the store's words.
pub fn call(request: &seen::Request) -> Call {
    match request {
        seen::Request::Range(range) => Call::Read(self::range(range)),
        seen::Request::Put(put) => Call::Write(Command::Put(self::put(put))),
        seen::Request::Delete(delete) => Call::Write(Command::DeleteRange(self::delete(delete))),
        seen::Request::Txn(txn) => {
            let compare = txn.compare.iter().map(compare).collect();
            let ops = |steps: &[seen::Step]| steps.iter().map(step).collect();
            let (success, failure) = (ops(&txn.success), ops(&txn.failure));
            Call::Write(Command::Txn(TxnRequest { compare, success, failure }))
        }
        seen::Request::Compact { revision } => Call::Write(Command::Compact(*revision)),
        seen::Request::LeaseGrant { lease, ttl } => Call::Write(Command::LeaseGrant { id: *lease, ttl: *ttl }),
        seen::Request::LeaseRevoke { lease } => Call::Write(Command::LeaseRevoke { id: *lease }),
        seen::Request::LeaseKeepAlive { lease } => Call::KeepAlive(*lease),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn range(range: &seen::Range) -> RangeRequest {
    let (key, range_end) = (bytes(&range.keys.key), bytes(&range.keys.end));
    let (revision, serializable, limit) = (range.revision, range.serializable, range.limit);
    RangeRequest { key, range_end, revision, serializable, limit, ..Default::default() }
}

fn put(put: &seen::Put) -> PutRequest {
    let (key, value) = (bytes(&put.key), bytes(&put.value));
    PutRequest { key, value, lease: put.lease, prev_kv: put.prev_kv, ..Default::default() }
}

fn delete(delete: &seen::Delete) -> DeleteRangeRequest {
    let (key, range_end) = (bytes(&delete.keys.key), bytes(&delete.keys.end));
    DeleteRangeRequest { key, range_end, prev_kv: delete.prev_kv }
}

fn compare(compare: &seen::Compare) -> Compare {
    let result = match compare.is {
        seen::Is::Equal => CompareResult::Equal,
        seen::Is::Greater => CompareResult::Greater,
        seen::Is::Less => CompareResult::Less,
        seen::Is::NotEqual => CompareResult::NotEqual,
    };
    let target = match &compare.target {
        seen::Target::Version(n) => CompareTarget::Version(*n),
        seen::Target::CreateRevision(n) => CompareTarget::CreateRevision(*n),
        seen::Target::ModRevision(n) => CompareTarget::ModRevision(*n),
        seen::Target::Lease(n) => CompareTarget::Lease(*n),
        seen::Target::Value(value) => CompareTarget::Value(bytes(value)),
    };
    Compare { key: bytes(&compare.key), range_end: Bytes::new(), result, target }
}

fn step(step: &seen::Step) -> RequestOp {
    match step {
        seen::Step::Range(range) => RequestOp::Range(self::range(range)),
        seen::Step::Put(put) => RequestOp::Put(self::put(put)),
        seen::Step::Delete(delete) => RequestOp::DeleteRange(self::delete(delete)),
    }
}

/// An answer in the checker's words.
pub fn outcome(outcome: Outcome) -> seen::Outcome {
    let (revision, answer) = match outcome {
        Ok(Reply::Range(range)) => (range.revision, ranged(range)),
        Ok(Reply::Alive(ttl, revision)) => (revision, seen::Answer::Lease { ttl }),
        Ok(Reply::Done(Response::Kv(response))) => match response {
            mvcc::Response::Put(put) => (put.revision, seen::Answer::Put { prev: put.prev_kv.map(kv) }),
            mvcc::Response::DeleteRange(gone) => {
                let prev = gone.prev_kvs.into_iter().map(kv).collect();
                (gone.revision, seen::Answer::Delete { deleted: gone.deleted, prev })
            }
            mvcc::Response::Txn(txn) => {
                let steps = txn.responses.into_iter().map(stepped).collect();
                (txn.revision, seen::Answer::Txn { succeeded: txn.succeeded, steps })
            }
            mvcc::Response::Compacted(revision) | mvcc::Response::LeaseRevoked(revision) => {
                (revision, seen::Answer::Done)
            }
            mvcc::Response::LeasesNoted => (0, seen::Answer::Done),
            mvcc::Response::LeaseGranted(lease) => (0, seen::Answer::Lease { ttl: lease.ttl }),
        },
        Ok(Reply::Done(_) | Reply::Settled) => (0, seen::Answer::Done),
        Err(error) if happened_not(&error) => return seen::Outcome::Refused(error.to_string()),
        Err(error) => return seen::Outcome::Unknown(error.to_string()),
    };
    seen::Outcome::Done(seen::Response { revision, answer })
}

/// Whether an error says that nothing was done.
fn happened_not(error: &StoreError) -> bool {
    !matches!(error, StoreError::Unavailable(_) | StoreError::LeaderChanged | StoreError::Timeout | StoreError::Stopped)
}

fn ranged(range: RangeResponse) -> seen::Answer {
    seen::Answer::Range { count: range.count, kvs: range.kvs.into_iter().map(kv).collect() }
}

fn stepped(op: ResponseOp) -> seen::Answer {
    match op {
        ResponseOp::Range(range) => ranged(range),
        ResponseOp::Put(put) => seen::Answer::Put { prev: put.prev_kv.map(kv) },
        ResponseOp::DeleteRange(gone) => {
            seen::Answer::Delete { deleted: gone.deleted, prev: gone.prev_kvs.into_iter().map(kv).collect() }
        }
        ResponseOp::Txn(txn) => {
            let steps = txn.responses.into_iter().map(stepped).collect();
            seen::Answer::Txn { succeeded: txn.succeeded, steps }
        }
    }
}

fn kv(kv: KeyValue) -> seen::KeyValue {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    seen::KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub fn event(event: Event) -> seen::Event {
    let deleted = event.kind == EventKind::Delete;
    seen::Event { kv: kv(event.kv), deleted, prev: event.prev_kv.map(kv) }
}
