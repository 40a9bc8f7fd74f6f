//! Makes moving processes between cgroups quick on this machine: the kernel's `favordynmods` on the cgroup2 mount.
//!
//! Without it each move waits for all CPUs to pass a point of rest, some 10 to 30 ms on an idle machine, and starting a
//! container takes several. With it forks and exits cost a little more. The option belongs to the whole machine, so
//! that what was there before is remembered and put back by [`crate::cleanup`].

use std::{fs, io, path::Path, process::Command};

use crate::cgroup::Hierarchies;

const OPTION: &str = "favordynmods";
/// In the data folder: the mount's options as they were.
const MEMORY: &str = "cgroup2-options";

/// Turns the option on. Where it is on already, or the kernel (before 6.0) does not know it, nothing changes.
pub fn favor_moves(data_dir: &Path) -> io::Result<()> {
    let Some(mount) = Hierarchies::detect().into_v2() else { return Ok(()) };
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let Some(options) = super_options(&mountinfo, &mount).filter(|options| !has(options, OPTION)) else {
        return Ok(());
    };
    fs::write(data_dir.join(MEMORY), &options)?;
    remount(&mount, &format!("{options},{OPTION}"))
}

/// Puts back what [`favor_moves`] has changed.
pub(crate) fn restore(data_dir: &Path) -> io::Result<()> {
    let memory = data_dir.join(MEMORY);
    let Ok(options) = fs::read_to_string(&memory) else { return Ok(()) };
    if let Some(mount) = Hierarchies::detect().into_v2() {
        remount(&mount, &options)?;
    }
    fs::remove_file(memory)
}

/// Sets exactly these options of the file system; those of the mount itself stay.
fn remount(mount: &Path, options: &str) -> io::Result<()> {
    let mut command = Command::new("mount");
    command.args(["-t", "cgroup2", "--options-mode", "ignore", "-o"]).arg(format!("remount,{options}"));
    let output = command.arg("cgroup2").arg(mount).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn has(options: &str, option: &str) -> bool {
    options.split(',').any(|o| o == option)
}

/// The mount's own options and those of its file system, out of `/proc/self/mountinfo` (proc(5)).
fn super_options(mountinfo: &str, mount: &Path) -> Option<String> {
    let line = mountinfo.lines().rev().find(|line| {
        let path = line.split(' ').nth(4);
        path.is_some_and(|path| Path::new(path) == mount)
    })?;
    let own = line.split(' ').nth(5)?;
    let (_, of_file_system) = line.split_once(" - ")?;
    let mut options: Vec<&str> = own.split(',').collect();
    let more = of_file_system.split(' ').nth(2)?;
    options.extend(more.split(',').filter(|o| !has(own, o)));
    Some(options.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_mount_and_file_system_are_kept() {
        let mountinfo = "\
25 30 0:23 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - tmpfs tmpfs rw,mode=755
31 25 0:27 / /sys/fs/cgroup/unified rw,nosuid,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";
        let found = super_options(mountinfo, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.as_deref(), Some("rw,nosuid,relatime,nsdelegate,memory_recursiveprot"));
        assert_eq!(super_options(mountinfo, Path::new("/elsewhere")), None);
        assert!(has("rw,favordynmods", OPTION) && !has("rw,nofavordynmods", OPTION));
    }
}
