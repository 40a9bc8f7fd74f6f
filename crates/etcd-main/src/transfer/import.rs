//! `plinth store import`: from a snapshot file, a running cluster or the folder of a stopped etcd, to a data folder.

use std::fs::File;

use bolt::Stream;
use etcd_snapshot::{HashCheck, ReadError, Snapshot, folder};
use store::ImportOptions;

use super::{
    command::{Import, Source},
    export::{self, ExportError},
    progress::Progress,
    target::{Target, TargetError},
};
use crate::bootstrap::BootstrapError;

/// Writes between two looks of whoever waits.
const SHOW_EVERY: u64 = 50_000;

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Download(#[from] ExportError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] store::ImportError),
}

/// Returns what to tell.
pub fn run(command: &Import) -> Result<String, ImportError> {
    let bootstrap = command.cluster.bootstrap()?;
    let target = Target::take(&command.data_dir)?;
    let mut snapshot = open(command, &target)?;
    let mut progress = Progress::new("import", SHOW_EVERY);
    let options = ImportOptions {
        root: &target.growing(),
        wal: command.wal_dir.as_deref(),
        bootstrap,
        without_auth: command.without_auth,
        progress: &mut |read| progress.show(read, None, "writes"),
    };
    let store::Imported { revision, compacted, keys, leases } = store::import(options, &mut snapshot)?;
    drop(progress);
    target.finish()?;
    let folder = command.data_dir.display();
    Ok(format!(
        "Imported into {folder}: {keys} keys, {leases} leases, revision {revision}, compact revision {compacted}"
    ))
}

fn open(command: &Import, target: &Target) -> Result<Snapshot<Stream<File>>, ImportError> {
    let check = if command.skip_hash_check { HashCheck::Skip } else { HashCheck::Required };
    let mut snapshot = match &command.source {
        Source::Snapshot(file) => folder::open_file(file, check)?,
        Source::DataDir(root) => folder::open_data_dir(root)?,
        Source::Endpoints(remote) => {
            export::download(remote, &target.download())?;
            folder::open_file(&target.download(), HashCheck::Required)?
        }
    };
    let hashed = check == HashCheck::Required && !matches!(command.source, Source::DataDir(_));
    if !hashed {
        // Where no hash speaks for the file, its structure is looked through as a whole.
        snapshot.status()?;
    }
    Ok(snapshot)
}
