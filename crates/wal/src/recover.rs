//! Reading the log back after a start.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use store_api::StoreError;

use crate::{
    disk::{SharedDisk, full_or, is_full, read, unavailable},
    frame::{self, Found},
    log::Wal,
    segment,
};

/// A log that was read and is ready to be appended to.
pub struct Recovered {
    pub wal: Wal,
    /// Records read, with those that were skipped.
    pub records: u64,
    /// Bytes of an unfinished frame that were cut off.
    pub torn: u64,
}

/// Reads all segments in order and hands each record after number `snapshot` to `apply`. Refuses damage and gaps; cuts off an
/// unfinished last frame.
pub fn recover(
    disk: &SharedDisk,
    dir: &Path,
    store: u64,
    segment_bytes: u64,
    snapshot: u64,
    mut apply: impl FnMut(u64, Bytes) -> Result<(), String>,
) -> Result<Recovered, StoreError> {
    let found = segment::segments(&**disk, dir).map_err(|e| unavailable("cannot read", dir, &e))?;
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
        let bytes = read(&**disk, path).map_err(|e| unavailable("cannot read", path, &e))?;
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
    Ok(Recovered { wal, records: entries, torn })
}

#[expect(clippy::too_many_arguments, reason = "these are the fields of the log's end")]
fn reopen(
    disk: &SharedDisk,
    dir: &Path,
    store: u64,
    segment_bytes: u64,
    path: PathBuf,
    offset: u64,
    torn: bool,
    next: u64,
) -> Result<Wal, StoreError> {
    let file = disk.open(&path).map_err(|e| unavailable("cannot open", &path, &e))?;
    let mut len = file.len().map_err(|e| unavailable("cannot open", &path, &e))?;
    let prepared = (|| {
        if torn {
            file.truncate(offset)?;
        }
        // On a full disk the segment stays as short as it is, and the first append that does not fit is refused.
        match file.allocate(len.max(segment_bytes)) {
            Ok(()) => len = len.max(segment_bytes),
            Err(error) if is_full(&error) => len = if torn { offset } else { len },
            Err(error) => return Err(error),
        }
        drop(disk.remove(&dir.join("next.tmp")));
        file.sync()
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
