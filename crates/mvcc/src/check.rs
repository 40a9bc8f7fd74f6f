//! What is wrong with a request whatever the state is: asked before it is proposed.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use store_api::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, StoreError, TxnRequest};

use crate::{command::Command, range::KeyRange};

/// Transactions inside a transaction, one in the other.
pub const MAX_TXN_DEPTH: usize = 16;
/// A lease's longest time in seconds, as in etcd.
const MAX_LEASE_TTL: i64 = 9_000_000_000;

#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one encoded command.
    pub max_request_bytes: usize,
    /// Comparisons, and operations of either branch, of one transaction.
    pub max_txn_ops: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_request_bytes: 1536 * 1024, max_txn_ops: 128 }
    }
}

pub fn check_range(range: &RangeRequest) -> Result<(), StoreError> {
    if range.key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(()) }
}

/// Whether a command may be proposed.
pub fn check_command(command: &Command, limits: &Limits) -> Result<(), StoreError> {
    match command {
        Command::Put(put) => check_put(put)?,
        Command::DeleteRange(delete) => check_delete(delete)?,
        Command::Txn(txn) => {
            check_ops(txn, limits, 0)?;
            intervals(&txn.success)?;
            intervals(&txn.failure)?;
        }
        Command::LeaseGrant { ttl, .. } if *ttl > MAX_LEASE_TTL => return Err(StoreError::LeaseTtlTooLarge),
        Command::LeaseGrant { id: 0, .. } => return Err(StoreError::LeaseNotFound(0)),
        Command::Compact(_)
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseCheckpoint(_) => {}
    }
    let size = command.size_hint();
    if size > limits.max_request_bytes {
        return Err(StoreError::TooLarge { size, limit: limits.max_request_bytes });
    }
    Ok(())
}

fn check_put(put: &PutRequest) -> Result<(), StoreError> {
    if put.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(StoreError::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(StoreError::LeaseProvided);
    }
    Ok(())
}

fn check_delete(delete: &DeleteRangeRequest) -> Result<(), StoreError> {
    if delete.key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(()) }
}

fn check_ops(txn: &TxnRequest, limits: &Limits, depth: usize) -> Result<(), StoreError> {
    if depth > MAX_TXN_DEPTH {
        return Err(StoreError::InvalidArgument(format!("transactions nested more than {MAX_TXN_DEPTH} deep")));
    }
    if txn.compare.len().max(txn.success.len()).max(txn.failure.len()) > limits.max_txn_ops {
        return Err(StoreError::TooManyOps { limit: limits.max_txn_ops });
    }
    if txn.compare.iter().any(|c| c.key.is_empty()) {
        return Err(StoreError::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            RequestOp::Range(range) => check_range(range)?,
            RequestOp::Put(put) => check_put(put)?,
            RequestOp::DeleteRange(delete) => check_delete(delete)?,
            RequestOp::Txn(txn) => check_ops(txn, limits, depth + 1)?,
        }
    }
    Ok(())
}

#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Deletes,
}

/// Deleted keys and ranges: single keys by hash, so that only true ranges are searched.
#[derive(Default)]
struct Deletes {
    keys: HashSet<Bytes>,
    ranges: Vec<KeyRange>,
}

impl Deletes {
    fn add(&mut self, delete: &DeleteRangeRequest) {
        if delete.range_end.is_empty() {
            self.keys.insert(delete.key.clone());
        } else {
            self.ranges.push(KeyRange::new(&delete.key, &delete.range_end));
        }
    }

    fn hit(&self, key: &Bytes) -> bool {
        self.keys.contains(key) || self.ranges.iter().any(|r| r.contains(key))
    }

    fn union(&mut self, other: Deletes) {
        self.keys.extend(other.keys);
        self.ranges.extend(other.ranges);
    }
}

/// The writes of one branch, or an error if a key may be put twice, or put and deleted. The branches of a nested
/// transaction exclude each other and may put the same key.
fn intervals(ops: &[RequestOp]) -> Result<Writes, StoreError> {
    let mut deletes = Deletes::default();
    for op in ops {
        if let RequestOp::DeleteRange(delete) = op {
            deletes.add(delete);
        }
    }
    // The transaction that put the key, so that only its own other branch may put it again.
    let mut puts: HashMap<Bytes, usize> = HashMap::new();
    for (i, op) in ops.iter().enumerate() {
        let RequestOp::Txn(txn) = op else { continue };
        let (success, failure) = (intervals(&txn.success)?, intervals(&txn.failure)?);
        for key in success.puts.into_iter().chain(failure.puts) {
            if deletes.hit(&key) || puts.insert(key, i).is_some_and(|before| before != i) {
                return Err(StoreError::DuplicateKey);
            }
        }
        deletes.union(success.deletes);
        deletes.union(failure.deletes);
    }
    for (i, op) in ops.iter().enumerate() {
        if let RequestOp::Put(put) = op
            && (deletes.hit(&put.key) || puts.insert(put.key.clone(), i).is_some())
        {
            return Err(StoreError::DuplicateKey);
        }
    }
    Ok(Writes { puts: puts.into_keys().collect(), deletes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> RequestOp {
        RequestOp::Put(PutRequest { key: key.into(), ..Default::default() })
    }

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        RequestOp::DeleteRange(DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false })
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp::Txn(TxnRequest { compare: Vec::new(), success, failure })
    }

    fn check(ops: Vec<RequestOp>, expected: Result<(), StoreError>) {
        let command = Command::Txn(TxnRequest { success: ops, ..Default::default() });
        assert_eq!(check_command(&command, &Limits::default()), expected, "{command:?}");
    }

    #[test]
    fn a_key_is_written_once() {
        let duplicate = || Err(StoreError::DuplicateKey);
        check(vec![put("a"), put("b")], Ok(()));
        check(vec![put("a"), put("a")], duplicate());
        check(vec![put("a"), delete("a", "")], duplicate());
        check(vec![put("b"), delete("a", "c")], duplicate());
        check(vec![put("c"), delete("a", "c")], Ok(()));
        check(vec![delete("a", "c"), delete("b", "d")], Ok(()));
        check(vec![txn(vec![put("a")], vec![put("a")])], Ok(()));
        check(vec![txn(vec![put("a")], vec![]), put("a")], duplicate());
        check(vec![txn(vec![put("a")], vec![]), txn(vec![], vec![put("a")])], duplicate());
        check(vec![delete("a", ""), txn(vec![put("a")], vec![])], duplicate());
        check(vec![txn(vec![delete("a", "z")], vec![]), put("b")], duplicate());
    }

    #[test]
    fn bounds_hold() {
        let keys: Vec<_> = (0..129).map(|_| delete("a", "")).collect();
        check(keys, Err(StoreError::TooManyOps { limit: 128 }));
        let deep = (0..40).fold(put("a"), |inner, _| txn(vec![inner], vec![]));
        assert!(matches!(
            check_command(&Command::Txn(TxnRequest { success: vec![deep], ..Default::default() }), &Limits::default()),
            Err(StoreError::InvalidArgument(_))
        ));
        let large = PutRequest { key: "a".into(), value: vec![0; 2 << 20].into(), ..Default::default() };
        assert!(matches!(
            check_command(&Command::Put(large), &Limits::default()),
            Err(StoreError::TooLarge { limit: 1_572_864, .. })
        ));
    }
}
