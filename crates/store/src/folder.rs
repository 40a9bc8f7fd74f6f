//! The data folder: whose it is, which format it has, and that one process uses it.
//!
//! ```text
//!   LOCK                    held by flock while a process uses the folder
//!   VERSION                 magic, format version, identity; written last when a folder is made
//!   wal/<first record>.wal               segments of the log; or in a folder of its own, see `log_folder`
//!   snap/<group>-<index>-<term>.snap     a group's state after the entry of that index
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use replica::GroupId;
use store_api::StoreError;
use wal::{
    Disk,
    disk::{full_or, unavailable},
};

use crate::{disk::RealDisk, log_folder};

/// The version of everything in the folder. A change that older code cannot read raises it.
pub const FORMAT: u32 = 2;
/// A segment of the log, where nothing else is said.
pub const SEGMENT_BYTES: u64 = 16 << 20;
const MAGIC: &str = "plinth store";

/// Who this store is. Bytes of another store do not pass as this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: u64,
    pub member: u64,
    /// Goes into every checksum and is told to nobody: no value that a client writes can pass as a part of the log.
    pub salt: u64,
    /// Raft groups: chosen when the cluster was founded.
    pub groups: GroupId,
}

/// What a fresh folder is made for.
#[derive(Clone, Copy, Debug)]
pub struct Founded {
    pub cluster: u64,
    pub member: u64,
    pub groups: GroupId,
}

/// An opened data folder. The locks go with it.
pub struct Folder {
    root: PathBuf,
    wal: PathBuf,
    pub identity: Identity,
    /// Made just now: there is neither a snapshot nor a log.
    pub fresh: bool,
    _lock: File,
    /// On the log's folder, if it is one of its own.
    _log_lock: Option<File>,
}

impl Folder {
    /// Takes the folder for this process; makes it if it is not there or empty, and then asks `who` this member of
    /// which cluster is. The log is in `wal`, if that is given.
    pub fn open(
        root: &Path,
        wal: Option<&Path>,
        disk: &RealDisk,
        who: impl FnOnce() -> Result<Founded, StoreError>,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(|e| unavailable("cannot create the data folder", root, &e))?;
        if !root.join("VERSION").exists() && !root.join("VERSION.tmp").exists() {
            refuse_strangers(root)?;
        }
        let lock = lock(root, "data folder")?;
        let version = root.join("VERSION");
        let found = match fs::read_to_string(&version) {
            Ok(text) => Some(parse(&text, &version)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(not_ours(root, "its VERSION is not text")),
            Err(e) => return Err(unavailable("cannot read", &version, &e)),
        };
        let fresh = found.is_none();
        let identity = match found {
            Some(identity) => identity,
            None => {
                let Founded { cluster, member, groups } = who()?;
                Identity { cluster, member, salt: random_id(), groups }
            }
        };
        let inside = root.join("wal");
        let wal = wal.filter(|wal| **wal != *inside);
        let log_lock = match (fresh, wal) {
            (true, None) => None,
            (true, Some(wal)) => Some(log_folder::take(wal, root, disk, earlier(root))?),
            (false, wal) => log_folder::check(wal.unwrap_or(&inside), root, disk, identity.salt, wal.is_some())?,
        };
        let wal = wal.map_or(inside, Path::to_owned);
        let folder = Folder { root: root.to_owned(), wal, identity, fresh, _lock: lock, _log_lock: log_lock };
        if fresh {
            folder.prepare(disk).map_err(|e| full_or("cannot prepare the data folder", root, &e))?;
        }
        Ok(folder)
    }

    pub fn wal(&self) -> PathBuf {
        self.wal.clone()
    }

    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snap")
    }

    /// Declares a fresh folder complete.
    pub fn seal(&self, disk: &RealDisk) -> Result<(), StoreError> {
        let version = self.root.join("VERSION");
        disk.rename(&self.root.join("VERSION.tmp"), &version).map_err(|e| full_or("cannot write", &version, &e))
    }

    /// `VERSION.tmp` marks a folder in the making; what an earlier attempt left is no data.
    fn prepare(&self, disk: &RealDisk) -> io::Result<()> {
        let file = disk.create(&self.root.join("VERSION.tmp"))?;
        file.write_at(self.text().as_bytes(), 0)?;
        file.sync()?;
        disk.sync_dir(&self.root)?;
        for dir in [self.root.join("wal"), self.snapshots()] {
            match fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ if dir == self.snapshots() || dir == self.wal => fs::create_dir(&dir)?,
                _ => {}
            }
        }
        disk.sync_dir(&self.root)
    }

    fn text(&self) -> String {
        let Identity { cluster, member, salt, groups } = self.identity;
        let text =
            format!("{MAGIC}\nformat {FORMAT}\ncluster {cluster:016x}\nmember {member:016x}\nsalt {salt:016x}\n");
        // A folder of one group says nothing of it: so it was before there were several.
        if groups == 1 { text } else { format!("{text}groups {groups:x}\n") }
    }
}

fn random_id() -> u64 {
    // Never 0: in etcd's protocol that means "none".
    runtime::entropy::random_u64().max(1)
}

/// The salt of an attempt to found a member here that was cut short.
fn earlier(root: &Path) -> Option<u64> {
    let path = root.join("VERSION.tmp");
    parse(&fs::read_to_string(&path).ok()?, &path).ok().map(|identity| identity.salt)
}

/// Takes a folder for this process.
pub fn lock(root: &Path, what: &str) -> Result<File, StoreError> {
    let path = root.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| full_or("cannot open", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Unavailable(format!("the {what} {} is in use by another process", root.display())))
        }
        Err(TryLockError::Error(e)) => Err(unavailable("cannot lock", &path, &e)),
    }
}

fn refuse_strangers(root: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(root).map_err(|e| unavailable("cannot read the data folder", root, &e))?;
    for entry in entries {
        let name = entry.map_err(|e| unavailable("cannot read the data folder", root, &e))?.file_name();
        match name.to_str() {
            Some("LOCK" | "lost+found") => {}
            Some("member") => return Err(not_ours(root, "it holds the data of an etcd")),
            _ => return Err(not_ours(root, &format!("it holds {name:?} and no VERSION"))),
        }
    }
    Ok(())
}

fn not_ours(root: &Path, why: &str) -> StoreError {
    let hint = "choose another data folder, or empty this one if nothing in it is needed";
    StoreError::InvalidArgument(format!("{} is not a data folder of this store: {why}; {hint}", root.display()))
}

fn parse(text: &str, path: &Path) -> Result<Identity, StoreError> {
    let root = path.parent().unwrap_or(path);
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return Err(not_ours(root, "its VERSION was written by something else"));
    }
    let damaged =
        || StoreError::Corrupt(format!("{} is damaged; restore the data folder from a backup", path.display()));
    let mut field = |name: &str| {
        let (key, value) = lines.next()?.split_once(' ')?;
        (key == name).then_some(value)
    };
    let format: u32 = field("format").and_then(|v| v.parse().ok()).ok_or_else(damaged)?;
    if format < FORMAT {
        return Err(StoreError::InvalidArgument(format!(
            "the data folder {} has format {format}, written by an older version; this one reads only {FORMAT}: choose \
             another data folder, or copy the data with the older version's `etcdctl` access",
            root.display()
        )));
    }
    if format > FORMAT {
        return Err(StoreError::InvalidArgument(format!(
            "the data folder {} has format {format}, written by a newer version; this one reads up to {FORMAT}: start \
             it with the newer version",
            root.display()
        )));
    }
    let mut id = |name| field(name).and_then(|v| u64::from_str_radix(v, 16).ok()).ok_or_else(damaged);
    let (cluster, member, salt) = (id("cluster")?, id("member")?, id("salt")?);
    let groups = match lines.next() {
        None => 1,
        Some(line) => {
            line.strip_prefix("groups ").and_then(|v| GroupId::from_str_radix(v, 16).ok()).ok_or_else(damaged)?
        }
    };
    Ok(Identity { cluster, member, salt, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Result<Founded, StoreError> {
        Ok(Founded { cluster: 1, member: 2, groups: 1 })
    }

    fn check(files: &[(&str, &str)], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let error =
            Folder::open(dir.path(), None, &RealDisk::default(), one).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{files:?} gave {error:?}");
    }

    #[test]
    fn only_our_folders_are_opened() {
        check(&[], "");
        let log = ("wal/00000000000000000001.wal", "");
        check(&[log, ("VERSION", "plinth store\nformat 2\ncluster 1\nmember 2\nsalt 3\n")], "");
        check(&[log, ("VERSION", "plinth store\nformat 2\ncluster 1\nmember 2\nsalt 3\ngroups 4\n")], "");
        check(&[("VERSION", "plinth store\nformat 2\ncluster 1\nmember 2\nsalt 3\n")], "has a log, and there is none");
        check(&[("VERSION", "plinth store\nformat 2\ncluster 1\nmember 2\nsalt 3\ngroups x\n")], "damaged");
        check(&[("VERSION", "plinth store\nformat 1\nanything\n")], "written by an older version");
        check(&[("VERSION.tmp", "")], "");
        check(&[("VERSION", "plinth store\nformat 3\nanything\n")], "written by a newer version");
        check(&[("VERSION", "plinth store\nformat x\n")], "damaged");
        check(&[("VERSION", "3.5.0")], "written by something else");
        check(&[("photo.jpg", "")], "and no VERSION");
        check(&[("member", "")], "an etcd");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path(), None, &RealDisk::default(), one).unwrap();
        let second = Folder::open(dir.path(), None, &RealDisk::default(), one).err().unwrap();
        assert!(second.to_string().contains("in use by another process"));
        drop(first);
        assert!(Folder::open(dir.path(), None, &RealDisk::default(), one).is_ok());
    }
}
