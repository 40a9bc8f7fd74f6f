//! Clients for an API server elsewhere: from a kubeconfig, or from what a pod finds in its container.
//!
//! The way from a request to its connection is kept short: nothing retries, traces or compresses here, because whoever
//! asks knows better, and every layer costs each request.

use std::path::Path;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, ServiceBuilder};

use crate::Requests;

/// Connections that wait for a next request, by the protocol that has one request at a time.
const IDLE_CONNECTIONS: usize = 128;
/// Bytes in flight to us per HTTP/2 stream and connection: lists and watches are read as they come.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file is not there; the words are Go's.
    #[error("stat {path}: {reason}")]
    NoFile { path: String, reason: String },
    #[error("{0}")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    #[error(
        "invalid configuration: no configuration has been provided, try setting KUBERNETES_MASTER environment variable"
    )]
    Nothing,
    #[error("the address of the API server {address:?} is none: {reason}")]
    Address { address: String, reason: String },
    #[error("{0}")]
    Client(#[source] kube::Error),
    #[error("the name {0:?} for the API server's certificate is none")]
    ServerName(String),
}

/// How requests share connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// One connection for all.
    Http2,
    /// A connection for each request that is open.
    #[default]
    Http1,
}

/// The configuration in a kubeconfig; none is given: that of the pod that this process runs in. `master` is an address
/// that wins over the file's.
pub async fn configuration(kubeconfig: Option<&Path>, master: Option<&str>) -> Result<Config, ConnectError> {
    let master = master.map(|address| {
        // As client-go has it: an address without a scheme is one of an open port.
        let full = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        full.parse().map_err(|error: http::uri::InvalidUri| ConnectError::Address {
            address: address.to_owned(),
            reason: error.to_string(),
        })
    });
    let master: Option<http::Uri> = master.transpose()?;
    let mut config = match (kubeconfig, &master) {
        (Some(path), _) => from_file(path).await?,
        (None, Some(master)) => Config::new(master.clone()),
        (None, None) => in_cluster()?,
    };
    if let Some(master) = master {
        config.cluster_url = master;
    }
    Ok(config)
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    if let Err(error) = std::fs::metadata(path) {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        return Err(ConnectError::NoFile { path: path.display().to_string(), reason });
    }
    let kubeconfig = Kubeconfig::read_from(path).map_err(ConnectError::Kubeconfig)?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(ConnectError::Kubeconfig)
}

fn in_cluster() -> Result<Config, ConnectError> {
    tracing::warn!(
        "Neither --kubeconfig nor --master was specified.  Using the inClusterConfig.  This might not work."
    );
    Config::incluster_env().map_err(|error| {
        tracing::warn!("error creating inClusterConfig, falling back to default config: {error}");
        ConnectError::Nothing
    })
}

/// A client for a configuration.
pub fn connect(config: &Config, protocol: Protocol) -> Result<Client, ConnectError> {
    client(config, protocol, None)
}

/// Likewise, and its requests are counted.
pub fn connect_counted(config: &Config, protocol: Protocol, requests: &Requests) -> Result<Client, ConnectError> {
    client(config, protocol, Some(requests.clone()))
}

fn client(config: &Config, protocol: Protocol, requests: Option<Requests>) -> Result<Client, ConnectError> {
    let mut tcp = HttpConnector::new();
    // The scheme is the outer connector's business; small requests must not wait for the last one's acknowledgement.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_client_config().map_err(ConnectError::Client)?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match &config.tls_server_name {
        Some(name) => {
            let fixed = name.clone().try_into().map_err(|_| ConnectError::ServerName(name.clone()))?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(fixed))
        }
        None => builder,
    };
    let mut http = Http::builder(TokioExecutor::new());
    http.pool_timer(TokioTimer::new()).pool_max_idle_per_host(IDLE_CONNECTIONS);
    let connector = match protocol {
        Protocol::Http1 => builder.enable_http1().wrap_connector(tcp),
        Protocol::Http2 => {
            http.http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW);
            builder.enable_http2().wrap_connector(tcp)
        }
    };
    // Without TLS nothing is negotiated.
    http.http2_only(protocol == Protocol::Http2);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(ConnectError::Client)?)
        .layer(config.extra_headers_layer().map_err(ConnectError::Client)?)
        .map_err(BoxError::from)
        .option_layer(requests)
        .service(http.build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}
