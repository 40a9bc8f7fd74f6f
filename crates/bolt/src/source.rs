//! Where a file's bytes come from: memory, or anything that reads and seeks.
//!
//! Knows nothing of what the bytes mean.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes that are read by position.
pub trait Source {
    /// Bytes in all.
    fn size(&self) -> u64;

    /// Fills `into` from `offset` on, completely or not at all.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Source for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let found = start.and_then(|start| self.get(start..start.checked_add(into.len())?));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A file, or whatever else reads and seeks. Its size is what it was when it was taken.
#[derive(Debug)]
pub struct Stream<R> {
    inner: R,
    size: u64,
    /// Where the next read goes on by itself: pages that follow each other cost no seek.
    at: Option<u64>,
}

impl<R: Read + Seek> Stream<R> {
    pub fn new(mut inner: R) -> io::Result<Self> {
        let size = inner.seek(SeekFrom::End(0))?;
        Ok(Stream { inner, size, at: Some(size) })
    }
}

impl<R: Read + Seek> Source for Stream<R> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.at.take() != Some(offset) {
            self.inner.seek(SeekFrom::Start(offset))?;
        }
        self.inner.read_exact(into)?;
        self.at = offset.checked_add(into.len() as u64);
        Ok(())
    }
}
