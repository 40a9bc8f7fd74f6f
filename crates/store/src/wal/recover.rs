//! Reading the log back after a start.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use store_api::StoreError;

use super::{
    Wal,
    frame::{self, Found},
    segment,
};
use crate::{
    disk::Disk,
    folder::{full_or, unavailable},
};

/// A log that was read and is ready to be appended to.
pub struct Recovered {
    pub wal: Wal,
    /// Entries read, with those before the snapshot.
    pub entries: u64,
    /// Bytes of an unfinished frame that were cut off.
    pub torn: u64,
}

/// Reads all segments in order and hands each entry after `snapshot` to `apply`. Refuses damage and gaps; cuts off an
/// unfinished last frame.
pub fn recover(
    disk: &Disk,
    dir: &Path,
    store: u64,
    segment_bytes: u64,
    snapshot: u64,
    mut apply: impl FnMut(u64, Bytes) -> Result<(), String>,
) -> Result<Recovered, StoreError> {
    let found = segment::segments(dir).map_err(|e| unavailable("cannot read", dir, &e))?;
    let Some((oldest, _)) = found.first() else {
        return Err(corrupt(dir, 0, "there is no log segment"));
    };
    if *oldest > snapshot + 1 {
        let why = format!("entries {} to {} are missing", snapshot + 1, oldest - 1);
        return Err(corrupt(dir, 0, &why));
    }
    let (mut next, mut entries) = (*oldest, 0);
    let mut end = None;
    for (i, (first, path)) in found.iter().enumerate() {
        let last_segment = i + 1 == found.len();
        if *first != next {
            return Err(corrupt(path, 0, &format!("entries {next} to {} are missing before it", first - 1)));
        }
        let bytes = fs::read(path).map_err(|e| unavailable("cannot read", path, &e))?;
        segment::check_header(&bytes, store, *first).map_err(|why| corrupt(path, 0, why))?;
        let mut offset = segment::HEADER;
        loop {
            match frame::read(&bytes[offset..], offset, store) {
                Found::Frame { first, entries: list, size } => {
                    if first != next {
                        let why = format!("entry {next} should stand here, not entry {first}");
                        return Err(corrupt(path, offset, &why));
                    }
                    for entry in list {
                        if next > snapshot {
                            apply(next, Bytes::copy_from_slice(entry)).map_err(|why| corrupt(path, offset, &why))?;
                        }
                        next += 1;
                        entries += 1;
                    }
                    offset += size;
                }
                Found::Nothing => break,
                Found::Damaged(why) => return Err(corrupt(path, offset, why)),
                Found::Torn if !last_segment => return Err(corrupt(path, offset, "the frame is incomplete")),
                Found::Torn => {
                    if let Some(at) = frame::later_frame(&bytes[offset..], store, next) {
                        let why = format!("the frame is damaged, but a later one is whole at offset {}", offset + at);
                        return Err(corrupt(path, offset, &why));
                    }
                    break;
                }
            }
        }
        end = Some((path.clone(), offset as u64, bytes));
    }
    let (path, offset, bytes) = end.expect("there is at least one segment");
    if next <= snapshot {
        let why = format!("the log ends with entry {}, before the snapshot's {snapshot}", next - 1);
        return Err(corrupt(&path, 0, &why));
    }
    let torn = bytes[offset as usize..].iter().rposition(|b| *b != 0).map_or(0, |last| last as u64 + 1);
    let wal = reopen(disk, dir, store, segment_bytes, path, offset, torn > 0, next)?;
    Ok(Recovered { wal, entries, torn })
}

#[expect(clippy::too_many_arguments, reason = "these are the fields of the log's end")]
fn reopen(
    disk: &Disk,
    dir: &Path,
    store: u64,
    segment_bytes: u64,
    path: PathBuf,
    offset: u64,
    torn: bool,
    next: u64,
) -> Result<Wal, StoreError> {
    let opened = fs::File::options().read(true).write(true).open(&path);
    let file = opened.map_err(|e| unavailable("cannot open", &path, &e))?;
    let mut len = file.metadata().map_err(|e| unavailable("cannot open", &path, &e))?.len();
    let prepared = (|| {
        if torn {
            disk.truncate(&file, &path, offset)?;
        }
        // On a full disk the segment stays as short as it is, and the first append that does not fit is refused.
        match disk.allocate(&file, &path, len.max(segment_bytes)) {
            Ok(()) => len = len.max(segment_bytes),
            Err(error) if crate::disk::is_full(&error) => len = if torn { offset } else { len },
            Err(error) => return Err(error),
        }
        drop(fs::remove_file(dir.join("next.tmp")));
        disk.sync(&file, &path)
    })();
    prepared.map_err(|e| full_or("cannot prepare", &path, &e))?;
    let (disk, dir) = (disk.clone(), dir.to_owned());
    Ok(Wal { disk, dir, store, segment_bytes, file, path, offset, len, next, buffer: Vec::new(), begun: 0 })
}

fn corrupt(path: &Path, offset: usize, why: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "{} at offset {offset}: {why}. Nothing was changed. Restore the data folder from a backup, or from another \
         member; if the disk is failing, replace it first",
        path.display()
    ))
}
