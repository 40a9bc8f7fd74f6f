//! Snapshot files: the state after an entry of the log, and what the log no longer needs because of it.
//!
//! ```text
//!   head     magic 8, salt 8, index 8, zeroes, crc32c 4      (64 bytes)
//!   chunk    length u32, crc32c u32, bytes                    (repeated; the sum is seeded with the chunk's number)
//!   end      length 0, crc32c of the number of chunks
//! ```

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use mvcc::{Loader, SnapshotReader, State};
use store_api::StoreError;

use crate::{disk::Disk, folder::full_or, shared::Shared, wal::segments};

const MAGIC: [u8; 8] = *b"PLINSNP1";
const HEADER: usize = 64;
/// One lock of the state covers about so much of a snapshot.
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNK_KEYS: usize = 2048;
/// Bytes between two syncs: one sync of a whole large file would hold up the log's own for long.
const SYNC_EVERY: u64 = 4 << 20;

/// Writes a snapshot of the state as it is now, then removes what it replaces. Returns its size.
pub fn write(shared: &Shared, disk: &Disk) -> Result<u64, StoreError> {
    let dir = &shared.snapshot_dir;
    let (mut reader, index) = {
        let applied = shared.applied.read();
        (SnapshotReader::new(applied.state.cut()), applied.index)
    };
    let tmp = dir.join("next.tmp");
    let path = dir.join(format!("{index:020}.snap"));
    let written = write_file(shared, disk, &mut reader, index, &tmp).and_then(|size| {
        disk.rename(&tmp, &path)?;
        Ok(size)
    });
    reader.finish();
    let size = written.map_err(|error| {
        // Half a snapshot is of no use, and its room may be what others wait for.
        drop(fs::remove_file(&tmp));
        full_or("cannot write", &path, &error)
    })?;
    purge(shared, disk, index);
    Ok(size)
}

fn write_file(shared: &Shared, disk: &Disk, reader: &mut SnapshotReader, index: u64, tmp: &Path) -> io::Result<u64> {
    let file = disk.create(tmp)?;
    disk.write_at(&file, tmp, &header(shared.identity.salt, index), 0)?;
    let (mut offset, mut synced, mut chunks) = (HEADER as u64, 0, 0u32);
    let mut buffer = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    loop {
        buffer.clear();
        buffer.extend_from_slice(&[0; 8]);
        let more = reader.next(&shared.applied.read().state, &mut buffer, CHUNK_BYTES, CHUNK_KEYS);
        let length = buffer.len() - 8;
        if length > 0 {
            let sum = chunk_crc(chunks, &buffer[8..]);
            let length = u32::try_from(length).map_err(io::Error::other)?;
            buffer[..4].copy_from_slice(&length.to_le_bytes());
            buffer[4..8].copy_from_slice(&sum.to_le_bytes());
            disk.write_at(&file, tmp, &buffer, offset)?;
            offset += buffer.len() as u64;
            chunks += 1;
        }
        if !more {
            break;
        }
        if offset - synced > SYNC_EVERY {
            disk.sync(&file, tmp)?;
            synced = offset;
        }
    }
    let mut end = [0; 8];
    end[4..].copy_from_slice(&chunk_crc(chunks, b"end").to_le_bytes());
    disk.write_at(&file, tmp, &end, offset)?;
    disk.sync(&file, tmp)?;
    Ok(offset + 8)
}

/// Removes older snapshots and the segments whose entries all are in the snapshot of `index`.
fn purge(shared: &Shared, disk: &Disk, index: u64) {
    let old_snapshots = list(&shared.snapshot_dir).unwrap_or_default().into_iter().filter(|(i, _)| *i < index);
    let segments = segments(&shared.wal_dir).unwrap_or_default();
    let old_segments = segments.windows(2).filter(|pair| pair[1].0 <= index + 1).map(|pair| pair[0].clone());
    for (_, path) in old_snapshots.chain(old_segments) {
        if let Err(error) = disk.remove(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove what a snapshot has replaced");
        }
    }
    shared.disk_bytes.store(usage(&shared.snapshot_dir) + usage(&shared.wal_dir), Ordering::Relaxed);
}

/// Bytes of the files in a folder.
pub fn usage(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.filter_map(|e| Some(e.ok()?.metadata().ok()?.len())).sum()
}

/// Snapshots by their index.
pub fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "snap")
            && let Some(index) = path.file_stem().and_then(|s| s.to_str()?.parse().ok())
        {
            found.push((index, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a snapshot; the error says where it is damaged.
pub fn read(path: &Path, salt: u64, index: u64) -> Result<State, String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut input = BufReader::with_capacity(CHUNK_BYTES, file);
    let mut offset = 0u64;
    load(&mut input, salt, index, &mut offset).map_err(|why| format!("{} at offset {offset}: {why}", path.display()))
}

fn load(input: &mut impl Read, salt: u64, index: u64, offset: &mut u64) -> Result<State, String> {
    let mut head = [0; HEADER];
    input.read_exact(&mut head).map_err(|e| format!("cannot read the head: {e}"))?;
    if head != header(salt, index) {
        return Err("the head is damaged, or the snapshot belongs to another store".to_owned());
    }
    *offset = HEADER as u64;
    let mut loader = Loader::default();
    for chunk in 0u32.. {
        let mut start = [0; 8];
        input.read_exact(&mut start).map_err(|e| format!("cannot read a chunk: {e}"))?;
        let length = u32::from_le_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let sum = u32::from_le_bytes([start[4], start[5], start[6], start[7]]);
        if length == 0 {
            let ends = sum == chunk_crc(chunk, b"end") && input.read(&mut [0]).is_ok_and(|n| n == 0);
            return if ends { loader.finish().map_err(|e| e.to_string()) } else { Err("the end is wrong".to_owned()) };
        }
        // A damaged length reads at most the rest of the file; nothing is allocated on its word.
        let mut bytes = Vec::new();
        let got = input.take(length as u64).read_to_end(&mut bytes).map_err(|e| format!("cannot read a chunk: {e}"))?;
        if got != length || chunk_crc(chunk, &bytes) != sum {
            return Err("checksum mismatch".to_owned());
        }
        loader.feed(bytes.into()).map_err(|e| e.to_string())?;
        *offset += 8 + length as u64;
    }
    Err("too many chunks".to_owned())
}

fn chunk_crc(number: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), bytes)
}

fn header(salt: u64, index: u64) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&salt.to_le_bytes());
    head[16..24].copy_from_slice(&index.to_le_bytes());
    let crc = crc32c::crc32c(&head[..HEADER - 4]);
    head[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    head
}
