//! What a test leaves on the machine, and finding what a killed one has left: nobody can clean up after kill -9 but the
//! next run. Names carry the number of the process that made them; a name whose process is gone is free to remove.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

/// A temporary folder `<prefix><process>-<random>`. Short: sockets' paths below it have little room.
pub fn folder(prefix: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("{prefix}{}-", std::process::id())).tempdir().unwrap()
}

/// The cgroup root that belongs to a folder of a test.
pub fn cgroup_root(folder: &Path) -> String {
    format!("/plinth-test-{}", folder.file_name().unwrap().to_str().unwrap())
}

/// Removes what tests with such folders have left that were killed: `remove` ends what runs, given the folder and its
/// cgroup root. Another test may be at it at the same time, so that nothing here fails.
pub async fn remove_abandoned(prefix: &str, remove: impl AsyncFn(PathBuf, String)) {
    for folder in abandoned_folders(prefix) {
        remove(folder.clone(), cgroup_root(&folder)).await;
        unmount_below(&folder);
        // Never into a volume that is still there.
        if mounts_below(&folder).is_empty() {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// The folders with this prefix whose processes are gone, also those of which only the cgroups are left.
fn abandoned_folders(prefix: &str) -> BTreeSet<PathBuf> {
    let temporary = std::env::temp_dir();
    let mut found: BTreeSet<PathBuf> = abandoned(&temporary, prefix).into_iter().collect();
    let group = format!("plinth-test-{prefix}");
    for path in cgroup_trees().iter().flat_map(|tree| abandoned(tree, &group)) {
        let name = path.file_name().unwrap().to_str().unwrap().trim_start_matches("plinth-test-").to_owned();
        found.insert(temporary.join(name));
    }
    found
}

/// What lies in `parent` under a name of this prefix and a process that is gone.
pub fn abandoned(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let gone = |name: &str| {
        let rest = name.strip_prefix(prefix)?;
        let process: u32 = rest.split('-').next()?.parse().ok()?;
        // Not the folder itself: a killed process that nobody has waited for yet has one, but no program.
        let program = fs::read_link(format!("/proc/{process}/exe"));
        program.is_err_and(|error| error.kind() == io::ErrorKind::NotFound).then_some(())
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().and_then(gone).is_some()).map(|entry| entry.path()).collect()
}

/// Where cgroups begin: one tree, or one for each controller.
pub fn cgroup_trees() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&root).into_iter().flatten().flatten();
    let below = below.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").is_file());
    below.chain([root.clone()]).collect()
}

/// What is mounted below `dir`, in the order in which it was.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

/// Takes away what is mounted below `dir`.
pub fn unmount_below(dir: &Path) {
    for point in mounts_below(dir).into_iter().rev() {
        let _ = umount2(&point, MntFlags::MNT_DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_abandoned() {
        let parent = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = format!("pl{}-a", child.id());
        for name in [&dead, &format!("pl{}-b", std::process::id()), "pl-c", "plinth", "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        assert_eq!(abandoned(parent.path(), "pl"), [parent.path().join(dead)]);
        assert_eq!(cgroup_root(Path::new("/tmp/pl1-a")), "/plinth-test-pl1-a");
    }
}
