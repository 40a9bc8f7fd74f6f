//! A store in a folder of its own, served on a free port.

use std::sync::Arc;

use etcd_client::Client;
use etcd_proto::etcdserverpb::{kv_client::KvClient, watch_client::WatchClient};
use etcd_server::{Listener, Options, Service};
use runtime::{Clock, Tasks};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Channel, Endpoint};

pub struct Served {
    pub url: String,
    pub tasks: Tasks,
    pub metrics: telemetry::Metrics,
    _folder: tempfile::TempDir,
}

impl Served {
    pub async fn start() -> Self {
        Served::with(None, |_| {}).await
    }

    pub async fn with(tls: Option<TlsAcceptor>, adjust: impl FnOnce(&mut store::Options)) -> Self {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::root());
        let mut options = store::Options::new(folder.path().join("store"), Clock::system(), tasks.child("store"));
        adjust(&mut options);
        let store = Arc::new(store::Store::open(options).await.unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let mut options = Options::new(store, tasks.child("etcd"));
        options.client_urls = vec![url.clone()];
        let metrics = telemetry::Metrics::default();
        options.metrics = Some(metrics.clone());
        Service::start(options).await.unwrap().serve(Listener::Tcp(listener), tls);
        Served { url, tasks, metrics, _folder: folder }
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

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}
