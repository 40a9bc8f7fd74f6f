//! The one thread that writes: takes what waits, commits it as one batch, applies it, answers.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mvcc::{Command, Response};
use runtime::Tasks;
use store_api::{Event, LeaseId, StoreError};
use tracing::info_span;

use crate::{
    disk::Disk,
    folder::Folder,
    log::{Committed, Log},
    queue::{Answer, Proposal},
    shared::Shared,
    snapshot,
    wal::CommitError,
};

/// Proposals of one batch at most.
const MAX_BATCH: usize = 4096;
/// Bytes of one batch, about.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// The longest that a batch waits for proposals that are likely to come, and the part of an fsync's time that it may
/// take: callers that were just answered ask again at once, and should share one fsync instead of two.
const LINGER: Duration = Duration::from_micros(200);
const LINGER_PART: u32 = 8;
/// Writes visited by one step of trimming; readers wait no longer than for that.
const TRIM_STEP: usize = 2048;
/// Pause between two steps of trimming, or before trying again when a reader still needs the old versions.
const TRIM_PAUSE: Duration = Duration::from_millis(2);
const TRIM_RETRY: Duration = Duration::from_millis(50);

pub struct Writer {
    pub shared: Arc<Shared>,
    pub log: Box<dyn Log>,
    pub disk: Disk,
    pub tasks: Tasks,
    /// Locked for as long as something may be written to it.
    pub folder: Arc<Folder>,
    pub snapshot_bytes: u64,
    /// Bytes of log since the last snapshot.
    pub since_snapshot: u64,
    /// Proposals in the batch before.
    pub last_batch: usize,
    /// How long its fsync took.
    pub last_fsync: Duration,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub fn run(mut self) {
        let mut batch = Vec::new();
        let mut patience = None;
        while self.shared.queue.take(&mut batch, MAX_BATCH, MAX_BATCH_BYTES, patience) {
            if !batch.is_empty() {
                self.linger(&mut batch);
                self.commit(&mut batch);
                batch.clear();
            }
            patience = self.trim();
            self.maybe_snapshot();
        }
    }

    /// Waits a moment where the batch has not half the size of the one before.
    fn linger(&mut self, batch: &mut Vec<Proposal>) {
        if batch.len() * 2 <= self.last_batch {
            std::thread::sleep((self.last_fsync / LINGER_PART).min(LINGER));
            self.shared.queue.take_more(batch, MAX_BATCH, MAX_BATCH_BYTES);
        }
        self.last_batch = batch.len();
    }

    /// One batch's whole way. Proposals that are refused are answered and left out.
    fn commit(&mut self, batch: &mut Vec<Proposal>) {
        if let Some(why) = self.shared.broken.lock().clone() {
            return self.refuse(batch.drain(..), &StoreError::Unavailable(why));
        }
        let used = self.shared.applied.read().state.bytes();
        if used > self.shared.quota_bytes {
            let limit = self.shared.quota_bytes;
            let text = format!("{used} bytes are in use, the quota is {limit}; compact, or delete and compact");
            self.refuse_growth(batch, &StoreError::NoSpace(text));
        }
        if batch.is_empty() {
            return;
        }
        let error = match self.persist(batch) {
            Ok(committed) => return self.apply(batch, &committed),
            Err(CommitError::Broken(why)) => return self.fail(batch, why),
            Err(CommitError::Refused(error)) => error,
        };
        // What gives space back may use what the log holds back for it.
        if !self.shared.full.swap(true, Ordering::AcqRel) {
            tracing::warn!(%error, "writes are refused until there is room");
        }
        self.refuse_growth(batch, &error);
        if batch.is_empty() {
            return;
        }
        match self.persist(batch) {
            Ok(committed) => self.apply(batch, &committed),
            Err(CommitError::Broken(why)) => self.fail(batch, why),
            Err(CommitError::Refused(error)) => self.refuse(batch.drain(..), &error),
        }
    }

    fn persist(&mut self, batch: &[Proposal]) -> Result<Committed, CommitError> {
        let entries: Vec<_> = batch.iter().map(|p| p.entry.clone()).collect();
        let bytes: usize = entries.iter().map(|e| e.len()).sum();
        let frees_space = batch.iter().all(|p| p.command.frees_space());
        let first = batch.first().map(|p| p.span.clone()).unwrap_or_else(tracing::Span::none);
        let span = info_span!(parent: &first, "fsync", batch = batch.len(), bytes);
        // The others are linked both ways, so that the fsync is found from whichever request one looks at.
        for waiting in batch.iter().skip(1).map(|p| &p.span).filter(|waiting| !waiting.is_disabled()) {
            span.follows_from(waiting);
            waiting.follows_from(&span);
        }
        let _entered = span.enter();
        let start = self.shared.clock.monotonic();
        let committed = self.log.commit(&entries, frees_space)?;
        self.last_fsync = self.shared.clock.monotonic() - start;
        self.shared.metrics.fsync.observe(self.last_fsync.as_secs_f64());
        self.shared.metrics.wal_bytes.inc_by(committed.bytes as i64);
        self.shared.disk_bytes.fetch_add(committed.allocated, Ordering::Relaxed);
        self.since_snapshot += committed.bytes;
        if !frees_space && self.shared.full.swap(false, Ordering::AcqRel) {
            tracing::info!("there is room again");
        }
        Ok(committed)
    }

    /// Applies what is on disk, passes it on to the watchers, and answers.
    fn apply(&self, batch: &mut Vec<Proposal>, committed: &Committed) {
        let mut events: Vec<Event> = Vec::new();
        let mut answers = Vec::with_capacity(batch.len());
        let dispatch = self.shared.hub.begin();
        let revision = {
            let mut applied = self.shared.applied.write();
            for proposal in batch.drain(..) {
                let revoked = match proposal.command {
                    Command::LeaseRevoke { id } => Some(id),
                    _ => None,
                };
                let effects = applied.state.apply(proposal.command);
                events.extend(effects.events);
                answers.push((proposal.answer, effects.response, revoked));
            }
            applied.index = committed.last;
            self.measure(&applied);
            applied.state.revision()
        };
        dispatch.finish(events, revision, &self.shared.metrics);
        for (sender, answer, revoked) in answers {
            self.follow_leases(&answer, revoked);
            // A caller that has gone away does not hear that its write was done.
            drop(sender.send(answer));
        }
    }

    fn follow_leases(&self, answer: &Answer, revoked: Option<LeaseId>) {
        let metrics = &self.shared.metrics;
        if let Some(id) = revoked {
            metrics.leases_revoked.inc_by(u64::from(answer.is_ok()));
            self.shared.lease_times.lock().remove(id);
        }
        if let Ok(Response::LeaseGranted(lease)) = answer {
            metrics.leases_granted.inc();
            self.shared.start_lease(lease.id, lease.ttl);
        }
    }

    pub fn measure(&self, applied: &crate::shared::Applied) {
        let (m, state) = (&self.shared.metrics, &applied.state);
        m.keys.set(state.keys() as i64);
        m.revision.set(state.revision());
        m.compact_revision.set(state.compacted());
        m.live_bytes.set(state.bytes() as i64);
        m.disk_bytes.set(self.shared.disk_bytes.load(Ordering::Relaxed) as i64);
        m.committed.set(applied.index as i64);
        m.applied.set(applied.index as i64);
        m.pending.set(self.shared.queue.len() as i64);
    }

    fn refuse(&self, batch: impl Iterator<Item = Proposal>, error: &StoreError) {
        for proposal in batch {
            self.shared.metrics.failed.inc();
            drop(proposal.answer.send(Err(error.clone())));
        }
    }

    fn refuse_growth(&self, batch: &mut Vec<Proposal>, error: &StoreError) {
        let growth = batch.extract_if(.., |p| !p.command.frees_space());
        self.refuse(growth, error);
    }

    /// Nobody knows what is on disk now; only a restart, which reads it, can tell.
    fn fail(&self, batch: &mut Vec<Proposal>, why: String) {
        tracing::error!(error = why, "the log failed; no write is accepted until a restart");
        self.refuse(batch.drain(..), &StoreError::Unavailable(why.clone()));
        *self.shared.broken.lock() = Some(why);
    }

    /// Frees a portion of what was compacted; says when to come again.
    fn trim(&self) -> Option<Duration> {
        if !self.shared.applied.read().state.needs_trim() {
            return None;
        }
        let mut applied = self.shared.applied.write();
        let before = applied.state.bytes();
        applied.state.trim(TRIM_STEP);
        if !applied.state.needs_trim() {
            self.shared.trimmed.notify_waiters();
            return None;
        }
        Some(if applied.state.bytes() == before { TRIM_RETRY } else { TRIM_PAUSE })
    }

    fn maybe_snapshot(&mut self) {
        let last = self.shared.last_snapshot_bytes.load(Ordering::Relaxed);
        if self.since_snapshot < self.snapshot_bytes.max(last) {
            return;
        }
        // If it fails, the next try comes after as much log again.
        self.since_snapshot = 0;
        let (shared, disk, folder) = (self.shared.clone(), self.disk.clone(), self.folder.clone());
        self.tasks.spawn_thread("snapshot", move || {
            if let Err(error) = shared.snapshot(&disk) {
                tracing::warn!(%error, "no snapshot was written; the log grows until the next");
            }
            drop(folder);
        });
    }
}

impl Shared {
    /// Writes a snapshot unless one is being written.
    pub fn snapshot(&self, disk: &Disk) -> Result<(), StoreError> {
        if self.snapshotting.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let start = self.clock.monotonic();
        let written = snapshot::write(self, disk);
        self.snapshotting.store(false, Ordering::Release);
        let bytes = written?;
        let took = self.clock.monotonic() - start;
        self.metrics.snapshot.observe(took.as_secs_f64());
        self.last_snapshot_bytes.store(bytes, Ordering::Relaxed);
        tracing::debug!(bytes, ?took, "snapshot written");
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}
