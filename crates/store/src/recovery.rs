//! From a data folder to a state and a log that goes on: the newest snapshot that is whole, then the log after it.

use mvcc::{Command, State};
use store_api::StoreError;

use crate::{
    disk::Disk,
    folder::{Folder, full_or, unavailable},
    snapshot,
    wal::{self, Wal},
};

pub struct Recovery {
    pub state: State,
    pub wal: Wal,
    /// Bytes of log that no snapshot covers, about.
    pub since_snapshot: u64,
    pub snapshot_bytes: u64,
}

/// Reads a folder, or begins a fresh one.
pub fn recover(folder: &Folder, disk: &Disk, segment_bytes: u64) -> Result<Recovery, StoreError> {
    if folder.fresh {
        return begin(folder, disk, segment_bytes);
    }
    drop(std::fs::remove_file(folder.snapshots().join("next.tmp")));
    let newest = newest_snapshot(folder)?;
    let snapshot_bytes = newest.path.as_ref().and_then(|p| p.metadata().ok()).map_or(0, |m| m.len());
    let mut state = newest.state;
    let mut replayed = 0u64;
    let salt = folder.identity.salt;
    let recovered = wal::recover(disk, &folder.wal(), salt, segment_bytes, newest.index, |index, entry| {
        replayed += entry.len() as u64;
        let command = Command::decode(entry).map_err(|e| format!("entry {index} is no command: {e}"))?;
        state.apply(command);
        // Old versions go as the log is read: they must not need more memory than they did when it was written.
        state.trim(usize::MAX);
        Ok(())
    })?;
    if recovered.wal.last() < newest.must_reach {
        return Err(StoreError::Corrupt(format!(
            "{}, and the log reaches only entry {}: writes that were acknowledged are missing. Restore the data folder \
             from a backup",
            newest.damage.unwrap_or_default(),
            recovered.wal.last()
        )));
    }
    if recovered.torn > 0 {
        tracing::warn!(
            bytes = recovered.torn,
            segment = %recovered.wal.path().display(),
            offset = recovered.wal.offset(),
            "the log ended in an unfinished batch, which was cut off; nothing in it had been acknowledged"
        );
    }
    tracing::info!(
        snapshot = newest.index,
        entries = recovered.entries,
        revision = state.revision(),
        keys = state.keys(),
        "data folder read"
    );
    Ok(Recovery { state, wal: recovered.wal, since_snapshot: replayed, snapshot_bytes })
}

fn begin(folder: &Folder, disk: &Disk, segment_bytes: u64) -> Result<Recovery, StoreError> {
    let wal = Wal::create(disk.clone(), folder.wal(), folder.identity.salt, segment_bytes, 1)?;
    disk.sync_dir(&folder.snapshots()).map_err(|e| full_or("cannot sync", &folder.snapshots(), &e))?;
    folder.seal(disk)?;
    Ok(Recovery { state: State::default(), wal, since_snapshot: 0, snapshot_bytes: 0 })
}

struct Newest {
    state: State,
    index: u64,
    path: Option<std::path::PathBuf>,
    /// The index of the newest snapshot, whole or not: the log has been that far.
    must_reach: u64,
    damage: Option<String>,
}

/// The newest snapshot that is whole. An older one, or none, also does as long as the log reaches back to it, which
/// the log's reading finds out.
fn newest_snapshot(folder: &Folder) -> Result<Newest, StoreError> {
    let dir = folder.snapshots();
    let all = snapshot::list(&dir).map_err(|e| unavailable("cannot read", &dir, &e))?;
    let must_reach = all.last().map_or(0, |(index, _)| *index);
    let mut damage = None;
    for (index, path) in all.into_iter().rev() {
        match snapshot::read(&path, folder.identity.salt, index) {
            Ok(state) => return Ok(Newest { state, index, path: Some(path), must_reach, damage }),
            Err(why) => {
                tracing::error!(error = why, "a snapshot is damaged; trying what is older");
                damage.get_or_insert(why);
            }
        }
    }
    let oldest = wal::segments(&folder.wal()).ok().and_then(|s| s.first().map(|(first, _)| *first));
    match damage {
        // The log's own check would only say that its beginning is missing, not why it is needed.
        Some(why) if oldest != Some(1) => Err(StoreError::Corrupt(format!(
            "{why}. The log does not reach back far enough to do without this snapshot. Nothing was changed. Restore \
             the data folder from a backup, or from another member"
        ))),
        damage => Ok(Newest { state: State::default(), index: 0, path: None, must_reach, damage }),
    }
}
