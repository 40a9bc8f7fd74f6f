//! What the host was like before: written down at the first start, put back by cleanup.
//!
//! Only what was changed is put back, and only if it still is as it was set: forwarding that was on before stays on.

use std::{fs, io, path::PathBuf};

use nix::{
    mount::{MntFlags, umount2},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use serde::{Deserialize, Serialize};

use crate::{Error, Paths};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

#[derive(Debug, Serialize, Deserialize)]
struct Before {
    ip_forward: String,
    /// Nothing was mounted where the BPF file system belongs.
    mount_bpffs: bool,
}

fn file(paths: &Paths) -> PathBuf {
    paths.state_dir.join("host-before.json")
}

fn bpffs_missing(paths: &Paths) -> bool {
    let mount_point = paths.bpf_dir.parent().unwrap_or(&paths.bpf_dir);
    statfs(mount_point).is_ok_and(|found| found.filesystem_type() != BPF_FS_MAGIC)
}

/// Writes down how the host is, unless an earlier start did.
pub fn remember(paths: &Paths) -> Result<(), Error> {
    let path = file(paths);
    let failed = |source| Error::Sysctl { name: FORWARDING, source };
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(&paths.state_dir).map_err(failed)?;
    let ip_forward = fs::read_to_string(FORWARDING).map_err(failed)?.trim().to_owned();
    let before = Before { ip_forward, mount_bpffs: bpffs_missing(paths) };
    fs::write(path, serde_json::to_vec(&before).map_err(|error| failed(error.into()))?).map_err(failed)
}

/// Lets the host route between pods and the outside.
pub fn enable_forwarding() -> Result<(), Error> {
    fs::write(FORWARDING, "1").map_err(|source| Error::Sysctl { name: FORWARDING, source })
}

/// Puts back what was written down and forgets it.
pub fn restore(paths: &Paths) -> Result<(), Error> {
    let path = file(paths);
    let Some(before) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Before>(&bytes).ok()) else {
        return Ok(());
    };
    if before.ip_forward != "1" {
        fs::write(FORWARDING, &before.ip_forward).map_err(|source| Error::Sysctl { name: FORWARDING, source })?;
    }
    let mount_point = paths.bpf_dir.parent().unwrap_or(&paths.bpf_dir);
    // Names with a dot are the kernel's own (`maps.debug`); nobody else can make such.
    let is_pin =
        |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|e| !e.file_name().as_encoded_bytes().contains(&b'.'));
    let empty = fs::read_dir(mount_point).is_ok_and(|entries| !entries.into_iter().any(is_pin));
    // Somebody else may have begun to use the file system that we mounted.
    if before.mount_bpffs && empty && !bpffs_missing(paths) {
        umount2(mount_point, MntFlags::empty())
            .map_err(|errno| Error::Remove { path: mount_point.to_owned(), source: errno.into() })?;
    }
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Remove { path, source }),
        _ => Ok(()),
    }
}
