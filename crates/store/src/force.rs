//! A new cluster from what one member has, when most of the others are lost for good (etcd's `--force-new-cluster`).
//!
//! Works on a folder that no process uses. Knows no network: nobody is asked.

use std::{path::Path, sync::Arc};

use replica::Folders;
use store_api::StoreError;

use crate::{
    disk::RealDisk,
    folder::{Folder, Identity, SEGMENT_BYTES},
};

/// What is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    pub cluster: u64,
    pub member: u64,
    /// The last entry of the log, on which the new cluster begins.
    pub index: u64,
}

/// Makes the member of this folder the only one of its cluster, with all that its log has. That is in `wal`, if it is
/// kept apart.
pub fn force_new_cluster(root: &Path, wal: Option<&Path>) -> Result<Forced, StoreError> {
    let disk = RealDisk::default();
    let nobody = || Err(StoreError::InvalidArgument(format!("{} holds no member", root.display())));
    let folder = Folder::open(root, wal, &disk, nobody)?;
    let (wal, snapshots) = (folder.wal(), folder.snapshots());
    let Identity { cluster, member, salt, groups } = folder.identity;
    let folders = Folders { wal: &wal, snapshots: &snapshots, salt, segment_bytes: SEGMENT_BYTES };
    let machines = replica::leave_alone(&(Arc::new(disk) as wal::disk::SharedDisk), &folders, member, groups)?;
    Ok(Forced { cluster, member, index: machines.first().map_or(0, |machine| machine.index) })
}
