//! The database in the data folder of an etcd that is stopped.
//!
//! What it does not have: etcd commits to its database every 100 ms or 10,000 operations, and everything newer is only
//! in its write-ahead log (`member/wal`), which is not read here. After `etcd` was stopped by a signal that it could
//! answer, the database is complete up to [`Facts::consistent_index`](crate::Facts::consistent_index), usually all;
//! after a crash, the last moments are missing. Whoever needs them starts the etcd once more and asks it:
//! `etcdctl snapshot save FILE` answers with everything.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use bolt::Stream;

use crate::{HashCheck, ReadError, Snapshot};

/// Where the database is below a data folder (`--data-dir`).
pub const DATABASE: &str = "member/snap/db";

/// Opens the database below a data folder. An etcd that runs on it is noticed by its lock on the file.
pub fn open_data_dir(folder: &Path) -> Result<Snapshot<Stream<File>>, ReadError> {
    open(folder.join(DATABASE), HashCheck::Skip)
}

/// Opens a snapshot file.
pub fn open_file(path: &Path, check: HashCheck) -> Result<Snapshot<Stream<File>>, ReadError> {
    open(path.to_path_buf(), check)
}

fn open(path: PathBuf, check: HashCheck) -> Result<Snapshot<Stream<File>>, ReadError> {
    let failed = |source| ReadError::Open { path: path.clone(), source };
    let file = File::open(&path).map_err(failed)?;
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(ReadError::InUse { path }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    Snapshot::open(Stream::new(file).map_err(failed)?, check)
}
