//! Segment files: their names and heads.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::disk::{Disk, DiskFile};

/// Bytes before the first frame.
pub const HEADER: usize = 64;
const MAGIC: [u8; 8] = *b"PLINWAL1";

/// Makes a segment that begins with entry `first`. Its name appears when it is ready.
pub fn create(
    disk: &dyn Disk,
    dir: &Path,
    store: u64,
    first: u64,
    len: u64,
) -> io::Result<(Box<dyn DiskFile>, PathBuf)> {
    let tmp = dir.join("next.tmp");
    let path = path(dir, first);
    let made = (|| {
        let file = disk.create(&tmp)?;
        file.allocate(len)?;
        file.write_at(&header(store, first), 0)?;
        file.sync()?;
        drop(file);
        disk.rename(&tmp, &path)?;
        disk.open(&path)
    })();
    match made {
        Ok(file) => Ok((file, path)),
        Err(error) => {
            // A full disk must not be kept full by what did not fit; a missing file is fine too.
            drop(disk.remove(&tmp));
            drop(disk.remove(&path));
            Err(error)
        }
    }
}

/// The name of the segment that begins with entry `first`.
pub fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.wal"))
}

/// The segments of a folder by their first index.
pub fn segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for path in disk.list(dir)? {
        if path.extension().is_some_and(|e| e == "wal")
            && let Some(first) = path.file_stem().and_then(|s| s.to_str()?.parse().ok())
        {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Checks a segment's head against what its name and the store say.
pub fn check_header(bytes: &[u8], store: u64, first: u64) -> Result<(), &'static str> {
    let expected = header(store, first);
    match bytes.get(..HEADER) {
        None => Err("the segment's head is cut off"),
        Some(head) if head == expected => Ok(()),
        Some(head) if head[..8] != MAGIC => Err("this is not a log segment"),
        Some(head) if head[8..16] != expected[8..16] => Err("the segment belongs to another store"),
        Some(head) if head[16..24] != expected[16..24] => Err("the segment's head and its name do not agree"),
        Some(_) => Err("the segment's head is damaged"),
    }
}

/// Whether a file begins as a segment of this store's log.
pub fn belongs(disk: &dyn Disk, path: &Path, store: u64) -> io::Result<bool> {
    let mut head = [0; HEADER];
    let read = disk.open(path)?.read_at(&mut head, 0)?;
    Ok(read == HEADER && head[..8] == MAGIC && head[8..16] == store.to_le_bytes())
}

/// Magic, store id, first index, zeroes, checksum.
fn header(store: u64, first: u64) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&store.to_le_bytes());
    head[16..24].copy_from_slice(&first.to_le_bytes());
    let crc = crc32c::crc32c(&head[..HEADER - 4]);
    head[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    head
}
