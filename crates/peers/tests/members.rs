//! Three members over real sockets, on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::{sync::Arc, time::Duration};

use peers::{Handle, Network, Options};
use replica::{cluster_id, member_id};
use runtime::{Clock, Tasks};
use store::{Bootstrap, Store, Timing};
use store_api::{Cluster as _, Member, MembershipError, PutRequest, RangeRequest, Store as _};
use tokio::net::TcpListener;

struct Running {
    store: Store,
    tasks: Tasks,
}

async fn start(dir: &std::path::Path, bootstrap: Bootstrap, listener: TcpListener, known: Vec<Member>) -> Running {
    let tasks = Tasks::root();
    let network = Network::new(Options { tasks: tasks.child("peers"), tls: None });
    let mut options = store::Options::new(dir, Clock::system(), tasks.child("store"));
    options.timing = Timing { tick: Duration::from_millis(20), election_ticks: 10 };
    options.bootstrap = bootstrap;
    options.peers = Arc::new(Handle(network.clone()));
    let store = Store::open(options).await.unwrap();
    network.start(&store, vec![(listener, None)], known);
    Running { store, tasks }
}

async fn put(store: &Store, key: &str) {
    // An election may be under way.
    for _ in 0..100 {
        let put = PutRequest { key: key.to_owned().into(), value: vec![7; 1000].into(), ..Default::default() };
        if store.put(put).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{key} was never written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_agree_over_tcp_and_a_new_one_is_sent_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let urls: Vec<String> = listeners.iter().map(|l| format!("http://{}", l.local_addr().unwrap())).collect();
    let ids: Vec<u64> = urls[..3].iter().map(|url| member_id(std::slice::from_ref(url), "tcp")).collect();
    let member =
        |i: usize| Member { id: ids[i], name: format!("m{i}"), peer_urls: vec![urls[i].clone()], ..Default::default() };
    let cluster = cluster_id(ids.iter().copied());
    let fourth = listeners.pop().unwrap();
    let mut members = Vec::new();
    for (i, listener) in listeners.into_iter().enumerate() {
        let bootstrap = Bootstrap::New { me: ids[i], cluster, members: (0..3).map(member).collect() };
        members.push(start(&dir.path().join(format!("m{i}")), bootstrap, listener, vec![]).await);
    }
    for i in 0..60 {
        put(&members[i % 3].store, &format!("key-{i:03}")).await;
    }
    let count = async |store: &Store| store.range(RangeRequest::prefix("key-")).await.map(|r| r.count);
    assert_eq!(count(&members[1].store).await, Ok(60));

    // As a joining member does: it asks one that is there who they are.
    let clock = Clock::system();
    let until = clock.monotonic() + Duration::from_secs(20);
    // Those that have just met are not trusted yet.
    let (added, _) = loop {
        match members[0].store.member_add(vec![urls[3].clone()], true).await {
            Ok(added) => break added,
            Err(error) => assert_eq!(error, MembershipError::Unhealthy.into()),
        }
        assert!(clock.monotonic() < until, "the members do not count as healthy");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let asking = Network::new(Options { tasks: Tasks::root(), tls: None });
    let found = asking.discover(&urls[..1]).await.unwrap();
    let (known, found) = (found.members, found.cluster);
    assert_eq!((found, known.len()), (cluster, 4));
    let joined = start(&dir.path().join("m3"), Bootstrap::Join { me: added.id, cluster: found }, fourth, known).await;
    let read = RangeRequest { serializable: true, ..RangeRequest::prefix("key-") };
    let until = clock.monotonic() + Duration::from_secs(20);
    while joined.store.range(read.clone()).await.unwrap().count < 60 {
        assert!(clock.monotonic() < until, "the new member was not sent everything");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stranger = Bootstrap::Join { me: 5, cluster: 6 };
    let lost = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stranger = start(&dir.path().join("m4"), stranger, lost, vec![]).await;
    assert!(stranger.store.ready(Duration::from_millis(300)).await.is_err(), "nobody talks to a stranger");

    let all = members.into_iter().chain([joined, stranger]);
    for running in all {
        running.tasks.stop();
        assert!(running.tasks.join(Duration::from_secs(20)).await);
    }
}
