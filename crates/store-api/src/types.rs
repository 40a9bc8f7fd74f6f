//! Requests and responses. Values are reference-counted: a backend in this process hands out its own bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Charge, LeaseId, Revision};

/// A key with its value and history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision that created the key (after its last deletion).
    pub create_revision: Revision,
    /// The revision that wrote this value.
    pub mod_revision: Revision,
    /// Writes since creation; 1 for the first.
    pub version: i64,
    pub lease: LeaseId,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    /// At most so many keys; 0: all.
    pub limit: i64,
    /// Read at this revision; 0: the newest.
    pub revision: Revision,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    /// A read that may be stale, in return for not asking other members.
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    /// Keys past the limit need not be counted: then `count` may say fewer than there are.
    pub skip_count: bool,
    pub min_mod_revision: Revision,
    pub max_mod_revision: Revision,
    pub min_create_revision: Revision,
    pub max_create_revision: Revision,
}

impl RangeRequest {
    /// Reads one key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        RangeRequest { key: key.into(), ..Default::default() }
    }

    /// Reads every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key = prefix.into();
        RangeRequest { range_end: crate::prefix_end(&key), key, ..Default::default() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision when it answered.
    pub revision: Revision,
    pub kvs: Vec<KeyValue>,
    /// More keys are in the range than `limit`.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: i64,
    /// What `kvs` hold of the store's memory budget.
    pub charge: Charge,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: LeaseId,
    pub prev_kv: bool,
    /// Keep the value that the key has.
    pub ignore_value: bool,
    /// Keep the lease that the key has.
    pub ignore_lease: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    pub revision: Revision,
    pub prev_kv: Option<KeyValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub prev_kv: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    pub revision: Revision,
    pub deleted: i64,
    pub prev_kvs: Vec<KeyValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// What of a key is compared, and with what. A key that does not exist has version, revisions and lease 0; comparing
/// its value is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    /// With a range, every key in it must compare.
    pub range_end: Bytes,
    pub result: CompareResult,
    pub target: CompareTarget,
}

impl Compare {
    /// The key was last written at `revision` (0: it does not exist).
    pub fn mod_revision(key: impl Into<Bytes>, revision: Revision) -> Self {
        Compare {
            key: key.into(),
            range_end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::ModRevision(revision),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOp {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseOp {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<RequestOp>,
    pub failure: Vec<RequestOp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    pub revision: Revision,
    pub succeeded: bool,
    pub responses: Vec<ResponseOp>,
    /// What `responses` hold of the store's memory budget.
    pub charge: Charge,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    /// The first revision to deliver; 0: from now on.
    pub start_revision: Revision,
    pub prev_kv: bool,
    pub no_put: bool,
    pub no_delete: bool,
    /// Ask for responses without events from time to time while nothing happens.
    pub progress_notify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// For a deletion: the key, and the revision of the deletion as `mod_revision`.
    pub kv: KeyValue,
    /// The value before, when asked for and not compacted.
    pub prev_kv: Option<KeyValue>,
}

/// One or more whole revisions' events, never part of one; or, without events, progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchResponse {
    /// Every event up to this revision has been delivered by this response and those before it.
    pub revision: Revision,
    /// Watchers in one process share an event: the same address is the same event.
    pub events: Vec<Arc<Event>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// Seconds granted.
    pub ttl: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseStatus {
    pub id: LeaseId,
    /// Seconds left; -1: no such lease.
    pub ttl: i64,
    /// Seconds granted.
    pub granted_ttl: i64,
    pub keys: Vec<Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The etcd version whose behaviour is served.
    pub version: String,
    pub revision: Revision,
    pub compact_revision: Revision,
    /// Bytes of files on disk.
    pub db_size: i64,
    /// Bytes of live data.
    pub db_size_in_use: i64,
    pub keys: i64,
    pub cluster_id: u64,
    pub member_id: u64,
    pub leader: u64,
    pub raft_term: u64,
    /// The newest index that most members have on disk.
    pub raft_index: u64,
    /// The newest index whose effect can be read here.
    pub raft_applied_index: u64,
    /// The member has no vote.
    pub is_learner: bool,
    /// Alarms that stand, in words; empty: none.
    pub errors: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    pub hash_revision: Revision,
    pub compact_revision: Revision,
    pub revision: Revision,
}
