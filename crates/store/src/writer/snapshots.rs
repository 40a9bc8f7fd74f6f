//! When the log has grown enough, the state is written and the log begins anew.

use std::sync::atomic::Ordering;

use replica::GroupId;

use super::Writer;
use crate::snapshot;

impl Writer {
    pub(super) fn maybe_snapshot(&mut self) {
        let many = self.snapshot_entries.is_some_and(|count| self.core.entries_since_snapshot() >= count);
        let due = many || self.since_snapshot >= self.snapshot_bytes.max(self.last_snapshot_bytes);
        if due && !self.shared.snapshotting.load(Ordering::Acquire) {
            // If it fails, the next try comes after as much log again.
            self.since_snapshot = 0;
            self.start_snapshot();
        }
    }

    pub(super) fn start_snapshot(&self) {
        let (shared, folder) = (self.shared.clone(), self.folder.clone());
        self.tasks.spawn_thread("snapshot", move || {
            if let Err(error) = snapshot::write_all(&shared) {
                tracing::warn!(%error, "no snapshot was written; the log grows until the next");
            }
            drop(folder);
        });
    }

    pub(super) fn snapshot_written(&mut self, written: Option<(GroupId, replica::Base, u64)>) {
        if let Some((group, base, bytes)) = written {
            self.last_snapshot_bytes = bytes;
            let segments = self.core.snapshot_written(group, base.clone());
            snapshot::purge(&self.shared, group, base.index, &segments);
            runtime::failpoint!("raftAfterWALRelease");
        }
        self.shared.snapshots.send_modify(|n| *n += 1);
    }
}
