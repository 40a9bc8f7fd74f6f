//! The store as an etcd database file, portion by portion: of a running member while it goes on, or of a folder whose
//! member is stopped.
//!
//! ```text
//!   a moment: Export of the keys, Facts of the rest
//!     pass 1: every write's length ─▶ Measure ─▶ the file's size and layout
//!     pass 2: every write          ─▶ Writer  ─▶ portions
//! ```
//!
//! Memory holds the keys that a compaction has left, the facts, and a portion. The state is locked for a step at a
//! time and keeps what the moment showed until the backup ends.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use auth::Bucket;
use bytes::Bytes;
use etcd_snapshot::{Alarm, ConfState, Facts, Finished, Lease, Measure, Member, Record, WriteError, Writer};
use mvcc::{Export, ExportedWrite, State};
use replica::{Folders, GroupId, Machine};
use store_api::{AlarmKind, Backup, StoreError};

use crate::{
    disk::RealDisk,
    folder::{Folder, Identity, SEGMENT_BYTES},
    shared::Shared,
    store::Store,
};

/// Keys that are gathered under one lock, and writes that are handed out under one.
const STEP: usize = 1024;
/// Writes under one lock weigh about so much at most.
const STEP_BYTES: usize = 256 * 1024;
/// What etcd 3.5 stores as its cluster's version.
const CLUSTER_VERSION: &str = "3.5.0";

/// Where the state is.
enum Place<'a> {
    Running(&'a Shared, GroupId),
    Stopped(&'a Machine),
}

impl Place<'_> {
    /// Shows the export its state, for a step.
    fn look<T>(&self, export: &mut Export, look: impl FnOnce(&mut Export, &State) -> T) -> Result<T, StoreError> {
        match self {
            Place::Stopped(machine) => Ok(look(export, &machine.kv)),
            Place::Running(shared, group) => {
                let machine = shared.group(*group).machine.read();
                if export.is_of(&machine.kv) {
                    return Ok(look(export, &machine.kv));
                }
                let why = "a snapshot from the leader has taken the place of what was being backed up; begin anew";
                Err(StoreError::Unavailable(why.to_owned()))
            }
        }
    }
}

/// A backup that is under way.
struct Work {
    export: Export,
    writer: Writer,
    remaining: u64,
}

impl Work {
    /// The first pass. `export` and `facts` are of one moment.
    fn begin(mut export: Export, facts: &Facts, place: &Place<'_>) -> Result<Self, StoreError> {
        while !place.look(&mut export, |export, state| export.gather(state, STEP))? {}
        export.rewind();
        let mut measure = Measure::new(facts).map_err(failed)?;
        let mut count = |export: &mut Export, state: &State| {
            export.next(state, STEP, STEP_BYTES, |write| measure.record(&record(&write)))
        };
        while place.look(&mut export, &mut count)?.map_err(failed)? {}
        let plan = measure.finish().map_err(failed)?;
        export.rewind();
        let remaining = plan.size();
        Ok(Work { export, writer: Writer::new(facts, plan).map_err(failed)?, remaining })
    }

    /// The next portion, and the backup if it was not the last; then the hash of the whole comes instead.
    fn portion(mut self, place: &Place<'_>) -> Result<(Vec<u8>, Rest), StoreError> {
        loop {
            if let Some(portion) = self.writer.portion() {
                self.remaining = self.remaining.saturating_sub(portion.len() as u64);
                return Ok((portion, Rest::More(Box::new(self))));
            }
            let writer = &mut self.writer;
            let next = |export: &mut Export, state: &State| {
                export.next(state, STEP, STEP_BYTES, |write| writer.record(&record(&write)))
            };
            if !place.look(&mut self.export, next)?.map_err(failed)? {
                let Finished { portion, hash } = self.writer.finish().map_err(failed)?;
                return Ok((portion, Rest::Done(hash)));
            }
        }
    }
}

/// What comes after a portion.
enum Rest {
    More(Box<Work>),
    /// Nothing; this is the SHA-256 of all portions.
    Done([u8; 32]),
}

/// A backup of a running member.
struct Running {
    shared: Arc<Shared>,
    group: GroupId,
    work: Option<Box<Work>>,
}

/// Begins a backup of this moment.
pub async fn begin(store: &Store) -> Result<impl Backup + use<>, StoreError> {
    let (shared, group) = (store.shared.clone(), store.group);
    if shared.groups.len() > 1 {
        return Err(StoreError::Unavailable("a store of several groups has no single history to back up".to_owned()));
    }
    runtime::blocking(move || {
        let (export, facts) = moment(&shared.group(group).machine.read());
        let work = Work::begin(export, &facts, &Place::Running(&shared, group))?;
        Ok(Running { shared, group, work: Some(Box::new(work)) })
    })
    .await
}

#[async_trait]
impl Backup for Running {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(work) = self.work.take() else { return Ok(None) };
        let (shared, group) = (self.shared.clone(), self.group);
        let (portion, rest) = runtime::blocking(move || work.portion(&Place::Running(&shared, group))).await?;
        if let Rest::More(work) = rest {
            self.work = Some(work);
        }
        Ok(Some(portion.into()))
    }

    fn remaining(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.remaining)
    }
}

/// A backup of a member that is stopped: its folder is this process's meanwhile.
pub struct FolderBackup {
    machine: Machine,
    work: Option<Box<Work>>,
    hash: Option<[u8; 32]>,
    _folder: Folder,
}

/// Reads a stopped member's folder. Of a member among others, the last moments that it had not yet heard to be decided
/// are missing. Its log is in `wal`, if it is kept apart.
pub fn export_folder(root: &Path, wal: Option<&Path>) -> Result<FolderBackup, StoreError> {
    if !root.join("VERSION").exists() {
        return Err(StoreError::InvalidArgument(format!("{} holds no member of this store", root.display())));
    }
    let nobody = || Err(StoreError::InvalidArgument(format!("{} holds no member of this store", root.display())));
    let disk = RealDisk::default();
    let folder = Folder::open(root, wal, &disk, nobody)?;
    let (wal, snapshots) = (folder.wal(), folder.snapshots());
    let salt = folder.identity.salt;
    let folders = Folders { wal: &wal, snapshots: &snapshots, salt, segment_bytes: SEGMENT_BYTES };
    let Identity { member, groups, .. } = folder.identity;
    let mut machines = replica::read(&(Arc::new(disk) as wal::disk::SharedDisk), &folders, member, groups)?;
    let (Some(machine), true) = (machines.pop(), machines.is_empty()) else {
        return Err(StoreError::Unavailable("a store of several groups has no single history to back up".to_owned()));
    };
    let (export, facts) = moment(&machine);
    let work = Work::begin(export, &facts, &Place::Stopped(&machine))?;
    Ok(FolderBackup { machine, work: Some(Box::new(work)), hash: None, _folder: folder })
}

impl FolderBackup {
    /// The next portion; the last one is the SHA-256 of those before it.
    pub fn next_portion(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(work) = self.work.take() else { return Ok(self.hash.take().map(Vec::from)) };
        let (portion, rest) = work.portion(&Place::Stopped(&self.machine))?;
        match rest {
            Rest::More(work) => self.work = Some(work),
            Rest::Done(hash) => self.hash = Some(hash),
        }
        Ok(Some(portion))
    }

    /// Bytes of the database still to come.
    pub fn remaining(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.remaining)
    }
}

/// Everything of one moment.
fn moment(machine: &Machine) -> (Export, Facts) {
    let members = || machine.members.iter();
    let ids = |learner| members().filter(move |m| m.is_learner == learner).map(|m| m.id).collect();
    let kind = |kind| match kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    };
    let users = |bucket| {
        let entries = machine.users.entries().filter(move |entry| entry.bucket == bucket);
        entries.map(|entry| (entry.key, entry.value)).collect()
    };
    let facts = Facts {
        auth: users(Bucket::Auth),
        auth_users: users(Bucket::Users),
        auth_roles: users(Bucket::Roles),
        consistent_index: machine.index,
        term: machine.term,
        conf_state: Some(ConfState { voters: ids(false), learners: ids(true), ..ConfState::default() }),
        scheduled_compact: machine.kv.compacted(),
        finished_compact: machine.kv.compacted(),
        cluster_version: Some(CLUSTER_VERSION.to_owned()),
        leases: machine.kv.leases().map(|(id, ttl)| Lease { id, ttl, remaining_ttl: 0 }).collect(),
        members: members().map(member).collect(),
        removed_members: machine.members.removed().collect(),
        alarms: machine.alarms.iter().map(|a| Alarm { member: a.member, kind: kind(a.kind) }).collect(),
        ..Facts::default()
    };
    (Export::new(&machine.kv, machine.kv.revision()), facts)
}

fn member(member: &store_api::Member) -> Member {
    let store_api::Member { id, name, peer_urls, client_urls, is_learner } = member.clone();
    Member { id, peer_urls, is_learner, name, client_urls }
}

fn record<'a>(write: &ExportedWrite<'a>) -> Record<'a> {
    let ExportedWrite { revision, sub, tombstone, key, value, create, version, lease, .. } = *write;
    Record { revision, sub: sub.into(), tombstone, key, value, create, version, lease }
}

fn failed(error: WriteError) -> StoreError {
    StoreError::Unavailable(format!("the backup cannot go on: {error}"))
}
