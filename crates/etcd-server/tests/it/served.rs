//! A store in a folder of its own, served on a free port.

use std::sync::Arc;

use etcd_client::Client;
use etcd_proto::etcdserverpb::{kv_client::KvClient, watch_client::WatchClient};
use etcd_server::{Listener, Options, Service};
use runtime::{Clock, Tasks};
use store_api::Store as _;
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Channel, Endpoint};

use crate::fake::Fake;

/// The cluster that the server is told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    Nothing,
    Fake,
    Store,
}

pub struct Served {
    pub url: String,
    pub tasks: Tasks,
    pub metrics: telemetry::Metrics,
    /// The cluster around the store, where the test asked for one.
    pub cluster: Option<Arc<Fake>>,
    _folder: tempfile::TempDir,
}

impl Served {
    pub async fn start() -> Self {
        Served::with(None, |_| {}).await
    }

    /// A member of a cluster that is made up.
    pub async fn clustered() -> Self {
        Served::open(None, |_| {}, Around::Fake).await
    }

    /// The only member of a real cluster.
    pub async fn member() -> Self {
        Served::open(None, |_| {}, Around::Store).await
    }

    pub async fn with(tls: Option<TlsAcceptor>, adjust: impl FnOnce(&mut store::Options)) -> Self {
        Served::open(tls, adjust, Around::Nothing).await
    }

    async fn open(tls: Option<TlsAcceptor>, adjust: impl FnOnce(&mut store::Options), around: Around) -> Self {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::root());
        let mut options = store::Options::new(folder.path().join("store"), Clock::system(), tasks.child("store"));
        adjust(&mut options);
        let store = Arc::new(store::Store::open(options).await.unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let member = store.status().await.unwrap().member_id;
        let cluster = (around == Around::Fake).then(|| Arc::new(Fake::new(member, &url)));
        store.publish("default", vec![url.clone()]).await.unwrap();
        let own: Option<Arc<dyn store_api::Cluster>> = (around == Around::Store).then(|| store.clone() as _);
        let mut options = Options::new(store, tasks.child("etcd"));
        options.client_urls = vec![url.clone()];
        options.cluster = cluster.clone().map(|cluster| cluster as _).or(own);
        let metrics = telemetry::Metrics::default();
        options.metrics = Some(metrics.clone());
        Service::start(options).await.unwrap().serve(Listener::Tcp(listener), tls);
        Served { url, tasks, metrics, cluster, _folder: folder }
    }

    pub async fn client(&self) -> Client {
        Client::connect(etcd_client::Options::new([&self.url])).await.unwrap()
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await)
    }

    pub async fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel().await)
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}
