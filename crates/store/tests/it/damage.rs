//! Torn ends are cut off; damage is refused and told.

use std::{fs, path::Path};

use store_api::*;

use crate::support::{Running, copy, files};

/// A log of three writes, and where frames end in it by the tail's position: those of the start, then one each.
async fn three_frames(dir: &Path) -> (Vec<u8>, Vec<usize>) {
    let store = Running::open(dir).await.unwrap();
    let segment = || fs::read(&files(dir, "wal")[0]).unwrap();
    let end = || segment().iter().rposition(|b| *b != 0).unwrap() + 1;
    let mut ends = vec![end()];
    for (key, value) in [("a", "first"), ("b", "second"), ("c", "third, and a little longer")] {
        store.put(key, value).await.unwrap();
        ends.push(end());
    }
    store.stop().await;
    (segment(), ends)
}

async fn keys(dir: &Path) -> Result<usize, StoreError> {
    let store = Running::open(dir).await?;
    let keys = store.all().await.len();
    // It must also take writes again, and keep them.
    store.put("after", "1").await.unwrap();
    store.stop().await;
    let store = Running::open(dir).await?;
    assert_eq!(store.get("after").await.as_deref(), Some("1"));
    store.stop().await;
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_torn_at_any_byte_of_its_last_record_loses_only_that() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, ends) = three_frames(dir.path()).await;
    for cut in ends[2]..=ends[3] {
        let expected = if cut == ends[3] { 3 } else { 2 };
        for shorter in [true, false] {
            let torn = copy(dir.path());
            let path = files(torn.path(), "wal").remove(0);
            let mut bytes = segment.clone();
            match shorter {
                true => bytes.truncate(cut),
                false => bytes[cut..].fill(0),
            }
            fs::write(&path, &bytes).unwrap();
            assert_eq!(keys(torn.path()).await, Ok(expected), "cut at {cut}, shorter: {shorter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, ends) = three_frames(dir.path()).await;
    let damaged = copy(dir.path());
    let path = files(damaged.path(), "wal").remove(0);
    for at in 0..ends[3] {
        let mut bytes = segment.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        let Err(StoreError::Corrupt(text)) = Running::open(damaged.path()).await.map(|_| ()) else {
            panic!("byte {at} was changed and nobody noticed");
        };
        // Before the first write are the segment's head and the frames of the start.
        let told = match ends.iter().rev().find(|end| **end <= at) {
            Some(frame) => format!("{} at offset {frame}: ", path.display()),
            None => format!("{} at offset ", path.display()),
        };
        assert!(text.starts_with(&told) && text.contains("backup"), "byte {at}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_in_the_wrong_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, ends) = three_frames(dir.path()).await;
    let damaged = copy(dir.path());
    let path = files(damaged.path(), "wal").remove(0);
    let mut bytes = segment[..ends[1]].to_vec();
    bytes.extend_from_slice(&segment[ends[2]..]);
    fs::write(&path, &bytes).unwrap();
    let error = Running::open(damaged.path()).await.err().unwrap().to_string();
    assert!(error.contains("should stand here, not entry"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_refused_unless_the_log_covers_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    for i in 0..20 {
        store.put(&format!("key-{i}"), "value").await.unwrap();
    }
    let before = copy(dir.path());
    store.store.snapshot().await.unwrap();
    store.stop().await;
    let snapshot = files(dir.path(), "snap").pop().unwrap();
    let whole = fs::read(&snapshot).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&snapshot, &bytes).unwrap();
        // The first segment was not purged, so the whole log is there and the snapshot can be done without.
        let store = Running::open(dir.path()).await.unwrap();
        assert_eq!(store.all().await.len(), 20, "byte {at}");
        store.stop().await;
    }
    // A log that does not reach as far as the snapshot did has lost something.
    let short = copy(before.path());
    let (path, bytes) = (files(short.path(), "wal").remove(0), fs::read(&files(short.path(), "wal")[0]).unwrap());
    fs::write(&path, &bytes[..64]).unwrap();
    fs::copy(&snapshot, short.path().join("snap").join(snapshot.file_name().unwrap())).unwrap();
    assert!(matches!(Running::open(short.path()).await.err(), Some(StoreError::Corrupt(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let value = "x".repeat(50_000);
    for i in 0..20 {
        store.put(&format!("key-{i}"), &value).await.unwrap();
    }
    store.stop().await;
    let segments = files(dir.path(), "wal");
    assert!(segments.len() > 3);
    for gone in &segments[..segments.len() - 1] {
        let damaged = copy(dir.path());
        fs::remove_file(damaged.path().join("wal").join(gone.file_name().unwrap())).unwrap();
        let error = Running::open(damaged.path()).await.err().unwrap();
        assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("are missing")), "{error}");
    }
    let intact = Running::open(copy(dir.path()).path()).await.unwrap();
    assert_eq!(intact.all().await.len(), 20);
    intact.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let error = Running::open(dir.path()).await.err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    store.stop().await;
}
