//! Locks and elections: those who ask the server and those who use etcd's client library stand in one line.

use std::{process::Stdio, time::Duration};

use etcd_proto::{
    v3electionpb::{
        CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
        election_client::ElectionClient,
    },
    v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient},
};
use store_api::{EventKind, Store, WatchRequest, Watcher, prefix_end};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::served::Served;

const LIMIT: Duration = Duration::from_secs(15);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} in time"))
}

/// Watches a line from its beginning, so that a test can wait for somebody to stand in it or to leave it.
async fn watched(served: &Served, name: &str) -> Box<dyn Watcher> {
    let key = format!("{name}/");
    let range_end = prefix_end(key.as_bytes());
    let request = WatchRequest { key: key.into(), range_end, start_revision: 1, ..Default::default() };
    served.client().await.watch(request).await.unwrap()
}

/// The next event of that kind; its key.
async fn next(watcher: &mut Box<dyn Watcher>, kind: EventKind) -> String {
    soon("an event", async {
        loop {
            let events = watcher.next().await.unwrap().events;
            if let Some(event) = events.into_iter().find(|event| event.kind == kind) {
                return String::from_utf8_lossy(&event.kv.key).into_owned();
            }
        }
    })
    .await
}

async fn leases<const N: usize>(served: &Served) -> [i64; N] {
    let client = served.client().await;
    let mut ids = [0; N];
    for id in &mut ids {
        *id = client.lease_grant(0, 300).await.unwrap().id;
    }
    ids
}

/// A program that goes on running, and what it says.
async fn running(served: &Served, line: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(test_support::tool("etcdctl"));
    command.args(["--endpoints", &served.url]).args(line.split(' '));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[tokio::test]
async fn a_lock_goes_from_one_to_the_next() {
    let served = Served::start().await;
    let mut line = watched(&served, "my").await;
    let [first, second] = leases(&served).await;
    let mut client = LockClient::new(served.channel().await);
    let lock = |lease| LockRequest { name: "my".into(), lease };
    let held = client.lock(lock(first)).await.unwrap().into_inner();
    assert_eq!(held.key, format!("my/{first:x}"));
    assert_eq!(next(&mut line, EventKind::Put).await, format!("my/{first:x}"));
    // Asking again under the same lease changes nothing.
    let again = client.lock(lock(first)).await.unwrap().into_inner();
    assert_eq!((again.key, again.header.unwrap().revision), (held.key.clone(), held.header.unwrap().revision));

    let mut waiting = LockClient::new(served.channel().await);
    let waits = waiting.lock(lock(second));
    let unlocks = async {
        assert_eq!(next(&mut line, EventKind::Put).await, format!("my/{second:x}"));
        client.unlock(UnlockRequest { key: held.key }).await.unwrap()
    };
    let (taken, unlocked) = soon("the second lock", async { tokio::join!(waits, unlocks) }).await;
    let (taken, unlocked) = (taken.unwrap().into_inner(), unlocked.into_inner());
    assert_eq!(taken.key, format!("my/{second:x}"));
    assert_eq!(taken.header.unwrap().revision, unlocked.header.unwrap().revision);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_line() {
    let served = Served::start().await;
    let mut line = watched(&served, "my").await;
    let [first, second] = leases(&served).await;
    let mut client = LockClient::new(served.channel().await);
    client.lock(LockRequest { name: "my".into(), lease: first }).await.unwrap();
    next(&mut line, EventKind::Put).await;
    let mut impatient = LockClient::new(served.channel().await);
    tokio::select! {
        taken = impatient.lock(LockRequest { name: "my".into(), lease: second }) => panic!("{taken:?}"),
        key = next(&mut line, EventKind::Put) => assert_eq!(key, format!("my/{second:x}")),
    }
    assert_eq!(next(&mut line, EventKind::Delete).await, format!("my/{second:x}"));
}

#[tokio::test]
async fn a_lock_whose_lease_ends_in_line_is_not_taken() {
    let served = Served::start().await;
    let mut line = watched(&served, "my").await;
    let [first, second] = leases(&served).await;
    let mut client = LockClient::new(served.channel().await);
    let held = client.lock(LockRequest { name: "my".into(), lease: first }).await.unwrap().into_inner();
    next(&mut line, EventKind::Put).await;
    let mut waiting = LockClient::new(served.channel().await);
    let ends = async {
        next(&mut line, EventKind::Put).await;
        served.client().await.lease_revoke(second).await.unwrap();
        client.unlock(UnlockRequest { key: held.key }).await.unwrap();
    };
    let waits = waiting.lock(LockRequest { name: "my".into(), lease: second });
    let (taken, ()) = soon("the end", async { tokio::join!(waits, ends) }).await;
    assert_eq!(taken.unwrap_err().message(), "mutex: session is expired");
}

#[tokio::test]
async fn etcdctl_waits_for_a_lock_that_the_server_has_taken() {
    let served = Served::start().await;
    let mut line = watched(&served, "my").await;
    let mut client = LockClient::new(served.channel().await);
    // No lease is named: the server makes one.
    let held = client.lock(LockRequest { name: "my".into(), lease: 0 }).await.unwrap().into_inner();
    next(&mut line, EventKind::Put).await;
    let (_child, mut says) = running(&served, "lock my").await;
    let theirs = next(&mut line, EventKind::Put).await;
    client.unlock(UnlockRequest { key: held.key }).await.unwrap();
    assert_eq!(soon("their lock", says.next_line()).await.unwrap(), Some(theirs));
}

#[tokio::test]
async fn leaders_follow_each_other_and_are_observed() {
    let served = Served::start().await;
    let mut line = watched(&served, "e").await;
    let [first, second] = leases(&served).await;
    let mut client = ElectionClient::new(served.channel().await);
    let name = || LeaderRequest { name: "e".into() };
    assert_eq!(client.leader(name()).await.unwrap_err().message(), "election: no leader");
    let mut observed = client.observe(name()).await.unwrap().into_inner();
    let mut heard = async || {
        let response: LeaderResponse = soon("a leader", observed.message()).await.unwrap().unwrap();
        let kv = response.kv.unwrap();
        format!("{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value))
    };
    let campaign = |lease, value: &'static str| CampaignRequest { name: "e".into(), lease, value: value.into() };
    let leader = client.campaign(campaign(first, "v1")).await.unwrap().into_inner().leader.unwrap();
    assert_eq!((&leader.name[..], leader.lease), (&b"e"[..], first));
    assert_eq!(heard().await, format!("e/{first:x}=v1"));
    // Standing again with another value proclaims it.
    client.campaign(campaign(first, "v2")).await.unwrap();
    assert_eq!(heard().await, format!("e/{first:x}=v2"));
    client.proclaim(ProclaimRequest { leader: Some(leader.clone()), value: "v3".into() }).await.unwrap();
    assert_eq!(heard().await, format!("e/{first:x}=v3"));
    next(&mut line, EventKind::Put).await;

    let mut candidate = ElectionClient::new(served.channel().await);
    let resigns = async {
        while next(&mut line, EventKind::Put).await != format!("e/{second:x}") {}
        client.resign(ResignRequest { leader: Some(leader.clone()) }).await.unwrap()
    };
    let stands = candidate.campaign(campaign(second, "w1"));
    let (elected, _) = soon("the second leader", async { tokio::join!(stands, resigns) }).await;
    let elected = elected.unwrap().into_inner().leader.unwrap();
    assert_eq!(heard().await, format!("e/{second:x}=w1"));
    let stale = client.proclaim(ProclaimRequest { leader: Some(leader), value: "v4".into() }).await;
    assert_eq!(stale.unwrap_err().message(), "election: not leader");
    let none = client.resign(ResignRequest { leader: None }).await.unwrap_err();
    assert_eq!(none.message(), r#""leader" field must be provided"#);

    let (_child, mut says) = running(&served, "elect e theirs").await;
    let theirs = next(&mut line, EventKind::Put).await;
    let resigned: LeaderKey = elected;
    client.resign(ResignRequest { leader: Some(resigned) }).await.unwrap();
    assert_eq!(soon("their election", says.next_line()).await.unwrap(), Some(theirs.clone()));
    assert_eq!(heard().await, format!("{theirs}=theirs"));
}
