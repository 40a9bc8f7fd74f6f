//! The write-ahead log on disk: segments of frames, one frame and one fsync per batch.
//!
//! A frame is written only after the one before it is on disk. Hence what a crash can leave unfinished is the very
//! last frame, and whatever is wrong anywhere else is damage: the first is cut off, the second is refused.
//!
//! Segments are allocated ahead, so that appending does not change the file's size and a full disk shows when a
//! segment is begun, not in the middle of one. [`Wal::prepare`] leaves the last [`RESERVE`] bytes of a segment to what
//! frees space: on a full disk, deletions and compactions still find room.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use store_api::StoreError;

use crate::{
    disk::{DiskFile, SharedDisk, full_or, is_full},
    frame, segment,
};

/// Bytes at a segment's end that only what frees space may use.
pub const RESERVE: u64 = 64 * 1024;

/// A larger buffer is not kept for the next batch.
const KEPT_BUFFER: usize = 1 << 20;

/// Why a batch was not committed.
#[derive(Debug)]
pub enum CommitError {
    /// Nothing of the batch remains, and the log goes on: there is no room, or no file could be opened.
    Refused(StoreError),
    /// Whether the batch is on disk is unknown, and the log must not be used any more.
    Broken(String),
}

/// The end of the log, where batches are appended.
pub struct Wal {
    pub(crate) disk: SharedDisk,
    pub(crate) dir: PathBuf,
    pub(crate) store: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) path: PathBuf,
    /// Where the next frame goes.
    pub(crate) offset: u64,
    /// Bytes the segment has.
    pub(crate) len: u64,
    /// The number of the next entry.
    pub(crate) next: u64,
    pub(crate) buffer: Vec<u8>,
    pub(crate) begun: u64,
}

impl Wal {
    /// Begins a log at record `first`.
    pub fn create(
        disk: SharedDisk,
        dir: PathBuf,
        store: u64,
        segment_bytes: u64,
        first: u64,
    ) -> Result<Self, StoreError> {
        let made = segment::create(&*disk, &dir, store, first, segment_bytes);
        let (file, path) = made.map_err(|e| full_or("cannot create a log segment in", &dir, &e))?;
        let offset = segment::HEADER as u64;
        let buffer = Vec::new();
        Ok(Wal {
            disk,
            dir,
            store,
            segment_bytes,
            file,
            path,
            offset,
            len: segment_bytes,
            next: first,
            buffer,
            begun: 0,
        })
    }

    /// The number of the last record.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The segment that is appended to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next frame goes in it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the segments begun since the start.
    pub fn begun_bytes(&self) -> u64 {
        self.begun
    }

    /// Makes sure that a frame of about `bytes` finds room, so that what is proposed next cannot be refused by a full
    /// disk once it is in the Raft log. Only what `frees_space` may use the [`RESERVE`].
    pub fn prepare(&mut self, bytes: u64, frees_space: bool) -> Result<(), CommitError> {
        let needed = bytes + if frees_space { 0 } else { RESERVE };
        if self.offset + needed > self.len { self.roll(needed) } else { Ok(()) }
    }

    /// Appends the records as one frame; afterwards they are on disk. Returns the frame's size.
    pub fn append(&mut self, records: &[Bytes]) -> Result<u64, CommitError> {
        self.buffer.clear();
        frame::encode(&mut self.buffer, self.store, self.next, records);
        let size = self.buffer.len() as u64;
        if self.offset + size > self.len {
            self.roll(size)?;
        }
        if let Err(error) = self.file.write_at(&self.buffer, self.offset) {
            return Err(self.undo(error));
        }
        if let Err(error) = self.file.sync() {
            let text = format!("fdatasync of {} failed: {error}", self.path.display());
            return Err(CommitError::Broken(text));
        }
        self.offset += size;
        self.next += records.len() as u64;
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(size)
    }

    fn roll(&mut self, needed: u64) -> Result<(), CommitError> {
        let len = self.segment_bytes.max(needed + segment::HEADER as u64);
        if self.offset == segment::HEADER as u64 {
            return self.grow(len);
        }
        match segment::create(&*self.disk, &self.dir, self.store, self.next, len) {
            Ok((file, path)) => {
                // What the old segment did not use is given back; if that fails, it is only not given back.
                if let Err(error) = self.file.truncate(self.offset) {
                    tracing::warn!(segment = %self.path.display(), %error, "cannot trim a full log segment");
                }
                (self.file, self.path, self.offset, self.len) = (file, path, segment::HEADER as u64, len);
                self.begun += len;
                Ok(())
            }
            Err(error) => {
                let text = format!("cannot begin a log segment in {}: {error}", self.dir.display());
                if self.disk.open(&segment::path(&self.dir, self.next)).is_ok() {
                    // Entries appended to the old segment would collide with it.
                    return Err(CommitError::Broken(format!("{text}; and what was begun stays")));
                }
                Err(CommitError::Refused(match is_full(&error) {
                    true => StoreError::NoSpace(text),
                    false => StoreError::Unavailable(text),
                }))
            }
        }
    }

    /// Gives the segment more room. It has no record yet, so that a new one would take its name, and would take the file
    /// away with it if it did not come to be.
    fn grow(&mut self, len: u64) -> Result<(), CommitError> {
        match self.file.allocate(len) {
            Ok(()) => {
                self.begun += len.saturating_sub(self.len);
                self.len = len;
                Ok(())
            }
            Err(error) => {
                let text = format!("cannot make room in {}: {error}", self.path.display());
                Err(CommitError::Refused(match is_full(&error) {
                    true => StoreError::NoSpace(text),
                    false => StoreError::Unavailable(text),
                }))
            }
        }
    }

    /// Takes back a frame that was written in part.
    fn undo(&mut self, error: io::Error) -> CommitError {
        let text = format!("cannot write to {}: {error}", self.path.display());
        if !is_full(&error) {
            return CommitError::Broken(text);
        }
        let undone = self.file.truncate(self.offset).and_then(|()| {
            // A segment that cannot be allocated again grows as it is written.
            self.len = match self.file.allocate(self.len) {
                Err(error) if !is_full(&error) => return Err(error),
                _ => self.len,
            };
            self.file.sync()
        });
        match undone {
            Ok(()) => CommitError::Refused(StoreError::NoSpace(text)),
            Err(undo) => CommitError::Broken(format!("{text}; and the half-written frame stays: {undo}")),
        }
    }
}
