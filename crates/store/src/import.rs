//! A fresh data folder that begins with what an etcd's database holds: all keys with their histories, and all leases.
//!
//! Members are those of the new cluster; the old one's, its alarms and its place in its log stay behind, as with
//! `etcdutl snapshot restore`.

use std::{path::Path, sync::Arc};

use auth::{Auth, Bucket};
use etcd_snapshot::{Facts, ReadError, Record, Snapshot};
use mvcc::{ExportedWrite, Import, State};
use replica::{Folders, Machine, Settings};
use store_api::StoreError;
use wal::disk::SharedDisk;

use crate::{
    disk::RealDisk,
    folder::{Folder, SEGMENT_BYTES},
    options::{Bootstrap, Timing},
};

/// Records between two reports of progress.
const REPORT_EVERY: u64 = 10_000;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the history in the database makes no sense")]
    History(#[from] mvcc::ImportError),
    #[error("revision {0} has more writes than a transaction can have")]
    Sub(i64),
    #[error("the database's users or roles cannot be read: {0}; --without-auth leaves them behind")]
    Users(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How to import.
pub struct ImportOptions<'a> {
    /// The member's folder; not there yet, or left behind by an import that was cut short.
    pub root: &'a Path,
    /// A folder of its own for the log.
    pub wal: Option<&'a Path>,
    /// The cluster that begins.
    pub bootstrap: Bootstrap,
    /// Leave users and roles behind, if there are some.
    pub without_auth: bool,
    /// Told now and then how many writes were read.
    pub progress: &'a mut dyn FnMut(u64),
}

/// What was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    pub revision: i64,
    pub compacted: i64,
    pub keys: u64,
    pub leases: usize,
}

/// Makes the folder. It is complete when this returns and not before.
pub fn import<S: bolt::Source>(
    options: ImportOptions<'_>,
    snapshot: &mut Snapshot<S>,
) -> Result<Imported, ImportError> {
    let ImportOptions { root, wal, bootstrap, without_auth, progress } = options;
    let users = if without_auth { Auth::default() } else { users(snapshot.facts())? };
    let state = state(snapshot, progress)?;
    let imported = Imported {
        revision: state.revision(),
        compacted: state.compacted(),
        keys: state.keys(),
        leases: state.leases().count(),
    };
    found(root, wal, &bootstrap, state, users)?;
    Ok(imported)
}

fn users(facts: &Facts) -> Result<Auth, ImportError> {
    let buckets = [(Bucket::Auth, &facts.auth), (Bucket::Users, &facts.auth_users), (Bucket::Roles, &facts.auth_roles)];
    let entries = buckets
        .into_iter()
        .flat_map(|(bucket, entries)| entries.iter().map(move |(key, value)| (bucket, &key[..], &value[..])));
    Auth::from_entries(entries).map_err(|error| ImportError::Users(error.to_string()))
}

fn state<S: bolt::Source>(snapshot: &mut Snapshot<S>, progress: &mut dyn FnMut(u64)) -> Result<State, ImportError> {
    let leases: Vec<_> = snapshot.facts().leases.iter().map(|lease| (lease.id, lease.ttl)).collect();
    let mut import = Import::new(snapshot.facts().compacted(), leases)?;
    let mut records = snapshot.records()?;
    let mut read = 0;
    while let Some(record) = records.next()? {
        match record.is_mark() {
            true => import.reached(record.revision),
            false => import.write(&write(&record)?)?,
        }
        read += 1;
        if read % REPORT_EVERY == 0 {
            progress(read);
        }
    }
    progress(read);
    Ok(import.finish())
}

fn write<'a>(record: &Record<'a>) -> Result<ExportedWrite<'a>, ImportError> {
    let Record { revision, sub, tombstone, key, value, create, version, lease } = *record;
    let sub = u32::try_from(sub).map_err(|_| ImportError::Sub(revision))?;
    Ok(ExportedWrite { revision, sub, tombstone, key, value, create, version, lease, superseded: false })
}

fn found(root: &Path, wal: Option<&Path>, bootstrap: &Bootstrap, state: State, users: Auth) -> Result<(), StoreError> {
    let disk = RealDisk::default();
    let folder = Folder::open(root, wal, &disk, || bootstrap.founded(1, &[]))?;
    if !folder.fresh {
        return Err(StoreError::InvalidArgument(format!("{} holds a member already", root.display())));
    }
    let machine = Machine { kv: state, users, ..Machine::founded_by(bootstrap.founders().iter().cloned()) };
    let (wal, snapshots, identity) = (folder.wal(), folder.snapshots(), folder.identity);
    let folders = Folders { wal: &wal, snapshots: &snapshots, salt: identity.salt, segment_bytes: SEGMENT_BYTES };
    let settings = Settings {
        member: identity.member,
        election_ticks: Timing::default().election_ticks as usize,
        heartbeat_ticks: 1,
        pre_vote: true,
        keep_bytes: 0,
        keep_entries: None,
        seed: runtime::entropy::random_u64(),
        lease_reads: None,
    };
    let shared: SharedDisk = Arc::new(disk.clone());
    replica::found_with(&shared, &folders, settings, vec![machine])?;
    folder.seal(&disk)
}
