//! The writing half of a member: its groups' consensus over one log on disk.
//!
//! ```text
//!   inputs to Group::raft ─▶ turn: for every group, what may be sent at once ─▶ out.send
//!                                  all groups' records ─▶ one frame, one sync
//!                                  what waited for that  ─▶ out.send, out.apply
//! ```
//!
//! Knows no thread and no clock. The order of the calls of [`Output`] within a turn is the order in which they may be
//! carried out; whoever carries them out later must keep it.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use consensus::{Consensus, Entry, HardState, LeaseReads, Message, Options, Raft, Restored, Role, SnapshotMetadata};
use wal::{CommitError, Disk, Wal};

use crate::{
    GroupId, Members,
    members::MemberChange,
    record::{ENTRY_HEAD, Record},
    snapshot::{self, Point},
};

/// What a frame has beside its records: head, tail, lengths and hard states.
const FRAME_BYTES: u64 = 4096;

/// What is the same for all groups of a member.
#[derive(Clone, Debug)]
pub struct Settings {
    pub member: u64,
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    pub pre_vote: bool,
    /// Bytes of applied entries that are kept in memory for peers that are a little behind; one that is further behind
    /// is sent a snapshot.
    pub keep_bytes: usize,
    /// Entries before a snapshot that are kept for the same when it is written: etcd's
    /// `--experimental-snapshot-catchup-entries`. `None` leaves it to the bytes alone.
    pub keep_entries: Option<u64>,
    /// Where election timeouts come from.
    pub seed: u64,
    /// Reads ask nobody while the leader has a lease. On some members only, it is used where enough of them have it on.
    pub lease_reads: Option<LeaseReads>,
}

impl Settings {
    fn options(&self, group: GroupId) -> Options {
        let mut options = Options::new(self.member, self.seed ^ (u64::from(group) << 32));
        options.election_ticks = self.election_ticks;
        options.heartbeat_ticks = self.heartbeat_ticks;
        options.pre_vote = self.pre_vote;
        options.lease_reads = self.lease_reads;
        options
    }
}

/// Carries out what a turn decides.
pub trait Output {
    /// For the peers, as soon as may be. They may be lost.
    fn send(&mut self, group: GroupId, messages: Vec<Message>);

    /// Committed entries, in order, each once.
    fn apply(&mut self, group: GroupId, entries: Vec<Entry>);

    /// A received snapshot takes the place of the state. Its file has its final name already. Returns the members in
    /// it; an error stops the member.
    fn install(&mut self, group: GroupId, metadata: SnapshotMetadata) -> Result<Members, String>;

    /// A read that was asked for with this context may be served once `index` is applied.
    fn read(&mut self, group: GroupId, context: u64, index: u64);

    /// Role or leader changed.
    fn changed(&mut self, group: GroupId, role: Role, leader: u64);

    /// This member was removed from the cluster, in every group.
    fn removed(&mut self);
}

/// One group's half.
pub struct Group {
    pub id: GroupId,
    pub raft: Raft,
    /// As of the last committed entry; the machine's own follow as it applies.
    pub members: Members,
    /// Entries up to here are applied.
    applied: u64,
    /// The newest snapshot on disk.
    snapshot: u64,
    /// What the log on disk says last.
    written: HardState,
    /// A snapshot from a peer that the log is about to tell of.
    taken: Option<u64>,
    /// Committed changes of membership that take effect at the end of the turn.
    changes: Vec<Entry>,
}

/// All groups of a member, and their log.
pub struct Core {
    settings: Settings,
    disk: Arc<dyn Disk>,
    snapshot_dir: PathBuf,
    wal: Wal,
    groups: Vec<Group>,
    /// The last entry of each group in each segment, oldest first: a segment goes when snapshots cover all of it.
    segments: VecDeque<Segment>,
    /// Written by the next turn before anything else: the disk had no room for it.
    unwritten: Option<(Vec<Bytes>, Vec<usize>)>,
    /// Bytes appended since the start.
    pub appended: u64,
}

/// A part of the log on disk.
#[derive(Debug, Default)]
pub struct Segment {
    pub path: PathBuf,
    pub last: BTreeMap<GroupId, u64>,
}

/// What recovery hands over.
pub struct RestoredGroup {
    pub id: GroupId,
    pub restored: Restored,
    pub members: Members,
    /// The snapshot came from a peer, and the log does not tell of it yet: that is made up for before anything else.
    pub untold: bool,
}

impl Core {
    pub fn new(
        settings: Settings,
        disk: Arc<dyn Disk>,
        snapshot_dir: PathBuf,
        wal: Wal,
        segments: VecDeque<Segment>,
        groups: Vec<RestoredGroup>,
    ) -> Self {
        let mut untold = Vec::new();
        let mut group = |g: RestoredGroup| {
            if g.untold {
                untold.push(Record::base(g.id, g.restored.base.index, g.restored.base.term));
                untold.push(Record::hard(g.id, &g.restored.hard));
            }
            let taken = g.untold.then_some(g.restored.base.index);
            let (applied, written, base) = (g.restored.base.index, g.restored.hard.clone(), g.restored.base.clone());
            let mut raft = Raft::new(&settings.options(g.id), g.restored);
            if applied > 0 {
                raft.snapshot_available(base);
            }
            let (id, members, snapshot) = (g.id, g.members, applied);
            Group { id, raft, members, applied, snapshot, written, taken, changes: Vec::new() }
        };
        let groups = groups.into_iter().map(&mut group).collect();
        let unwritten = (!untold.is_empty()).then_some((untold, Vec::new()));
        Core { disk, snapshot_dir, wal, groups, segments, unwritten, appended: 0, settings }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group by its number; groups are numbered from 0 on without gaps.
    pub fn group(&mut self, id: GroupId) -> &mut Group {
        &mut self.groups[id as usize]
    }

    /// Time goes on by one tick.
    pub fn tick(&mut self, now: Duration) {
        self.groups.iter_mut().for_each(|g| g.raft.tick(now));
    }

    /// Whether entries of about `bytes` find room. Asked before they are proposed or taken from a peer, for afterwards
    /// they can be refused no more.
    pub fn prepare(&mut self, bytes: u64, frees_space: bool) -> Result<(), CommitError> {
        self.wal.prepare(bytes + FRAME_BYTES, frees_space)
    }

    /// Carries on until there is nothing to do. After [`CommitError::Refused`] the turn is unfinished and nothing is
    /// lost: call it again when there may be room. After [`CommitError::Broken`] the member must stop.
    pub fn turn(&mut self, out: &mut dyn Output) -> Result<(), CommitError> {
        if let Some((records, busy)) = self.unwritten.take() {
            self.finish(records, busy, out)?;
        }
        loop {
            let (mut records, mut busy) = (Vec::new(), Vec::new());
            for (position, group) in self.groups.iter_mut().enumerate() {
                if group.begin(&*self.disk, &self.snapshot_dir, &mut records, out)? {
                    busy.push(position);
                }
            }
            if busy.is_empty() {
                if self.is_removed() {
                    out.removed();
                }
                return Ok(());
            }
            self.finish(records, busy, out)?;
        }
    }

    /// Until the last group has let it go, another member may need its vote there. A group that it never came to know was
    /// never in need of it.
    fn is_removed(&self) -> bool {
        let me = self.settings.member;
        self.groups[0].members.is_removed(me) && self.groups.iter().all(|group| group.members.get(me).is_none())
    }

    fn finish(&mut self, records: Vec<Bytes>, busy: Vec<usize>, out: &mut dyn Output) -> Result<(), CommitError> {
        if let Err(error) = self.write(&records) {
            self.unwritten = Some((records, busy));
            return Err(error);
        }
        for position in busy {
            self.groups[position].end(out);
        }
        Ok(())
    }

    fn write(&mut self, records: &[Bytes]) -> Result<(), CommitError> {
        if records.is_empty() {
            return Ok(());
        }
        let bytes: usize = records.iter().map(|r| r.len() + 4).sum();
        self.wal.prepare(bytes as u64 + FRAME_BYTES, true)?;
        let new_segment = self.segments.back().is_none_or(|s| s.path != self.wal.path());
        if new_segment {
            // Votes must not go when older segments do: each segment begins with all of them.
            let mut all: Vec<Bytes> = self.groups.iter().map(|g| Record::hard(g.id, &g.written)).collect();
            all.extend_from_slice(records);
            self.appended += self.wal.append(&all)?;
            self.segments.push_back(Segment { path: self.wal.path().to_owned(), last: BTreeMap::new() });
        } else {
            self.appended += self.wal.append(records)?;
        }
        let segment = self.segments.back_mut().expect("one was pushed if there was none");
        for group in &mut self.groups {
            if let Some(index) = group.taken.take() {
                // Without this record, what the log has after the snapshot does not count: it stays until a later one.
                segment.last.insert(group.id, index + 1);
            }
            if let Some(last) = group.raft.unstable_last() {
                segment.last.insert(group.id, last);
            }
        }
        Ok(())
    }

    /// A snapshot of a group is on disk. Returns the segments that nobody needs any more; they are forgotten here.
    pub fn snapshot_written(&mut self, group: GroupId, base: consensus::Base) -> Vec<PathBuf> {
        let keep = self.settings.keep_entries;
        let group = self.group(group);
        group.snapshot = group.snapshot.max(base.index);
        if let Some(keep) = keep {
            group.raft.compact(base.index.saturating_sub(keep));
        }
        group.raft.snapshot_available(base);
        let covered = |segment: &Segment, groups: &[Group]| {
            segment.last.iter().all(|(id, last)| groups.get(*id as usize).is_none_or(|g| *last <= g.snapshot))
        };
        let mut gone = Vec::new();
        while self.segments.len() > 1 && covered(&self.segments[0], &self.groups) {
            gone.extend(self.segments.pop_front().map(|s| s.path));
        }
        gone
    }

    /// A group's entries up to `index` are applied.
    pub fn applied(&mut self, group: GroupId, index: u64) {
        let (keep, lone) = (self.settings.keep_bytes, self.is_lone());
        let group = self.group(group);
        if index > group.applied {
            group.applied = index;
            group.raft.applied(index);
            group.raft.keep(index, if lone { 0 } else { keep });
        }
    }

    /// Entries that the group with the most of them has applied since its last snapshot.
    pub fn entries_since_snapshot(&self) -> u64 {
        self.groups.iter().map(|g| g.applied.saturating_sub(g.snapshot)).max().unwrap_or(0)
    }

    /// Whether this member has no vote.
    pub fn is_learner(&self) -> bool {
        self.groups[0].members.get(self.settings.member).is_some_and(|m| m.is_learner)
    }

    /// Whether this is the only member: nobody has to be asked, nobody falls behind.
    pub fn is_lone(&self) -> bool {
        let mut members = self.groups[0].members.iter();
        members.next().is_some_and(|m| m.id == self.settings.member && !m.is_learner) && members.next().is_none()
    }
}

/// Bytes that an entry of so much data takes in the log, about.
pub fn entry_bytes(data: usize) -> u64 {
    (data + ENTRY_HEAD + 64) as u64
}

impl Group {
    /// The first half of a group's part in a turn; `false` if there is nothing to do.
    fn begin(
        &mut self,
        disk: &dyn Disk,
        snapshot_dir: &std::path::Path,
        records: &mut Vec<Bytes>,
        out: &mut dyn Output,
    ) -> Result<bool, CommitError> {
        let Some(ready) = self.raft.ready() else { return Ok(false) };
        if let Some((role, leader)) = ready.changed {
            out.changed(self.id, role, leader);
        }
        if !ready.messages.is_empty() {
            out.send(self.id, ready.messages);
        }
        for (context, index) in ready.reads {
            out.read(self.id, context, index);
        }
        if let Some(metadata) = ready.snapshot {
            self.install(disk, snapshot_dir, &metadata)?;
            records.push(Record::base(self.id, metadata.index, metadata.term));
            self.members = out.install(self.id, metadata).map_err(CommitError::Broken)?;
        }
        records.extend(ready.entries.iter().map(|e| Record::entry(self.id, e)));
        let hard = ready.hard_state.unwrap_or_else(|| self.raft.hard_state());
        // The commit index alone is no reason to write: it is found again by asking the others.
        let vote = (hard.term, hard.vote) != (self.written.term, self.written.vote);
        if vote || !ready.entries.is_empty() || !records.is_empty() {
            records.push(Record::hard(self.id, &hard));
            self.written = hard;
        }
        self.commit(ready.committed, out);
        Ok(true)
    }

    fn end(&mut self, out: &mut dyn Output) {
        let persisted = self.raft.persisted();
        if !persisted.messages.is_empty() {
            out.send(self.id, persisted.messages);
        }
        self.commit(persisted.committed, out);
        // Not sooner: a leader that has just removed itself could not take note of what it has written.
        for entry in std::mem::take(&mut self.changes) {
            self.change(&entry);
        }
    }

    fn install(
        &mut self,
        disk: &dyn Disk,
        dir: &std::path::Path,
        metadata: &SnapshotMetadata,
    ) -> Result<(), CommitError> {
        let point = Point { group: self.id, index: metadata.index, term: metadata.term };
        let (from, to) = (snapshot::received_path(dir, point), snapshot::path(dir, point));
        disk.rename(&from, &to).map_err(|error| {
            CommitError::Broken(format!("the snapshot {} cannot be taken: {error}", from.display()))
        })?;
        self.applied = metadata.index;
        self.snapshot = metadata.index;
        self.taken = Some(metadata.index);
        Ok(())
    }

    fn commit(&mut self, entries: Vec<Entry>, out: &mut dyn Output) {
        self.changes.extend(entries.iter().filter(|e| consensus::change_of(e).is_some()).cloned());
        if !entries.is_empty() {
            out.apply(self.id, entries);
        }
    }

    fn change(&mut self, entry: &Entry) {
        let Some(change) = consensus::change_of(entry) else { return };
        match MemberChange::from_context(entry.context.clone()) {
            // What is refused here is refused on every member, and Raft does not hear of it.
            Ok((_, wanted)) => {
                if self.members.apply(&wanted).is_ok() {
                    self.raft.apply_change(&change);
                }
            }
            // Raft's own entry that ends a joint membership.
            Err(_) => {
                self.raft.apply_change(&change);
            }
        }
    }
}
