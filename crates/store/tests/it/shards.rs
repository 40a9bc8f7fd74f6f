//! Keys that several groups keep: what belongs together, what is refused, and shards that move while they are used.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use store_api::{Cluster as _, *};
use tokio::sync::oneshot;

use crate::{
    cluster::Cluster,
    support::{DEADLINE, Running, eventually},
};

type Whole = Arc<dyn Store>;

async fn put(store: &Whole, key: &str, value: &str) -> Result<Revision, StoreError> {
    let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    store.put(put).await.map(|r| r.revision)
}

async fn all(store: &Whole, prefix: &str) -> Vec<KeyValue> {
    let range_end = prefix_end(prefix.as_bytes());
    store.range(RangeRequest { key: prefix.to_owned().into(), range_end, ..Default::default() }).await.unwrap().kvs
}

fn shard(prefix: &str, group: u32) -> Shard {
    Shard { prefix: prefix.to_owned().into(), group, moving_to: None }
}

async fn three_groups(dir: &std::path::Path) -> Running {
    let shards = vec![(Bytes::from("/a/"), 1), (Bytes::from("/b/"), 2)];
    Running::with(dir, |options| (options.groups, options.shards) = (3, shards)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_kept_by_its_group_and_no_request_by_two() {
    let dir = tempfile::tempdir().unwrap();
    let running = three_groups(dir.path()).await;
    let whole = running.store.whole();
    for key in ["/a/1", "/b/1", "/b/2", "/c/1"] {
        put(&whole, key, "value").await.unwrap();
    }
    for (group, expected) in [(0, vec!["/c/1"]), (1, vec!["/a/1"]), (2, vec!["/b/1", "/b/2"])] {
        let everything = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let refused = running.store.for_group(group).range(everything).await;
        assert!(matches!(refused, Err(StoreError::ShardMoving(_))), "{refused:?}");
        let mut keys = Vec::new();
        for prefix in ["/a/", "/b/", "/c/"] {
            let range_end = prefix_end(prefix.as_bytes());
            let range = RangeRequest { key: prefix.into(), range_end, ..Default::default() };
            keys.extend(running.store.for_group(group).range(range).await.unwrap_or_default().kvs);
        }
        assert_eq!(keys.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>(), expected, "group {group}");
    }
    // Each group counts for itself.
    assert_eq!(put(&whole, "/a/1", "again").await.unwrap(), 3);
    let cross = |error: StoreError, first: &str, other: &str| match error {
        StoreError::CrossShard { first: a, other: b, .. } => assert_eq!((&*a, &*b), (first, other)),
        error => panic!("{error}"),
    };
    let everything = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    cross(whole.range(everything).await.unwrap_err(), "\0", "/a/");
    let delete = DeleteRangeRequest { key: "/a/1".into(), range_end: "/c".into(), ..Default::default() };
    cross(whole.delete_range(delete).await.unwrap_err(), "/a/1", "");
    let put_op = |key: &'static str| RequestOp::Put(PutRequest { key: key.into(), ..Default::default() });
    let txn = TxnRequest {
        compare: vec![Compare::mod_revision("/c/1", 2)],
        success: vec![
            put_op("/c/2"),
            RequestOp::Txn(TxnRequest { failure: vec![put_op("/b/9")], ..Default::default() }),
        ],
        ..Default::default()
    };
    cross(whole.txn(txn).await.unwrap_err(), "/c/1", "/b/9");
    assert!(all(&whole, "/c/").await.len() == 1, "nothing of it was done");
    let watch = WatchRequest { key: "/a/".into(), range_end: "/c".into(), ..Default::default() };
    assert!(matches!(whole.watch(watch).await.err(), Some(StoreError::CrossShard { .. })));
    assert_eq!(running.store.shards().await.unwrap(), [shard("", 0), shard("/a/", 1), shard("/b/", 2)]);
    let status = whole.status().await.unwrap();
    assert_eq!(status.keys, 4);
    running.stop().await;
    // The folder knows how it is divided, whatever is asked for the next time.
    let running = Running::open(dir.path()).await.unwrap();
    let whole = running.store.whole();
    assert_eq!((all(&whole, "/a/").await[0].version, all(&whole, "/b/").await.len()), (2, 2));
    assert_eq!(running.store.shards().await.unwrap().len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_shard_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = three_groups(dir.path()).await;
    let check = async |prefix: &str, group, expected: &str| {
        let error = running.store.shard_move(prefix.to_owned().into(), group).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{prefix} to {group}: {error}");
    };
    check("/a/", 3, "the groups are 0 to 2").await;
    check("/", 1, "the shard of \"/a/\" lies within and is kept by group 1: move it first").await;
    check(&"x".repeat(2000), 1, "at most 1024 bytes").await;
    // A move to where it is changes nothing.
    assert_eq!(running.store.shard_move("/a/".into(), 1).await.unwrap().len(), 3);
    running.stop().await;
    for (groups, shards, expected) in [(0, vec![], "1 to 64"), (2, vec![(Bytes::from("/a/"), 2)], "no group 2")] {
        let dir = tempfile::tempdir().unwrap();
        let opened = Running::with(dir.path(), |o| (o.groups, o.shards) = (groups, shards)).await;
        let error = opened.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_has_keys_in_every_group_and_takes_all_of_them_along() {
    let dir = tempfile::tempdir().unwrap();
    let running = three_groups(dir.path()).await;
    let whole = running.store.whole();
    let leased = |key: &'static str, lease| PutRequest { key: key.into(), lease, ..Default::default() };
    for (ttl, ends_by_itself) in [(60, false), (1, true)] {
        let lease = whole.lease_grant(0, ttl).await.unwrap().id;
        for key in ["/a/1", "/b/1", "/c/1"] {
            whole.put(leased(key, lease)).await.unwrap();
        }
        let status = whole.lease_time_to_live(lease, true).await.unwrap();
        assert_eq!((status.keys.len(), status.granted_ttl), (3, ttl));
        // One of them moves, and stays the lease's.
        running.store.shard_move("/a/".into(), if ends_by_itself { 1 } else { 0 }).await.unwrap();
        if !ends_by_itself {
            assert_eq!(whole.lease_time_to_live(lease, true).await.unwrap().keys, ["/a/1", "/b/1", "/c/1"]);
            whole.lease_revoke(lease).await.unwrap();
        }
        eventually("the keys are gone", async || {
            let mut left = 0;
            for prefix in ["/a/", "/b/", "/c/"] {
                left += all(&whole, prefix).await.len();
            }
            left == 0
        })
        .await;
        eventually("no group knows the lease", async || {
            let mut known = 0;
            for group in 0..3 {
                known += running.store.for_group(group).leases().await.unwrap().len();
            }
            known == 0
        })
        .await;
        assert!(matches!(whole.put(leased("/b/2", lease)).await, Err(StoreError::LeaseNotFound(_))));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_a_shard_that_moves_begins_anew_and_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = three_groups(dir.path()).await;
    let whole = running.store.whole();
    let before = put(&whole, "/a/1", "old").await.unwrap();
    for n in 0..20 {
        put(&whole, "/b/n", &n.to_string()).await.unwrap();
    }
    let watch = |start_revision| WatchRequest {
        key: "/a/".into(),
        range_end: "/a0".into(),
        start_revision,
        ..Default::default()
    };
    let mut watcher = whole.watch(watch(0)).await.unwrap();
    let mut other =
        whole.watch(WatchRequest { key: "/c/".into(), range_end: "/c0".into(), ..Default::default() }).await.unwrap();
    put(&whole, "/a/2", "old").await.unwrap();
    running.store.shard_move("/a/".into(), 2).await.unwrap();
    // What happened before comes first.
    assert_eq!(watcher.next().await.unwrap().events[0].kv.key, "/a/2");
    assert!(matches!(watcher.next().await, Err(StoreError::Compacted { .. })));
    let listed = all(&whole, "/a/").await;
    assert_eq!(listed.iter().map(|kv| (kv.version, &kv.value[..])).collect::<Vec<_>>(), [(1, &b"old"[..]); 2]);
    assert!(listed.iter().all(|kv| kv.mod_revision > before));
    // The history from before is another group's.
    let mut old = watch(before);
    assert!(matches!(whole.watch(old.clone()).await.err(), Some(StoreError::Compacted { .. })));
    let range = RangeRequest { key: "/a/1".into(), revision: before, ..Default::default() };
    assert!(matches!(whole.range(range).await, Err(StoreError::Compacted { .. })));
    // From the list on nothing is missed.
    let revision = whole.range(RangeRequest::key("/a/1")).await.unwrap().revision;
    put(&whole, "/a/1", "new").await.unwrap();
    old.start_revision = revision + 1;
    let mut watcher = whole.watch(old).await.unwrap();
    let event = watcher.next().await.unwrap().events[0].clone();
    assert_eq!((&event.kv.value[..], event.kv.version), (&b"new"[..], 2));
    // And who watched something else was not disturbed.
    put(&whole, "/c/1", "there").await.unwrap();
    assert_eq!(other.next().await.unwrap().events[0].kv.key, "/c/1");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_finds_the_other_groups_revisions_of_that_time_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = three_groups(dir.path()).await;
    for restart in [false, true] {
        let whole = running.store.whole();
        put(&whole, "/a/1", "old").await.unwrap();
        let then = put(&whole, "/a/1", "new").await.unwrap();
        let revision = put(&whole, "/c/1", "x").await.unwrap();
        // Of itself the log of group 0 grows by a note alone.
        let index = running.store.status().await.unwrap().raft_applied_index;
        eventually("it is noted", async || running.store.status().await.unwrap().raft_applied_index > index).await;
        put(&whole, "/a/1", "newer").await.unwrap();
        put(&whole, "/c/1", "y").await.unwrap();
        if restart {
            running.store.snapshot().await.unwrap();
            running.stop().await;
            running = Running::open(dir.path()).await.unwrap();
        }
        running.store.whole().compact(revision, true).await.unwrap();
        let other = running.store.for_group(1).status().await.unwrap();
        assert_eq!(other.compact_revision, then, "restarted: {restart}");
    }
    running.stop().await;
}

/// What a task returns, when it has ended.
fn spawn<T: Send + 'static>(
    tasks: &runtime::Tasks,
    task: impl Future<Output = T> + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    tasks.spawn("test", async move { drop(sender.send(task.await)) });
    receiver
}

/// Counts up keys of a shard while it moves from group to group: no count is lost, none is done twice.
struct Counting {
    stop: Arc<AtomicBool>,
    counters: Vec<oneshot::Receiver<i64>>,
}

impl Counting {
    fn start(stores: Vec<Whole>, tasks: &runtime::Tasks) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counters = (0..8).map(|n| {
            let (store, stop) = (stores[n % stores.len()].clone(), stop.clone());
            spawn(tasks, async move {
                let key = format!("/s/{n}");
                let (mut count, mut revision) = (0, 0);
                while !stop.load(Ordering::Acquire) || count == 0 {
                    let compare = vec![Compare {
                        key: key.clone().into(),
                        range_end: Bytes::new(),
                        result: CompareResult::Equal,
                        target: CompareTarget::Version(count),
                    }];
                    let put = PutRequest {
                        key: key.clone().into(),
                        value: (count + 1).to_string().into(),
                        ..Default::default()
                    };
                    let txn = TxnRequest { compare, success: vec![RequestOp::Put(put)], ..Default::default() };
                    let Ok(answer) = store.txn(txn).await else {
                        // It may have been done or not: the key tells.
                        let Ok(range) = store.range(RangeRequest::key(key.clone())).await else { continue };
                        let found = range.kvs.first().map_or(0, |kv| kv.version);
                        assert!(found == count || found == count + 1, "{found} after {count}");
                        count = found;
                        continue;
                    };
                    assert!(answer.succeeded, "{key} has not version {count}");
                    assert!(
                        answer.revision > revision,
                        "revisions of a shard go up: {} after {revision}",
                        answer.revision
                    );
                    (count, revision) = (count + 1, answer.revision);
                }
                count
            })
        });
        Counting { stop: stop.clone(), counters: counters.collect() }
    }

    async fn finish(self, store: &Whole) -> i64 {
        self.stop.store(true, Ordering::Release);
        let mut sum = 0;
        for (n, counter) in self.counters.into_iter().enumerate() {
            let count = counter.await.unwrap();
            let found = store.range(RangeRequest::key(format!("/s/{n}"))).await.unwrap().kvs;
            assert_eq!((found[0].version, &found[0].value[..]), (count, count.to_string().as_bytes()), "counter {n}");
            sum += count;
        }
        sum
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_moves_under_load_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = three_groups(dir.path()).await;
    let whole = running.store.whole();
    for n in 0..1500 {
        put(&whole, &format!("/s/filler-{n:04}"), "x").await.unwrap();
    }
    let counting = Counting::start(vec![whole.clone()], &running.tasks);
    for group in [1, 2, 0, 2, 1, 0] {
        let shards = running.store.shard_move("/s/".into(), group).await.unwrap();
        let keeper = shards.iter().rfind(|s| b"/s/".starts_with(&s.prefix[..])).unwrap();
        assert_eq!(keeper.group, group);
        assert_eq!(all(&whole, "/s/filler-").await.len(), 1500);
    }
    assert!(counting.finish(&whole).await > 100);
    eventually("no plan is left, and what was moved away is forgotten", async || {
        let status = whole.status().await.unwrap();
        status.keys == 1508
    })
    .await;
    running.stop().await;
    let running = Running::open(dir.path()).await.unwrap();
    assert_eq!(all(&running.store.whole(), "/s/").await.len(), 1508);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shard_moves_while_leaders_come_and_go() {
    let mut cluster = Cluster::divided(3, 2).await;
    let tasks = runtime::Tasks::root();
    let filling = cluster.at(0).store.whole();
    for n in 0..600 {
        let value = "x".repeat(200);
        put(&filling, &format!("/s/filler-{n:03}"), &value).await.unwrap();
    }
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for round in 0..4 {
        let leader = cluster.leader().await;
        // Whoever counts does so on the members that stay.
        let staying: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
        let counting = Counting::start(staying.iter().map(|i| cluster.at(*i).store.whole()).collect(), &tasks);
        let target = u32::from(round % 2 == 0);
        let mover = cluster.at(staying[0]).store.clone();
        let moving = spawn(&tasks, async move {
            let clock = runtime::Clock::system();
            let until = clock.monotonic() + DEADLINE;
            loop {
                match mover.shard_move("/s/".into(), target).await {
                    Ok(shards) => return shards,
                    Err(error) => assert!(clock.monotonic() < until, "{error}"),
                }
            }
        });
        // At a moment that differs from round to round.
        let plans = cluster.at(leader).store.clone();
        eventually("the move has begun", async || {
            let shards = plans.shards().await.unwrap_or_default();
            shards.iter().any(|s| s.moving_to.is_some()) || round > 1
        })
        .await;
        cluster.stop(leader).await;
        moving.await.unwrap();
        let whole = cluster.at(staying[0]).store.whole();
        counting.finish(&whole).await;
        for kv in all(&whole, "/s/").await {
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            let before = expected.insert(key.clone(), kv.version).unwrap_or(0);
            assert!(kv.version >= before, "{key} went back from {before} to {}", kv.version);
        }
        assert_eq!(expected.len(), 608);
        cluster.run(leader).await;
        for i in 0..8 {
            let key = format!("/s/{i}");
            whole.delete_range(DeleteRangeRequest { key: key.clone().into(), ..Default::default() }).await.unwrap();
            expected.remove(&key);
        }
    }
    cluster.same_hash().await;
    tasks.stop();
    for i in 0..3 {
        cluster.stop(i).await;
    }
}
