//! Answers, leases, compaction and bounds.

use std::time::Duration;

use prometheus_client::{encoding::text, registry::Registry};
use store_api::*;

use crate::support::{Running, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    assert_eq!(store.put("a", "1").await, Ok(2));
    assert_eq!(store.put("b", "2").await, Ok(3));
    assert_eq!(store.delete("a").await, Ok(1));
    let txn = TxnRequest {
        compare: vec![Compare::mod_revision("b", 3)],
        success: vec![RequestOp::Put(PutRequest { key: "c".into(), value: "3".into(), ..Default::default() })],
        failure: vec![],
    };
    assert!(store.store.txn(txn.clone()).await.unwrap().succeeded);
    let status = store.store.status().await.unwrap();
    assert_eq!((status.revision, status.keys, status.raft_index), (5, 2, 6), "the first two are the start");
    let hash = store.store.hash_kv(0).await.unwrap();
    store.stop().await;

    let store = Running::open(dir.path()).await.unwrap();
    let expected = [("b", "2"), ("c", "3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(store.all().await, expected);
    let again = store.store.status().await.unwrap();
    assert_eq!((again.revision, again.cluster_id), (5, status.cluster_id));
    assert_eq!(store.store.hash_kv(0).await.unwrap(), hash);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_compare_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    for round in 0..20 {
        let key = format!("key-{round}");
        let attempts = (0..32).map(|i| {
            store.store.txn(TxnRequest {
                compare: vec![Compare::mod_revision(key.clone(), 0)],
                success: vec![RequestOp::Put(PutRequest {
                    key: key.clone().into(),
                    value: i.to_string().into(),
                    ..Default::default()
                })],
                failure: vec![RequestOp::Range(RangeRequest::key(key.clone()))],
            })
        });
        let answers = futures::future::join_all(attempts).await;
        let won = answers.iter().filter(|a| a.as_ref().unwrap().succeeded).count();
        assert_eq!(won, 1, "round {round}");
    }
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_by_itself_and_takes_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let long = store.store.lease_grant(0, 1000).await.unwrap();
    let short = store.store.lease_grant(7, 1).await.unwrap();
    assert_eq!(short, Lease { id: 7, ttl: 1 });
    assert_eq!(store.store.lease_grant(7, 1).await, Err(StoreError::LeaseExists(7)));
    for (key, lease) in [("short", 7), ("long", long.id)] {
        store.store.put(PutRequest { key: key.into(), lease, ..Default::default() }).await.unwrap();
    }
    let status = store.store.lease_time_to_live(7, true).await.unwrap();
    assert_eq!((status.granted_ttl, status.keys), (1, vec!["short".into()]));
    eventually("the lease's key goes", || async { store.get("short").await.is_none() }).await;
    assert_eq!(store.store.lease_time_to_live(7, false).await.unwrap().ttl, -1);
    assert_eq!(store.store.lease_keep_alive(7).await, Err(StoreError::LeaseNotFound(7)));
    assert_eq!(store.store.leases().await, Ok(vec![long.id]));
    store.stop().await;

    // After a restart it has its whole time, and its keys still hang on it.
    let store = Running::open(dir.path()).await.unwrap();
    let status = store.store.lease_time_to_live(long.id, true).await.unwrap();
    assert!((990..=1000).contains(&status.ttl) && status.keys == ["long"], "{status:?}");
    assert_eq!(store.store.lease_keep_alive(long.id).await.unwrap().ttl, 1000);
    store.store.lease_revoke(long.id).await.unwrap();
    assert_eq!(store.all().await, []);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_and_snapshots_bound_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::with(dir.path(), |o| o.snapshot_bytes = 512 * 1024).await.unwrap();
    let value = "x".repeat(4000);
    let mut last = 0;
    for round in 0..40 {
        let puts = (0..25).map(|i| store.put(if i % 2 == 0 { "even" } else { "odd" }, &value));
        futures::future::join_all(puts).await.into_iter().for_each(|r| last = last.max(r.unwrap()));
        if round % 4 == 3 {
            store.store.compact(last, true).await.unwrap();
        }
    }
    assert!(matches!(store.store.compact(last, false).await, Err(StoreError::Compacted { .. })));
    let old = RangeRequest { revision: 5, ..RangeRequest::key("even") };
    let compacted = StoreError::Compacted { requested: 5, compacted: last };
    assert_eq!(store.store.range(old).await, Err(compacted));
    store.store.snapshot().await.unwrap();
    // Four megabytes went through; what stays is a small state, a segment or two, and the segment that is open.
    eventually("segments are purged", || async {
        let status = store.store.status().await.unwrap();
        status.db_size < 1536 * 1024 && status.db_size_in_use < 20_000
    })
    .await;
    store.stop().await;
    let store = Running::open(dir.path()).await.unwrap();
    assert_eq!(store.get("odd").await, Some(value));
    assert_eq!(store.store.status().await.unwrap().revision, last);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_are_read_at_one_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let keys: Vec<_> = (0..5000).map(|i| format!("key-{i:05}")).collect();
    for chunk in keys.chunks(500) {
        let puts = futures::future::join_all(chunk.iter().map(|key| store.put(key, "0")));
        assert!(puts.await.iter().all(Result::is_ok));
    }
    let page = RangeRequest { limit: 10, ..RangeRequest::prefix("key-") };
    let page = store.store.range(page).await.unwrap();
    assert_eq!((page.kvs.len(), page.count, page.more), (10, 5000, true));
    // Everything is rewritten and compacted while it is read.
    let rewrite = futures::future::join_all(keys.iter().map(|key| store.put(key, "1")));
    let read = async {
        let mut lists = Vec::new();
        for _ in 0..5 {
            lists.push(store.store.range(RangeRequest::prefix("key-")).await.unwrap());
            drop(store.store.compact(lists.last().map_or(1, |l| l.revision), false).await);
        }
        lists
    };
    let (_, lists) = futures::future::join(rewrite, read).await;
    for list in lists {
        assert_eq!(list.kvs.len(), 5000);
        assert!(list.kvs.iter().all(|kv| kv.mod_revision <= list.revision));
        let newer = list.kvs.iter().filter(|kv| kv.value == "1").count() as i64;
        assert_eq!(newer, (list.revision - 5001).max(0), "each revision after the first 5001 rewrote one key");
    }
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::with(dir.path(), |o| o.quota_bytes = 100_000).await.unwrap();
    let large = "x".repeat(2 << 20);
    assert!(matches!(store.put("a", &large).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.put("", "1").await, Err(StoreError::EmptyKey));
    while store.put("a", &"x".repeat(10_000)).await.is_ok() {}
    assert!(matches!(store.put("b", "1").await, Err(StoreError::NoSpace(_))));
    assert_eq!(store.store.status().await.unwrap().errors, ["NOSPACE"]);
    assert!(store.get("a").await.is_some(), "reads go on");
    assert_eq!(store.delete("a").await, Ok(1), "deletions go on");
    let revision = store.store.status().await.unwrap().revision;
    store.store.compact(revision, true).await.unwrap();
    eventually("a compaction makes room, and the alarm goes", async || store.put("b", "1").await.is_ok()).await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_etcds_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    store.put("a", "1").await.unwrap();
    let mut registry = Registry::default();
    store.store.register_metrics(&mut registry);
    let mut out = String::new();
    text::encode(&mut out, &registry).unwrap();
    for line in [
        "etcd_mvcc_put_total 1",
        "etcd_debugging_mvcc_keys_total 1",
        "etcd_server_proposals_committed_total 3",
        "etcd_server_has_leader 1",
    ] {
        assert!(out.lines().any(|l| l == line), "{line} is missing in:\n{out}");
    }
    let fsyncs = out.lines().find_map(|l| l.strip_prefix("etcd_disk_wal_fsync_duration_seconds_count "));
    assert!(fsyncs.unwrap().parse::<u64>().unwrap() >= 2, "the start and the write were synced");
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let handle = store.store.clone();
    let mut watcher = handle.watch(WatchRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    let (ended, ()) = futures::future::join(watcher.next(), store.stop()).await;
    assert_eq!(ended, Err(StoreError::Stopped));
    let put = PutRequest { key: "a".into(), ..Default::default() };
    let answer = tokio::time::timeout(Duration::from_secs(5), handle.put(put)).await;
    assert_eq!(answer.unwrap().map(|r| r.revision), Err(StoreError::Stopped));
}
