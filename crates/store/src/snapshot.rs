//! Snapshots beside the running member: its groups' states as files, and what the log no longer needs because of them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use replica::{
    GroupId, Machine,
    snapshot::{self, Point, Portions, path, read, write},
};
use store_api::StoreError;
use wal::disk::full_or;

use crate::{
    inbox::Input,
    shared::{Group, Shared},
};

/// Writes a snapshot of every group, unless some are being written.
pub fn write_all(shared: &Shared) -> Result<(), StoreError> {
    if shared.snapshotting.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    let written = shared.groups.iter().try_for_each(|group| write_one(shared, group));
    shared.snapshotting.store(false, Ordering::Release);
    if written.is_err() {
        drop(shared.inbox.push(Input::SnapshotWritten(None)));
    }
    written
}

fn write_one(shared: &Shared, group: &Group) -> Result<(), StoreError> {
    let start = shared.clock.monotonic();
    let (mut portions, base) = {
        let machine = group.machine.read();
        (Portions::new(&machine), machine.base())
    };
    let point = Point { group: group.id, index: base.index, term: base.term };
    let (dir, salt) = (&shared.snapshot_dir, shared.identity.salt);
    let written = write(&shared.disk, dir, salt, point, |out| portions.next(&group.machine.read(), out));
    portions.finish();
    let bytes = written.map_err(|e| full_or("cannot write", &path(dir, point), &e))?;
    let took = shared.clock.monotonic() - start;
    shared.metrics.snapshot.observe(took.as_secs_f64());
    tracing::debug!(bytes, ?took, group = group.id, "snapshot written");
    shared.inbox.push(Input::SnapshotWritten(Some((group.id, base, bytes))))
}

/// Reads a snapshot that is about to take the state's place.
pub fn load(shared: &Shared, group: GroupId, index: u64, term: u64) -> Result<Machine, String> {
    let point = Point { group, index, term };
    let machine = read(&shared.disk, &path(&shared.snapshot_dir, point), shared.identity.salt, point);
    machine.map(|(machine, _)| machine)
}

/// Removes what a snapshot of a group has replaced.
pub fn purge(shared: &Shared, group: GroupId, index: u64, segments: &[PathBuf]) {
    let (wal_dir, snapshot_dir) = (&shared.wal_dir, &shared.snapshot_dir);
    if let Err(error) = snapshot::purge(&shared.disk, wal_dir, snapshot_dir, group, index, segments) {
        tracing::warn!(%error, "cannot remove what a snapshot has replaced");
    }
    shared.disk_bytes.store(usage(&shared.snapshot_dir) + usage(&shared.wal_dir), Ordering::Relaxed);
}

/// Bytes of the files in a folder.
pub fn usage(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.filter_map(|e| Some(e.ok()?.metadata().ok()?.len())).sum()
}
