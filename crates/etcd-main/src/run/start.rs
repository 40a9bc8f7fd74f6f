//! The start: everything that can be refused is looked at before the data folder is touched.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use etcd_server::trust_hosts;
use runtime::Clock;
use store_api::{Store as _, StoreError};
use telemetry::Metrics;
use tokio_rustls::TlsAcceptor;

use super::{
    Layers, announce,
    data_dir::{self, DataDirError, Found},
    listen::{self, Bound, ListenError, SocketFile},
    mapping,
    members::{self, JoinError},
    peers, plain,
};
use crate::{
    bootstrap::{self, BootstrapError},
    config::{Config, Tls},
    tls::{self, TlsError},
    url::{Cluster, Url},
};

/// What a listener for metrics serves, and one for plain HTTP.
const METRICS_PATHS: [&str; 4] = ["/metrics", "/health", "/livez", "/readyz"];
const HTTP_PATHS: [&str; 6] = ["/metrics", "/health", "/livez", "/readyz", "/version", "/v3/"];

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS scheme")]
    NoClientTls(String),
    #[error("cannot bind both --client-listen-urls and --client-listen-http-urls on the same url {0}")]
    BothKinds(String),
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    NoTls(String),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Tokens(#[from] etcd_server::TokenOptionsError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("cannot lock memory (--experimental-memory-mlock): {0}")]
    Mlock(#[from] nix::errno::Errno),
    #[error(transparent)]
    Failpoint(#[from] runtime::failpoint::BadFailpoint),
    #[error("failpoints cannot be served: {0}")]
    Failpoints(std::io::Error),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A member that serves.
pub struct Running {
    pub store: store::Store,
    /// Where it serves other members.
    pub peers: Vec<String>,
    /// Sockets' files, which go when the member has ended.
    _files: Vec<SocketFile>,
}

pub async fn start(config: &Config, found: Found, tasks: &Layers) -> Result<Running, StartError> {
    runtime::failpoint::from_environment()?;
    runtime::failpoint_http::from_environment(&tasks.store).await.map_err(StartError::Failpoints)?;
    if config.mlock {
        lock_memory()?;
    }
    let clock = Clock::system();
    let (peer_tls, mut bound_peers) = bind_peers(config, &clock).await?;
    let (client_tls, mut clients, mut plain_clients) = bind_clients(config, &clock).await?;
    let cluster = match found {
        Found::Nothing => {
            let addresses = addresses(config, &clock).await;
            let literal = |host: &str| host.parse::<SocketAddr>().ok().map(|address| address.to_string());
            let resolve = |host: &str| addresses.get(host).cloned().or_else(|| literal(host));
            bootstrap::check(config, &resolve)?
        }
        Found::Member => Cluster::new(),
    };
    let tokens = etcd_server::TokenKind::parse(&config.auth.token)?;
    announce::starting(config, found, &cluster);
    data_dir::take(&config.data_dir)?;

    if config.force_new_cluster && found == Found::Member {
        members::force_new_cluster(config).await?;
    }
    let network = members::network(config, tasks)?;
    let origin = members::origin(config, found, &cluster, &network).await?;
    let mut options = mapping::store_options(config, clock.clone(), tasks.store.clone());
    options.bootstrap = origin.bootstrap;
    options.groups = origin.groups.unwrap_or(options.groups);
    options.peers = Arc::new(::peers::Handle(network.clone()));
    let store = store::Store::open(options).await?;
    network.start(&store, Vec::new(), origin.known);
    let metrics = Metrics::default();
    metrics.register(|registry| {
        store.register_metrics(registry);
        network.register_metrics(registry);
    });
    let auth = mapping::auth_options(config, &store, tokens, clock.clone());
    let mut options = mapping::server_options(config, store.clone(), metrics, clock, tasks.clients.clone());
    options.auth = Some(auth);
    let service = etcd_server::Service::start(options).await?;

    let mut files: Vec<SocketFile> = Vec::new();
    let bound = bound_peers.iter_mut().chain(&mut clients).chain(&mut plain_clients);
    files.extend(bound.filter_map(|bound| bound.file.take()));
    let peer_addresses: Vec<String> = bound_peers.iter().map(|bound| bound.address.clone()).collect();
    let router = peers::router(&store, &trust_hosts(service.router()));
    for bound in bound_peers {
        tracing::info!(address = bound.address, "serving peer traffic");
        let tls = peer_tls.clone().filter(|_| bound.url.scheme.is_secure());
        plain::spawn(bound.listener, tls, router.clone(), Some(network.clone()), &tasks.peers);
    }
    if config.corruption.initial && found == Found::Member {
        store.check_against_peers().await?;
    }
    if !config.corruption.interval.is_zero() {
        tasks.store.spawn("corruption", store.clone().check_for_corruption(config.corruption.interval));
    }
    if config.corruption.compact_hash {
        let interval = config.corruption.compact_hash_interval;
        tracing::info!(?interval, "enabled compact hash checking");
        tasks.store.spawn("compactions", store.clone().check_compactions(interval));
    }
    members::publish(config, &store).await?;
    let status = store.status().await?;
    announce::elected(config, &status);
    for bound in clients {
        let tls = client_tls.clone().filter(|_| bound.url.scheme.is_secure());
        service.serve(bound.listener, tls);
        announce::serving(&bound.url, &bound.address, "grpc+http");
    }
    for bound in plain_clients {
        let tls = client_tls.clone().filter(|_| bound.url.scheme.is_secure());
        let router = if tls.is_some() { trust_hosts(service.router()) } else { service.router() };
        plain::spawn(bound.listener, tls, plain::only(&router, &HTTP_PATHS), None, &tasks.clients);
        announce::serving(&bound.url, &bound.address, "http");
    }
    for url in &config.listen_metrics_urls {
        let mut bound = secure(url, client_tls.is_some(), config).await?;
        files.extend(bound.file.take());
        tracing::info!(address = url.as_str(), "serving metrics");
        let tls = client_tls.clone().filter(|_| url.scheme.is_secure());
        plain::spawn(
            bound.listener,
            tls,
            plain::only(&trust_hosts(service.router()), &METRICS_PATHS),
            None,
            &tasks.clients,
        );
    }
    announce::now_serving(config, &status);
    Ok(Running { store, peers: peer_addresses, _files: files })
}

/// Keeps what is in memory there; pages that nobody has touched yet stay as they are.
fn lock_memory() -> Result<(), nix::errno::Errno> {
    use nix::{libc, sys::mman};
    let on_fault = mman::MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mman::mlockall(mman::MlockAllFlags::MCL_CURRENT | mman::MlockAllFlags::MCL_FUTURE | on_fault)
}

type Side = (Option<TlsAcceptor>, Vec<Bound>);

async fn bind_peers(config: &Config, clock: &Clock) -> Result<Side, StartError> {
    announce::socket_options(config.sockets);
    tracing::info!("listen-peer-urls" = ?crate::url::texts(&config.listen_peer_urls), "configuring peer listeners");
    let tls = side(config, &config.peer_tls, "peer", &config.listen_peer_urls, clock)?;
    let mut bound = Vec::new();
    for url in &config.listen_peer_urls {
        if !url.scheme.is_secure() && tls.is_some() {
            let message = "scheme is HTTP while key and cert files are present; ignoring key and cert files";
            tracing::warn!("peer-url" = url.as_str(), "{message}");
        }
        match secure(url, tls.is_some(), config).await {
            Ok(one) => bound.push(one),
            Err(error) => {
                tracing::error!(%error, "creating peer listener failed");
                return Err(error);
            }
        }
    }
    Ok((tls, bound))
}

async fn bind_clients(
    config: &Config,
    clock: &Clock,
) -> Result<(Option<TlsAcceptor>, Vec<Bound>, Vec<Bound>), StartError> {
    tracing::info!("listen-client-urls" = ?crate::url::texts(&config.listen_client_urls), "configuring client listeners");
    let both: Vec<Url> = config.listen_client_urls.iter().chain(&config.listen_client_http_urls).cloned().collect();
    let tls = side(config, &config.client_tls, "client", &both, clock)?;
    for url in &both {
        if url.scheme.is_secure() && tls.is_none() {
            return Err(StartError::NoClientTls(url.as_str().to_owned()));
        }
        if !url.scheme.is_secure() && tls.is_some() {
            let message = "scheme is http or unix while key and cert files are present; ignoring key and cert files";
            tracing::warn!("client-url" = url.as_str(), "{message}");
        }
        if !url.scheme.is_secure() && config.client_tls.client_cert_auth {
            let message =
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL";
            tracing::warn!("client-url" = url.as_str(), "{message}");
        }
    }
    let of_both = |url: &&Url| {
        config.listen_client_urls.iter().any(|other| other.host == url.host && other.socket() == url.socket())
    };
    if let Some(url) = config.listen_client_http_urls.iter().find(of_both) {
        return Err(StartError::BothKinds(url.as_str().to_owned()));
    }
    let (mut clients, mut plain_clients) = (Vec::new(), Vec::new());
    for url in &config.listen_client_urls {
        clients.push(listen::bind(url, config.sockets).await?);
    }
    for url in &config.listen_client_http_urls {
        plain_clients.push(listen::bind(url, config.sockets).await?);
    }
    Ok((tls, clients, plain_clients))
}

/// Binds a URL that may want TLS.
async fn secure(url: &Url, has_tls: bool, config: &Config) -> Result<Bound, StartError> {
    if url.scheme.is_secure() && !has_tls {
        return Err(StartError::NoTls(url.host.clone()));
    }
    Ok(listen::bind(url, config.sockets).await?)
}

/// TLS of one side: from the files that are named, or made here.
fn side(
    config: &Config,
    tls: &Tls,
    name: &str,
    urls: &[Url],
    clock: &Clock,
) -> Result<Option<TlsAcceptor>, StartError> {
    let mut tls = tls.clone();
    if tls.auto_tls && !tls.is_empty() {
        tracing::warn!("ignoring {name} auto TLS since certs given");
    } else if tls.auto_tls {
        let folder: PathBuf = config.data_dir.join("fixtures").join(name);
        let made = tls::make_self_signed(&folder, urls, config.tls.self_signed_years, clock.now())?;
        if made.new {
            tracing::info!(path = made.cert.display().to_string(), "created cert file");
            tracing::info!(path = made.key.display().to_string(), "created key file");
        }
        // As in etcd, a certificate made here stands alone: clients are then asked for none.
        let (cert_file, key_file) = (made.cert.display().to_string(), made.key.display().to_string());
        tls = Tls { cert_file, key_file, ..Tls::default() };
    }
    if tls.is_empty() {
        return Ok(None);
    }
    let info = tls.describe();
    tracing::info!("tls-info" = info, "cipher-suites" = ?config.tls.cipher_suites, "starting with {name} TLS");
    Ok(Some(tls::acceptor(&tls, &config.tls)?))
}

/// How long and how often names are asked for: where many machines start at once, the one that knows names may come last.
const RESOLVE_LIMIT: Duration = Duration::from_secs(30);
const RESOLVE_INTERVAL: Duration = Duration::from_secs(1);

/// The addresses of the names that have to be compared; those that nobody knows are left out.
async fn addresses(config: &Config, clock: &Clock) -> BTreeMap<String, String> {
    let until = clock.monotonic() + RESOLVE_LIMIT;
    let mut addresses = BTreeMap::new();
    for host in bootstrap::to_resolve(config) {
        loop {
            match listen::resolve(&host).await {
                Ok(address) => {
                    tracing::info!(host, "resolved-addr" = address.to_string(), "resolved URL Host");
                    addresses.insert(host, address.to_string());
                    break;
                }
                Err(error) if clock.monotonic() < until => {
                    tracing::warn!(host, "retry-interval" = "1s", %error, "failed to resolve URL Host");
                    tokio::time::sleep(RESOLVE_INTERVAL).await;
                }
                Err(error) => {
                    tracing::warn!(host, %error, "failed to resolve URL Host; returning");
                    break;
                }
            }
        }
    }
    addresses
}
