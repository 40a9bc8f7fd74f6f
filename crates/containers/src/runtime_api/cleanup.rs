//! Removing what was left behind, with or without the shims' help.

use std::{fs, io, path::Path, time::Duration};

use runtime::blocking;

use super::connection::Connection;
use crate::{
    cgroup::{Cgroup, Hierarchies},
    error::{Error, IoContext},
    moves,
    protocol::Op,
    record::{self, CONTAINERS, SANDBOX_FILE, SOCKET, SandboxRecord},
    types::ContainerId,
};

/// How long a shim may take to end its pod before it is ended with it.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// Removes whatever the runtime left on the machine: containers, shims, mounts, cgroups and the state folder's own
/// content, and the containers' files (not the images) under `data_dir`. Works without a runtime, and twice in a row.
pub async fn cleanup(state_dir: &Path, data_dir: &Path, cgroup_root: &str) -> Result<(), Error> {
    let root = cgroup_root.trim_matches('/').to_owned();
    if root.is_empty() {
        return Err(Error::Invalid("the cgroup root must not be the machine's own".into()));
    }
    let hierarchies = Hierarchies::detect();
    let pods = state_dir.join("pods");
    let dirs: Vec<_> = fs::read_dir(&pods).map(|e| e.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    let ends = dirs.iter().map(|dir| tokio::time::timeout(SHUTDOWN_TIME, shut_down(dir)));
    futures::future::join_all(ends).await;
    for dir in &dirs {
        forget_pod(dir, data_dir, &hierarchies).await;
    }
    let group = hierarchies.group(&root);
    let (data_dir, containers) = (data_dir.to_path_buf(), data_dir.join("containers"));
    blocking(move || {
        group.kill();
        moves::restore(&data_dir).context("put back the cgroup2 mount's options in", &data_dir)?;
        group.remove().context("remove cgroup", root)?;
        remove_all(&pods).context("remove", &pods)?;
        remove_all(&containers).context("remove", &containers)
    })
    .await
}

async fn shut_down(dir: &Path) {
    let Ok(connection) = Connection::open(&dir.join(SOCKET)) else { return };
    // The answer is read by listening; nothing else is asked for on this connection.
    let ask = async {
        if let Ok(mut answers) = connection.ask(Op::Shutdown, &[]).await {
            let _ = answers.next().await;
        }
    };
    let listen = async { while connection.listen().await.is_some() {} };
    tokio::select! { () = ask => {}, () = listen => {} }
}

/// Removes what is left of a pod when its shim has gone: processes, cgroups, mounts, files. Keeps going on errors,
/// so that one stubborn thing does not keep the rest.
pub(super) async fn forget_pod(dir: &Path, data_dir: &Path, hierarchies: &Hierarchies) {
    let (dir, data_dir, hierarchies) = (dir.to_path_buf(), data_dir.to_path_buf(), hierarchies.clone());
    blocking(move || {
        let record: io::Result<SandboxRecord> = record::read(&dir.join(SANDBOX_FILE));
        if let Ok(record) = record {
            let group = hierarchies.group(&record.cgroup);
            group.kill();
            if let Err(error) = group.remove() {
                tracing::warn!(cgroup = record.cgroup, %error, "cannot remove the pod's cgroup");
            }
        }
        for entry in fs::read_dir(dir.join(CONTAINERS)).into_iter().flatten().flatten() {
            let files = data_dir.join("containers").join(entry.file_name());
            if let Err(error) = remove_all(&files) {
                tracing::warn!(path = %files.display(), %error, "cannot remove a container's files");
            }
        }
        let _ = nix::mount::umount2(&dir.join("shm"), nix::mount::MntFlags::MNT_DETACH);
        if let Err(error) = remove_all(&dir) {
            tracing::warn!(path = %dir.display(), %error, "cannot remove the sandbox's folder");
        }
    })
    .await;
}

/// Removes a container whose shim is gone.
pub(super) fn forget_container(pod: &Path, data_dir: &Path, cgroup: &Cgroup, id: &ContainerId) -> Result<(), Error> {
    cgroup.kill();
    cgroup.remove().context("remove cgroup of", id.as_str())?;
    for dir in [pod.join(CONTAINERS).join(id.as_str()), data_dir.join("containers").join(id.as_str())] {
        remove_all(&dir).context("remove", dir)?;
    }
    Ok(())
}

fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
