//! A disk without room, and one that fails.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use store::DiskOp;
use store_api::*;

use crate::support::{Running, eventually};

/// Runs `test` on a tmpfs of `kib` KiB that nobody else sees: the thread, and the runtime that it starts, are in a
/// mount namespace of their own.
fn on_small_disk<F: Future<Output = ()>>(kib: usize, test: impl FnOnce(std::path::PathBuf) -> F + Send) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs root");
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(format!("size={kib}k").as_str())).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(test(path.to_owned()));
            drop(runtime);
            umount2(path, MntFlags::MNT_DETACH).unwrap();
        });
        thread.unwrap().join().unwrap();
    });
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    on_small_disk(2048, |root| async move {
        let data = root.join("data");
        let store = Running::open(&data).await.unwrap();
        // Somebody else fills the disk.
        let ballast = root.join("ballast");
        fill(&ballast);
        let value = "x".repeat(10_000);
        let mut written = Vec::new();
        let error = loop {
            let key = format!("key-{:03}", written.len());
            match store.put(&key, &value).await {
                Ok(_) => written.push(key),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
        assert!(!written.is_empty());
        assert_eq!(store.all().await.len(), written.len(), "reads go on");
        assert_eq!(store.store.status().await.unwrap().errors, ["NOSPACE"]);
        let gone = written.remove(0);
        assert_eq!(store.delete(&gone).await, Ok(1), "a deletion uses what is held back for it");
        assert!(matches!(store.put("more", &value).await, Err(StoreError::NoSpace(_))));
        assert!(matches!(store.store.snapshot().await, Err(StoreError::NoSpace(_))));
        std::fs::remove_file(&ballast).unwrap();
        store.put("more", &value).await.unwrap();
        store.store.snapshot().await.unwrap();
        assert_eq!(store.store.status().await.unwrap().errors, Vec::<String>::new());
        store.stop().await;

        fill(&ballast);
        let store = Running::open(&data).await.unwrap();
        written.push("more".to_owned());
        let there: Vec<_> = store.all().await.into_iter().map(|(key, _)| key).collect();
        assert_eq!(there, written, "exactly what was acknowledged, also when it starts on a full disk");
        store.stop().await;
    });
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    let block = [1; 4096];
    while file.write_all(&block).is_ok() {}
}

#[test]
fn a_folder_on_a_full_disk_is_not_begun_by_half() {
    on_small_disk(128, |root| async move {
        let data = root.join("data");
        assert!(matches!(Running::open(&data).await.err(), Some(StoreError::NoSpace(_))));
        let small = Running::with(&data, |o| o.segment_bytes = 80 * 1024).await.unwrap();
        small.put("a", "1").await.unwrap();
        small.stop().await;
    });
}

/// A fault that is switched on later.
async fn with_fault(op: DiskOp, errno: i32) -> (tempfile::TempDir, Running, Arc<AtomicBool>) {
    let dir = tempfile::tempdir().unwrap();
    let on = Arc::new(AtomicBool::new(false));
    let fault = on.clone();
    let store = Running::with(dir.path(), |o| {
        o.disk_fault = Some(Arc::new(move |asked, path| {
            let hit = asked == op && fault.load(Ordering::SeqCst) && path.extension().is_some_and(|e| e == "wal");
            if hit { Err(std::io::Error::from_raw_os_error(errno)) } else { Ok(()) }
        }));
    });
    let store = store.await.unwrap();
    (dir, store, on)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_fsync_nothing_is_acknowledged() {
    let (dir, store, fault) = with_fault(DiskOp::Sync, nix::libc::EIO).await;
    store.put("a", "1").await.unwrap();
    fault.store(true, Ordering::SeqCst);
    assert!(matches!(store.put("b", "2").await, Err(StoreError::Unavailable(_))));
    fault.store(false, Ordering::SeqCst);
    let error = store.put("c", "3").await.unwrap_err();
    assert!(error.to_string().contains("fdatasync"), "{error}");
    assert_eq!(store.get("b").await, None, "what is not known to be on disk is not shown");
    assert_eq!(store.get("a").await.as_deref(), Some("1"), "reads go on");
    assert_eq!(store.store.status().await.unwrap().errors.len(), 1);
    store.stop().await;
    let store = Running::open(dir.path()).await.unwrap();
    assert_eq!(store.get("a").await.as_deref(), Some("1"));
    assert_eq!(store.get("c").await, None);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_room_waits_for_it_and_the_next_are_refused() {
    let (dir, store, fault) = with_fault(DiskOp::Write, nix::libc::ENOSPC).await;
    store.put("a", "1").await.unwrap();
    fault.store(true, Ordering::SeqCst);
    // It is in the log when the disk refuses it: it stays unanswered until there is room, and is not lost.
    let (waiting, ()) = tokio::join!(store.put("b", "2"), async {
        let errors = async || store.store.status().await.unwrap().errors;
        eventually("the disk is full", async || errors().await == ["NOSPACE"]).await;
        assert!(matches!(store.put("c", "3").await, Err(StoreError::NoSpace(_))));
        assert_eq!(store.get("b").await, None, "what is not on disk is not shown");
        fault.store(false, Ordering::SeqCst);
    });
    assert!(waiting.is_ok());
    store.put("d", "4").await.unwrap();
    store.stop().await;
    let store = Running::open(dir.path()).await.unwrap();
    let keys: Vec<_> = store.all().await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a", "b", "d"]);
    store.stop().await;
}

#[tokio::test]
async fn without_fsync_nothing_is_waited_for() {
    for no_fsync in [false, true] {
        let (dir, synced) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
        let seen = synced.clone();
        let fault = move |op: DiskOp, _: &Path| {
            if op == DiskOp::Sync {
                seen.store(true, Ordering::Release);
            }
            Ok(())
        };
        let running = Running::with(dir.path(), |options| {
            options.no_fsync = no_fsync;
            options.disk_fault = Some(Arc::new(fault));
        });
        let running = running.await.unwrap();
        running.put("a", "1").await.unwrap();
        assert_eq!(synced.load(Ordering::Acquire), !no_fsync);
        running.stop().await;
        let running = Running::open(dir.path()).await.unwrap();
        assert_eq!(running.get("a").await.as_deref(), Some("1"), "the end of a process loses nothing");
        running.stop().await;
    }
}
