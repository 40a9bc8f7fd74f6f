//! A server of one member over today's store, with the flags that both servers are started with. It stands in for
//! `plinth store` where a measurement wants the store's own code and nothing else of the binary.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use clap::Args;
use runtime::{Clock, Tasks};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

const STOP_LIMIT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Flags {
    #[arg(long, default_value = "default")]
    name: String,
    #[arg(long)]
    data_dir: PathBuf,
    #[arg(long, default_value = "http://127.0.0.1:2379")]
    listen_client_urls: String,
    #[arg(long)]
    advertise_client_urls: Option<String>,
    #[arg(long)]
    listen_peer_urls: Option<String>,
    #[arg(long)]
    initial_advertise_peer_urls: Option<String>,
    #[arg(long, default_value = "")]
    initial_cluster: String,
    #[arg(long)]
    initial_cluster_token: Option<String>,
    #[arg(long)]
    initial_cluster_state: Option<String>,
    #[arg(long, default_value_t = 2 << 30)]
    quota_backend_bytes: u64,
    #[arg(long)]
    log_level: Option<String>,
}

/// Serves until it is told to end.
pub async fn serve(flags: Flags) -> anyhow::Result<()> {
    ensure!(!flags.initial_cluster.contains(','), "this server is a single member");
    let tasks = Tasks::root();
    let (store_tasks, serving) = (tasks.child("store"), tasks.child("etcd"));
    let mut options = store::Options::new(&flags.data_dir, Clock::system(), store_tasks.clone());
    options.quota_bytes = flags.quota_backend_bytes;
    let store = Arc::new(store::Store::open(options).await?);
    let address = flags.listen_client_urls.trim_start_matches("http://");
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let mut options = etcd_server::Options::new(store, serving.clone());
    options.name = flags.name;
    options.client_urls = vec![flags.advertise_client_urls.unwrap_or(flags.listen_client_urls)];
    etcd_server::Service::start(options).await?.serve(etcd_server::Listener::Tcp(listener), None);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        failure = tasks.failure() => anyhow::bail!("{}: {}", failure.task, failure.reason),
    }
    serving.stop();
    serving.join(STOP_LIMIT).await;
    tasks.stop();
    ensure!(store_tasks.join(STOP_LIMIT).await, "the store did not stop");
    Ok(())
}
