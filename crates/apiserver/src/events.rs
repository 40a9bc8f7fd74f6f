//! Events live for an hour: their keys hang on leases, one lease for all events of the same minute.

use store_api::{LeaseId, Store, StoreError};
use tokio::sync::Mutex;

/// How long an event lives, in seconds; kube-apiserver's default.
const TTL: i64 = 3600;
/// Events of so many seconds share a lease, which is granted for as much longer.
const SHARED: i64 = 60;

#[derive(Default)]
pub(crate) struct EventLeases {
    /// When the current lease was granted, in seconds, and its id.
    current: Mutex<Option<(i64, LeaseId)>>,
}

impl EventLeases {
    /// The lease of an event that is written at `now` (seconds).
    pub async fn lease(&self, store: &dyn Store, now: i64) -> Result<LeaseId, StoreError> {
        let mut current = self.current.lock().await;
        if let Some((granted, id)) = *current
            && (granted..granted + SHARED).contains(&now)
        {
            return Ok(id);
        }
        let lease = store.lease_grant(0, TTL + SHARED).await?;
        *current = Some((now, lease.id));
        Ok(lease.id)
    }

    /// The lease is gone (someone revoked it): the next event gets a new one.
    pub async fn forget(&self, lease: LeaseId) {
        let mut current = self.current.lock().await;
        if current.is_some_and(|(_, id)| id == lease) {
            *current = None;
        }
    }
}
