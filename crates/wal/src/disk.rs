//! What the log and the snapshots ask of a disk. Whoever implements it decides what a crash takes away: nothing that
//! [`DiskFile::sync`], [`Disk::rename`] or [`Disk::sync_dir`] has made durable.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use store_api::StoreError;

/// Files by their paths.
pub trait Disk: Send + Sync + 'static {
    /// Creates a file for reading and writing, or empties it.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a synced file its name; after this, the name survives a crash too.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The files of a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
}

/// A handle on a disk. Clones are handles on the same one.
pub type SharedDisk = Arc<dyn Disk>;

/// One open file.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send {
    fn len(&self) -> io::Result<u64>;

    /// Reserves room up to `len` bytes, zeroes where nothing was written.
    fn allocate(&self, len: u64) -> io::Result<()>;

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reads at `offset` until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;

    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// The whole content of a file.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Whether an error says that there is no room: it may go away, and nothing is broken.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

pub fn unavailable(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{what} {}: {error}", path.display()))
}

/// As [`unavailable`], but a full disk is told as such.
pub fn full_or(what: &str, path: &Path, error: &io::Error) -> StoreError {
    match is_full(error) {
        true => StoreError::NoSpace(format!("{what} {}: {error}", path.display())),
        false => unavailable(what, path, error),
    }
}
