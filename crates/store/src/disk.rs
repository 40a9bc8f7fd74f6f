//! The system calls that change the disk, in one place, so that a test can make any of them fail.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

/// What is about to be done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    Create,
    Allocate,
    Write,
    Sync,
    Truncate,
    Rename,
    Remove,
}

/// Asked before every operation; an error is what the operation then gives.
pub type DiskFault = Arc<dyn Fn(DiskOp, &Path) -> io::Result<()> + Send + Sync>;

#[derive(Clone, Default)]
pub struct Disk {
    fault: Option<DiskFault>,
}

impl Disk {
    pub fn new(fault: Option<DiskFault>) -> Self {
        Disk { fault }
    }

    /// Creates a file, or empties it.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        self.ask(DiskOp::Create, path)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    /// Reserves `len` bytes, zeroes where nothing was written. File systems without reservation get a hole.
    pub fn allocate(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        self.ask(DiskOp::Allocate, path)?;
        let signed = i64::try_from(len).map_err(io::Error::other)?;
        match nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, signed) {
            Ok(()) => Ok(()),
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => file.set_len(len),
            Err(errno) => Err(errno.into()),
        }
    }

    pub fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.ask(DiskOp::Write, path)?;
        file.write_all_at(bytes, offset)
    }

    pub fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.ask(DiskOp::Sync, path)?;
        file.sync_data()
    }

    pub fn truncate(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        self.ask(DiskOp::Truncate, path)?;
        file.set_len(len)
    }

    /// Gives a synced file its name; after this, the name survives a crash too.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(DiskOp::Rename, to)?;
        fs::rename(from, to)?;
        self.sync_dir(to.parent().unwrap_or(Path::new(".")))
    }

    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.ask(DiskOp::Sync, dir)?;
        File::open(dir)?.sync_all()
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(DiskOp::Remove, path)?;
        fs::remove_file(path)
    }

    /// Writes a small file whole or not at all.
    pub fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let tmp = path.with_extension("tmp");
        let file = self.create(&tmp)?;
        self.write_at(&file, &tmp, content, 0)?;
        self.sync(&file, &tmp)?;
        self.rename(&tmp, path)
    }

    fn ask(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(op, path))
    }
}

/// Whether an error says that there is no room: it may go away, and nothing is broken.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
