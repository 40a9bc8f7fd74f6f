//! Watches: live, from the past, slow, cancelled.

use std::sync::Arc;

use store_api::*;

use crate::support::{DEADLINE, Running};

async fn next(watcher: &mut Box<dyn Watcher>) -> Result<WatchResponse, StoreError> {
    tokio::time::timeout(DEADLINE, watcher.next()).await.expect("the watcher heard nothing")
}

fn from(start_revision: Revision) -> WatchRequest {
    WatchRequest { key: "k".into(), range_end: "l".into(), start_revision, prev_kv: true, ..Default::default() }
}

/// Reads until `count` events are there; checks that responses hold whole revisions in order.
async fn collect(watcher: &mut Box<dyn Watcher>, count: usize) -> Vec<Arc<Event>> {
    let (mut events, mut seen) = (Vec::<Arc<Event>>::new(), 0);
    while events.len() < count {
        let response = next(watcher).await.unwrap();
        assert!(response.events.iter().all(|e| e.kv.mod_revision > seen && e.kv.mod_revision <= response.revision));
        assert!(response.revision >= seen);
        seen = response.revision;
        events.extend(response.events);
    }
    assert_eq!(events.len(), count);
    assert!(events.is_sorted_by_key(|e| e.kv.mod_revision));
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_can_be_resumed_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let mut live = store.store.watch(from(0)).await.unwrap();
    for i in 0..100 {
        store.put(&format!("k{}", i % 7), &i.to_string()).await.unwrap();
        store.put("other", "").await.unwrap();
        if i % 10 == 9 {
            store.delete(&format!("k{}", i % 7)).await.unwrap();
        }
    }
    let all = collect(&mut live, 110).await;
    store.stop().await;
    let store = Running::open(dir.path()).await.unwrap();
    let last = store.store.status().await.unwrap().revision;
    for start in (1..=last).step_by(9) {
        let expected: Vec<_> = all.iter().filter(|e| e.kv.mod_revision >= start).cloned().collect();
        let mut watcher = store.store.watch(from(start)).await.unwrap();
        assert_eq!(collect(&mut watcher, expected.len()).await, expected, "from {start}");
    }
    let mut future = store.store.watch(from(last + 3)).await.unwrap();
    for value in ["1", "2", "3"] {
        store.put("k", value).await.unwrap();
    }
    let events = collect(&mut future, 1).await;
    assert_eq!((events[0].kv.mod_revision, &events[0].kv.value[..]), (last + 3, &b"3"[..]));
    let current = store.store.compact(last, false).await.unwrap();
    let error = store.store.watch(from(last - 1)).await.err().unwrap();
    assert_eq!(error, StoreError::Compacted { requested: last - 1, compacted: last });
    assert_eq!(current, last + 3);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_start_under_load_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let start = store.put("k", "first").await.unwrap();
    let write = async {
        for i in 0..60 {
            futures::future::join_all((0..20).map(|j| store.put(if j % 2 == 0 { "k1" } else { "k2" }, "v"))).await;
            if i % 20 == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    let watch = async {
        for _ in 0..20 {
            let mut watcher = store.store.watch(from(start)).await.unwrap();
            let events = collect_until(&mut watcher, 300).await;
            let expected: Vec<_> = (start..start + events.len() as i64).collect();
            assert_eq!(events, expected, "every revision once");
        }
    };
    futures::future::join(write, watch).await;
    store.stop().await;
}

async fn collect_until(watcher: &mut Box<dyn Watcher>, least: usize) -> Vec<Revision> {
    let mut revisions = Vec::new();
    while revisions.len() < least {
        revisions.extend(next(watcher).await.unwrap().events.iter().map(|e| e.kv.mod_revision));
    }
    revisions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_share_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let plain = WatchRequest { prev_kv: false, ..from(0) };
    let single = WatchRequest { key: "k1".into(), ..WatchRequest::default() };
    let mut watchers = Vec::new();
    for request in [from(0), from(0), plain.clone(), plain, single] {
        watchers.push(store.store.watch(request).await.unwrap());
    }
    store.put("k1", "1").await.unwrap();
    store.put("k1", "2").await.unwrap();
    let mut told = Vec::new();
    for watcher in &mut watchers {
        told.push(collect(watcher, 2).await);
    }
    let same = |a: usize, b: usize, event: usize| Arc::ptr_eq(&told[a][event], &told[b][event]);
    assert!((1..5).all(|other| same(0, other, 0)), "nobody can tell a creation with the value before from one without");
    assert!(same(0, 1, 1) && same(2, 3, 1) && same(2, 4, 1) && !same(0, 2, 1));
    assert_eq!((told[0][1].prev_kv.is_some(), told[2][1].prev_kv.is_some()), (true, false));
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_is_cut_off_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::with(dir.path(), |o| o.watch_buffer_events = 16).await.unwrap();
    let mut slow = store.store.watch(from(0)).await.unwrap();
    let mut quick = store.store.watch(from(0)).await.unwrap();
    for i in 0..40 {
        store.put("k", &i.to_string()).await.unwrap();
        assert_eq!(collect(&mut quick, 1).await.len(), 1);
    }
    assert_eq!(next(&mut slow).await, Err(StoreError::SlowWatcher));
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_tells_the_revision_when_all_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let mut watcher = store.store.watch(from(0)).await.unwrap();
    let revision = store.put("elsewhere", "").await.unwrap();
    watcher.request_progress();
    let told = next(&mut watcher).await.unwrap();
    assert_eq!(told, WatchResponse { revision, events: vec![] }, "what was acknowledged is what progress tells");
    // Asked while events wait, it answers after them.
    store.put("k", "0").await.unwrap();
    watcher.request_progress();
    assert_eq!(next(&mut watcher).await.unwrap().events.len(), 1);
    assert_eq!(next(&mut watcher).await.unwrap().events, []);
    let mut filtered = store.store.watch(WatchRequest { no_put: true, ..from(0) }).await.unwrap();
    store.put("k", "1").await.unwrap();
    store.delete("k").await.unwrap();
    let events = collect(&mut filtered, 1).await;
    assert_eq!((events[0].kind, events[0].prev_kv.is_some()), (EventKind::Delete, true));
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_never_older_than_a_write_that_was_seen() {
    const ROUNDS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let mut watcher = store.store.watch(from(0)).await.unwrap();
    // Others write all the time, so that a batch is being applied at any moment, and this one asks between writes that
    // it was answered and reads that show it what others wrote.
    let others = async {
        for i in 0..ROUNDS {
            let writes = (0..16).map(|n| format!("other-{n}")).collect::<Vec<_>>();
            let value = i.to_string();
            futures::future::join_all(writes.iter().map(|key| store.put(key, &value))).await;
        }
    };
    let asks = async {
        for i in 0..ROUNDS {
            let seen = match i % 2 {
                0 => store.put("elsewhere", "").await.unwrap(),
                _ => store.store.range(RangeRequest::key("other-0")).await.unwrap().revision,
            };
            watcher.request_progress();
            let told = next(&mut watcher).await.unwrap();
            assert!(told.events.is_empty() && told.revision >= seen, "round {i}: {} after {seen}", told.revision);
        }
    };
    tokio::join!(others, asks);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_watch_is_told_the_revision_from_time_to_time() {
    let dir = tempfile::tempdir().unwrap();
    let soon = std::time::Duration::from_millis(20);
    let store = Running::with(dir.path(), |o| o.progress_interval = soon).await.unwrap();
    let mut watcher = store.store.watch(WatchRequest { progress_notify: true, ..from(0) }).await.unwrap();
    assert_eq!(next(&mut watcher).await, Ok(WatchResponse { revision: 1, events: vec![] }));
    store.stop().await;
}
