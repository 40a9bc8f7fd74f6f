//! Writes a payload so that a reader sees the old files or the new ones, never a mixture: the layout that Kubernetes'
//! users know, where each name is a link through `..data` to a folder that is swapped as a whole.
//!
//! ```text
//!   config.yaml → ..data/config.yaml
//!   ..data      → ..<generation>/       replaced by rename
//!   ..<generation>/config.yaml
//! ```

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use nix::unistd::{Gid, chown};

use super::payload::Payload;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `dir` hold exactly `payload`. Returns whether anything changed.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(if group.is_some() { 0o2775 } else { 0o777 }))?;
    if let Some(group) = group {
        chown(dir, None, Some(Gid::from_raw(group)))?;
    }
    let data = dir.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.is_some() && holds(&data, payload, group)? {
        return Ok(false);
    }
    let generation = format!("..{:016x}", runtime::entropy::random_u64());
    let new = dir.join(&generation);
    write_files(&new, payload, group)?;
    let link = dir.join(NEW_DATA);
    remove_if_there(&link)?;
    symlink(&generation, &link)?;
    fs::rename(&link, &data)?;
    show(dir, payload)?;
    if let Some(old) = old {
        // Readers that opened its files keep them.
        match fs::remove_dir_all(dir.join(old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

fn file_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn holds(data: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    for (path, file) in payload {
        let path = data.join(path);
        match fs::read(&path) {
            Ok(bytes) if bytes == file.data => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        if fs::metadata(&path)?.permissions().mode() & 0o777 != file_mode(file.mode, group) & 0o777 {
            return Ok(false);
        }
    }
    Ok(count_files(data)? == payload.len())
}

fn count_files(dir: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn write_files(root: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    let own = |path: &Path, mode: u32| -> io::Result<()> {
        if let Some(group) = group {
            chown(path, None, Some(Gid::from_raw(group)))?;
        }
        // After chown, which clears the set-id bits.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    fs::create_dir_all(root)?;
    own(root, 0o755)?;
    for (path, file) in payload {
        let full = root.join(path);
        let mut parent = full.parent().unwrap_or(root).to_path_buf();
        fs::create_dir_all(&parent)?;
        while parent != root {
            own(&parent, 0o755)?;
            if !parent.pop() {
                break;
            }
        }
        fs::write(&full, &file.data)?;
        own(&full, file_mode(file.mode, group))?;
    }
    Ok(())
}

/// Makes the names that users see, and removes those that are no longer there.
fn show(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(text) = name.to_str() else { continue };
        if !text.starts_with("..") && !wanted.contains(text) {
            remove_if_there(&dir.join(text))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::payload::File;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file =
            |(path, text): &(&str, &str)| ((*path).to_owned(), File { data: text.as_bytes().to_vec(), mode: 0o640 });
        files.iter().map(file).collect()
    }

    fn visible(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_swapped_as_a_whole() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("volume");
        assert!(write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap());
        assert_eq!(visible(&dir), ["a", "sub"]);
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let before = fs::read_link(dir.join(DATA)).unwrap();
        assert!(!write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap());
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), before);
        assert!(write(&dir, &payload(&[("a", "3"), ("c", "4")]), None).unwrap());
        assert_eq!(visible(&dir), ["a", "c"]);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join(before).exists());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 4);
    }

    #[test]
    fn an_empty_payload_is_an_empty_folder() {
        let temp = tempfile::tempdir().unwrap();
        assert!(write(temp.path(), &Payload::new(), None).unwrap());
        assert!(!write(temp.path(), &Payload::new(), None).unwrap());
        assert!(visible(temp.path()).is_empty());
    }
}
