//! One member's disk. What was not synced may be lost when the power goes, wholly, in part, or sector by sector; names
//! that neither a rename nor a sync of their folder has made durable may be lost or come back. A process that dies alone
//! loses nothing.
//!
//! Knows nothing of what is stored, but for the lies of `lies`, which a mutation asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wal::{Disk, DiskFile};

use crate::{lies, mutation::Mutation, random::Random};

/// What a disk writes whole or not at all.
pub const SECTOR: u64 = 512;

/// A member's disk; clones are the same one.
#[derive(Clone)]
pub struct VirtualDisk(Arc<Mutex<Inner>>);

struct Inner {
    files: Vec<Content>,
    /// As a running process sees them.
    names: BTreeMap<PathBuf, usize>,
    /// As they are after the power was gone.
    durable: BTreeMap<PathBuf, usize>,
    /// What was done to names since, in order.
    changes: Vec<NameChange>,
    /// The power goes at this many operations from now.
    power: Option<u64>,
    dead: bool,
    full: bool,
    failing_syncs: u32,
    random: Random,
    lie: Option<Mutation>,
    salt: u64,
}

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
    /// The changes that the sync before this one should have made durable.
    late: usize,
}

enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Gone(PathBuf),
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            NameChange::Set(path, _) | NameChange::Gone(path) => path,
        }
    }
}

struct Handle {
    disk: VirtualDisk,
    file: usize,
}

fn gone() -> io::Error {
    io::Error::other("the power is gone")
}

impl VirtualDisk {
    pub fn new(random: Random, salt: u64, lie: Option<Mutation>) -> Self {
        VirtualDisk(Arc::new(Mutex::new(Inner {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            changes: Vec::new(),
            power: None,
            dead: false,
            full: false,
            failing_syncs: 0,
            random,
            lie,
            salt,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes in the middle of the operation that is so many from now.
    pub fn cut_power_after(&self, operations: u64) {
        self.lock().power = Some(operations);
    }

    /// Whether the power has gone.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    pub fn is_full(&self) -> bool {
        self.lock().full
    }

    /// The next syncs fail.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().failing_syncs = count;
    }

    /// The process is gone; what it wrote is still there.
    pub fn process_died(&self) {
        let mut inner = self.lock();
        inner.power = None;
        inner.failing_syncs = 0;
    }

    /// The machine went off and on again: decides what is left of what was not synced.
    pub fn power_cycle(&self) {
        let mut inner = self.lock();
        inner.process_ends();
        inner.settle_names();
        for file in 0..inner.files.len() {
            inner.settle(file);
        }
        inner.changes.clear();
    }

    /// Empties the disk.
    pub fn erase(&self) {
        let mut inner = self.lock();
        inner.process_ends();
        inner.files.clear();
        inner.names.clear();
        inner.durable.clear();
        inner.changes.clear();
        inner.full = false;
    }

    /// Damages a stopped member's disk: one bit of a file, or a sector of another file's bytes where it does not belong.
    /// Says what was done.
    pub fn damage(&self) -> Option<String> {
        let mut inner = self.lock();
        let used: Vec<(PathBuf, usize)> = inner.names.iter().map(|(p, f)| (p.clone(), *f)).collect();
        let (path, file) = inner.random.pick(&used)?;
        let end = inner.files[file].current.iter().rposition(|b| *b != 0)? as u64 + 1;
        let what = if inner.random.chance(700) {
            let (at, bit) = (inner.random.below(end) as usize, inner.random.below(8));
            inner.files[file].current[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        } else {
            let sector = inner.random.below(end.div_ceil(SECTOR)) * SECTOR;
            let mut bytes = vec![0; SECTOR as usize];
            // Bytes that are not zero: a sector of zeroes is what a torn write leaves, and cannot be told from one.
            bytes.iter_mut().for_each(|b| *b = inner.random.between(1, 255) as u8);
            let content = &mut inner.files[file].current;
            let length = (content.len() as u64 - sector).min(SECTOR) as usize;
            content[sector as usize..][..length].copy_from_slice(&bytes[..length]);
            format!("the sector at {sector}")
        };
        let content = &mut inner.files[file];
        content.durable = content.current.clone();
        content.pending.clear();
        Some(format!("{what} of {}", path.display()))
    }
}

impl Inner {
    fn process_ends(&mut self) {
        self.power = None;
        self.dead = false;
        self.failing_syncs = 0;
    }

    /// Counts an operation that changes the disk. `Ok(true)`: it is the one in which the power goes.
    fn operation(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(gone());
        }
        let Some(left) = self.power else { return Ok(false) };
        self.dead = left == 0;
        self.power = Some(left.saturating_sub(1));
        Ok(self.dead)
    }

    fn settle_names(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        let mut lost: BTreeSet<PathBuf> = BTreeSet::new();
        for change in changes {
            // Changes of one name happen in their order, or from some point on not at all.
            if lost.contains(change.path()) || self.random.chance(500) {
                lost.insert(change.path().to_owned());
                continue;
            }
            self.set_durable(change);
        }
        self.names = self.durable.clone();
    }

    fn set_durable(&mut self, change: NameChange) {
        match change {
            NameChange::Set(path, file) => {
                self.durable.insert(path, file);
            }
            NameChange::Gone(path) => {
                self.durable.remove(&path);
            }
        }
    }

    fn sync_names(&mut self, dir: &Path) {
        let (here, rest) = std::mem::take(&mut self.changes).into_iter().partition(|c| c.path().parent() == Some(dir));
        self.changes = rest;
        let here: Vec<NameChange> = here;
        here.into_iter().for_each(|change| self.set_durable(change));
        self.collect();
    }

    /// Frees the bytes of files that no name leads to.
    fn collect(&mut self) {
        let used: BTreeSet<usize> = self.names.values().chain(self.durable.values()).copied().collect();
        for (number, file) in self.files.iter_mut().enumerate() {
            if !used.contains(&number) && !file.current.is_empty() {
                *file = Content::default();
            }
        }
    }

    /// What the power's end leaves of a file.
    fn settle(&mut self, number: usize) {
        let pending = std::mem::take(&mut self.files[number].pending);
        let mut content = std::mem::take(&mut self.files[number].durable);
        let mode = self.random.below(4);
        // Changes of the length are in a journal: those from some point on are lost.
        let lengths = self.random.between(0, pending.len() as u64) as usize;
        for (position, change) in pending.into_iter().enumerate() {
            let kept = match mode {
                0 => false,
                1 => true,
                _ => position < lengths,
            };
            match change {
                Change::Length(length) if kept => content.resize(length as usize, 0),
                Change::Length(_) => {}
                Change::Write(offset, bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let place = offset + at as u64;
                        let part = ((SECTOR - place % SECTOR) as usize).min(bytes.len() - at);
                        let written = match mode {
                            0 => false,
                            1 => true,
                            _ => self.random.chance(500),
                        };
                        if written {
                            put(&mut content, place, &bytes[at..at + part]);
                        }
                        at += part;
                    }
                }
            }
        }
        self.files[number].current = content.clone();
        self.files[number].durable = content;
        self.files[number].late = 0;
    }

    fn sync(&mut self, number: usize) {
        let lie = self.lie;
        let file = &mut self.files[number];
        let upto = match lie {
            Some(Mutation::NothingIsSynced) => 0,
            Some(Mutation::SyncedOneBatchLate) => file.late,
            _ => file.pending.len(),
        };
        for change in file.pending.drain(..upto) {
            match change {
                Change::Write(offset, bytes) => put(&mut file.durable, offset, &bytes),
                Change::Length(length) => file.durable.resize(length as usize, 0),
            }
        }
        file.late = file.pending.len();
    }

    fn file_of(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

impl Disk for VirtualDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.lock();
        let last = inner.operation()?;
        let file = inner.files.len();
        inner.files.push(Content::default());
        inner.names.insert(path.to_owned(), file);
        inner.changes.push(NameChange::Set(path.to_owned(), file));
        if last { Err(gone()) } else { Ok(Box::new(Handle { disk: self.clone(), file })) }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.lock();
        if inner.dead {
            return Err(gone());
        }
        let file = inner.file_of(path)?;
        Ok(Box::new(Handle { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let last = inner.operation()?;
        let file = inner.file_of(from)?;
        inner.names.remove(from);
        inner.names.insert(to.to_owned(), file);
        inner.changes.push(NameChange::Gone(from.to_owned()));
        inner.changes.push(NameChange::Set(to.to_owned(), file));
        if last {
            return Err(gone());
        }
        if inner.lie != Some(Mutation::RenamesAreNotSynced) {
            let dir = to.parent().unwrap_or(Path::new("")).to_owned();
            inner.sync_names(&dir);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let last = inner.operation()?;
        inner.file_of(path)?;
        inner.names.remove(path);
        inner.changes.push(NameChange::Gone(path.to_owned()));
        if last { Err(gone()) } else { Ok(()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.operation()? {
            return Err(gone());
        }
        inner.sync_names(dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.lock();
        if inner.dead {
            return Err(gone());
        }
        Ok(inner.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        let inner = self.disk.lock();
        if inner.dead { Err(gone()) } else { Ok(inner.files[self.file].current.len() as u64) }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let last = inner.operation()?;
        if len > inner.files[self.file].current.len() as u64 {
            if inner.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = &mut inner.files[self.file];
            file.current.resize(len as usize, 0);
            file.pending.push(Change::Length(len));
        }
        if last { Err(gone()) } else { Ok(()) }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let last = inner.operation()?;
        let mut bytes = bytes.to_vec();
        if let Some(lie) = inner.lie {
            lies::rewrite(lie, inner.salt, &mut bytes);
        }
        let grows = offset + bytes.len() as u64 > inner.files[self.file].current.len() as u64;
        // Some file systems copy on write: there, also what overwrites needs room.
        let refused = inner.full && (grows || inner.random.chance(200));
        if refused {
            let written = inner.random.below(bytes.len() as u64 + 1) as usize;
            bytes.truncate(if grows { 0 } else { written });
        }
        if !bytes.is_empty() {
            let file = &mut inner.files[self.file];
            put(&mut file.current, offset, &bytes);
            file.pending.push(Change::Write(offset, bytes));
        }
        match (last, refused) {
            (true, _) => Err(gone()),
            (_, true) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.disk.lock();
        if inner.dead {
            return Err(gone());
        }
        let content = &inner.files[self.file].current;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        if let Some(lie) = inner.lie
            && offset == 0
        {
            lies::reread(lie, inner.salt, &mut buffer[..length]);
        }
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        if inner.operation()? {
            return Err(gone());
        }
        if inner.failing_syncs > 0 {
            inner.failing_syncs -= 1;
            return Err(io::Error::other("input/output error"));
        }
        inner.sync(self.file);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let last = inner.operation()?;
        if inner.lie != Some(Mutation::TornTailsStay) {
            let file = &mut inner.files[self.file];
            file.current.resize(len as usize, 0);
            file.pending.push(Change::Length(len));
        }
        if last { Err(gone()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> VirtualDisk {
        VirtualDisk::new(Random::new(seed), 1, None)
    }

    #[test]
    fn what_is_synced_and_renamed_survives() {
        for seed in 0..50 {
            let disk = disk(seed);
            let (tmp, to) = (Path::new("d/a.tmp"), Path::new("d/a"));
            let file = disk.create(tmp).unwrap();
            file.write_at(b"kept", 0).unwrap();
            file.sync().unwrap();
            disk.rename(tmp, to).unwrap();
            file.write_at(b"lost, maybe", 4).unwrap();
            disk.power_cycle();
            let read = wal::disk::read(&disk, to).unwrap();
            assert!(read.starts_with(b"kept"));
            assert!(disk.open(tmp).is_err());
        }
    }

    #[test]
    fn unsynced_sectors_are_torn_apart() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let disk = disk(seed);
            let path = Path::new("d/a");
            let file = disk.create(path).unwrap();
            file.allocate(2 * SECTOR).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("d")).unwrap();
            file.write_at(&[7; 2 * SECTOR as usize], 0).unwrap();
            disk.power_cycle();
            let read = wal::disk::read(&disk, path).unwrap();
            seen.insert((read[0], read[SECTOR as usize]));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 7), (7, 0), (7, 7)]);
    }

    #[test]
    fn the_power_goes_at_the_operation_that_was_chosen() {
        let disk = disk(1);
        disk.cut_power_after(1);
        let file = disk.create(Path::new("d/a")).unwrap();
        assert!(file.write_at(b"x", 0).is_err() && disk.is_dead() && file.sync().is_err());
        disk.power_cycle();
        assert!(!disk.is_dead());
    }
}
