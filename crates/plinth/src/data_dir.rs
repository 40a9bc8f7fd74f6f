//! The cluster's folder: ours alone, of a version that we know, used by one process at a time.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// Written into `plinth.version`; raised when an older program could no longer read the folder.
const VERSION: u32 = 1;
const MARKER: &str = "plinth.version";
const LOCK: &str = "plinth.lock";

/// An opened and locked data folder.
pub struct DataDir {
    root: PathBuf,
    _lock: Flock<fs::File>,
}

impl DataDir {
    /// Opens `root`, making it when it is missing or empty.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot create the data folder {}", root.display()))?;
        check_marker(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o711))?;
        let lock = take_lock(root)?;
        // Keys on one side, mounted secrets on the other: nobody else's business.
        make_private(&root.join("server"))?;
        make_private(&root.join("agent"))?;
        fs::create_dir_all(root.join("server/tls/etcd"))?;
        Ok(DataDir { root: root.to_owned(), _lock: lock })
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("server/db")
    }

    pub fn tls(&self) -> PathBuf {
        tls(&self.root)
    }

    pub fn agent(&self) -> PathBuf {
        agent(&self.root)
    }
}

/// Makes a folder that only root enters.
pub fn make_private(dir: &Path) -> anyhow::Result<()> {
    let describe = || format!("cannot create {}", dir.display());
    fs::create_dir_all(dir).with_context(describe)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).with_context(describe)
}

/// Certificates and keys.
pub fn tls(root: &Path) -> PathBuf {
    root.join("server/tls")
}

/// The node's images, volumes and pod state.
pub fn agent(root: &Path) -> PathBuf {
    root.join("agent")
}

/// The process that holds the folder's lock, if one does.
pub fn holder(root: &Path) -> Option<i32> {
    let file = fs::OpenOptions::new().read(true).write(true).open(root.join(LOCK)).ok()?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => None,
        Err((mut file, _)) => {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            text.trim().parse().ok()
        }
    }
}

fn check_marker(root: &Path) -> anyhow::Result<()> {
    let marker = root.join(MARKER);
    match fs::read_to_string(&marker) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(VERSION) => Ok(()),
            Ok(version) if version > VERSION => bail!(
                "the data folder {} is from a newer plinth (format {version}, this one knows {VERSION}); start that \
                 version, or choose another --data-dir",
                root.display()
            ),
            _ => bail!("{} does not hold a format number: is {} ours?", marker.display(), root.display()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut entries = fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
            if let Some(entry) = entries.next() {
                bail!(
                    "the folder {} is not a plinth data folder (it holds {:?} but no {MARKER}); choose an empty one \
                     with --data-dir",
                    root.display(),
                    entry?.file_name()
                );
            }
            crate::kubeconfig::write_private(&marker, format!("{VERSION}\n").as_bytes(), 0o644)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", marker.display())),
    }
}

fn take_lock(root: &Path) -> anyhow::Result<Flock<fs::File>> {
    let path = root.join(LOCK);
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            write!(lock, "{}", std::process::id())?;
            Ok(lock)
        }
        Err(_) => {
            let owner = holder(root).map_or_else(String::new, |pid| format!(" (process {pid})"));
            bail!("the data folder {} is in use{owner}; `plinth down` stops it", root.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(root: &Path) -> String {
        DataDir::open(root).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn foreign_newer_and_busy_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let first = DataDir::open(&root).unwrap();
        assert!(message(&root).contains("is in use"), "{}", message(&root));
        assert_eq!(holder(&root), Some(i32::try_from(std::process::id()).unwrap()));
        drop(first);
        assert_eq!(holder(&root), None);
        assert_eq!(message(&root), "");

        fs::write(root.join(MARKER), "7\n").unwrap();
        assert!(message(&root).contains("from a newer plinth (format 7"), "{}", message(&root));

        let foreign = dir.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("letter.txt"), "dear").unwrap();
        assert!(message(&foreign).contains("is not a plinth data folder"), "{}", message(&foreign));
        assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
    }
}
