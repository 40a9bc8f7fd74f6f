//! What every store promises through the trait, whatever is behind it.

use std::time::Duration;

use store_api::{
    Compare, DeleteRangeRequest, EventKind, PutRequest, RangeRequest, RequestOp, ResponseOp, SortOrder, SortTarget,
    Store, StoreError, TxnRequest, WatchRequest, WatchResponse, Watcher, prefix_end,
};

/// Runs on a store that may hold other keys, but none below `c/`.
pub async fn run(store: &dyn Store) {
    reads_and_writes(store).await;
    transactions(store).await;
    leases(store).await;
    watches(store).await;
    compaction(store).await;
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

async fn values(store: &dyn Store, request: RangeRequest) -> Vec<String> {
    let kvs = store.range(request).await.unwrap().kvs;
    kvs.into_iter().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).collect()
}

async fn next(watcher: &mut Box<dyn Watcher>) -> Result<WatchResponse, StoreError> {
    tokio::time::timeout(Duration::from_secs(10), watcher.next()).await.expect("the watch says something")
}

/// The next events as (kind, key, value), however the responses are cut.
async fn events(watcher: &mut Box<dyn Watcher>, count: usize) -> Vec<(EventKind, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    while found.len() < count {
        let response = next(watcher).await.unwrap();
        found.extend(response.events.iter().map(|e| (e.kind, text(&e.kv.key), text(&e.kv.value))));
    }
    found
}

async fn reads_and_writes(store: &dyn Store) {
    let first = store.put(put("c/a", "1")).await.unwrap().revision;
    let second = store.put(put("c/b", "2")).await.unwrap().revision;
    assert_eq!(second, first + 1);
    let kv = store.range(RangeRequest::key("c/a")).await.unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (first, first, 1));
    let before = store.put(PutRequest { prev_kv: true, ..put("c/a", "3") }).await.unwrap().prev_kv.unwrap();
    assert_eq!(&before.value[..], b"1");
    assert_eq!(values(store, RangeRequest { revision: first, ..RangeRequest::key("c/a") }).await, ["1"]);
    assert_eq!(values(store, RangeRequest::prefix("c/")).await, ["3", "2"]);
    let sorted = RangeRequest {
        sort_order: SortOrder::Descend,
        sort_target: SortTarget::Mod,
        limit: 1,
        ..RangeRequest::prefix("c/")
    };
    let page = store.range(sorted).await.unwrap();
    assert_eq!((page.count, page.more, &page.kvs[0].key[..]), (2, true, &b"c/a"[..]));
    let count = store.range(RangeRequest { count_only: true, ..RangeRequest::prefix("c/") }).await.unwrap();
    assert_eq!((count.count, count.kvs.len()), (2, 0));
    assert_eq!(store.put(put("", "1")).await, Err(StoreError::EmptyKey));
    let kept = PutRequest { ignore_value: true, ..put("c/none", "") };
    assert_eq!(store.put(kept).await, Err(StoreError::KeyNotFound));
    let future = RangeRequest { revision: 1 << 40, ..RangeRequest::key("c/a") };
    assert!(matches!(store.range(future).await, Err(StoreError::FutureRevision { .. })));
    let delete = DeleteRangeRequest { key: "c/".into(), range_end: prefix_end(b"c/"), prev_kv: true };
    let deleted = store.delete_range(delete).await.unwrap();
    assert_eq!((deleted.deleted, deleted.prev_kvs.len(), deleted.revision), (2, 2, second + 2));
}

async fn transactions(store: &dyn Store) {
    let create = |value: &str| TxnRequest {
        compare: vec![Compare::mod_revision("c/t", 0)],
        success: vec![RequestOp::Put(put("c/t", value)), RequestOp::Range(RangeRequest::key("c/t"))],
        failure: vec![RequestOp::Range(RangeRequest::key("c/t"))],
    };
    let created = store.txn(create("1")).await.unwrap();
    assert!(created.succeeded);
    let ResponseOp::Range(read) = &created.responses[1] else { panic!("{created:?}") };
    assert_eq!(read.kvs[0].mod_revision, created.revision);
    let refused = store.txn(create("2")).await.unwrap();
    assert!(!refused.succeeded);
    let ResponseOp::Range(read) = &refused.responses[0] else { panic!("{refused:?}") };
    assert_eq!(&read.kvs[0].value[..], b"1");
    let twice = vec![RequestOp::Put(put("c/t", "1")), RequestOp::Put(put("c/t", "2"))];
    let twice = TxnRequest { success: twice, ..Default::default() };
    assert_eq!(store.txn(twice).await, Err(StoreError::DuplicateKey));
    let inner = TxnRequest { success: vec![RequestOp::Put(put("c/n", "in"))], ..Default::default() };
    let outer = TxnRequest { success: vec![RequestOp::Txn(inner)], ..Default::default() };
    assert!(store.txn(outer).await.unwrap().succeeded);
    assert_eq!(values(store, RangeRequest::key("c/n")).await, ["in"]);
}

async fn leases(store: &dyn Store) {
    let lease = store.lease_grant(0, 300).await.unwrap();
    assert!(lease.id != 0 && lease.ttl == 300);
    assert_eq!(store.lease_grant(lease.id, 300).await, Err(StoreError::LeaseExists(lease.id)));
    store.put(PutRequest { lease: lease.id, ..put("c/l", "1") }).await.unwrap();
    assert_eq!(store.lease_keep_alive(lease.id).await.unwrap().ttl, 300);
    let status = store.lease_time_to_live(lease.id, true).await.unwrap();
    assert_eq!((status.granted_ttl, status.keys), (300, vec!["c/l".into()]));
    assert!(store.leases().await.unwrap().contains(&lease.id));
    store.lease_revoke(lease.id).await.unwrap();
    assert!(values(store, RangeRequest::key("c/l")).await.is_empty());
    assert_eq!(store.lease_revoke(lease.id).await, Err(StoreError::LeaseNotFound(lease.id)));
    assert_eq!(store.lease_keep_alive(lease.id).await, Err(StoreError::LeaseNotFound(lease.id)));
    assert_eq!(store.lease_time_to_live(lease.id, false).await.map(|s| s.ttl).unwrap_or(-1), -1);
    let unknown = store.put(PutRequest { lease: 99, ..put("c/l", "1") }).await;
    assert_eq!(unknown, Err(StoreError::LeaseNotFound(99)));
}

async fn watches(store: &dyn Store) {
    let prefix = |start_revision| WatchRequest {
        key: "c/w/".into(),
        range_end: prefix_end(b"c/w/"),
        start_revision,
        ..Default::default()
    };
    let mut live = store.watch(prefix(0)).await.unwrap();
    let first = store.put(put("c/w/a", "1")).await.unwrap().revision;
    store.put(put("c/other", "1")).await.unwrap();
    store.put(put("c/w/a", "2")).await.unwrap();
    store.delete_range(DeleteRangeRequest { key: "c/w/a".into(), ..Default::default() }).await.unwrap();
    let expected = [(EventKind::Put, "1"), (EventKind::Put, "2"), (EventKind::Delete, "")]
        .map(|(kind, value)| (kind, "c/w/a".to_owned(), value.to_owned()));
    assert_eq!(events(&mut live, 3).await, expected);
    let mut history = store.watch(prefix(first)).await.unwrap();
    assert_eq!(events(&mut history, 3).await, expected);
    let mut later = store.watch(prefix(first + 1)).await.unwrap();
    assert_eq!(events(&mut later, 2).await, expected[1..]);
    let filtered = WatchRequest { no_put: true, prev_kv: true, ..prefix(first) };
    let mut filtered = store.watch(filtered).await.unwrap();
    let only = next(&mut filtered).await.unwrap().events.remove(0);
    assert_eq!((only.kind, &only.prev_kv.as_ref().unwrap().value[..]), (EventKind::Delete, &b"2"[..]));
    let last = store.put(put("c/other", "2")).await.unwrap().revision;
    // A backend that is still catching up may stay silent, or tell what it has delivered so far: one asks again.
    let caught_up = async {
        loop {
            live.request_progress();
            if let Ok(told) = tokio::time::timeout(Duration::from_millis(200), live.next()).await {
                let told = told.unwrap();
                assert!(told.events.is_empty(), "{told:?}");
                if told.revision >= last {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), caught_up).await.expect("progress reaches what was written");
}

async fn compaction(store: &dyn Store) {
    let old = store.put(put("c/z", "1")).await.unwrap().revision;
    let new = store.put(put("c/z", "2")).await.unwrap().revision;
    store.compact(new, true).await.unwrap();
    assert!(matches!(store.compact(new, false).await, Err(StoreError::Compacted { .. })));
    let read = store.range(RangeRequest { revision: old, ..RangeRequest::key("c/z") }).await;
    assert!(matches!(read, Err(StoreError::Compacted { .. })), "{read:?}");
    let request = WatchRequest { key: "c/z".into(), start_revision: old, ..Default::default() };
    let error = match store.watch(request).await {
        Ok(mut watcher) => next(&mut watcher).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error, StoreError::Compacted { requested: old, compacted: new });
    assert_eq!(store.hash_kv(0).await.unwrap().compact_revision, new);
}
