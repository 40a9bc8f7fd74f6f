//! What a service may ask of a store: etcd v3's data model as plain Rust, and the trait that every backend implements.
//!
//! ```text
//!   apiserver, etcd-server ──▶ trait Store ──▶ store        (this machine's disk)
//!                                         └──▶ etcd-client  (a real etcd over gRPC)
//! ```
//!
//! Knows no socket, no disk and no backend. Field meanings are those of etcd's `rpc.proto` (v3.5): a zero or an empty
//! value means "not given", `range_end` empty means the single key, `[0]` means every key from `key` on.

mod auth;
mod charge;
mod cluster;
mod error;
mod shards;
mod types;

pub use auth::{
    Auth, AuthAnswer, AuthChange, AuthError, AuthQuery, Caller, Demand, PasswordHash, Permission, PermissionKind, ROOT,
};
pub use charge::Charge;
pub use cluster::{Alarm, AlarmKind, Backup, Cluster, Member};
pub use error::{MembershipError, Retry, StoreError};
pub use shards::{NoShard, Shard};
pub use types::*;

use async_trait::async_trait;
use bytes::Bytes;

/// A revision of the store: counts committed writes, starts at 1 for an empty store.
pub type Revision = i64;
/// Identifies a lease; 0 means none.
pub type LeaseId = i64;

/// The store. Every method is linearizable unless the request says `serializable`.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads keys in `[key, range_end)` at one revision.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;

    /// Writes one key. Acknowledged only when it is on disk.
    async fn put(&self, request: PutRequest) -> Result<PutResponse, StoreError>;

    /// Deletes the keys in a range. Acknowledged only when it is on disk.
    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, StoreError>;

    /// Compares, then does one of two lists of operations, all at one revision.
    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError>;

    /// Forgets revisions before `revision`, except each key's newest.
    async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision, StoreError>;

    /// Starts a watch; events before `start_revision` are not delivered, those after it are delivered once, in order.
    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watcher>, StoreError>;

    /// Creates a lease of `ttl` seconds under `id`, or under an id of the store's choice when 0.
    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError>;

    /// Ends a lease and deletes its keys.
    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError>;

    /// Starts the lease's time again. Returns the TTL granted.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError>;

    /// What is left of a lease, and with `keys` the keys attached to it.
    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus, StoreError>;

    /// All leases that live.
    async fn leases(&self) -> Result<Vec<LeaseId>, StoreError>;

    /// Facts about the backend, for `etcdctl endpoint status` and for health.
    async fn status(&self) -> Result<Status, StoreError>;

    /// Whether a leader is known; asked often, where a store can tell it for less than its whole status.
    async fn has_leader(&self) -> Result<bool, StoreError> {
        Ok(self.status().await?.leader != 0)
    }

    /// A hash over all keys and values up to `revision` (0: the newest), comparable between members.
    async fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError>;
}

/// One running watch. Dropping it cancels the watch.
#[async_trait]
pub trait Watcher: Send + 'static {
    /// The next response. After an error the watch is over. Cancel safe.
    async fn next(&mut self) -> Result<WatchResponse, StoreError>;

    /// Asks for a response without events that says up to which revision all events have been delivered.
    fn request_progress(&self);
}

/// The end of the range of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end.into();
        }
        end.pop();
    }
    Bytes::from_static(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_next_sibling() {
        for (prefix, end) in [(&b"a"[..], &b"b"[..]), (b"/x/", b"/x0"), (b"a\xff", b"b"), (b"\xff", &[0]), (b"", &[0])]
        {
            assert_eq!(&prefix_end(prefix)[..], end, "{prefix:?}");
        }
    }
}
