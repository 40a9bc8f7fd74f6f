//! The whole store where several groups keep it: each request goes to the group that has its keys.
//!
//! ```text
//!   request ─▶ map of shards (group 0's, on this member) ─▶ one group ─▶ answer
//!                    ▲                                        │ not mine, or not now
//!                    └──── wait until something has moved ◀───┘
//! ```
//!
//! A request whose keys are in several groups is refused: it could not be done at one moment. Revisions are the group's.
//! Leases are everybody's, and their time is group 0's.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use replica::{GroupId, shards::Shards};
use store_api::{
    DeleteRangeRequest, DeleteRangeResponse, HashKv, Lease, LeaseId, LeaseStatus, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Revision, Status, StoreError, TxnRequest, TxnResponse, WatchRequest, Watcher,
};

use crate::{Store, divided};

/// How long a request waits at once for a shard to arrive: the news of it may have come before the request has looked.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct Routed {
    /// Group 0.
    home: Store,
}

impl Routed {
    pub fn new(store: Store) -> Self {
        Routed { home: store.for_group(0) }
    }

    /// Calls the group that `route` finds, until one does not say that it has not the keys, or time is up.
    async fn call<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        route: impl Fn(&Shards) -> Result<GroupId, StoreError>,
        call: impl Fn(Store) -> F,
    ) -> Result<T, StoreError> {
        let clock = &self.home.shared.clock;
        let deadline = clock.monotonic() + self.home.shared.timing.request_limit();
        let mut changed = self.home.group().shards_changed.subscribe();
        loop {
            let group = route(&self.home.group().machine.read().shards)?;
            match call(self.home.for_group(group)).await {
                Err(StoreError::ShardMoving(_)) if clock.monotonic() < deadline => {
                    drop(tokio::time::timeout(PAUSE, changed.changed()).await);
                }
                answer => return answer,
            }
        }
    }

    fn groups(&self) -> impl Iterator<Item = Store> + '_ {
        (0..self.home.groups()).map(|group| self.home.for_group(group))
    }
}

#[async_trait]
impl store_api::Store for Routed {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let route = |shards: &Shards| shards.route(&request.key, &request.range_end);
        self.call(route, |group| {
            let request = request.clone();
            async move { group.range(request).await }
        })
        .await
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, StoreError> {
        self.call(
            |shards| shards.route(&request.key, &[]),
            |group| {
                let request = request.clone();
                async move { group.put(request).await }
            },
        )
        .await
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, StoreError> {
        let route = |shards: &Shards| shards.route(&request.key, &request.range_end);
        self.call(route, |group| {
            let request = request.clone();
            async move { group.delete_range(request).await }
        })
        .await
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        self.call(
            |shards| shards.route_txn(&request),
            |group| {
                let request = request.clone();
                async move { group.txn(request).await }
            },
        )
        .await
    }

    /// Compacts group 0 at `revision`, and the others at what was current when that was.
    async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision, StoreError> {
        let current = self.home.compact(revision, physical).await?;
        let then = self.home.group().machine.read().notes.at(revision).map(<[_]>::to_vec).unwrap_or_default();
        for (group, revision) in self.groups().skip(1).zip(then) {
            match group.compact(revision, physical).await {
                Ok(_) | Err(StoreError::Compacted { .. } | StoreError::FutureRevision { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(current)
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watcher>, StoreError> {
        let route = |shards: &Shards| shards.route(&request.key, &request.range_end);
        self.call(route, |group| {
            let request = request.clone();
            async move { group.watch(request).await }
        })
        .await
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError> {
        let lease = self.home.lease_grant(id, ttl).await?;
        for group in self.groups().skip(1) {
            match group.lease_grant(lease.id, ttl).await {
                Ok(_) | Err(StoreError::LeaseExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lease)
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        // Nobody may end a lease who may not delete all of its keys, wherever they are.
        for group in self.groups().skip(1) {
            group.allow_settled(|permit, kv| permit.lease_revoke(id, |id| kv.lease_keys(id))).await?;
        }
        let revision = self.home.lease_revoke(id).await?;
        divided::revoke_elsewhere(&self.home, id).await;
        Ok(revision)
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.home.lease_keep_alive(id).await
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus, StoreError> {
        let mut status = self.home.lease_time_to_live(id, keys).await?;
        if !keys || status.ttl < 0 {
            return Ok(status);
        }
        let mut all: BTreeSet<Bytes> = BTreeSet::new();
        for group in self.groups() {
            group.settle().await?;
            let allowed = group.allow_settled(|permit, kv| permit.lease_time_to_live(id, keys, |id| kv.lease_keys(id)));
            allowed.await?;
            let machine = group.group().machine.read();
            all.extend(machine.kv.lease_keys(id).into_iter().filter(|key| machine.shards.serves(key)));
        }
        status.keys = all.into_iter().collect();
        Ok(status)
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        self.home.leases().await
    }

    async fn has_leader(&self) -> Result<bool, StoreError> {
        for group in self.groups() {
            if !group.has_leader().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn status(&self) -> Result<Status, StoreError> {
        let mut status = self.home.status().await?;
        for group in self.groups().skip(1) {
            let machine = group.group().machine.read();
            status.keys += machine.kv.keys().cast_signed();
            status.db_size_in_use += machine.kv.bytes().cast_signed();
        }
        Ok(status)
    }

    /// Of one revision: group 0's hash. Of the newest: all groups' together.
    async fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError> {
        let mut hash = self.home.hash_kv(revision).await?;
        if revision == 0 {
            for group in self.groups().skip(1) {
                hash.hash = hash.hash.rotate_left(1) ^ group.hash_kv(0).await?.hash;
            }
        }
        Ok(hash)
    }
}
