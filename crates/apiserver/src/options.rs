//! What an API server is told at its start.

use std::{io, net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use async_trait::async_trait;
use ipnet::Ipv4Net;
use runtime::{Clock, Tasks};
use store_api::Store;
use telemetry::Metrics;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{fairness::InFlightLimits, identity::Identity, tls::TlsFiles};

/// A connection to a node's agent.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Reaches the agents of nodes, which speak HTTP/1.1 with the kubelet's paths.
#[async_trait]
pub trait NodeDialer: Send + Sync + 'static {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn Stream>>;
}

/// No node can be reached: for an API server without nodes.
pub struct NoNodes;

#[async_trait]
impl NodeDialer for NoNodes {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn Stream>> {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("this API server has no way to node {node}")))
    }
}

/// A bearer token that is known from the start.
#[derive(Clone)]
pub struct StaticToken {
    pub token: String,
    pub identity: Identity,
}

/// How service account tokens are signed.
#[derive(Clone)]
pub struct ServiceAccountOptions {
    /// A P-256 key as PKCS#8 PEM, as [`crate::generate_signing_key`] makes it.
    pub signing_key: String,
    pub issuer: String,
    /// The API server's own audiences; a token that asks for none gets the first.
    pub audiences: Vec<String>,
}

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once. Past it the one that has been idle longest makes room.
    pub max: usize,
    /// A TLS handshake must be done in this time.
    pub handshake: Duration,
    /// A request's head must have come in this time, counted from the end of the last response.
    pub header: Duration,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            max: 10_000,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(90),
            header_bytes: 64 * 1024,
            streams: 1000,
        }
    }
}

/// What [`crate::ApiServer::start`] needs.
pub struct Options {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Metrics,
    /// Where to listen with TLS; empty: only in this process.
    pub listen: Vec<SocketAddr>,
    /// Needed when `listen` is not empty.
    pub tls: Option<TlsFiles>,
    /// Where pods and others reach the API: the endpoint of the service `kubernetes`. None: the first address bound.
    pub advertise: Option<SocketAddr>,
    pub tokens: Vec<StaticToken>,
    pub service_accounts: ServiceAccountOptions,
    pub service_cidr: Ipv4Net,
    pub node_ports: RangeInclusive<u16>,
    pub node_dialer: Arc<dyn NodeDialer>,
    pub in_flight: InFlightLimits,
    pub connections: ConnectionLimits,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// A request that is not long-running must be done in this time.
    pub request_timeout: Duration,
    /// How often revisions older than one such time are compacted away; none: never.
    pub compaction: Option<Duration>,
}

impl Options {
    /// An API server over `store` that listens nowhere yet, with Kubernetes' defaults for the rest.
    pub fn new(
        store: Arc<dyn Store>,
        service_accounts: ServiceAccountOptions,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
    ) -> Self {
        Options {
            store,
            clock,
            tasks,
            metrics,
            listen: Vec::new(),
            tls: None,
            advertise: None,
            tokens: Vec::new(),
            service_accounts,
            service_cidr: Ipv4Net::new_assert([10, 43, 0, 0].into(), 16),
            node_ports: 30000..=32767,
            node_dialer: Arc::new(NoNodes),
            in_flight: InFlightLimits::default(),
            connections: ConnectionLimits::default(),
            max_body: 3 << 20,
            request_timeout: Duration::from_secs(60),
            compaction: Some(Duration::from_secs(300)),
        }
    }
}
