//! The real disk: the system calls that change it, in one place, so that a test can make any of them fail.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use wal::{Disk, DiskFile};

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
pub struct RealDisk {
    fault: Option<DiskFault>,
    /// Nothing is waited for: what is acknowledged is lost with the machine's power.
    no_sync: bool,
}

struct RealFile {
    file: File,
    path: PathBuf,
    disk: RealDisk,
}

impl RealDisk {
    pub fn new(fault: Option<DiskFault>, no_sync: bool) -> Self {
        RealDisk { fault, no_sync }
    }

    fn ask(&self, op: DiskOp, path: &Path) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(op, path))
    }

    fn file(&self, file: File, path: &Path) -> Box<dyn DiskFile> {
        Box::new(RealFile { file, path: path.to_owned(), disk: self.clone() })
    }
}

impl RealFile {
    /// A segment of the log.
    fn is_log(&self) -> bool {
        self.path.extension().is_some_and(|e| e == "wal")
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.ask(DiskOp::Create, path)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(self.file(file, path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(OpenOptions::new().read(true).write(true).open(path)?, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(DiskOp::Rename, to)?;
        if to.extension().is_some_and(|e| e == "snap") {
            runtime::failpoint!("defragBeforeRename");
        }
        fs::rename(from, to)?;
        self.sync_dir(to.parent().unwrap_or(Path::new(".")))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(DiskOp::Remove, path)?;
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.no_sync {
            return Ok(());
        }
        self.ask(DiskOp::Sync, dir)?;
        File::open(dir)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// File systems without reservation get a hole.
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.ask(DiskOp::Allocate, &self.path)?;
        let signed = i64::try_from(len).map_err(io::Error::other)?;
        match nix::fcntl::fallocate(&self.file, nix::fcntl::FallocateFlags::empty(), 0, signed) {
            Ok(()) => Ok(()),
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => self.file.set_len(len),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.ask(DiskOp::Write, &self.path)?;
        if self.is_log() {
            runtime::failpoint!("raftBeforeSave");
        }
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.disk.no_sync {
            self.disk.ask(DiskOp::Sync, &self.path)?;
            self.file.sync_data()?;
        }
        if self.is_log() {
            runtime::failpoint!("raftAfterSave");
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.ask(DiskOp::Truncate, &self.path)?;
        self.file.set_len(len)
    }
}
