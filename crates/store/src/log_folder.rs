//! The log's folder where it is one of its own (etcd's `--wal-dir`), perhaps on another disk.
//!
//! A folder that holds something is not taken for a new member, and a member whose log is not where it should be does
//! not start: either way what was acknowledged could get lost. Does not know what is in a log.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use store_api::StoreError;
use wal::{
    Disk,
    disk::{full_or, unavailable},
};

use crate::{disk::RealDisk, folder};

/// Makes it ready for a new member: there, empty, and this process's. What an `earlier` attempt to found this member has
/// left, by the salt that it had, was never a log.
pub fn take(dir: &Path, root: &Path, disk: &RealDisk, earlier: Option<u64>) -> Result<File, StoreError> {
    let failed = |error: &io::Error| full_or("cannot prepare the log's folder", dir, error);
    if !dir.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(&e))?;
        disk.sync_dir(dir.parent().unwrap_or(Path::new("."))).map_err(|e| failed(&e))?;
    }
    let lock = folder::lock(dir, "log's folder")?;
    let left = |path: &Path| earlier.is_some_and(|salt| matches!(wal::belongs(disk, path, salt), Ok(true)));
    let mut old = Vec::new();
    for path in disk.list(dir).map_err(|e| failed(&e))? {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("LOCK" | "lost+found") => {}
            Some("next.tmp") if earlier.is_some() => old.push(path),
            _ if left(&path) => old.push(path),
            _ => return Err(StoreError::InvalidArgument(taken(dir, root, &path))),
        }
    }
    for path in old {
        disk.remove(&path).map_err(|e| failed(&e))?;
    }
    Ok(lock)
}

fn taken(dir: &Path, root: &Path, found: &Path) -> String {
    format!(
        "the log's folder {} holds {:?}, and the data folder {} is a new one: choose an empty folder; if it holds the log \
         of a member, start that member with its own data folder",
        dir.display(),
        found.file_name().unwrap_or_default(),
        root.display()
    )
}

/// Sees that the log of a member that is there is in `dir`. `own` says that this is a folder of its own.
pub fn check(dir: &Path, root: &Path, disk: &RealDisk, salt: u64, own: bool) -> Result<Option<File>, StoreError> {
    let segments = match wal::segments(disk, dir) {
        Ok(segments) => segments,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unavailable("cannot read", dir, &error)),
    };
    let Some((_, first)) = segments.first() else {
        let inside = root.join("wal");
        let hint = match wal::segments(disk, &inside) {
            Ok(found) if own && !found.is_empty() => {
                format!("it is in {}: move its files, or start without --wal-dir", inside.display())
            }
            _ if own => "is it the folder that was given before, and is its disk mounted?".to_owned(),
            _ => "if it is in a folder of its own, start with --wal-dir".to_owned(),
        };
        return Err(StoreError::InvalidArgument(format!(
            "the member in {} has a log, and there is none in {}: {hint} Nothing was changed",
            root.display(),
            dir.display()
        )));
    };
    match wal::belongs(disk, first, salt) {
        // What is wrong with a segment of one's own is told by whoever reads all of them.
        Ok(true) => {}
        Ok(false) if !own => {}
        Ok(false) => {
            return Err(StoreError::InvalidArgument(format!(
                "the log in {} is not that of the member in {}: start with the folder that was given before. Nothing was \
                 changed",
                dir.display(),
                root.display()
            )));
        }
        Err(error) => return Err(unavailable("cannot read", first, &error)),
    }
    own.then(|| folder::lock(dir, "log's folder")).transpose()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::folder::{Folder, Founded};

    struct Place {
        _dir: tempfile::TempDir,
        data: PathBuf,
        log: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (data, log) = (dir.path().join("data"), dir.path().join("log"));
            Place { _dir: dir, data, log }
        }

        fn open(&self, log: Option<&Path>) -> Result<Folder, StoreError> {
            let who = || Ok(Founded { cluster: 1, member: 2, groups: 1 });
            Folder::open(&self.data, log, &RealDisk::default(), who)
        }

        /// Founds a member, or begins to.
        fn found(&self, whole: bool) {
            let folder = self.open(Some(&self.log)).unwrap();
            let disk: wal::disk::SharedDisk = std::sync::Arc::new(RealDisk::default());
            wal::Wal::create(disk, folder.wal(), folder.identity.salt, 1 << 16, 1).unwrap();
            if whole {
                folder.seal(&RealDisk::default()).unwrap();
            }
        }

        fn check(&self, log: Option<&Path>, expected: &str) {
            let told = self.open(log).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{told:?}");
        }
    }

    #[test]
    fn the_log_is_where_it_was() {
        let (place, other) = (Place::new(), Place::new());
        place.found(true);
        other.found(true);
        assert!(place.log.join("00000000000000000001.wal").exists());
        place.check(Some(&place.log), "");
        place.check(None, "start with --wal-dir");
        place.check(Some(&place.data.join("nowhere")), "is its disk mounted?");
        place.check(Some(&other.log), "not that of the member");
        let open = place.open(Some(&place.log)).unwrap();
        other.check(Some(&place.log), "not that of the member");
        drop(open);
        fs::remove_file(place.log.join("00000000000000000001.wal")).unwrap();
        place.check(Some(&place.log), "has a log, and there is none in");
        assert!(place.data.join("VERSION").exists());
    }

    #[test]
    fn a_log_inside_is_moved_by_hand() {
        let place = Place::new();
        let inside = Place { log: place.data.join("wal"), ..Place::new() };
        let inside = Place { data: place.data.clone(), ..inside };
        inside.found(true);
        place.check(Some(&place.log), "move its files, or start without --wal-dir");
        assert!(!place.log.exists());
        fs::rename(&inside.log, &place.log).unwrap();
        place.check(Some(&place.log), "");
    }

    #[test]
    fn a_new_member_takes_an_empty_folder() {
        let place = Place::new();
        fs::create_dir_all(place.log.join("lost+found")).unwrap();
        place.found(false);
        // What was begun is begun again, and another's log is not touched.
        place.found(false);
        place.found(true);
        fs::remove_dir_all(&place.data).unwrap();
        place.check(Some(&place.log), "choose an empty folder");
        assert!(place.log.join("00000000000000000001.wal").exists());
        let stranger = Place::new();
        fs::create_dir_all(&stranger.log).unwrap();
        fs::write(stranger.log.join("photo.jpg"), "").unwrap();
        stranger.check(Some(&stranger.log), "holds \"photo.jpg\"");
        let file = Place::new();
        fs::write(&file.log, "").unwrap();
        file.check(Some(&file.log), "Not a directory");
    }

    #[test]
    fn one_process_at_a_time() {
        let place = Place::new();
        place.found(true);
        let _first = place.open(Some(&place.log)).unwrap();
        // Another data folder with the same member in it.
        let copy = Place { log: place.log.clone(), ..Place::new() };
        fs::create_dir_all(&copy.data).unwrap();
        fs::copy(place.data.join("VERSION"), copy.data.join("VERSION")).unwrap();
        copy.check(Some(&copy.log), "is in use by another process");
    }
}
