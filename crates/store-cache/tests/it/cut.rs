//! A store whose watches can be cut: what a network does to a real one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use store_api::*;
use tokio::sync::watch;

pub struct Cuttable {
    inner: Arc<dyn Store>,
    /// Cuts so far, and whether watches are refused now.
    line: watch::Sender<(u64, bool)>,
    watches: AtomicUsize,
}

struct CutWatcher {
    inner: Box<dyn Watcher>,
    line: watch::Receiver<(u64, bool)>,
}

impl Cuttable {
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Cuttable { inner, line: watch::Sender::new((0, false)), watches: AtomicUsize::new(0) })
    }

    /// Ends the watches that run.
    pub fn cut(&self) {
        self.line.send_modify(|(cuts, _)| *cuts += 1);
    }

    /// Ends the watches that run and refuses new ones.
    pub fn close(&self) {
        self.line.send_modify(|(cuts, closed)| (*cuts, *closed) = (*cuts + 1, true));
    }

    pub fn open(&self) {
        self.line.send_modify(|(_, closed)| *closed = false);
    }

    /// Watches that were begun.
    pub fn watches(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }
}

fn cut_off() -> StoreError {
    StoreError::Unavailable("the line is cut".into())
}

#[async_trait]
impl Watcher for CutWatcher {
    async fn next(&mut self) -> Result<WatchResponse, StoreError> {
        tokio::select! {
            biased;
            _ = self.line.changed() => Err(cut_off()),
            response = self.inner.next() => response,
        }
    }

    fn request_progress(&self) {
        self.inner.request_progress();
    }
}

#[async_trait]
impl Store for Cuttable {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.inner.range(request).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, StoreError> {
        self.inner.put(request).await
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, StoreError> {
        self.inner.delete_range(request).await
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        self.inner.txn(request).await
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision, StoreError> {
        self.inner.compact(revision, physical).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watcher>, StoreError> {
        let line = self.line.subscribe();
        if line.borrow().1 {
            return Err(cut_off());
        }
        self.watches.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(CutWatcher { inner: self.inner.watch(request).await?, line }))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError> {
        self.inner.lease_grant(id, ttl).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        self.inner.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.inner.lease_keep_alive(id).await
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus, StoreError> {
        self.inner.lease_time_to_live(id, keys).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        self.inner.leases().await
    }

    async fn status(&self) -> Result<Status, StoreError> {
        self.inner.status().await
    }

    async fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError> {
        self.inner.hash_kv(revision).await
    }
}
