//! Snapshots: a group's whole state at an entry of its log, as portions of bytes; in a file, or on their way to a peer.
//!
//! ```text
//!   portions   the first: point of the log, members, alarms, users and roles, shards, notes; then those of the keys (mvcc)
//!   file       head     magic 8, salt 8, group 4, came from a peer 1, index 8, term 8, zeroes, crc32c 4   (64 bytes)
//!              chunk    length u32, crc32c u32, portion          (repeated; the sum is seeded with the chunk's number)
//!              end      length 0, crc32c of the number of chunks
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use auth::Auth;
use bytes::Bytes;
use mvcc::{
    Loader, SnapshotReader,
    codec::{DecodeError, Reader, put_bytes, put_u64},
};
use store_api::Alarm;
use wal::{Disk, DiskFile};

use crate::{
    GroupId, Machine, Members, Notes,
    proposal::{alarm_code, alarm_kind},
    shards::Shards,
};

const MAGIC: [u8; 8] = *b"PLINSNP3";
const HEADER: usize = 64;
/// One look at the state covers about so much of a snapshot.
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNK_KEYS: usize = 2048;
/// A larger chunk is damage: one key's versions of one record may exceed [`CHUNK_BYTES`], never this.
const MAX_CHUNK: usize = 1 << 30;
/// Bytes between two syncs: one sync of a whole large file would hold up the log's own for long.
const SYNC_EVERY: u64 = 4 << 20;

/// Which snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub group: GroupId,
    pub index: u64,
    pub term: u64,
}

/// Reads a machine out, a portion at a time, while it moves on.
pub struct Portions {
    first: Option<Vec<u8>>,
    keys: SnapshotReader,
}

impl Portions {
    pub fn new(machine: &Machine) -> Self {
        let mut first = Vec::new();
        put_u64(&mut first, machine.index);
        put_u64(&mut first, machine.term);
        machine.members.encode(&mut first);
        put_u64(&mut first, machine.alarms.len() as u64);
        for alarm in &machine.alarms {
            put_u64(&mut first, alarm.member);
            first.push(alarm_code(alarm.kind));
        }
        put_bytes(&mut first, &machine.users.snapshot());
        machine.shards.encode(&mut first);
        if !machine.notes.is_empty() {
            machine.notes.encode(&mut first);
        }
        Portions { first: Some(first), keys: SnapshotReader::new(machine.kv.cut()) }
    }

    /// Appends the next portion; `false` when there was none left. `machine` is the one that was cut, with more
    /// entries applied maybe.
    pub fn next(&mut self, machine: &Machine, out: &mut Vec<u8>) -> bool {
        match self.first.take() {
            Some(first) => {
                out.extend_from_slice(&first);
                true
            }
            None => self.keys.next(&machine.kv, out, CHUNK_BYTES, CHUNK_KEYS),
        }
    }

    /// Lets go of what the cut kept.
    pub fn finish(self) {
        self.keys.finish();
    }
}

/// Builds a machine from portions.
#[derive(Default)]
pub struct Build {
    machine: Option<Machine>,
    keys: Loader,
}

impl Build {
    pub fn feed(&mut self, portion: Bytes) -> Result<(), DecodeError> {
        if self.machine.is_some() {
            return self.keys.feed(portion);
        }
        let mut r = Reader::new(portion);
        let mut machine = Machine { index: r.u64()?, term: r.u64()?, ..Default::default() };
        machine.members = Members::decode(&mut r)?;
        for _ in 0..r.count()? {
            machine.alarms.insert(Alarm { member: r.u64()?, kind: alarm_kind(r.u8()?)? });
        }
        machine.users = Auth::restore(&r.bytes()?).map_err(|e| DecodeError(e.0))?;
        if !r.is_empty() {
            // Written before there were shards: everything is here.
            machine.shards = Shards::decode(&mut r)?;
        }
        if !r.is_empty() {
            machine.notes = Notes::decode(&mut r)?;
        }
        self.machine = Some(machine);
        if r.is_empty() { Ok(()) } else { Err(DecodeError("bytes after the notes")) }
    }

    pub fn finish(self) -> Result<Machine, DecodeError> {
        let mut machine = self.machine.ok_or(DecodeError("there is no first portion"))?;
        machine.kv = self.keys.finish()?;
        Ok(machine)
    }
}

/// A snapshot file in the making.
pub struct Writer {
    file: Box<dyn DiskFile>,
    offset: u64,
    synced: u64,
    chunks: u32,
    buffer: Vec<u8>,
}

impl Writer {
    /// `received` says that the snapshot came from a peer: then the log before it is not its past.
    pub fn create(disk: &dyn Disk, path: &Path, salt: u64, point: Point, received: bool) -> io::Result<Self> {
        let file = disk.create(path)?;
        file.write_at(&header(salt, point, received), 0)?;
        Ok(Writer { file, offset: HEADER as u64, synced: 0, chunks: 0, buffer: Vec::new() })
    }

    pub fn portion(&mut self, portion: &[u8]) -> io::Result<()> {
        if portion.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&u32::try_from(portion.len()).map_err(io::Error::other)?.to_le_bytes());
        self.buffer.extend_from_slice(&chunk_crc(self.chunks, portion).to_le_bytes());
        self.buffer.extend_from_slice(portion);
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.chunks += 1;
        if self.offset - self.synced > SYNC_EVERY {
            self.file.sync()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    /// Ends the file and syncs it; returns its size. It still wants its name.
    pub fn finish(self) -> io::Result<u64> {
        let mut end = [0; 8];
        end[4..].copy_from_slice(&chunk_crc(self.chunks, b"end").to_le_bytes());
        self.file.write_at(&end, self.offset)?;
        self.file.sync()?;
        Ok(self.offset + 8)
    }
}

/// Writes a machine into a file and gives it its name. `portion` is asked for the next portion until it has none.
pub fn write(
    disk: &dyn Disk,
    dir: &Path,
    salt: u64,
    point: Point,
    mut portion: impl FnMut(&mut Vec<u8>) -> bool,
) -> io::Result<u64> {
    let tmp = dir.join(format!("{}-next.tmp", point.group));
    let written = (|| {
        let mut writer = Writer::create(disk, &tmp, salt, point, false)?;
        let mut buffer = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        loop {
            buffer.clear();
            let more = portion(&mut buffer);
            writer.portion(&buffer)?;
            if !more {
                break;
            }
        }
        let size = writer.finish()?;
        disk.rename(&tmp, &path(dir, point))?;
        Ok(size)
    })();
    if written.is_err() {
        // Half a snapshot is of no use, and its room may be what others wait for.
        drop(disk.remove(&tmp));
    }
    written
}

/// A snapshot file's name.
pub fn path(dir: &Path, point: Point) -> PathBuf {
    dir.join(format!("{}-{:020}-{}.snap", point.group, point.index, point.term))
}

/// Where a snapshot from a peer waits until the log takes it.
pub fn received_path(dir: &Path, point: Point) -> PathBuf {
    dir.join(format!("{}-{:020}-{}.recv", point.group, point.index, point.term))
}

/// A snapshot from a peer on its way in. It counts when [`Incoming::finish`] has returned.
pub struct Incoming {
    writer: Writer,
    part: PathBuf,
    whole: PathBuf,
}

impl Incoming {
    /// Begins a file under a name of its own: one that has come before and waits to be taken stays whole. `number` is
    /// this member's, for no other that is under way.
    pub fn begin(disk: &dyn Disk, dir: &Path, salt: u64, point: Point, number: u64) -> io::Result<Self> {
        let part = dir.join(format!("{}-{number}-part.tmp", point.group));
        let writer = Writer::create(disk, &part, salt, point, true)?;
        Ok(Incoming { writer, part, whole: received_path(dir, point) })
    }

    pub fn portion(&mut self, portion: &[u8]) -> io::Result<()> {
        self.writer.portion(portion)
    }

    /// Syncs the file; from now on consensus may be told of it.
    pub fn finish(self, disk: &dyn Disk) -> io::Result<()> {
        self.writer.finish()?;
        disk.rename(&self.part, &self.whole)
    }

    /// Half a snapshot is of no use.
    pub fn abandon(self, disk: &dyn Disk) {
        drop(disk.remove(&self.part));
    }
}

/// Removes what came from peers and was not taken, up to `index`, which is applied.
pub fn forget_received(disk: &dyn Disk, dir: &Path, group: GroupId, index: u64) {
    for path in disk.list(dir).unwrap_or_default() {
        if parse(&path, ".recv").is_some_and(|point| point.group == group && point.index <= index) {
            drop(disk.remove(&path));
        }
    }
}

fn parse(path: &Path, suffix: &str) -> Option<Point> {
    let mut parts = path.file_name()?.to_str()?.strip_suffix(suffix)?.split('-');
    let (group, index, term) = (parts.next()?, parts.next()?, parts.next()?);
    let point = Point { group: group.parse().ok()?, index: index.parse().ok()?, term: term.parse().ok()? };
    parts.next().is_none().then_some(point)
}

/// The snapshots of a folder by their points.
pub fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(Point, PathBuf)>> {
    let mut found: Vec<_> =
        disk.list(dir)?.into_iter().filter_map(|path| Some((parse(&path, ".snap")?, path))).collect();
    found.sort_unstable();
    Ok(found)
}

/// Removes segments of the log that nobody needs, oldest first, and a group's snapshots before `index`. The very first
/// snapshot stays as long as the log reaches back to it: then a damaged newer one can be done without.
pub fn purge(
    disk: &dyn Disk,
    wal_dir: &Path,
    snapshot_dir: &Path,
    group: GroupId,
    index: u64,
    segments: &[PathBuf],
) -> io::Result<()> {
    for segment in segments {
        // A crash may undo the removal before this one and not this one, and a log with a gap is refused.
        disk.sync_dir(wal_dir)?;
        disk.remove(segment)?;
    }
    let whole = wal::segments(disk, wal_dir).is_ok_and(|s| s.first().is_some_and(|(n, _)| *n == 1));
    for (point, path) in list(disk, snapshot_dir)? {
        if point.group == group && point.index < index && !(whole && point.index == 1) {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

/// A snapshot file being read, portion by portion.
pub struct FileReader {
    file: Box<dyn DiskFile>,
    /// It came from a peer.
    pub received: bool,
    offset: u64,
    chunks: u32,
}

impl FileReader {
    pub fn open(disk: &dyn Disk, path: &Path, salt: u64, point: Point) -> Result<Self, String> {
        let file = disk.open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut head = [0; HEADER];
        let got = file.read_at(&mut head, 0).map_err(|e| format!("cannot read the head: {e}"))?;
        let received = head[20] == 1;
        if got < HEADER || head != header(salt, point, received) {
            return Err("the head is damaged, or the snapshot belongs to another store".to_owned());
        }
        Ok(FileReader { file, received, offset: HEADER as u64, chunks: 0 })
    }

    /// The next portion; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> Result<Option<Bytes>, String> {
        let at = self.offset;
        self.read().map_err(|why| format!("at offset {at}: {why}"))
    }

    fn read(&mut self) -> Result<Option<Bytes>, String> {
        let failed = |e: io::Error| format!("cannot read a chunk: {e}");
        let mut start = [0; 8];
        if self.file.read_at(&mut start, self.offset).map_err(failed)? < start.len() {
            return Err("the file ends in the middle of a chunk".to_owned());
        }
        let length = u32::from_le_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let sum = u32::from_le_bytes([start[4], start[5], start[6], start[7]]);
        let rest = self.file.len().map_err(failed)?.saturating_sub(self.offset + 8);
        if length == 0 {
            let ends = sum == chunk_crc(self.chunks, b"end") && rest == 0;
            return if ends { Ok(None) } else { Err("the end is wrong".to_owned()) };
        }
        // A damaged length asks for at most what the file has.
        if length as u64 > rest || length > MAX_CHUNK {
            return Err("a chunk is longer than the file".to_owned());
        }
        let mut bytes = vec![0; length];
        let got = self.file.read_at(&mut bytes, self.offset + 8).map_err(failed)?;
        if got != length || chunk_crc(self.chunks, &bytes) != sum {
            return Err("checksum mismatch".to_owned());
        }
        self.offset += 8 + length as u64;
        self.chunks += 1;
        Ok(Some(bytes.into()))
    }
}

/// Reads a snapshot file; the error says where it is damaged. The flag says that it came from a peer.
pub fn read(disk: &dyn Disk, path: &Path, salt: u64, point: Point) -> Result<(Machine, bool), String> {
    let load = || {
        let mut file = FileReader::open(disk, path, salt, point)?;
        let mut build = Build::default();
        while let Some(portion) = file.next()? {
            build.feed(portion).map_err(|e| e.to_string())?;
        }
        let machine = build.finish().map_err(|e| e.to_string())?;
        if (machine.index, machine.term) != (point.index, point.term) {
            return Err("the content is of another point of the log".to_owned());
        }
        Ok((machine, file.received))
    };
    load().map_err(|why: String| format!("{}: {why}", path.display()))
}

fn chunk_crc(number: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), bytes)
}

fn header(salt: u64, point: Point, received: bool) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&salt.to_le_bytes());
    head[16..20].copy_from_slice(&point.group.to_le_bytes());
    head[20] = u8::from(received);
    head[24..32].copy_from_slice(&point.index.to_le_bytes());
    head[32..40].copy_from_slice(&point.term.to_le_bytes());
    let crc = crc32c::crc32c(&head[..HEADER - 4]);
    head[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    head
}
