//! Opening a store, and the handle on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mvcc::{Command, LeaseTimes, check_command};
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use store_api::StoreError;
use tokio::sync::{Notify, oneshot};

use crate::{
    background,
    disk::Disk,
    folder::Folder,
    hub::Hub,
    log::SingleMember,
    metrics::Metrics,
    options::{AutoCompaction, Options},
    queue::{Answer, Proposal, Queue},
    recovery,
    shared::{Applied, Shared},
    snapshot::usage,
    writer::Writer,
};

/// A handle on a running store. Clones are handles on the same one; it runs until its group of tasks is stopped.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    disk: Disk,
}

impl Store {
    /// Reads the data folder and starts the writer. Refuses a folder that is damaged, in use, or not a store's.
    pub async fn open(options: Options) -> Result<Store, StoreError> {
        let (tasks, plan) = (options.tasks.clone(), options.auto_compaction);
        let (store, writer) = runtime::blocking(move || prepare(options)).await?;
        tasks.spawn_thread("store-writer", move || writer.run());
        let (shared, stopping) = (store.shared.clone(), tasks.stopping());
        tasks.spawn_to_end("stop", async move {
            stopping.cancelled().await;
            shared.queue.close();
            shared.hub.close();
        });
        tasks.spawn("leases", background::end_leases(store.clone()));
        if plan != AutoCompaction::Off {
            tasks.spawn("compaction", background::compact(store.clone(), plan));
        }
        Ok(store)
    }

    /// Adds the store's metrics, under etcd's names.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Writes a snapshot, unless one is being written, and removes the log that it replaces.
    pub async fn snapshot(&self) -> Result<(), StoreError> {
        if self.shared.queue.is_closed() {
            return Err(StoreError::Stopped);
        }
        let (shared, disk) = (self.shared.clone(), self.disk.clone());
        runtime::blocking(move || shared.snapshot(&disk)).await
    }

    /// Commits a command and returns its answer. The span lasts from the request to the answer; the batch's own span,
    /// `fsync`, is its child or follows from it.
    #[tracing::instrument(level = "info", skip_all)]
    pub(crate) async fn propose(&self, command: Command) -> Answer {
        let answer = self.submit(command)?.await;
        answer.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer ended before it answered".to_owned())))
    }

    /// Hands a command to the writer.
    pub(crate) fn submit(&self, command: Command) -> Result<oneshot::Receiver<Answer>, StoreError> {
        check_command(&command, &self.shared.limits)?;
        let entry: Bytes = command.encode();
        // Decoded, its values are parts of the entry: the bytes that go to the disk are those that readers get, and
        // nothing holds on to the buffer that the request came in.
        let command = Command::decode(entry.clone()).expect("what was just encoded and checked decodes");
        let (answer, receiver) = oneshot::channel();
        self.shared.queue.push(Proposal { command, entry, answer, span: tracing::Span::current() })?;
        Ok(receiver)
    }
}

fn prepare(options: Options) -> Result<(Store, Writer), StoreError> {
    let disk = Disk::new(options.disk_fault);
    let folder = Arc::new(Folder::open(&options.data_dir, &disk)?);
    let recovered = recovery::recover(&folder, &disk, options.segment_bytes)?;
    let (wal_dir, snapshot_dir) = (folder.wal(), folder.snapshots());
    let metrics = Metrics::default();
    metrics.quota.set(i64::try_from(options.quota_bytes).unwrap_or(i64::MAX));
    metrics.leader.set(1);
    let disk_bytes = usage(&wal_dir) + usage(&snapshot_dir);
    let revision = recovered.state.revision();
    let index = recovered.wal.last();
    let shared = Arc::new(Shared {
        identity: folder.identity,
        clock: options.clock,
        limits: options.limits,
        quota_bytes: options.quota_bytes,
        progress_interval: options.progress_interval,
        wal_dir,
        snapshot_dir,
        applied: RwLock::new(Applied { state: recovered.state, index }),
        queue: Queue::default(),
        hub: Hub::new(revision, options.watch_buffer_events),
        lease_times: Mutex::new(LeaseTimes::default()),
        lease_sooner: Notify::new(),
        metrics,
        disk_bytes: AtomicU64::new(disk_bytes),
        last_snapshot_bytes: AtomicU64::new(recovered.snapshot_bytes),
        trimmed: Notify::new(),
        broken: Mutex::new(None),
        full: AtomicBool::new(false),
        snapshotting: AtomicBool::new(false),
    });
    let leases: Vec<_> = shared.applied.read().state.leases().collect();
    leases.into_iter().for_each(|(id, ttl)| shared.start_lease(id, ttl));
    let writer = Writer {
        shared: shared.clone(),
        log: Box::new(SingleMember(recovered.wal)),
        disk: disk.clone(),
        tasks: options.tasks,
        folder,
        snapshot_bytes: options.snapshot_bytes,
        since_snapshot: recovered.since_snapshot,
        last_batch: 0,
        last_fsync: Duration::ZERO,
    };
    writer.measure(&shared.applied.read());
    debug_assert_eq!(shared.hub.dispatched(), revision);
    shared.metrics.disk_bytes.set(shared.disk_bytes.load(Ordering::Relaxed) as i64);
    Ok((Store { shared, disk }, writer))
}
