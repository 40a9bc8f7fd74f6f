//! The client against a real etcd, and the whole chain `etcdctl` → etcd-server → etcd-client → etcd.
//!
//! The programs come from `tools/install.sh`; without them these tests say so and prove nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/conformance.rs"]
mod conformance;
#[path = "it/etcd.rs"]
mod etcd;
#[path = "it/etcdctl.rs"]
mod etcdctl;

use std::sync::Arc;

use etcd_client::{Client, ConnectError, Options};
use etcd_server::{Listener, Service};
use runtime::Tasks;
use store_api::{Store, StoreError};

/// A real etcd and a client of it.
async fn real() -> (etcd::Etcd, Client) {
    let etcd = etcd::Etcd::start();
    let client = etcd::connected(&etcd.url).await;
    (etcd, client)
}

#[tokio::test]
async fn the_client_keeps_the_stores_contract() {
    let (_etcd, client) = real().await;
    conformance::run(&client).await;
}

#[tokio::test]
async fn the_server_before_a_real_etcd_keeps_the_contract_too() {
    let (_etcd, client) = real().await;
    let tasks = Tasks::root();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("etcd.sock");
    let service = Service::start(etcd_server::Options::new(Arc::new(client), tasks.clone())).await.unwrap();
    service.serve(Listener::Unix(tokio::net::UnixListener::bind(&socket).unwrap()), None);
    let through = Client::connect(Options::new([format!("unix://{}", socket.display())])).await.unwrap();
    conformance::run(&through).await;
    tasks.stop();
}

#[tokio::test]
async fn etcdctl_reads_and_writes_through_the_server() {
    let (_etcd, client) = real().await;
    let tasks = Tasks::root();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut options = etcd_server::Options::new(Arc::new(client), tasks.clone());
    options.client_urls = vec![url.clone()];
    Service::start(options).await.unwrap().serve(Listener::Tcp(listener), None);
    etcdctl::session(&url).await;
    tasks.stop();
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_no_endpoint_is_told() {
    let (etcd, _client) = real().await;
    let dead = format!("http://127.0.0.1:{}", test_support::ports::free_port());
    let client = Client::connect(Options::new([dead.clone(), etcd.url.clone()])).await.unwrap();
    assert!(client.status().await.unwrap().version.starts_with("3."));
    let error = Client::connect(Options::new([dead.clone()])).await.map(|_| ()).unwrap_err();
    let ConnectError::Unreachable { endpoints, source: StoreError::Unavailable(reason) } = error else {
        panic!("{error:?}")
    };
    assert_eq!(endpoints, dead);
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_watch_ends_with_an_error_when_etcd_does_and_reads_go_on_after_its_return() {
    let (mut etcd, client) = real().await;
    client.put(store_api::PutRequest { key: "k".into(), value: "1".into(), ..Default::default() }).await.unwrap();
    let mut watcher = client.watch(store_api::WatchRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    etcd.stop();
    let error = watcher.next().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(matches!(client.status().await, Err(StoreError::Unavailable(_))));
    etcd.restart();
    let client = etcd::answering(client).await;
    let kvs = client.range(store_api::RangeRequest::key("k")).await.unwrap().kvs;
    assert_eq!(&kvs[0].value[..], b"1");
}
