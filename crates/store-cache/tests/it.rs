//! The cache over the durable store and over a real etcd, with the store's own answers as the model.
//!
//! The real etcd comes from `tools/install.sh`; without it the tests that need it say so and prove nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/backends.rs"]
mod backends;
#[path = "it/cut.rs"]
mod cut;
#[path = "it/model.rs"]
mod model;

use std::{sync::Arc, time::Duration};

use backends::{LIMIT, Local, RealEtcd, put};
use cut::Cuttable;
use runtime::Tasks;
use store_api::{DeleteRangeRequest, EventKind, Store};
use store_cache::{Cache, CacheError, LimitKind, Limits, Options, SubscriptionError, Update};

async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

async fn cache_over(store: Arc<dyn Store>, tasks: &Tasks, prefix: &'static str) -> Cache {
    let cache = Cache::start(Options::new(store, tasks.child("cache"), prefix));
    soon("the first list", cache.ready()).await.unwrap();
    cache
}

#[tokio::test]
async fn every_read_is_what_the_store_says_at_its_revision() {
    let local = Local::open().await;
    soon("the model", model::check(local.store.clone(), &local.tasks, 1)).await;
    local.stop().await;
}

#[tokio::test]
async fn every_read_is_what_a_real_etcd_says_at_its_revision() {
    let etcd = RealEtcd::start().await;
    let tasks = Tasks::root();
    soon("the model", model::check(etcd.store.clone(), &tasks, 2)).await;
    tasks.stop();
}

#[tokio::test]
async fn a_silent_prefix_does_not_hang() {
    let local = Local::open().await;
    let etcd = RealEtcd::start().await;
    for store in [local.store.clone(), etcd.store.clone()] {
        put(&*store, "a/1", "x").await;
        let cache = cache_over(store.clone(), &local.tasks, "a/").await;
        for round in 0..5 {
            // Written outside of the prefix: no event will ever tell.
            let revision = put(&*store, "b/1", &round.to_string()).await;
            assert!(soon("a linearizable read", cache.linearizable()).await.unwrap() >= revision);
            assert_eq!(cache.get(b"a/1").unwrap().value.unwrap().value, "x");
        }
        let future = cache.revision().unwrap() + 1;
        let waiting = cache.clone();
        let (reached, _) = tokio::join!(soon("the next revision", waiting.at_least(future)), put(&*store, "b/2", ""));
        assert!(reached.unwrap() >= future);
    }
    local.stop().await;
}

#[tokio::test]
async fn a_cut_watch_is_taken_up_again_without_loss() {
    let local = Local::open().await;
    let cuttable = Cuttable::new(local.store.clone());
    let cache = cache_over(cuttable.clone(), &local.tasks, "a/").await;
    let mut updates = cache.subscribe();
    let mut expected = Vec::new();
    for n in 0..20 {
        if n % 5 == 4 {
            cuttable.cut();
        }
        expected.push((put(&*local.store, &format!("a/{n}"), "x").await, format!("a/{n}")));
    }
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let Update::Events { events, .. } = soon("events", updates.next()).await.unwrap() else {
            panic!("listed again")
        };
        found.extend(events.iter().map(|e| (e.kv.mod_revision, String::from_utf8(e.kv.key.to_vec()).unwrap())));
    }
    assert_eq!(found, expected);
    assert!(cuttable.watches() >= 2, "{}", cuttable.watches());
    local.stop().await;
}

#[tokio::test]
async fn compaction_while_the_watch_is_cut_means_a_new_list() {
    let local = Local::open().await;
    let etcd = RealEtcd::start().await;
    for store in [local.store.clone(), etcd.store.clone()] {
        let cuttable = Cuttable::new(store.clone());
        put(&*store, "a/old", "x").await;
        let cache = cache_over(cuttable.clone(), &local.tasks, "a/").await;
        let mut updates = cache.subscribe();
        cuttable.close();
        let stale = cache.get(b"a/old").unwrap();
        let delete = DeleteRangeRequest { key: "a/old".into(), ..Default::default() };
        store.delete_range(delete).await.unwrap();
        put(&*store, "a/new", "y").await;
        let newest = put(&*store, "b", "").await;
        store.compact(newest, true).await.unwrap();
        assert_eq!(cache.get(b"a/old").unwrap(), stale, "while it is cut off, reads stand for what was seen");
        cuttable.open();
        assert!(soon("the list", cache.at_least(newest)).await.unwrap() >= newest);
        assert_eq!(soon("the update", updates.next()).await.unwrap(), Update::Listed { revision: newest });
        assert_eq!(cache.get(b"a/old").unwrap().value, None);
        assert_eq!(cache.get(b"a/new").unwrap().value.unwrap().value, "y");
    }
    local.stop().await;
}

#[tokio::test]
async fn a_prefix_over_the_limit_ends_the_cache() {
    let local = Local::open().await;
    let check = async |limits: Limits, expected: CacheError| {
        let mut options = Options::new(local.store.clone(), local.tasks.child("cache"), "a/");
        options.limits = limits;
        let cache = Cache::start(options);
        soon("the first list", cache.ready()).await.unwrap();
        let mut updates = cache.subscribe();
        let newest = put(&*local.store, "a/3", &"x".repeat(5000)).await;
        assert_eq!(soon("the end", cache.at_least(newest)).await, Err(expected.clone()));
        assert_eq!(cache.get(b"a/1"), Err(expected.clone()));
        assert_eq!(soon("the end", updates.next()).await, Err(SubscriptionError::Ended));
        // Nor does it start again on what is too large.
        let mut options = Options::new(local.store.clone(), local.tasks.child("cache"), "a/");
        options.limits = limits;
        assert_eq!(soon("the end", Cache::start(options).ready()).await, Err(expected));
        let delete = DeleteRangeRequest { key: "a/3".into(), ..Default::default() };
        local.store.delete_range(delete).await.unwrap();
    };
    put(&*local.store, "a/1", "x").await;
    put(&*local.store, "a/2", "x").await;
    let keys = Limits { keys: 2, ..Limits::default() };
    check(keys, CacheError::TooLarge { kind: LimitKind::Keys, limit: 2 }).await;
    let bytes = Limits { bytes: 5000, ..Limits::default() };
    check(bytes, CacheError::TooLarge { kind: LimitKind::Bytes, limit: 5000 }).await;
    local.stop().await;
}

#[tokio::test]
async fn reads_and_updates() {
    let local = Local::open().await;
    let store = &*local.store;
    let early = Cache::start(Options::new(local.store.clone(), local.tasks.child("cache"), "a/"));
    assert_eq!(early.get(b"a/1").map(|_| ()), Err(CacheError::NotReady));
    for n in 0..2500 {
        put(store, &format!("a/{n:04}"), "x").await;
    }
    put(store, "b/1", "x").await;
    // More keys than one page of the list has.
    let cache = cache_over(local.store.clone(), &local.tasks, "a/").await;
    assert_eq!(cache.count().unwrap().value, 2500);
    let keys = |page: store_cache::Page| -> Vec<String> {
        page.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
    };
    let page = cache.range(b"a/0010", b"a/0013", 2).unwrap().value;
    assert!(page.more);
    assert_eq!(keys(page), ["a/0010", "a/0011"]);
    assert_eq!(keys(cache.prefix(b"a/249").unwrap().value).len(), 10);
    assert_eq!(keys(cache.range(b"a/2498", b"", 10).unwrap().value), ["a/2498", "a/2499"]);
    assert!(keys(cache.range(b"a/2", b"a/1", 10).unwrap().value).is_empty());
    for outside in
        [cache.get(b"b/1").map(|_| ()), cache.range(b"a/", b"b", 1).map(|_| ()), cache.prefix(b"").map(|_| ())]
    {
        assert_eq!(outside, Err(CacheError::Outside));
    }
    let all = cache_over(local.store.clone(), &local.tasks, "").await;
    assert_eq!(all.range(b"", &[0], usize::MAX).unwrap().value.kvs.len(), 2501);
    let mut updates = cache.subscribe();
    let delete = DeleteRangeRequest { key: "a/2".into(), range_end: "a/2499".into(), ..Default::default() };
    let revision = store.delete_range(delete).await.unwrap().revision;
    let Update::Events { revision: told, events } = soon("events", updates.next()).await.unwrap() else { panic!() };
    assert_eq!((told, events.len()), (revision, 499), "a revision's events come together");
    assert!(events.iter().all(|event| event.kind == EventKind::Delete));
    assert_eq!(cache.count().unwrap(), store_cache::Read { revision, value: 2001 });
    local.tasks.stop();
    let ended = async {
        while cache.get(b"a/0000") != Err(CacheError::Stopped) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the end", ended).await;
    local.stop().await;
}
