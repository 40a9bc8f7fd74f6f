//! Serves a store as etcd v3 over gRPC, so that `etcdctl` and every etcd client read and write it.
//!
//! ```text
//!   connection ─▶ serve ─▶ fast: KV · Watch · keep-alive ──────────▶ auth: who asks? ─▶ dyn Store
//!                   │ else  kv · watch · lease · lock · election ────▶ auth: who asks? ─▶ dyn Store
//!                   │      maintenance · cluster ─▶ dyn Store, dyn Cluster
//!                   │          │ convert: wire ⇄ plain types
//!                   │          └ codes:   StoreError ─▶ gRPC code and etcd's words
//!                   └─▶ http: health, version, metrics; JSON for all of the above
//! ```
//!
//! Knows the traits `store_api::Store` and `store_api::Cluster` and no store behind them; keeps no state but open
//! streams.

mod alarms;
mod auth;
mod cluster;
mod codes;
mod convert;
mod downgrade;
mod election;
mod fast;
mod http;
mod kv;
mod leader;
mod lease;
mod line;
mod lock;
mod maintenance;
mod members;
mod methods;
mod metrics;
mod range_stream;
mod serve;
mod serving;
mod shards;
mod shared;
mod snapshot;
mod watch;

use std::{sync::Arc, time::Duration};

use etcd_proto::{
    etcdserverpb::{
        auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
        maintenance_server::MaintenanceServer, watch_server::WatchServer,
    },
    healthpb::health_server::HealthServer,
    shardspb::shards_server::ShardsServer,
    v3electionpb::election_server::ElectionServer,
    v3lockpb::lock_server::LockServer,
};
use runtime::{Clock, Tasks};
use store_api::{Cluster, Store, StoreError};
use tonic::{codec::CompressionEncoding, service::Routes};

pub use auth::{AuthOptions, DEFAULT_BCRYPT_COST, Jwt, KeyError, Method, PeerName, TokenKind, TokenOptionsError};
pub use grpc::KeepAlive;
pub use http::{AccessOptions, trust_hosts};
pub use serve::Listener;
use shared::Shared;

/// The largest request that is carried out, as etcd's `--max-request-bytes` has it by default.
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;
/// etcd's, where nothing else is said.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// What the gRPC framing may add to the largest request.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

/// What the service needs.
pub struct Options {
    pub store: Arc<dyn Store>,
    /// The members and what is done to all of them. Without it, the member answers as the only one.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// The member's name, as `etcdctl member list` shows it.
    pub name: String,
    /// Where clients reach this member, as `etcdctl member list` shows it.
    pub client_urls: Vec<String>,
    /// A larger request is refused with "etcdserver: request is too large".
    pub max_request_bytes: usize,
    /// How the store is guarded, if it knows users.
    pub auth: Option<AuthOptions>,
    /// Calls at one time on one connection; what is more than the server takes by itself changes nothing.
    pub max_streams: u32,
    /// How clients and this server learn that the other is there: etcd's `--grpc-keepalive-*`.
    pub keep_alive: KeepAlive,
    /// Serve the JSON gateway: etcd's `--enable-grpc-gateway`.
    pub gateway: bool,
    /// Whose pages and which names may ask in plain HTTP.
    pub access: AccessOptions,
    /// How often a leader is looked for that a stream's caller wants: the election timeout.
    pub leader_interval: Duration,
    /// Where the calls are counted, if anywhere.
    pub metrics: Option<telemetry::Metrics>,
    /// How long calls take is counted too: etcd's `--metrics=extensive`.
    pub call_times: Option<Clock>,
    /// The group that the streams' tasks belong to.
    pub tasks: Tasks,
}

impl Options {
    /// The defaults of etcd, for a member named `default`.
    pub fn new(store: Arc<dyn Store>, tasks: Tasks) -> Self {
        let (name, client_urls) = ("default".to_owned(), Vec::new());
        let max_request_bytes = MAX_REQUEST_BYTES;
        let leader_interval = ELECTION_TIMEOUT;
        let (cluster, auth, metrics, call_times) = (None, None, None, None);
        let max_streams = u32::MAX;
        Options {
            store,
            cluster,
            name,
            client_urls,
            max_request_bytes,
            auth,
            max_streams,
            keep_alive: KeepAlive::default(),
            gateway: true,
            access: AccessOptions::default(),
            leader_interval,
            metrics,
            call_times,
            tasks,
        }
    }
}

/// The service, ready to be served on any number of listeners.
#[derive(Clone)]
pub struct Service {
    router: axum::Router,
    server: grpc::Server<fast::reply::Reply>,
    tasks: Tasks,
}

impl Service {
    /// Asks the store who it is and puts the services together.
    pub async fn start(options: Options) -> Result<Self, StoreError> {
        let (tasks, metrics) = (options.tasks.clone(), options.metrics.clone());
        let (leader_interval, gateway, call_times) =
            (options.leader_interval, options.gateway, options.call_times.clone());
        let (max_streams, keep_alive, access) = (options.max_streams, options.keep_alive, options.access.clone());
        let limit = options.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES);
        let shared = Arc::new(Shared::start(options).await?);
        leader::spawn(shared.clone(), leader_interval, &tasks);
        let watch = watch::Service::new(shared.clone(), tasks.child("watch"));
        // Each reads what clients pack, as etcd does; answers are as they are, which each client takes.
        macro_rules! packed {
            ($server:expr) => {
                $server.max_decoding_message_size(limit).accept_compressed(CompressionEncoding::Gzip)
            };
        }
        let lock = lock::Service { shared: shared.clone(), tasks: tasks.child("lock") };
        let election = election::Service { shared: shared.clone(), tasks: tasks.child("election") };
        let routes = Routes::new(packed!(KvServer::new(kv::Service(shared.clone()))))
            .add_service(packed!(WatchServer::new(watch.clone())))
            .add_service(packed!(LeaseServer::new(lease::Service(shared.clone()))))
            .add_service(packed!(MaintenanceServer::new(maintenance::Service(shared.clone()))))
            .add_service(packed!(ClusterServer::new(cluster::Service(shared.clone()))))
            .add_service(packed!(ShardsServer::new(shards::Service(shared.clone()))))
            .add_service(packed!(HealthServer::new(serving::Service { stop: tasks.stopping() })))
            .add_service(packed!(LockServer::new(lock)))
            .add_service(packed!(ElectionServer::new(election)));
        let routes = match &shared.gate {
            Some(gate) => {
                routes.add_service(packed!(AuthServer::new(auth::Service::new(shared.clone(), gate.clone()))))
            }
            None => routes,
        };
        let (mut grpc, mut calls) = (leader::guard(routes.prepare().into_axum_router(), shared.clone()), None);
        if let Some(metrics) = &metrics {
            metrics::identify(&shared, metrics);
            let counts = metrics::Calls::register(metrics, call_times);
            grpc = metrics::count(grpc, counts.clone());
            calls = Some(counts);
        }
        let router = http::add(grpc, shared.clone(), metrics, http::Options { gateway, access });
        let limits = fast::Limits { max_message_bytes: limit, max_streams, keep_alive };
        let server = fast::server(&shared, watch, router.clone(), limits, calls.as_ref());
        Ok(Service { router, server, tasks })
    }

    /// The router, for a caller that accepts connections by itself.
    pub fn router(&self) -> axum::Router {
        self.router.clone()
    }

    /// Accepts connections until the group stops. With `tls`, each connection begins with a handshake.
    pub fn serve(&self, listener: Listener, tls: Option<tokio_rustls::TlsAcceptor>) {
        serve::spawn(listener, tls, self.server.clone(), &self.tasks);
    }
}
