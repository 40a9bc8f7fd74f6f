//! The store as `store-api` wants it.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use mvcc::{Command, HashQuery, RangeQuery, Response, check_command, check_range};
use store_api::{
    DeleteRangeRequest, DeleteRangeResponse, HashKv, Lease, LeaseId, LeaseStatus, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, Revision, Status, StoreError, TxnRequest, TxnResponse, WatchRequest,
    Watcher,
};

use crate::{snapshot::usage, store::Store, watch::StoreWatcher};

/// The etcd version whose behaviour is served.
const ETCD_VERSION: &str = "3.5.30";
/// A lease's shortest time in seconds.
const MIN_LEASE_TTL: i64 = 1;
/// Keys read under one lock: a long list must not hold up the writer.
const READ_STEP: usize = 2048;

#[async_trait]
impl store_api::Store for Store {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        check_range(&request)?;
        self.shared.metrics.ranges.inc();
        let (mut query, _pin) = {
            let applied = self.shared.applied.read();
            let mut query = RangeQuery::new(&applied.state, request)?;
            if query.step(&applied.state, READ_STEP) {
                drop(applied);
                return Ok(query.finish());
            }
            (query, applied.state.pin())
        };
        while !query.step(&self.shared.applied.read().state, READ_STEP) {
            tokio::task::yield_now().await;
        }
        Ok(query.finish())
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, StoreError> {
        self.shared.metrics.puts.inc();
        match self.propose(Command::Put(request)).await? {
            Response::Put(response) => Ok(response),
            other => Err(mismatch(&other)),
        }
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, StoreError> {
        self.shared.metrics.deletes.inc();
        match self.propose(Command::DeleteRange(request)).await? {
            Response::DeleteRange(response) => Ok(response),
            other => Err(mismatch(&other)),
        }
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        self.shared.metrics.txns.inc();
        if !writes(&request) {
            let command = Command::Txn(request);
            check_command(&command, &self.shared.limits)?;
            let Command::Txn(request) = command else { unreachable!("it was made a transaction above") };
            return self.shared.applied.read().state.read_txn(&request);
        }
        match self.propose(Command::Txn(request)).await? {
            Response::Txn(response) => Ok(response),
            other => Err(mismatch(&other)),
        }
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision, StoreError> {
        let current = match self.propose(Command::Compact(revision)).await? {
            Response::Compacted(current) => current,
            other => return Err(mismatch(&other)),
        };
        while physical && !self.shared.queue.is_closed() {
            let trimmed = self.shared.trimmed.notified();
            if !self.shared.applied.read().state.needs_trim() {
                break;
            }
            trimmed.await;
        }
        Ok(current)
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watcher>, StoreError> {
        Ok(Box::new(StoreWatcher::start(self.shared.clone(), &request)?))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError> {
        let id = if id == 0 { (runtime::entropy::random_u64() >> 1).max(1).cast_signed() } else { id };
        match self.propose(Command::LeaseGrant { id, ttl: ttl.max(MIN_LEASE_TTL) }).await? {
            Response::LeaseGranted(lease) => Ok(lease),
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        match self.propose(Command::LeaseRevoke { id }).await? {
            Response::LeaseRevoked(revision) => Ok(revision),
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        let now = self.shared.clock.monotonic();
        let ttl = self.shared.lease_times.lock().keep_alive(id, now).ok_or(StoreError::LeaseNotFound(id))?;
        self.shared.metrics.leases_renewed.inc();
        Ok(Lease { id, ttl: ttl.as_secs().cast_signed() })
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus, StoreError> {
        let left = self.shared.lease_times.lock().left(id, self.shared.clock.monotonic());
        let applied = self.shared.applied.read();
        let (Some(left), Some(granted_ttl)) = (left, applied.state.lease_ttl(id)) else {
            return Ok(LeaseStatus { id, ttl: -1, ..Default::default() });
        };
        let keys = if keys { applied.state.lease_keys(id) } else { Vec::new() };
        Ok(LeaseStatus { id, ttl: left.as_secs().cast_signed(), granted_ttl, keys })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        Ok(self.shared.applied.read().state.leases().map(|(id, _)| id).collect())
    }

    async fn status(&self) -> Result<Status, StoreError> {
        let shared = self.shared.clone();
        let db_size = runtime::blocking(move || usage(&shared.wal_dir) + usage(&shared.snapshot_dir)).await;
        self.shared.disk_bytes.store(db_size, Ordering::Relaxed);
        let mut errors = Vec::new();
        errors.extend(self.shared.broken.lock().clone());
        let applied = self.shared.applied.read();
        let over_quota = applied.state.bytes() > self.shared.quota_bytes;
        if over_quota || self.shared.full.load(Ordering::Acquire) {
            errors.push("NOSPACE".to_owned());
        }
        let identity = self.shared.identity;
        Ok(Status {
            version: ETCD_VERSION.to_owned(),
            revision: applied.state.revision(),
            compact_revision: applied.state.compacted(),
            db_size: db_size.cast_signed(),
            db_size_in_use: applied.state.bytes().cast_signed(),
            keys: applied.state.keys().cast_signed(),
            cluster_id: identity.cluster,
            member_id: identity.member,
            leader: identity.member,
            raft_term: 1,
            raft_index: applied.index,
            raft_applied_index: applied.index,
            is_learner: false,
            errors,
        })
    }

    async fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError> {
        let mut query = HashQuery::new(&self.shared.applied.read().state, revision)?;
        while !query.step(&self.shared.applied.read().state, READ_STEP) {
            tokio::task::yield_now().await;
        }
        Ok(query.finish())
    }
}

/// Whether either branch, at any depth, can write.
fn writes(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        RequestOp::Range(_) => false,
        RequestOp::Put(_) | RequestOp::DeleteRange(_) => true,
        RequestOp::Txn(txn) => writes(txn),
    })
}

fn mismatch(response: &Response) -> StoreError {
    StoreError::Unavailable(format!("the state machine gave an answer to another command: {response:?}"))
}
