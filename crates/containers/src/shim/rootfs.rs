//! A container's root: its image's layers with a writable one on top, mounted in the mount namespace of the process
//! that creates the container, so that it disappears with the container and never shows on the host.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    mount::{MsFlags, mount},
    sched::CloneFlags,
    sys::stat::{Mode, mkdirat},
};

use crate::record::ContainerRecord;

/// The largest `/etc/passwd` or `/etc/group` that is looked at.
const MAX_ACCOUNTS: u64 = 1024 * 1024;

/// Enters a mount namespace of its own and mounts the root at `target`. Changes the working folder.
pub(super) fn mount_private(record: &ContainerRecord, target: &Path) -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    // Mounts of the host still arrive, but ours do not leave.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    let (upper, work) = (record.files_dir.join("upper"), record.files_dir.join("work"));
    for dir in [&upper, &work, &target.to_path_buf()] {
        fs::create_dir_all(dir)?;
    }
    let text = |path: &Path| {
        let text = path.to_str().filter(|t| !t.contains([',', ':', '\\']));
        text.map(str::to_owned).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} cannot be part of an overlay mount"))
        })
    };
    // Relative names keep the option text of an image with many layers below the kernel's one page.
    std::env::set_current_dir(&record.layers_dir)?;
    let lower = record.layers.join(":");
    let options = format!("lowerdir={lower},upperdir={},workdir={}", text(&upper)?, text(&work)?);
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str())).map_err(|e| {
        let hint = if e == nix::Error::ENODEV { " (this kernel has no overlayfs)" } else { "" };
        io::Error::new(io::Error::from(e).kind(), format!("mount the root file system: {e}{hint}"))
    })
}

/// Reads a file below `root` that may be absent; links are followed inside the root only.
pub(super) fn read_inside(root: &Path, path: &str) -> io::Result<String> {
    let root = open_root(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    match openat2(&root, path, how) {
        Ok(fd) => {
            let file = File::from(fd);
            if !file.metadata()?.is_file() {
                return Ok(String::new());
            }
            let mut bytes = Vec::new();
            file.take(MAX_ACCOUNTS).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a folder below `root` with its parents, following links inside the root only.
pub(super) fn make_folder_inside(root: &Path, path: &str) -> io::Result<()> {
    let root = open_root(root)?;
    let how = || OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY);
    let mut done = std::path::PathBuf::from(".");
    for part in Path::new(path).components() {
        let Component::Normal(name) = part else { continue };
        let inside = |p: &Path| openat2(&root, p, how().resolve(ResolveFlag::RESOLVE_IN_ROOT));
        let parent = inside(&done)?;
        done.push(name);
        match inside(&done) {
            Ok(_) => {}
            Err(nix::Error::ENOENT) => mkdirat(parent.as_fd(), name, Mode::from_bits_truncate(0o755))?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The multiplexer of the container's own terminals, opened through the root of process `pid`.
pub(super) fn open_terminal(pid: i32) -> io::Result<OwnedFd> {
    let root = open_root(Path::new(&format!("/proc/{pid}/root")))?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let fd = openat2(&root, "dev/pts/ptmx", OpenHow::new().flags(flags).resolve(resolve))?;
    // The container could have put anything there.
    let found = nix::sys::stat::fstat(&fd)?;
    if (nix::sys::stat::major(found.st_rdev), nix::sys::stat::minor(found.st_rdev)) != (5, 2) {
        return Err(io::Error::other("the container's /dev/pts/ptmx is not a terminal multiplexer"));
    }
    Ok(fd)
}

fn open_root(root: &Path) -> io::Result<OwnedFd> {
    Ok(open(root, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty())?)
}
