//! A member before peers who have the same keys, or others.

use std::sync::Arc;

use async_trait::async_trait;
use replica::{GroupId, Message};
use runtime::{Clock, Tasks};
use store::{Bootstrap, Options, Peers, Question, Reply, Store, cluster_id};
use store_api::{HashKv, Member, Store as _, StoreError};

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
