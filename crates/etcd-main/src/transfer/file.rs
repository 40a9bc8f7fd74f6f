//! A snapshot file in the making: written beside its place, compared with the hash at its end, then given its name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Bytes of the hash at the end.
const HASH_LEN: usize = 32;
/// A database's length is a multiple of this.
const SECTOR: u64 = 512;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {what} {path}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("what arrived ends too early: {0} bytes are no database with its hash")]
    Short(u64),
    #[error("what arrived does not match its hash: it was damaged on the way")]
    Hash,
}

/// Removed when it is dropped before its end.
pub struct SnapshotFile {
    path: PathBuf,
    part: PathBuf,
    file: Option<File>,
    hash: Sha256,
    /// The last bytes, which may be the hash.
    tail: Vec<u8>,
    written: u64,
}

impl SnapshotFile {
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // As with etcdctl: whoever can read it can read every secret.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = Some(file.map_err(|source| FileError::Io { what: "create", path: part.clone(), source })?);
        Ok(SnapshotFile { path: path.to_owned(), part, file, hash: Sha256::new(), tail: Vec::new(), written: 0 })
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn write(&mut self, portion: &[u8]) -> Result<(), FileError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(portion).map_err(|source| FileError::Io { what: "write", path: self.part.clone(), source })?;
        self.written += portion.len() as u64;
        self.tail.extend_from_slice(portion);
        let sure = self.tail.len().saturating_sub(HASH_LEN);
        self.hash.update(&self.tail[..sure]);
        self.tail.drain(..sure);
        Ok(())
    }

    /// Compares, syncs and names it; returns the bytes of the database.
    pub fn finish(mut self) -> Result<u64, FileError> {
        let Some(file) = self.file.take() else { return Ok(0) };
        let finished = self.seal(&file);
        if finished.is_err() {
            self.file = Some(file);
        }
        finished
    }

    fn seal(&mut self, file: &File) -> Result<u64, FileError> {
        if self.written <= HASH_LEN as u64 || self.written % SECTOR != HASH_LEN as u64 {
            return Err(FileError::Short(self.written));
        }
        if std::mem::take(&mut self.hash).finalize()[..] != self.tail[..] {
            return Err(FileError::Hash);
        }
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| FileError::Io { what, path, source }
        };
        file.sync_all().map_err(failed("sync", &self.part))?;
        fs::rename(&self.part, &self.path).map_err(failed("name", &self.path))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))?;
        Ok(self.written - HASH_LEN as u64)
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // What is left of a failure is of no use; if it stays, the next attempt writes over it.
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matches_its_hash_gets_the_name() {
        let mut whole = vec![7; 1024];
        whole.extend_from_slice(&Sha256::digest(&whole));
        let mut flipped = whole.clone();
        flipped[100] ^= 1;
        for (bytes, expected) in
            [(&whole[..], "1024"), (&whole[..1024], "too early"), (&[], "too early"), (&flipped, "its hash")]
        {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("f");
            let mut file = SnapshotFile::create(&path).unwrap();
            bytes.chunks(100).for_each(|portion| file.write(portion).unwrap());
            let found = file.finish().map_or_else(|error| error.to_string(), |size| size.to_string());
            assert!(found.contains(expected), "{found}, expected {expected}");
            let names = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!((path.exists(), names), (expected == "1024", usize::from(expected == "1024")));
        }
    }
}
