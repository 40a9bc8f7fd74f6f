//! Start and handle.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use registry::Registry;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use crate::{
    authenticate::Authenticator,
    bootstrap,
    core::{Core, Kinds},
    fairness::Fairness,
    identity::Identity,
    listener::{self, Connections},
    local::LocalService,
    metrics::ServerMetrics,
    options::Options,
    tls::{self, TlsError},
    token::{KeyError, Tokens},
};

/// The pause between attempts to lay the ground in a store that does not answer.
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(500);

/// The API server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("addresses to listen on were given, but no certificate")]
    NoCertificate,
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// The API server.
pub struct ApiServer;

/// A running API server. A clone is the same server; it stops with the tasks it was given.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
    addresses: Arc<[SocketAddr]>,
}

impl ApiServer {
    /// Binds, begins to serve, and lays the ground in the background; [`Handle::ready`] waits for that.
    pub async fn start(options: Options) -> Result<Handle, Error> {
        let accounts = options.service_accounts.clone();
        let tokens = Tokens::new(&accounts.signing_key, &accounts.issuer, accounts.audiences)?;
        let acceptor = match &options.tls {
            Some(files) => Some(TlsAcceptor::from(tls::server_config(files)?)),
            None if options.listen.is_empty() => None,
            None => return Err(Error::NoCertificate),
        };
        let mut listeners = Vec::with_capacity(options.listen.len());
        for address in &options.listen {
            let listener = bind(*address).map_err(|source| Error::Listen { address: *address, source })?;
            listeners.push(listener);
        }
        let addresses: Arc<[SocketAddr]> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let advertise = options.advertise.or_else(|| addresses.first().copied());
        let fairness = Arc::new(Fairness::new(options.in_flight));
        let kinds = Kinds::new(Registry::builtin(), &options.store, &options.tasks);
        let metrics = ServerMetrics::new(&options.metrics, fairness.clone(), kinds.caches());
        let authenticator = Authenticator::new(options.tokens.clone());
        let compaction = options.compaction;
        let core = Arc::new(Core::new(options, kinds, tokens, authenticator, fairness, metrics));
        if let Some(acceptor) = acceptor {
            let connections = Arc::new(Connections::new(core.limits.connections.max, core.clock.clone()));
            for listener in listeners {
                let accept = listener::accept(core.clone(), listener, acceptor.clone(), connections.clone());
                core.tasks.spawn("accept", accept);
            }
        }
        core.tasks.spawn("bootstrap", lay_ground(core.clone(), advertise));
        if let Some(every) = compaction {
            core.tasks.spawn("compaction", compact(core.clone(), every));
        }
        Ok(Handle { core, addresses })
    }
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address that this machine may not have yet: the pod network's gateway appears after the API.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpFreebind, &true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn lay_ground(core: Arc<Core>, advertise: Option<SocketAddr>) {
    loop {
        match bootstrap::bootstrap(&core, advertise).await {
            Ok(()) => break,
            Err(status) => {
                tracing::warn!(error = %status, "the system's own objects could not be written yet");
                core.not_ready.send_replace(status.message);
                tokio::time::sleep(BOOTSTRAP_PAUSE).await;
            }
        }
    }
    core.not_ready.send_replace(String::new());
    tracing::info!("the API is ready");
}

/// Forgets history older than one interval, as kube-apiserver does for etcd. An idle store is left alone.
async fn compact(core: Arc<Core>, every: Duration) {
    let mut before = None;
    loop {
        tokio::time::sleep(every).await;
        let revision = match core.store.status().await {
            Ok(status) => status.revision,
            Err(error) => {
                tracing::debug!(%error, "the store's revision could not be read for compaction");
                continue;
            }
        };
        if let Some(old) = before.replace(revision)
            && old < revision
            && let Err(error) = core.store.compact(old, false).await
        {
            tracing::debug!(%error, "history was not compacted");
        }
    }
}

impl Handle {
    /// The API in this process, as `identity`. Fits `kube::Client::new`.
    pub fn local(&self, identity: Identity) -> LocalService {
        LocalService::new(self.core.clone(), identity)
    }

    /// The addresses that are listened on, with the ports that the kernel chose where 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until the system's own objects are there; `/readyz` says ok from then on.
    pub async fn ready(&self) {
        let mut receiver = self.core.not_ready.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = receiver.wait_for(String::is_empty).await;
    }
}
