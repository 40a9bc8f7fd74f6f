//! The data folder that an import fills: taken for this process, filled under another name, and named at the end.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Where the member grows. A start does not look here.
const GROWING: &str = "member.importing";
const MEMBER: &str = "member";
/// Where a snapshot from a running cluster waits.
const DOWNLOAD: &str = "import.db";
const DOWNLOAD_PART: &str = "import.db.part";

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
    #[error("another import fills {0}")]
    InUse(PathBuf),
    #[error("cannot {what} {path}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// The folder. What an import has left half done goes when this is dropped, or when the next one begins.
pub struct Target {
    root: PathBuf,
    /// It was not there before.
    made: bool,
    done: bool,
    _lock: File,
}

impl Target {
    pub fn take(root: &Path) -> Result<Self, TargetError> {
        let failed = |what| move |source| TargetError::Io { what, path: root.to_owned(), source };
        let made = !root.exists();
        if !made {
            refuse_strangers(root)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed("create"))?;
        let lock = File::open(root).map_err(failed("open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TargetError::InUse(root.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        // Another import may have ended in between.
        refuse_strangers(root)?;
        let target = Target { root: root.to_owned(), made, done: false, _lock: lock };
        target.clear();
        Ok(target)
    }

    pub fn growing(&self) -> PathBuf {
        self.root.join(GROWING)
    }

    pub fn download(&self) -> PathBuf {
        self.root.join(DOWNLOAD)
    }

    /// The member is complete.
    pub fn finish(mut self) -> Result<(), TargetError> {
        let member = self.root.join(MEMBER);
        let failed = |what| {
            let path = member.clone();
            move |source| TargetError::Io { what, path, source }
        };
        self._lock.sync_all().map_err(failed("sync"))?;
        fs::rename(self.growing(), &member).map_err(failed("name"))?;
        self._lock.sync_all().map_err(failed("sync"))?;
        self.done = true;
        Ok(())
    }

    fn clear(&self) {
        // What cannot be removed is refused by whoever finds it there.
        let _ = fs::remove_dir_all(self.growing());
        let _ = fs::remove_file(self.download());
        let _ = fs::remove_file(self.root.join(DOWNLOAD_PART));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.clear();
        if self.made && !self.done {
            // Goes only if it is empty.
            let _ = fs::remove_dir(&self.root);
        }
    }
}

fn refuse_strangers(root: &Path) -> Result<(), TargetError> {
    let not_empty = || TargetError::NotEmpty(root.to_owned());
    for entry in fs::read_dir(root).map_err(|_| not_empty())? {
        let name = entry.map_err(|_| not_empty())?.file_name();
        if !matches!(name.to_str(), Some(GROWING | DOWNLOAD | DOWNLOAD_PART | "lost+found")) {
            return Err(not_empty());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_or_what_an_import_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let target = Target::take(&root).unwrap();
        assert!(matches!(Target::take(&root), Err(TargetError::InUse(_))));
        fs::create_dir(target.growing()).unwrap();
        drop(target);
        assert!(!root.exists(), "a folder that it has made goes again");
        fs::create_dir_all(root.join(GROWING)).unwrap();
        fs::write(root.join(DOWNLOAD_PART), "").unwrap();
        let target = Target::take(&root).unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "what was left is gone");
        fs::create_dir(target.growing()).unwrap();
        target.finish().unwrap();
        assert!(root.join(MEMBER).exists());
        assert!(matches!(Target::take(&root), Err(TargetError::NotEmpty(_))));
    }
}
