//! A store in a temporary folder.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use runtime::{Clock, Tasks};
use store::Options;
use store_api::*;
use tempfile::TempDir;

/// How long anything is waited for.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct Running {
    pub store: store::Store,
    pub tasks: Tasks,
}

/// Small segments and few reserves, so that a test reaches the ends of things.
pub fn options(dir: &Path, tasks: Tasks) -> Options {
    Options { segment_bytes: 256 * 1024, ..Options::new(dir, Clock::system(), tasks) }
}

impl Running {
    pub async fn open(dir: &Path) -> Result<Running, StoreError> {
        Self::with(dir, |_| {}).await
    }

    pub async fn with(dir: &Path, change: impl FnOnce(&mut Options)) -> Result<Running, StoreError> {
        let tasks = Tasks::root();
        let mut options = options(dir, tasks.clone());
        change(&mut options);
        let store = store::Store::open(options).await?;
        Ok(Running { store, tasks })
    }

    /// Stops it as a process does; afterwards the folder can be opened again.
    pub async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.join(DEADLINE).await, "the store did not stop");
    }

    pub async fn put(&self, key: &str, value: &str) -> Result<Revision, StoreError> {
        let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        self.store.put(put).await.map(|r| r.revision)
    }

    pub async fn get(&self, key: &str) -> Option<String> {
        let range = self.store.range(RangeRequest::key(key.to_owned())).await.unwrap();
        range.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
    }

    pub async fn delete(&self, key: &str) -> Result<i64, StoreError> {
        let delete = DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.store.delete_range(delete).await.map(|r| r.deleted)
    }

    /// Every key with its value, at the newest revision.
    pub async fn all(&self) -> Vec<(String, String)> {
        let everything = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        let range = self.store.range(everything).await.unwrap();
        range.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
    }
}

/// Waits for a state, at most [`DEADLINE`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let clock = Clock::system();
    let until = clock.monotonic() + DEADLINE;
    while !holds().await {
        assert!(clock.monotonic() < until, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The files of a kind in a data folder, in order.
pub fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for sub in ["wal", "snap"] {
        let entries = std::fs::read_dir(dir.join(sub)).unwrap().map(|e| e.unwrap().path());
        found.extend(entries.filter(|p| p.extension().is_some_and(|e| e == extension)));
    }
    found.sort();
    found
}

/// A copy of a data folder, to be damaged.
pub fn copy(dir: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for sub in ["", "wal", "snap"] {
        std::fs::create_dir_all(to.path().join(sub)).unwrap();
        for entry in std::fs::read_dir(dir.join(sub)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to.path().join(sub).join(entry.file_name())).unwrap();
            }
        }
    }
    to
}
