//! What an etcd database says beside its keys.
//!
//! Knows no bytes: `pairs` does.

use serde::{Deserialize, Serialize};

/// Everything but the keys. Lists are in the order of the database; a writer takes them in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The last log entry whose effect is in the database, and its term. 0: not written.
    pub consistent_index: u64,
    pub term: u64,
    pub conf_state: Option<ConfState>,
    /// The revision of the last compaction that was asked for; 0: none.
    pub scheduled_compact: i64,
    /// The revision of the last compaction that was carried out to its end; 0: none.
    pub finished_compact: i64,
    /// Since etcd 3.6: which version's fields the database has. etcd 3.5 writes none.
    pub storage_version: Option<String>,
    /// Such as "3.5.0".
    pub cluster_version: Option<String>,
    /// What `etcdctl downgrade` has asked for, as JSON.
    pub downgrade: Option<Vec<u8>>,
    pub leases: Vec<Lease>,
    pub members: Vec<Member>,
    /// Members that were removed; their ids never come back.
    pub removed_members: Vec<u64>,
    pub alarms: Vec<Alarm>,
    /// The buckets `auth`, `authUsers` and `authRoles` as they are: keys with values.
    pub auth: Vec<(Vec<u8>, Vec<u8>)>,
    pub auth_users: Vec<(Vec<u8>, Vec<u8>)>,
    pub auth_roles: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Facts {
    /// Up to here history is gone; 0: nothing is. While an etcd was still compacting, some records of it are left:
    /// of each key, the newest up to this revision counts (unless it is a deletion), and those before it do not.
    pub fn compacted(&self) -> i64 {
        self.scheduled_compact.max(self.finished_compact)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    pub id: i64,
    /// Seconds granted.
    pub ttl: i64,
    /// Seconds left at the last checkpoint; 0: all.
    pub remaining_ttl: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: u64,
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

/// An alarm that stands. Kinds are etcdserverpb.AlarmType's: 1 for no space, 2 for corrupt data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    pub member: u64,
    pub kind: i32,
}

/// Who votes, as Raft knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfState {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voters_outgoing: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learners_next: Vec<u64>,
    pub auto_leave: bool,
}
