//! The cluster's DNS server: authority for the cluster's own names, forwarder for all others.
//!
//! ```text
//!   UDP, TCP ──▶ server ──▶ wire (parse, bounds) ──▶ answer ◀── index ◀── Services, EndpointSlices, Namespaces
//!                                                └─▶ forward ──▶ cache │ the node's resolvers
//! ```
//!
//! `index`, `answer` and `wire` are pure. Knows no pod and no proxy: it listens where it is told to.

mod answer;
mod cache;
mod forward;
mod index;
mod metrics;
mod server;
mod wire;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use client::Informers;
use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use parking_lot::RwLock;
use runtime::{Clock, Tasks};
use tokio::sync::watch;

pub use metrics::Metrics;

/// What the server needs to start.
pub struct Options {
    /// UDP and TCP; port 0 picks one.
    pub listen: Vec<SocketAddr>,
    /// Usually `cluster.local`.
    pub zone: String,
    /// The address that clients use, usually the cluster IP of `kube-system/kube-dns`.
    pub address: Option<IpAddr>,
    /// The cluster's own ranges: pods and services.
    pub reverse: Vec<IpNet>,
    /// Where the resolvers for other names are listed, usually `/etc/resolv.conf`; read again when it changes.
    pub resolv_conf: PathBuf,
    pub informers: Informers,
    pub metrics: Metrics,
    pub clock: Clock,
    pub tasks: Tasks,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a domain name")]
    Zone(String),
    #[error("listen for DNS on {address}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// A running server; clones share it. It runs until the tasks that it was started with are stopped.
#[derive(Clone)]
pub struct Handle {
    addresses: Arc<[SocketAddr]>,
    synced: watch::Receiver<bool>,
}

impl Handle {
    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until cluster names are answered; until then they get SERVFAIL.
    pub async fn synced(&self) {
        // The sender ends with the process's tasks: then nobody waits any more.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }
}

/// Binds the addresses and begins to answer.
pub async fn start(options: Options) -> Result<Handle, Error> {
    let zone = answer::Zone::new(&options.zone, options.address, options.reverse)
        .ok_or_else(|| Error::Zone(options.zone.clone()))?;
    let mut sockets = Vec::new();
    for address in &options.listen {
        sockets.push(server::bind(*address).await.map_err(|source| Error::Listen { address: *address, source })?);
    }
    let addresses: Vec<SocketAddr> = sockets.iter().map(|socket| socket.address).collect();
    let service = options.address.map(|address| SocketAddr::new(address, 53));
    let own = addresses.iter().copied().chain(service).collect();
    let forwarder = forward::Forwarder::new(options.resolv_conf, own, options.clock.clone(), options.metrics.clone());
    let (sender, synced) = watch::channel(false);
    let index = Arc::new(RwLock::new(index::Index::default()));
    options.tasks.spawn("index", follow(options.informers, index.clone(), sender));
    let server = server::Server {
        zone: Arc::new(zone),
        index,
        synced: synced.clone(),
        forwarder: Arc::new(forwarder),
        metrics: options.metrics,
        clock: options.clock,
        tasks: options.tasks,
    };
    sockets.into_iter().for_each(|socket| server.serve(socket));
    Ok(Handle { addresses: addresses.into(), synced })
}

async fn follow(informers: Informers, index: Arc<RwLock<index::Index>>, synced: watch::Sender<bool>) {
    let (namespaces, services) = (informers.all::<Namespace>(), informers.all::<Service>());
    let slices = informers.all::<EndpointSlice>();
    let mut changes = (namespaces.subscribe(), services.subscribe(), slices.subscribe());
    namespaces.synced().await;
    services.synced().await;
    slices.synced().await;
    loop {
        {
            // Taken together under one lock, so that a burst stops readers once.
            let mut index = index.write();
            while let Some(change) = changes.0.try_next() {
                index.set_namespace(&change.key.name, change.new.is_some());
            }
            while let Some(change) = changes.1.try_next() {
                index.set_service(&change.key, change.new.as_deref());
            }
            while let Some(change) = changes.2.try_next() {
                index.set_slice(&change.key, change.old.as_deref(), change.new.as_deref());
            }
        }
        synced.send_if_modified(|synced| !std::mem::replace(synced, true));
        tokio::select! {
            change = changes.0.next() => index.write().set_namespace(&change.key.name, change.new.is_some()),
            change = changes.1.next() => index.write().set_service(&change.key, change.new.as_deref()),
            change = changes.2.next() => {
                index.write().set_slice(&change.key, change.old.as_deref(), change.new.as_deref());
            }
        }
    }
}
