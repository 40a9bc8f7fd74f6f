//! `plinth store export`: from a running member, or from the folder of a stopped one, to a file.

use std::path::{Path, PathBuf};

use store_api::StoreError;

use super::{
    command::{Export, From},
    file::{FileError, SnapshotFile},
    progress::Progress,
};
use crate::remote::Remote;

/// Bytes between two looks of whoever waits.
const SHOW_EVERY: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Connect(#[from] etcd_client::ConnectError),
    #[error("the member's snapshot broke off")]
    Stream(#[source] StoreError),
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{0} holds the data of an etcd: `etcdutl snapshot` works on it, and `plinth store import --from-data-dir` takes it"
    )]
    Etcd(PathBuf),
    #[error("the async runtime cannot be started")]
    Runtime(#[source] std::io::Error),
}

/// Returns what to tell.
pub fn run(command: &Export) -> Result<String, ExportError> {
    let size = match &command.from {
        From::Endpoints(remote) => download(remote, &command.file)?,
        From::DataDir(folder, wal) => read(folder, wal.as_deref(), &command.file)?,
    };
    Ok(format!("Snapshot saved at {} ({size} bytes and their hash)", command.file.display()))
}

/// A running member's database into a file; returns its size.
pub fn download(remote: &Remote, file: &Path) -> Result<u64, ExportError> {
    // Whoever has installed one before has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExportError::Runtime)?;
    runtime.block_on(async {
        let mut stream = etcd_client::snapshot(&remote.options(), remote.user.as_ref()).await?;
        let mut file = SnapshotFile::create(file)?;
        let mut progress = Progress::new("snapshot", SHOW_EVERY);
        while let Some(message) = stream.next().await.map_err(ExportError::Stream)? {
            file.write(&message.blob)?;
            progress.show(file.written(), Some(file.written() + message.remaining_bytes), "bytes");
        }
        Ok(file.finish()?)
    })
}

fn read(folder: &Path, wal: Option<&Path>, file: &Path) -> Result<u64, ExportError> {
    let member = folder.join("member");
    if !member.join("VERSION").exists() && folder.join(etcd_snapshot::folder::DATABASE).exists() {
        return Err(ExportError::Etcd(folder.to_owned()));
    }
    let mut backup = store::export_folder(&member, wal).map_err(ExportError::Store)?;
    let mut file = SnapshotFile::create(file)?;
    let mut progress = Progress::new("snapshot", SHOW_EVERY);
    while let Some(portion) = backup.next_portion().map_err(ExportError::Store)? {
        file.write(&portion)?;
        progress.show(file.written(), Some(file.written() + backup.remaining()), "bytes");
    }
    Ok(file.finish()?)
}
