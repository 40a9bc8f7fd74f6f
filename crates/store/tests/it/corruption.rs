//! A member before peers who have the same keys, or others.

use std::sync::Arc;

use async_trait::async_trait;
use replica::{GroupId, Message};
use runtime::{Clock, Tasks};
use store::{Bootstrap, Options, Peers, Question, Reply, Store, cluster_id};
use store_api::{Alarm, AlarmKind, Cluster as _, HashKv, Member, PutRequest, Store as _, StoreError};

use crate::{cluster::Cluster, support::eventually};

const ME: u64 = 1;
const OTHER: u64 = 2;

/// Another member that has in one group what is said here; of the other groups it says nothing.
struct Says(GroupId, Result<Reply, StoreError>);

#[async_trait]
impl Peers for Says {
    fn send(&self, _group: GroupId, _message: Message) {}

    fn update(&self, _members: Vec<Member>) {}

    async fn ask(&self, member: u64, question: Question) -> Result<Reply, StoreError> {
        assert_eq!(member, OTHER);
        match question {
            Question::Hash(group, 1) if group == self.0 => self.1.clone(),
            Question::Hash(_, 1) => Err(StoreError::NoLeader),
            other => panic!("{other:?}"),
        }
    }
}

const GROUPS: GroupId = 2;

async fn checked(group: GroupId, says: Result<Reply, StoreError>) -> Result<(), StoreError> {
    let (tasks, folder) = (Tasks::root(), tempfile::tempdir().unwrap());
    let member = |id: u64| Member { id, peer_urls: vec![format!("http://127.0.0.1:{id}")], ..Default::default() };
    let members = [ME, OTHER].map(member).to_vec();
    let mut options = Options::new(folder.path(), Clock::system(), tasks.child("store"));
    options.bootstrap = Bootstrap::New { me: ME, cluster: cluster_id([ME, OTHER]), members };
    options.groups = GROUPS;
    options.peers = Arc::new(Says(group, says));
    let store = Store::open(options).await.unwrap();
    let checked = store.check_against_peers().await;
    tasks.stop();
    assert!(tasks.join(std::time::Duration::from_secs(10)).await);
    checked
}

#[tokio::test]
async fn only_other_keys_at_the_same_revision_are_told() {
    let own = {
        let (tasks, folder) = (Tasks::root(), tempfile::tempdir().unwrap());
        let store = Store::open(Options::new(folder.path(), Clock::system(), tasks.child("store"))).await.unwrap();
        let hash = store.hash_kv(0).await.unwrap();
        tasks.stop();
        hash
    };
    for group in 0..GROUPS {
        let says = |hash: HashKv| checked(group, Ok(Reply::Hash(hash)));
        assert_eq!(says(own.clone()).await, Ok(()));
        assert_eq!(says(HashKv { compact_revision: 7, hash: own.hash ^ 1, ..own }).await, Ok(()));
        assert_eq!(checked(group, Err(StoreError::FutureRevision { requested: 1, current: 0 })).await, Ok(()));
        let told = says(HashKv { hash: own.hash ^ 1, ..own }).await.unwrap_err();
        let StoreError::Corrupt(words) = told else { panic!("{told:?}") };
        assert!(words.starts_with("1 found data inconsistency with peers: 2 has the hash "), "{words}");
        assert_eq!(words.contains("of group 1"), group == 1, "{words}");
    }
}

/// A key with a history of several versions, compacted in its middle.
async fn compacted(cluster: &Cluster) -> Result<(), StoreError> {
    let store = &cluster.at(0).store;
    for value in ["1", "2", "3"] {
        store.put(PutRequest { key: "k".into(), value: value.into(), ..Default::default() }).await?;
    }
    let revision = store.status().await?.revision;
    store.compact(revision - 1, false).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactions_are_compared() {
    let cluster = Cluster::start(3).await;
    let interval = std::time::Duration::from_millis(20);
    for i in 0..3 {
        let running = cluster.at(i);
        running.tasks.spawn("check", running.store.clone().check_compactions(interval));
    }
    compacted(&cluster).await.unwrap();
    let leader = cluster.leader().await;
    let corrupt = cluster.corrupt((leader + 1) % 3);
    // All have found the first compaction alike, or it is told otherwise already, and no more is written.
    let again = compacted(&cluster).await;
    assert!(matches!(again, Ok(()) | Err(StoreError::Corrupt(_))), "{again:?}");
    let alarms = vec![Alarm { member: corrupt, kind: AlarmKind::Corrupt }];
    eventually("an alarm for the one that differs", async || {
        cluster.at(0).store.alarms().await.is_ok_and(|found| found == alarms)
    })
    .await;
    let put = PutRequest { key: "k".into(), ..Default::default() };
    assert!(matches!(cluster.at(leader).store.put(put).await, Err(StoreError::Corrupt(_))));
}
