//! The data folder before the store opens it: whose it is, whether it can be written, and who else may read it.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::parse::words;

/// Only the owner's.
const PRIVATE: u32 = 0o700;

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{call} {path}: {reason}")]
    List { call: &'static str, path: String, reason: String },
    #[error("cannot access data directory: {call} {path}: {reason}")]
    Access { call: &'static str, path: String, reason: String },
    #[error(
        "{0} holds the data of an etcd; `plinth store import --from-snapshot FILE --data-dir DIR` takes a snapshot of it \
         into another folder"
    )]
    Etcd(String),
}

/// What is in a data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A member of ours.
    Member,
}

/// Looks at the folder and changes nothing.
pub fn look(root: &Path) -> Result<Found, DataDirError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => {
            // What is no folder can be opened in Go, and then not be listed.
            let call = if error.kind() == io::ErrorKind::NotADirectory { "readdirent" } else { "open" };
            return Err(DataDirError::List { call, path: text(root), reason: words(&error) });
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !matches!(name.to_str(), Some("member" | "fixtures" | "lost+found")) {
            let name = name.to_string_lossy().into_owned();
            tracing::warn!("filename" = name, "data-dir" = text(root), "found invalid file under data directory");
        }
    }
    let member = root.join("member");
    if member.join("VERSION").exists() {
        return Ok(Found::Member);
    }
    // A start that was cut short before there was a member: the next one begins anew.
    if member.join("VERSION.tmp").exists() {
        return Ok(Found::Nothing);
    }
    if member.join("snap/db").exists() || member.join("wal").exists() {
        return Err(DataDirError::Etcd(text(root)));
    }
    Ok(Found::Nothing)
}

/// Makes the folder for its owner alone, or warns that others may enter it; sees that it can be written.
pub fn take(root: &Path) -> Result<(), DataDirError> {
    match fs::metadata(root) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode != PRIVATE {
                let error = format!(
                    "directory {:?} exist, but the permission is {:?}. The recommended permission is {:?} to prevent \
                     possible unprivileged access to the data",
                    text(root),
                    letters('d', mode),
                    letters('-', PRIVATE)
                );
                tracing::warn!(error, "check file permission");
            }
        }
        Err(_) => fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE)
            .create(root)
            .map_err(|error| access("mkdir", root, &error))?,
    }
    let touched: PathBuf = root.join(".touch");
    let touch = fs::write(&touched, "").and_then(|()| fs::remove_file(&touched));
    touch.map_err(|error| access("open", &touched, &error))
}

fn access(call: &'static str, path: &Path, error: &io::Error) -> DataDirError {
    DataDirError::Access { call, path: text(path), reason: words(error) }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A mode as `ls` shows it.
fn letters(kind: char, mode: u32) -> String {
    let bits = (0..9).rev().map(|bit| match (mode >> bit & 1, bit % 3) {
        (0, _) => '-',
        (_, 2) => 'r',
        (_, 1) => 'w',
        _ => 'x',
    });
    [kind].into_iter().chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_folder_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let check = |expected: Result<Found, &str>| match (look(&root), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        };
        check(Ok(Found::Nothing));
        take(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, PRIVATE);
        check(Ok(Found::Nothing));
        fs::create_dir_all(root.join("member/snap")).unwrap();
        check(Ok(Found::Nothing));
        fs::write(root.join("member/snap/db"), "").unwrap();
        check(Err("plinth store import"));
        fs::create_dir(root.join("member/wal")).unwrap();
        fs::write(root.join("member/VERSION.tmp"), "").unwrap();
        check(Ok(Found::Nothing));
        fs::write(root.join("member/VERSION"), "").unwrap();
        check(Ok(Found::Member));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(look(&file).unwrap_err().to_string().ends_with("not a directory"));
        assert!(take(&file.join("x")).unwrap_err().to_string().starts_with("cannot access data directory: mkdir "));
        assert_eq!(letters('d', 0o755), "drwxr-xr-x");
    }
}
