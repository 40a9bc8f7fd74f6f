//! What the handle, the writer, the watchers and the background work have in common.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64},
    time::Duration,
};

use mvcc::{LeaseTimes, Limits, State};
use parking_lot::{Mutex, RwLock};
use runtime::Clock;
use store_api::LeaseId;
use tokio::sync::Notify;

use crate::{folder::Identity, hub::Hub, metrics::Metrics, queue::Queue};

pub struct Shared {
    pub identity: Identity,
    pub clock: Clock,
    pub limits: Limits,
    pub quota_bytes: u64,
    pub progress_interval: Duration,
    pub wal_dir: PathBuf,
    pub snapshot_dir: PathBuf,
    /// Written by the writer only, and only with what is on disk. Readers hold it for a step at a time.
    pub applied: RwLock<Applied>,
    pub queue: Queue,
    /// Locked before `applied` where both are needed.
    pub hub: Hub,
    pub lease_times: Mutex<LeaseTimes>,
    /// A lease now ends sooner than any did.
    pub lease_sooner: Notify,
    pub metrics: Metrics,
    /// Bytes of snapshots and segments.
    pub disk_bytes: AtomicU64,
    /// Size of the newest snapshot; 0 before the first.
    pub last_snapshot_bytes: AtomicU64,
    /// Everything compacted was trimmed.
    pub trimmed: Notify,
    /// Why writes are refused until a restart.
    pub broken: Mutex<Option<String>>,
    /// The last write was refused for want of space.
    pub full: AtomicBool,
    /// A snapshot is being written; only one at a time.
    pub snapshotting: AtomicBool,
}

/// The state and the log entry that it has reached.
pub struct Applied {
    pub state: State,
    pub index: u64,
}

impl Shared {
    /// A lease of `ttl` seconds begins now.
    pub fn start_lease(&self, id: LeaseId, ttl: i64) {
        let mut times = self.lease_times.lock();
        let before = times.next();
        times.start(id, Duration::from_secs(ttl.max(1).unsigned_abs()), self.clock.monotonic());
        if before.is_none_or(|before| times.next().is_some_and(|next| next < before)) {
            self.lease_sooner.notify_one();
        }
    }
}
