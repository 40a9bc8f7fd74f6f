//! Three members in one process: the network between them is a function call that can be cut.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use consensus::MessageType;
use prometheus_client::registry::Registry;
use replica::{GroupId, Message, cluster_id, member_id, snapshot::Point};
use runtime::Tasks;
use store::{Bootstrap, Peers, Question, Reply, Store, Timing};
use store_api::{Cluster as _, Member, Store as _, *};
use tempfile::TempDir;

use crate::support::{Running, eventually, options};

/// Who is there, and who hears nobody.
#[derive(Default)]
struct Network {
    doors: Mutex<HashMap<u64, Store>>,
    cut: Mutex<HashSet<u64>>,
    /// Who tells other hashes than it has.
    lying: Mutex<HashSet<u64>>,
    /// Members who hear nothing of a group.
    deaf: Mutex<HashSet<(u64, GroupId)>>,
    /// Heartbeats that ask whether the leader still leads.
    questions: AtomicUsize,
}

/// A heartbeat without a question has no context, or nine bytes of the lease's.
const NO_QUESTION: [usize; 2] = [0, 9];

struct Wire {
    me: u64,
    network: Weak<Network>,
    tasks: Tasks,
}

impl Network {
    fn door(&self, from: u64, to: u64) -> Option<Store> {
        let cut = self.cut.lock().unwrap();
        if cut.contains(&from) || cut.contains(&to) {
            return None;
        }
        self.doors.lock().unwrap().get(&to).cloned()
    }
}

#[async_trait]
impl Peers for Wire {
    fn send(&self, group: GroupId, message: Message) {
        let Some(network) = self.network.upgrade() else { return };
        let (me, to) = (self.me, message.to);
        if network.deaf.lock().unwrap().contains(&(to, group)) {
            return;
        }
        if message.get_msg_type() == MessageType::MsgHeartbeat && !NO_QUESTION.contains(&message.context.len()) {
            network.questions.fetch_add(1, Ordering::Relaxed);
        }
        let Some(door) = network.door(me, to) else { return };
        if message.get_snapshot().get_metadata().index == 0 {
            // It may be stopping.
            drop(door.receive(group, message));
            return;
        }
        let sender = network.doors.lock().unwrap().get(&me).cloned();
        self.tasks.spawn_thread("snapshot", move || {
            let Some(sender) = sender else { return };
            let ok = carry(&sender, &door, group, message).is_ok();
            sender.snapshot_sent(group, to, ok);
        });
    }

    fn update(&self, _members: Vec<Member>) {}

    async fn ask(&self, member: u64, question: Question) -> Result<Reply, StoreError> {
        let network = self.network.upgrade().ok_or(StoreError::NoLeader)?;
        let lies = network.lying.lock().unwrap().contains(&member);
        match network.door(self.me, member).ok_or(StoreError::NoLeader)?.answer(question).await? {
            Reply::Hash(told) if lies => Ok(Reply::Hash(HashKv { hash: !told.hash, ..told })),
            reply => Ok(reply),
        }
    }
}

fn carry(from: &Store, to: &Store, group: GroupId, message: Message) -> Result<(), String> {
    let metadata = message.get_snapshot().get_metadata();
    let point = Point { group, index: metadata.index, term: metadata.term };
    let mut file = from.open_snapshot(point)?;
    let mut incoming = to.receive_snapshot(point).map_err(|e| e.to_string())?;
    while let Some(portion) = file.next()? {
        incoming.portion(&portion).map_err(|e| e.to_string())?;
    }
    incoming.finish(message).map_err(|e| e.to_string())
}

fn url(i: usize) -> String {
    format!("http://member-{i}:2380")
}

pub struct Cluster {
    network: Arc<Network>,
    dir: TempDir,
    members: Vec<Option<Running>>,
    ids: Vec<u64>,
    groups: GroupId,
    lease_reads: bool,
}

impl Cluster {
    pub async fn start(size: usize) -> Self {
        Self::divided(size, 1).await
    }

    /// As [`Cluster::start`], with lease reads.
    pub async fn leased(size: usize) -> Self {
        Self::begin(size, 1, true).await
    }

    /// As [`Cluster::start`], with the keys divided among so many groups.
    pub async fn divided(size: usize, groups: GroupId) -> Self {
        Self::begin(size, groups, false).await
    }

    async fn begin(size: usize, groups: GroupId, lease_reads: bool) -> Self {
        let ids: Vec<u64> = (0..size).map(|i| member_id(&[url(i)], "test")).collect();
        let dir = tempfile::tempdir().unwrap();
        let members = (0..size).map(|_| None).collect();
        let mut cluster = Cluster { network: Arc::default(), dir, members, ids, groups, lease_reads };
        for i in 0..size {
            cluster.run(i).await;
        }
        cluster.leader().await;
        cluster
    }

    fn bootstrap(&self, i: usize) -> Bootstrap {
        let member = |(i, id): (usize, &u64)| Member {
            id: *id,
            name: format!("m{i}"),
            peer_urls: vec![url(i)],
            ..Default::default()
        };
        let members: Vec<Member> = self.ids.iter().enumerate().map(member).collect();
        Bootstrap::New { me: self.ids[i], cluster: cluster_id(self.ids.iter().copied()), members }
    }

    pub async fn run(&mut self, i: usize) {
        let bootstrap = self.bootstrap(i);
        self.run_with(i, bootstrap).await;
    }

    pub async fn run_with(&mut self, i: usize, bootstrap: Bootstrap) {
        let tasks = Tasks::root();
        let mut options = options(&self.folder(i), tasks.clone());
        options.timing = Timing { tick: std::time::Duration::from_millis(20), election_ticks: 10 };
        options.snapshot_bytes = 200 * 1024;
        options.lease_checkpoints = Some(std::time::Duration::from_millis(100));
        options.compact_hashes = true;
        options.bootstrap = bootstrap;
        options.groups = self.groups;
        options.lease_reads = self.lease_reads;
        let network = Arc::downgrade(&self.network);
        options.peers = Arc::new(Wire { me: self.ids[i], network, tasks: tasks.child("wire") });
        let store = Store::open(options).await.unwrap();
        self.network.doors.lock().unwrap().insert(self.ids[i], store.clone());
        self.members[i] = Some(Running { store, tasks });
    }

    fn folder(&self, i: usize) -> std::path::PathBuf {
        Path::join(self.dir.path(), format!("m{i}"))
    }

    pub fn at(&self, i: usize) -> &Running {
        self.members[i].as_ref().unwrap()
    }

    pub async fn stop(&mut self, i: usize) {
        self.network.doors.lock().unwrap().remove(&self.ids[i]);
        self.members[i].take().unwrap().stop().await;
    }

    pub fn cut(&self, i: usize) {
        self.network.cut.lock().unwrap().insert(self.ids[i]);
    }

    /// From now on a member tells hashes as if its keys were others.
    pub fn corrupt(&self, i: usize) -> u64 {
        self.network.lying.lock().unwrap().insert(self.ids[i]);
        self.ids[i]
    }

    pub fn join(&self, i: usize) {
        self.network.cut.lock().unwrap().remove(&self.ids[i]);
    }

    /// The member that most others follow.
    pub async fn leader(&self) -> usize {
        let leader = std::cell::Cell::new(None);
        eventually("a leader", async || {
            leader.set(self.led_by().await);
            leader.get().is_some()
        })
        .await;
        leader.get().unwrap()
    }

    async fn led_by(&self) -> Option<usize> {
        let cut = self.network.cut.lock().unwrap().clone();
        let mut leaders = HashSet::new();
        for (id, running) in self.ids.iter().zip(&self.members) {
            let Some(running) = running.as_ref().filter(|_| !cut.contains(id)) else { continue };
            leaders.insert(running.store.status().await.unwrap().leader);
        }
        let leader = leaders.iter().next().copied().filter(|_| leaders.len() == 1)?;
        self.ids.iter().position(|id| *id == leader && !cut.contains(id))
    }

    pub async fn same_hash(&self) {
        eventually("equal replicas", async || {
            let mut hashes = HashSet::new();
            for running in self.members.iter().flatten() {
                let hash = running.store.hash_kv(0).await.unwrap();
                hashes.insert((hash.hash, hash.revision));
            }
            hashes.len() == 1
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_reach_every_member_and_reads_see_them_everywhere() {
    let cluster = Cluster::start(3).await;
    for i in 0..30 {
        cluster.at(i % 3).put(&format!("key-{i}"), "value").await.unwrap();
        let next = cluster.at((i + 1) % 3);
        assert_eq!(next.get(&format!("key-{i}")).await.as_deref(), Some("value"), "a linearizable read elsewhere");
    }
    cluster.same_hash().await;
    let lease = cluster.at(0).store.lease_grant(0, 60).await.unwrap();
    for i in 0..3 {
        assert_eq!(cluster.at(i).store.lease_keep_alive(lease.id).await.unwrap().ttl, 60, "the leader is asked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_knows_what_is_left_of_leases() {
    const TTL: i64 = 60;
    let cluster = Cluster::start(3).await;
    let lease = cluster.at(0).store.lease_grant(0, TTL).await.unwrap().id;
    let left = async || cluster.at(0).store.lease_time_to_live(lease, false).await.map_or(TTL, |status| status.ttl);
    let hand_over = async || {
        let old = cluster.leader().await;
        let new = (old + 1) % 3;
        cluster.at(old).store.move_leader(cluster.ids[new]).await.unwrap();
        eventually("another leader", async || cluster.led_by().await == Some(new)).await;
    };
    // It was noted about a second ago at the latest.
    eventually("time passes", async || left().await < TTL - 3).await;
    hand_over().await;
    assert!((TTL - 10..TTL - 1).contains(&left().await), "{} s are left", left().await);
    // A renewal counts also where less was noted before.
    assert_eq!(cluster.at(1).store.lease_keep_alive(lease).await.unwrap().ttl, TTL);
    hand_over().await;
    assert!(left().await >= TTL - 2, "{} s are left", left().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_goes_and_writes_go_on() {
    let mut cluster = Cluster::start(3).await;
    cluster.at(0).put("before", "1").await.unwrap();
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    let other = (leader + 1) % 3;
    // What was passed on to the old leader fails when the new one is there, and may be tried again.
    eventually("writes go on", async || cluster.at(other).put("during", "2").await.is_ok()).await;
    assert_eq!(cluster.at((leader + 2) % 3).get("before").await.as_deref(), Some("1"));
    cluster.run(leader).await;
    eventually("it catches up", async || cluster.at(leader).get("during").await.as_deref() == Some("2")).await;
    cluster.same_hash().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_acknowledges_nothing_and_lies_to_nobody() {
    minority(Cluster::start(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_with_a_lease_lies_to_nobody_either() {
    let cluster = Cluster::leased(3).await;
    let leader = cluster.leader().await;
    eventually("a lease", async || lease_reads(&cluster, leader).await > 0).await;
    minority(cluster).await;
}

/// Reads of a member that its lease answered, after one more.
async fn lease_reads(cluster: &Cluster, member: usize) -> u64 {
    cluster.at(member).get("a").await;
    let mut registry = Registry::default();
    cluster.at(member).store.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find(|line| line.starts_with("plinth_store_lease_reads_total ")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_lease_the_leader_asks_nobody() {
    const READS: u64 = 200;
    let questions = |cluster: &Cluster| cluster.network.questions.load(Ordering::Relaxed);
    let cluster = Cluster::leased(3).await;
    let leader = cluster.leader().await;
    eventually("a lease", async || lease_reads(&cluster, leader).await > 0).await;
    let (answered, asked) = (lease_reads(&cluster, leader).await, questions(&cluster));
    for i in 0..READS {
        cluster.at((leader + 1) % 3).put("a", &i.to_string()).await.unwrap();
        assert_eq!(cluster.at(leader).get("a").await, Some(i.to_string()), "written elsewhere, and there at once");
    }
    let (answered, asked) = (lease_reads(&cluster, leader).await - answered, questions(&cluster) - asked);
    // Where a member does not run for a while, the lease ends and the leader asks.
    assert!(
        answered > READS / 2 && asked as u64 <= 2 * (READS + 1 - answered),
        "{answered} by lease, {asked} questions"
    );
    let without = Cluster::start(3).await;
    let leader = without.leader().await;
    assert_eq!((lease_reads(&without, leader).await, questions(&without) > 0), (0, true));
}

async fn minority(cluster: Cluster) {
    cluster.at(0).put("a", "1").await.unwrap();
    let old = cluster.leader().await;
    cluster.cut(old);
    let new = cluster.leader().await;
    assert_ne!(old, new);
    cluster.at(new).put("a", "2").await.unwrap();
    let stale = cluster.at(old).store.range(RangeRequest { serializable: true, ..RangeRequest::key("a") }).await;
    assert_eq!(&stale.unwrap().kvs[0].value[..], b"1", "a serializable read may be old");
    let (put, read) =
        tokio::join!(cluster.at(old).put("a", "lost"), cluster.at(old).store.range(RangeRequest::key("a")));
    assert!(put.is_err() && read.is_err(), "{put:?} {read:?}");
    // It was answered by then, or not: the next one finds no leader at all, and does not wait for one for ever either.
    eventually("it gives up", async || cluster.at(old).store.status().await.unwrap().leader == 0).await;
    assert_eq!(cluster.at(old).put("a", "lost").await, Err(StoreError::Timeout));
    cluster.join(old);
    eventually("it follows", async || cluster.at(old).get("a").await.as_deref() == Some("2")).await;
    cluster.same_hash().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_far_behind_is_sent_a_snapshot_and_its_watchers_miss_nothing() {
    let cluster = Cluster::start(3).await;
    let behind = (cluster.leader().await + 1) % 3;
    let watcher =
        cluster.at(behind).store.watch(WatchRequest { key: "k".into(), range_end: "l".into(), ..Default::default() });
    let mut watcher = watcher.await.unwrap();
    cluster.cut(behind);
    let leader = cluster.leader().await;
    let value = "x".repeat(100_000);
    // More than is kept in memory for those who are behind.
    for i in 0..300 {
        cluster.at(leader).put(&format!("k-{i:03}"), &value).await.unwrap();
    }
    cluster.join(behind);
    eventually("it catches up", async || cluster.at(behind).store.status().await.unwrap().revision == 301).await;
    cluster.same_hash().await;
    let mut seen = Vec::new();
    while seen.len() < 300 {
        seen.extend(watcher.next().await.unwrap().events.into_iter().map(|e| e.kv.mod_revision));
    }
    assert_eq!(seen, (2..=301).collect::<Vec<_>>());
    cluster.at(behind).put("k-new", "1").await.unwrap();
    assert_eq!(watcher.next().await.unwrap().events[0].kv.mod_revision, 302);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    come_and_go(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_in_every_group() {
    come_and_go(2).await;
}

/// A key of group 0, and one of the last group.
const KEYS: [&str; 2] = ["a", "/s/a"];

async fn come_and_go(groups: GroupId) {
    let mut cluster = Cluster::divided(3, groups).await;
    cluster.at(0).store.shard_move("/s/".into(), groups - 1).await.unwrap();
    assert_eq!(write(&cluster, 0).await, Ok(()));
    let (added, members) = cluster.at(1).store.member_add(vec![url(3)], true).await.unwrap();
    assert_eq!((members.len(), added.is_learner), (4, true));
    let too_many = cluster.at(1).store.member_add(vec![url(4)], true).await;
    assert_eq!(too_many.unwrap_err(), StoreError::Membership(MembershipError::TooManyLearners));
    cluster.ids.push(added.id);
    cluster.members.push(None);
    let cluster_id = cluster.at(0).store.identity().0;
    cluster.run_with(3, Bootstrap::Join { me: added.id, cluster: cluster_id }).await;
    eventually("the learner has everything", async || {
        let mut found = 0;
        for key in KEYS {
            let read = RangeRequest { serializable: true, ..RangeRequest::key(key) };
            found += cluster.at(3).store.whole().range(read).await.map_or(0, |range| range.kvs.len());
        }
        found == KEYS.len()
    })
    .await;
    assert_eq!(write(&cluster, 3).await, Err(StoreError::Learner));
    cluster.at(3).store.publish("m3", vec![]).await.unwrap();
    eventually("it is promoted", async || cluster.at(0).store.member_promote(added.id).await.is_ok()).await;
    eventually("it votes", async || write(&cluster, 3).await.is_ok()).await;
    // One after another goes, the leader each time, down to the last one.
    let mut staying: Vec<usize> = (0..4).collect();
    while staying.len() > 1 {
        let leader = cluster.leader().await;
        staying.retain(|i| *i != leader);
        let left = cluster.at(staying[0]).store.member_remove(cluster.ids[leader]).await.unwrap();
        assert_eq!(left.len(), staying.len());
        tokio::time::timeout(crate::support::DEADLINE, cluster.at(leader).store.removed()).await.unwrap();
        cluster.stop(leader).await;
        eventually("those left go on", async || write(&cluster, staying[0]).await.is_ok()).await;
        cluster.same_hash().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_promoted_when_it_has_every_group() {
    let mut cluster = Cluster::divided(3, 2).await;
    assert_eq!(cluster.at(0).store.shard_move("/s/".into(), 1).await.map(|shards| shards.len()), Ok(2));
    assert_eq!(write(&cluster, 0).await, Ok(()));
    let id = cluster.at(0).store.member_add(vec![url(3)], true).await.unwrap().0.id;
    cluster.network.deaf.lock().unwrap().insert((id, 1));
    cluster.ids.push(id);
    cluster.members.push(None);
    let cluster_id = cluster.at(0).store.identity().0;
    cluster.run_with(3, Bootstrap::Join { me: id, cluster: cluster_id }).await;
    let read = RangeRequest { serializable: true, ..RangeRequest::key(KEYS[0]) };
    let has_first = async || cluster.at(3).store.range(read.clone()).await.is_ok_and(|range| range.kvs.len() == 1);
    eventually("it has group 0", has_first).await;
    cluster.at(3).store.publish("m3", vec![]).await.unwrap();
    for i in 0..3 {
        let promoted = cluster.at(i).store.member_promote(id).await;
        assert_eq!(promoted, Err(MembershipError::LearnerNotReady.into()), "asked at {i}");
    }
    cluster.network.deaf.lock().unwrap().clear();
    eventually("it is promoted", async || cluster.at(0).store.member_promote(id).await.is_ok()).await;
}

/// Writes to each group.
async fn write(cluster: &Cluster, i: usize) -> Result<(), StoreError> {
    let store = cluster.at(i).store.whole();
    for key in KEYS {
        store.put(PutRequest { key: key.into(), value: "1".into(), ..Default::default() }).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_when_it_is_told_to() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let next = (leader + 1) % 3;
    assert_eq!(cluster.at(next).store.move_leader(cluster.ids[leader]).await, Err(StoreError::NotLeader));
    cluster.at(leader).store.move_leader(cluster.ids[next]).await.unwrap();
    assert_eq!(cluster.leader().await, next);
    cluster.at(leader).put("a", "1").await.unwrap();
}
