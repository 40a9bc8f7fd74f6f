//! Users and permissions on one member and on three: what is checked, where it is known, what survives.

use store::Store;
use store_api::{Auth as _, Store as _, *};

use crate::{
    cluster::Cluster,
    support::{Running, eventually},
};

fn caller(store: &Store, name: &str) -> Caller {
    Caller::new(name, store.revision())
}

async fn change(store: &Store, change: AuthChange) {
    store.change(Some(caller(store, ROOT)), change.clone()).await.unwrap_or_else(|e| panic!("{change:?}: {e}"));
}

fn user(name: &str) -> AuthChange {
    AuthChange::UserAdd { name: name.into(), hash: format!("hash of {name}").into(), no_password: false }
}

fn grant(user: &str, role: &str) -> AuthChange {
    AuthChange::UserGrantRole { user: user.into(), role: role.into() }
}

fn permission(key: &'static str, end: &'static str) -> AuthChange {
    let permission = Permission { kind: PermissionKind::ReadWrite, key: key.into(), range_end: end.into() };
    AuthChange::RoleGrantPermission { role: "own".into(), permission }
}

/// Root, and alice who may read and write `[a, b)`; authentication is on.
async fn enable(store: &Store) {
    let role = AuthChange::RoleAdd { name: "own".into() };
    for step in [user(ROOT), grant(ROOT, ROOT), user("alice"), role, permission("a", "b"), grant("alice", "own")] {
        change(store, step).await;
    }
    change(store, AuthChange::Enable).await;
}

async fn put(store: &Store, who: Option<Caller>, key: &'static str) -> Result<(), AuthError> {
    told(store.as_caller(who).put(PutRequest { key: key.into(), ..Default::default() }).await)
}

async fn get(store: &Store, who: Option<Caller>, key: &'static str) -> Result<(), AuthError> {
    told(store.as_caller(who).range(RangeRequest::key(key)).await)
}

fn told<T>(answer: Result<T, StoreError>) -> Result<(), AuthError> {
    match answer {
        Ok(_) => Ok(()),
        Err(StoreError::Auth(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

/// Who may do what once [`enable`] is done.
async fn check_rules(store: &Store) {
    let (alice, root, nobody) = (Some(caller(store, "alice")), Some(caller(store, ROOT)), None);
    let old = Some(Caller::new("alice", store.revision() - 1));
    let denied = Err(AuthError::PermissionDenied);
    for (who, key, expected) in [
        (&alice, "a", Ok(())),
        (&alice, "aa", Ok(())),
        (&alice, "b", denied),
        (&root, "b", Ok(())),
        (&nobody, "a", Err(AuthError::UserEmpty)),
        (&old, "a", Err(AuthError::OldRevision)),
    ] {
        assert_eq!(put(store, who.clone(), key).await, expected, "put {key} of {who:?}");
        assert_eq!(get(store, who.clone(), key).await, expected, "get {key} of {who:?}");
        let watch = WatchRequest { key: key.into(), ..Default::default() };
        assert_eq!(told(store.as_caller(who.clone()).watch(watch).await), expected, "watch {key} of {who:?}");
        let reading = TxnRequest { success: vec![RequestOp::Range(RangeRequest::key(key))], ..Default::default() };
        assert_eq!(told(store.as_caller(who.clone()).txn(reading).await), expected, "txn {key} of {who:?}");
    }
    assert_eq!(store.permit(alice.as_ref(), Demand::Admin), denied);
    assert_eq!(told(store.as_caller(alice).compact(1, false).await), denied);
    let written = store.put(PutRequest { key: "a".into(), ..Default::default() }).await;
    assert_eq!(told(written), Err(AuthError::UserEmpty), "nobody says that this is theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_survive_a_restart_with_and_without_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path()).await.unwrap();
    assert_eq!(put(&running.store, None, "a").await, Ok(()), "authentication is off");
    enable(&running.store).await;
    check_rules(&running.store).await;
    let token = running.store.assign_token("alice", "letters".into()).await.unwrap();
    running.stop().await;

    let running = Running::open(dir.path()).await.unwrap();
    assert!(running.store.enabled());
    check_rules(&running.store).await;
    let holder = running.store.token_holder(&token).await.unwrap();
    assert_eq!(holder, caller(&running.store, "alice"), "the log still has what gave it out");
    running.store.snapshot().await.unwrap();
    running.stop().await;

    let running = Running::open(dir.path()).await.unwrap();
    check_rules(&running.store).await;
    let hash = running.store.password_hash("alice").await.unwrap();
    assert_eq!((&hash.hash[..], hash.revision), (&b"hash of alice"[..], running.store.revision()));
    let forgotten = running.store.token_holder(&token).await;
    assert_eq!(forgotten, Err(AuthError::InvalidToken.into()), "snapshots hold no tokens");
    change(&running.store, AuthChange::Disable).await;
    assert!(!running.store.enabled());
    assert_eq!(put(&running.store, None, "b").await, Ok(()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_does_by_itself_needs_no_permission() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path()).await.unwrap();
    enable(&running.store).await;
    let root = running.store.as_caller(Some(caller(&running.store, ROOT)));
    let lease = root.lease_grant(0, 1).await.unwrap();
    let bound = PutRequest { key: "b".into(), lease: lease.id, ..Default::default() };
    root.put(bound).await.unwrap();
    let alice = running.store.as_caller(Some(caller(&running.store, "alice")));
    let denied = Err(AuthError::PermissionDenied);
    assert_eq!(told(alice.lease_keep_alive(lease.id).await), denied, "its key is not hers");
    assert_eq!(told(alice.lease_time_to_live(lease.id, true).await), denied);
    assert_eq!(told(alice.lease_time_to_live(lease.id, false).await), Ok(()));
    assert_eq!(told(alice.leases().await), denied);
    eventually("the lease ends", async || running.get("b").await.is_none()).await;
    assert_eq!(root.leases().await, Ok(vec![]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_permissions_are_known_to_every_member() {
    let cluster = Cluster::start(3).await;
    let store = |i: usize| &cluster.at(i % 3).store;
    enable(store(0)).await;
    for i in 0..9 {
        let token = store(i).assign_token("alice", format!("letters{i}")).await.unwrap();
        let other = store(i + 1);
        let holder = other.token_holder(&token).await.unwrap();
        assert_eq!(&*holder.name, "alice", "{token} is good elsewhere at once");
        assert_eq!(put(other, Some(holder.clone()), "a").await, Ok(()));
        assert_eq!(put(other, Some(holder), "b").await, Err(AuthError::PermissionDenied));
    }
    let unknown = store(1).token_holder("letters.999999").await;
    assert_eq!(unknown, Err(AuthError::InvalidToken.into()));
    let alice = || Some(caller(store(0), "alice"));
    let lease = store(0).as_caller(alice()).lease_grant(0, 60).await.unwrap();
    for i in 0..3 {
        let renewed = store(i).as_caller(alice()).lease_keep_alive(lease.id).await;
        assert_eq!(renewed.unwrap().ttl, 60, "the leader is asked");
        let unnamed = store(i).as_caller(None).lease_keep_alive(lease.id).await;
        assert_eq!(told(unnamed), Err(AuthError::UserEmpty));
    }
    // A permission is taken back on one member, and whoever is recognised by its old revision writes nowhere.
    let before = alice();
    change(store(1), AuthChange::UserRevokeRole { user: "alice".into(), role: "own".into() }).await;
    for i in 0..3 {
        assert_eq!(put(store(i), before.clone(), "a").await, Err(AuthError::OldRevision));
        assert_eq!(get(store(i), before.clone(), "a").await, Err(AuthError::OldRevision));
    }
    let token = store(2).assign_token("alice", "more".into()).await.unwrap();
    change(store(0), AuthChange::UserDelete { name: "alice".into() }).await;
    for i in 0..3 {
        eventually("the token of a deleted user is worth nothing", async || {
            store(i).token_holder(&token).await == Err(AuthError::InvalidToken.into())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_sent_a_snapshot_knows_the_users() {
    let cluster = Cluster::start(3).await;
    let behind = (cluster.leader().await + 1) % 3;
    cluster.cut(behind);
    let leader = cluster.leader().await;
    let store = &cluster.at(leader).store;
    enable(store).await;
    let root = store.as_caller(Some(caller(store, ROOT)));
    let value: bytes::Bytes = "x".repeat(100_000).into();
    // More than is kept in memory for those who are behind.
    for _ in 0..300 {
        root.put(PutRequest { key: "k".into(), value: value.clone(), ..Default::default() }).await.unwrap();
    }
    let store = &cluster.at(behind).store;
    assert!(!store.enabled(), "it has heard of nothing");
    cluster.join(behind);
    eventually("it hears of the users", async || store.enabled()).await;
    eventually("it follows", async || told_once(store).await).await;
    check_rules(store).await;
}

/// Whether the member serves what must be up to date.
async fn told_once(store: &Store) -> bool {
    store.password_hash(ROOT).await.is_ok()
}
