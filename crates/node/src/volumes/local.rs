//! Volumes that are folders of this machine: emptyDir and hostPath; and taking a pod's folder away with everything that
//! is mounted in it.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{Gid, chown},
};

use crate::convert::quantity;

/// Makes an emptyDir, on memory when asked. What is in it stays.
pub fn empty_dir(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("failed to make {}: {error}", dir.display());
    let fresh = !dir.exists();
    fs::create_dir_all(dir).map_err(failed)?;
    let memory = source.medium.as_deref() == Some("Memory");
    if memory && !is_mounted(dir).map_err(failed)? {
        let size = source.size_limit.as_ref().and_then(|size| quantity::value(&size.0)).filter(|size| *size > 0);
        let data = size.map(|size| format!("size={size}"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), dir, Some("tmpfs"), flags, data.as_deref()).map_err(|e| failed(e.into()))?;
    } else if !fresh {
        return Ok(dir.to_path_buf());
    }
    if let Some(group) = group {
        chown(dir, None, Some(Gid::from_raw(group))).map_err(|e| failed(e.into()))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(dir.to_path_buf())
}

/// Checks or makes what a hostPath names.
pub fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let shown = path.display();
    let made = |error: io::Error| format!("failed to make {shown}: {error}");
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(&path).map_err(made)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(made)?;
        }
        "FileOrCreate" if !path.exists() => {
            fs::write(&path, b"").map_err(made)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(made)?;
        }
        _ => {}
    }
    let meta = fs::metadata(&path);
    let is = |check: fn(&fs::FileType) -> bool| meta.as_ref().is_ok_and(|meta| check(&meta.file_type()));
    let (fits, what) = match kind {
        "" => (true, ""),
        "DirectoryOrCreate" | "Directory" => (is(fs::FileType::is_dir), "a directory"),
        "FileOrCreate" | "File" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(|kind| kind.is_socket()), "a socket file"),
        "CharDevice" => (is(|kind| kind.is_char_device()), "a character device"),
        "BlockDevice" => (is(|kind| kind.is_block_device()), "a block device"),
        _ => return Err(format!("hostPath type check failed: unknown type {kind:?}")),
    };
    if !fits {
        return Err(format!("hostPath type check failed: {shown} is not {what}"));
    }
    // Without a type a missing path becomes a folder, as the container runtimes under kubelet make it.
    if kind.is_empty() && meta.is_err() {
        fs::create_dir_all(&path).map_err(made)?;
    }
    Ok(path)
}

/// Every mount point under `dir`, the innermost first.
fn mounts_under(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| PathBuf::from(unescape(text)));
    let mut under: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    under.reverse();
    Ok(under)
}

/// The table writes blanks and backslashes as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn is_mounted(dir: &Path) -> io::Result<bool> {
    Ok(mounts_under(dir)?.iter().any(|point| point == dir))
}

/// Unmounts everything under `dir` and removes it. A missing folder is fine.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for point in mounts_under(dir)? {
        umount2(&point, MntFlags::MNT_DETACH)?;
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), b"x").unwrap();
        let check = |name: &str, kind: &str, expected: Result<(), &str>| {
            let path = temp.path().join(name).display().to_string();
            let source = HostPathVolumeSource { path, type_: Some(kind.to_owned()) };
            let got = host_path(&source).map(|_| ());
            match expected {
                Ok(()) => assert_eq!(got, Ok(()), "{name} {kind}"),
                Err(text) => assert!(got.as_ref().is_err_and(|e| e.ends_with(text)), "{name} {kind}: {got:?}"),
            }
        };
        check("file", "File", Ok(()));
        check("file", "Directory", Err("is not a directory"));
        check("none", "Directory", Err("is not a directory"));
        check("none", "File", Err("is not a file"));
        check("made", "DirectoryOrCreate", Ok(()));
        check("made", "Directory", Ok(()));
        check("touched", "FileOrCreate", Ok(()));
        check("file", "Socket", Err("is not a socket file"));
    }

    #[test]
    fn memory_volumes_are_limited_and_go_away() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("memory");
        let source: EmptyDirVolumeSource =
            serde_json::from_value(serde_json::json!({ "medium": "Memory", "sizeLimit": "1Mi" })).unwrap();
        empty_dir(&dir, &source, Some(7)).unwrap();
        assert!(fs::write(dir.join("big"), vec![0; 2 << 20]).is_err());
        empty_dir(&dir, &source, Some(7)).unwrap();
        remove_tree(temp.path()).unwrap();
        assert!(!temp.path().exists());
    }
}
