//! A `subPath` inside a volume, mounted so that no symbolic link of the volume leads out of it.
//!
//! The kernel resolves the path beneath the volume's root; what it found is held open and bind-mounted to a place of
//! its own, so that nothing the pod changes later moves the mount.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    mount::{MsFlags, mount},
    sys::stat::{Mode, SFlag, fstat, mkdirat},
};

/// Resolves `sub_path` in `volume`, makes missing folders, and binds the result to `target`. Returns `target`.
pub fn bind(volume: &Path, sub_path: &str, target: &Path) -> Result<PathBuf, String> {
    let sub = Path::new(sub_path);
    if sub.is_absolute() {
        return Err(format!("error SubPath `{sub_path}` must not be an absolute path"));
    }
    if sub.components().any(|part| part == Component::ParentDir) {
        return Err(format!("unable to provision SubPath `{sub_path}`: must not contain '..'"));
    }
    let failed = |error: io::Error| format!("failed to prepare subPath {sub_path:?}: {error}");
    let found = resolve(volume, sub).map_err(failed)?;
    bind_open(&found, target).map_err(failed)?;
    Ok(target.to_path_buf())
}

fn resolve(volume: &Path, sub: &Path) -> io::Result<OwnedFd> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let at = |dir: BorrowedFd<'_>, path: &Path| {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(dir, path, how)
    };
    use std::os::fd::AsFd;
    match at(root.as_fd(), sub) {
        Ok(found) => return Ok(found),
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    // Some of it is missing: go down part by part, and make what is not there.
    let mut reached = PathBuf::new();
    let mut last = at(root.as_fd(), Path::new("."))?;
    for part in sub.components() {
        let Component::Normal(name) = part else { continue };
        reached.push(name);
        last = match at(root.as_fd(), &reached) {
            Ok(found) => found,
            Err(Errno::ENOENT) => {
                mkdirat(last.as_fd(), name, Mode::from_bits_truncate(0o750))?;
                at(root.as_fd(), &reached)?
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(last)
}

fn bind_open(found: &OwnedFd, target: &Path) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let directory = SFlag::from_bits_truncate(fstat(found)?.st_mode).contains(SFlag::S_IFDIR);
    if directory {
        fs::create_dir_all(target)?;
    } else if !target.exists() {
        fs::write(target, b"")?;
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::volumes::local::remove_tree;

    #[test]
    fn links_do_not_lead_out() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("volume");
        fs::create_dir_all(volume.join("in")).unwrap();
        fs::write(volume.join("in/file"), b"inside").unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("in/file", volume.join("link")).unwrap();
        let bind_to = |sub: &str, name: &str| bind(&volume, sub, &temp.path().join("binds").join(name));
        let file = bind_to("in/file", "0").unwrap();
        assert_eq!(fs::read(file).unwrap(), b"inside");
        assert_eq!(fs::read(bind_to("link", "1").unwrap()).unwrap(), b"inside");
        assert!(bind_to("new/deep", "2").unwrap().is_dir());
        assert!(volume.join("new/deep").is_dir());
        assert!(bind_to("out/passwd", "3").is_err());
        assert!(bind_to("../x", "4").is_err());
        assert!(bind_to("/etc", "5").is_err());
        remove_tree(temp.path()).unwrap();
    }
}
