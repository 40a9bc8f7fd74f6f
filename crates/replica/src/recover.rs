//! From a folder to a member that goes on: for each group the newest snapshot that is whole, then the log after it.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use bytes::Bytes;
use consensus::{Entry, HardState, Restored};
use store_api::{Member, StoreError};
use wal::{Wal, disk::SharedDisk};

use crate::{
    Applied, Core, GroupId, Machine, Settings,
    core::{RestoredGroup, Segment},
    record::Record,
    snapshot::{self, Point},
};

/// Where a member's files are.
pub struct Folders<'a> {
    pub wal: &'a Path,
    pub snapshots: &'a Path,
    /// Goes into every checksum.
    pub salt: u64,
    pub segment_bytes: u64,
}

/// A member as its folder has it.
pub struct Recovery {
    pub core: Core,
    /// The state of each group at its snapshot; what is committed after it comes with the first turns.
    pub machines: Vec<Machine>,
    /// Bytes of log that no snapshot covers, about.
    pub since_snapshot: u64,
    pub snapshot_bytes: u64,
    /// Bytes of an unfinished frame that were cut off; nothing in it had been acknowledged.
    pub torn: u64,
}

/// Begins a fresh folder: as a founder together with `founders`, or, if there are none, as a member that will be sent
/// everything by others. These prefixes are not group 0's.
pub fn found(
    disk: &SharedDisk,
    folders: &Folders<'_>,
    settings: Settings,
    groups: GroupId,
    shards: &[(Bytes, GroupId)],
    founders: &[Member],
) -> Result<Recovery, StoreError> {
    let machine = |group| match founders {
        [] => Machine::default(),
        _ => Machine::founded_as(group, founders.iter().cloned(), shards),
    };
    found_with(disk, folders, settings, (0..groups).map(machine).collect())
}

/// Begins a fresh folder with these states, one of each group. One without members will be sent everything by others.
pub fn found_with(
    disk: &SharedDisk,
    folders: &Folders<'_>,
    settings: Settings,
    machines: Vec<Machine>,
) -> Result<Recovery, StoreError> {
    let full = |path: &Path, e: &std::io::Error| wal::disk::full_or("cannot prepare", path, e);
    let wal = Wal::create(disk.clone(), folders.wal.to_owned(), folders.salt, folders.segment_bytes, 1)?;
    let mut restored = Vec::new();
    for (id, machine) in (0..).zip(&machines) {
        if !machine.members.is_empty() {
            keep(disk, folders, id, machine).map_err(|e| full(folders.snapshots, &e))?;
        }
        let hard = HardState { term: machine.term, commit: machine.index, ..Default::default() };
        let (base, members) = (machine.base(), machine.members.clone());
        let begun = Restored { hard, base, entries: Vec::new() };
        restored.push(RestoredGroup { id, restored: begun, members, untold: false });
    }
    disk.sync_dir(folders.snapshots).map_err(|e| full(folders.snapshots, &e))?;
    let core = Core::new(settings, disk.clone(), folders.snapshots.to_owned(), wal, VecDeque::new(), restored);
    Ok(Recovery { core, machines, since_snapshot: 0, snapshot_bytes: 0, torn: 0 })
}

/// Reads a folder of so many groups.
pub fn recover(
    disk: &SharedDisk,
    folders: &Folders<'_>,
    settings: Settings,
    groups: GroupId,
) -> Result<Recovery, StoreError> {
    let Found { groups, machines, wal, segments, since_snapshot, snapshot_bytes, torn } = look(disk, folders, groups)?;
    let core = Core::new(settings, disk.clone(), folders.snapshots.to_owned(), wal, segments, groups);
    Ok(Recovery { core, machines, since_snapshot, snapshot_bytes, torn })
}

/// Reads a folder's states to their ends, for a member that is not to run: of one that is alone, all that its log has;
/// of one among others, all that it knew to be committed.
pub fn read(
    disk: &SharedDisk,
    folders: &Folders<'_>,
    member: u64,
    groups: GroupId,
) -> Result<Vec<Machine>, StoreError> {
    let Found { groups, mut machines, .. } = look(disk, folders, groups)?;
    for (group, machine) in groups.into_iter().zip(&mut machines) {
        let Restored { hard, entries, .. } = group.restored;
        for entry in entries {
            let lone = machine.members.len() == 1 && machine.members.get(member).is_some();
            if !lone && entry.index > hard.commit {
                break;
            }
            machine.apply(&entry, &mut Applied::default()).map_err(StoreError::Corrupt)?;
        }
    }
    Ok(machines)
}

/// Makes a member that is not running the only one of its cluster: for the day on which most of the others are lost for
/// good. Its log is taken to its end, whatever was known to be committed: what was acknowledged and has come here is in
/// it. The other members count as removed and are not let in again.
///
/// Each group's new state is a snapshot after its whole log, home last; cut short, it is done again.
pub fn leave_alone(
    disk: &SharedDisk,
    folders: &Folders<'_>,
    member: u64,
    groups: GroupId,
) -> Result<Vec<Machine>, StoreError> {
    let Found { groups, mut machines, .. } = look(disk, folders, groups)?;
    for (group, machine) in groups.into_iter().zip(&mut machines) {
        for entry in group.restored.entries {
            machine.apply(&entry, &mut Applied::default()).map_err(StoreError::Corrupt)?;
        }
        machine.members.keep_only(member)?;
    }
    for (id, machine) in machines.iter().enumerate().rev() {
        keep(disk, folders, id as GroupId, machine)
            .and_then(|()| disk.sync_dir(folders.snapshots))
            .map_err(|e| wal::disk::full_or("cannot write", folders.snapshots, &e))?;
    }
    Ok(machines)
}

/// Writes a group's whole state as its newest snapshot; the folder still wants its sync.
fn keep(disk: &SharedDisk, folders: &Folders<'_>, group: GroupId, machine: &Machine) -> std::io::Result<()> {
    let point = Point { group, index: machine.index, term: machine.term };
    let mut portions = snapshot::Portions::new(machine);
    snapshot::write(&**disk, folders.snapshots, folders.salt, point, |out| portions.next(machine, out))?;
    portions.finish();
    Ok(())
}

/// What a folder has.
struct Found {
    groups: Vec<RestoredGroup>,
    machines: Vec<Machine>,
    wal: Wal,
    segments: VecDeque<Segment>,
    since_snapshot: u64,
    snapshot_bytes: u64,
    torn: u64,
}

fn look(disk: &SharedDisk, folders: &Folders<'_>, groups: GroupId) -> Result<Found, StoreError> {
    remove_leftovers(disk, folders)?;
    let snapshots = newest_snapshots(disk, folders)?;
    let snapshot_bytes = snapshots.values().map(|s| s.bytes).sum();
    let mut logs: BTreeMap<GroupId, GroupLog> =
        snapshots.iter().map(|(id, s)| (*id, GroupLog { base: s.point, ..Default::default() })).collect();
    let found =
        wal::segments(&**disk, folders.wal).map_err(|e| wal::disk::unavailable("cannot read", folders.wal, &e))?;
    let oldest = found.first().map_or(1, |(first, _)| *first);
    let mut segments: VecDeque<(u64, Segment)> =
        found.into_iter().map(|(first, path)| (first, Segment { path, last: BTreeMap::new() })).collect();
    let mut since_snapshot = 0;
    let read = wal::recover(disk, folders.wal, folders.salt, folders.segment_bytes, oldest - 1, |number, bytes| {
        since_snapshot += bytes.len() as u64;
        let record = Record::decode(bytes).map_err(str::to_owned)?;
        let group = record.group();
        logs.entry(group).or_default().take(record)?;
        if let Some(last) = logs[&group].last_taken
            && let Some((_, segment)) = segments.iter_mut().rfind(|(first, _)| *first <= number)
        {
            segment.last.insert(group, last);
        }
        Ok(())
    })?;
    let (mut machines, mut restored) = (Vec::new(), Vec::new());
    let mut snapshots = snapshots;
    if let Some((id, _)) = logs.last_key_value().filter(|(id, _)| **id >= groups) {
        return Err(missing(folders.wal, &format!("group {id} is in the log, and there are only {groups}")));
    }
    for id in 0..groups {
        // A member that joined may have heard nothing of a group yet.
        let log = logs.remove(&id).unwrap_or_default();
        let newest = snapshots.remove(&id).unwrap_or_default();
        let (hard, entries, untold) =
            log.finish(&newest).map_err(|why| missing(folders.wal, &format!("group {id}: {why}")))?;
        let base = newest.machine.base();
        restored.push(RestoredGroup {
            id,
            restored: Restored { hard, base, entries },
            members: newest.machine.members.clone(),
            untold,
        });
        machines.push(newest.machine);
    }
    let segments = segments.into_iter().map(|(_, segment)| segment).collect();
    let (groups, wal, torn) = (restored, read.wal, read.torn);
    Ok(Found { groups, machines, wal, segments, since_snapshot, snapshot_bytes, torn })
}

/// What a crash left half done is no data.
fn remove_leftovers(disk: &SharedDisk, folders: &Folders<'_>) -> Result<(), StoreError> {
    let files =
        disk.list(folders.snapshots).map_err(|e| wal::disk::unavailable("cannot read", folders.snapshots, &e))?;
    for path in files {
        if path.extension().is_some_and(|e| e == "tmp" || e == "recv") {
            drop(disk.remove(&path));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Newest {
    machine: Machine,
    point: Option<Point>,
    received: bool,
    bytes: u64,
    /// A newer snapshot is damaged: the log must reach its point, and why it is of no use.
    damaged: Option<(u64, String)>,
}

/// Per group the newest snapshot that is whole. An older one also does, as long as the log reaches back to it.
fn newest_snapshots(disk: &SharedDisk, folders: &Folders<'_>) -> Result<BTreeMap<GroupId, Newest>, StoreError> {
    let dir = folders.snapshots;
    let all = snapshot::list(&**disk, dir).map_err(|e| wal::disk::unavailable("cannot read", dir, &e))?;
    let mut newest: BTreeMap<GroupId, Newest> = BTreeMap::new();
    for (point, path) in all.into_iter().rev() {
        let entry = newest.entry(point.group).or_default();
        if entry.point.is_some() {
            continue;
        }
        match snapshot::read(&**disk, &path, folders.salt, point) {
            Ok((machine, received)) => {
                let bytes = disk.open(&path).and_then(|f| f.len()).unwrap_or(0);
                (entry.machine, entry.point, entry.received, entry.bytes) = (machine, Some(point), received, bytes);
            }
            Err(why) => {
                tracing::error!(error = why, "a snapshot is damaged; trying what is older");
                entry.damaged.get_or_insert((point.index, why));
            }
        }
    }
    Ok(newest)
}

/// A group's part of the log, as it is read.
#[derive(Default)]
struct GroupLog {
    base: Option<Point>,
    hard: HardState,
    entries: Vec<Entry>,
    /// The log says that this snapshot took the place of what was before.
    replaced: Option<u64>,
    /// The record that was just taken is needed until a snapshot covers this index.
    last_taken: Option<u64>,
    /// The term that the log has at the snapshot's index.
    term_at_base: Option<u64>,
}

impl GroupLog {
    fn take(&mut self, record: Record) -> Result<(), String> {
        self.last_taken = None;
        let base = self.base.map_or(0, |p| p.index);
        match record {
            Record::Hard(_, hard) => self.hard = hard,
            Record::Base { index, .. } => {
                self.entries.clear();
                self.replaced = Some(index);
                self.last_taken = Some(index + 1);
            }
            Record::Entry(_, entry) => {
                self.last_taken = Some(entry.index);
                if entry.index <= base {
                    self.entries.clear();
                    if entry.index == base {
                        self.term_at_base = Some(entry.term);
                    }
                    return Ok(());
                }
                let first = self.entries.first().map_or(base + 1, |e| e.index);
                let keep = usize::try_from(entry.index - first.min(entry.index)).unwrap_or(usize::MAX);
                if keep > self.entries.len() {
                    // Entries before a snapshot that came from a peer: what follows it is read later.
                    return match self.entries.is_empty() {
                        true => {
                            self.entries.push(entry);
                            Ok(())
                        }
                        false => Err(format!(
                            "entry {} follows entry {}",
                            entry.index,
                            self.entries[self.entries.len() - 1].index
                        )),
                    };
                }
                self.entries.truncate(keep);
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    /// The hard state and the entries after the snapshot, if they fit together, and whether the log does not tell of the
    /// snapshot yet.
    fn finish(mut self, newest: &Newest) -> Result<(HardState, Vec<Entry>, bool), String> {
        let base = newest.machine.index;
        let told = self.replaced == Some(base) || self.term_at_base == Some(newest.machine.term);
        let untold = newest.received && !told;
        if untold {
            // The snapshot was taken and the log was about to say so: what the log has after it is not its future.
            self.entries.clear();
        }
        if let Some(first) = self.entries.first().map(|e| e.index)
            && first != base + 1
        {
            let why = newest.damaged.as_ref().map_or(String::new(), |(_, why)| format!("{why}. "));
            return Err(format!("{why}entries {} to {} are missing", base + 1, first - 1));
        }
        let last = base + self.entries.len() as u64;
        if let Some((index, why)) = newest.damaged.as_ref().filter(|(index, _)| *index > last) {
            return Err(format!(
                "{why}, and the log reaches only entry {last} of {index}: writes that were acknowledged are missing"
            ));
        }
        if let Some(replaced) = self.replaced.filter(|index| *index > base) {
            return Err(format!("the snapshot of entry {replaced}, on which the log goes on, is missing"));
        }
        if self.hard.commit > last {
            return Err(format!(
                "the log reaches only entry {last}, but entry {} was committed: writes that were acknowledged are missing",
                self.hard.commit
            ));
        }
        self.hard.commit = self.hard.commit.max(base);
        Ok((self.hard, self.entries, untold))
    }
}

impl Record {
    fn group(&self) -> GroupId {
        match self {
            Record::Entry(group, _) | Record::Hard(group, _) | Record::Base { group, .. } => *group,
        }
    }
}

fn missing(path: &Path, why: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "{}: {why}. Nothing was changed. Restore the data folder from a backup, or from another member",
        path.display()
    ))
}
