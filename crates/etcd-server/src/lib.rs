//! Serves a store as etcd v3 over gRPC, so that `etcdctl` and every etcd client read and write it.
//!
//! ```text
//!   connection ─▶ serve ─▶ fast: KV · Watch · keep-alive ──────────────┬─▶ dyn Store
//!                   └ else ─▶ kv · watch · lease · maintenance · cluster ┘
//!                              │ convert: wire ⇄ plain types
//!                              └ codes:   StoreError ─▶ gRPC code and etcd's words
//! ```
//!
//! Knows the trait `store_api::Store` and no store behind it; keeps no state but open streams.

mod cluster;
mod codes;
mod convert;
mod fast;
mod http;
mod kv;
mod lease;
mod maintenance;
mod metrics;
mod serve;
mod shared;
mod watch;

use std::sync::Arc;

use etcd_proto::etcdserverpb::{
    cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
    maintenance_server::MaintenanceServer, watch_server::WatchServer,
};
use runtime::Tasks;
use store_api::{Store, StoreError};
use tonic::service::Routes;

pub use serve::Listener;
use shared::Shared;

/// The largest request that is carried out, as etcd's `--max-request-bytes` has it by default.
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;
/// What the gRPC framing may add to the largest request.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

/// What the service needs.
pub struct Options {
    pub store: Arc<dyn Store>,
    /// The member's name, as `etcdctl member list` shows it.
    pub name: String,
    /// Where clients reach this member, as `etcdctl member list` shows it.
    pub client_urls: Vec<String>,
    /// A larger request is refused with "etcdserver: request is too large".
    pub max_request_bytes: usize,
    /// Where the calls are counted, if anywhere.
    pub metrics: Option<telemetry::Metrics>,
    /// The group that the streams' tasks belong to.
    pub tasks: Tasks,
}

impl Options {
    /// The defaults of etcd, for a member named `default`.
    pub fn new(store: Arc<dyn Store>, tasks: Tasks) -> Self {
        let (name, client_urls) = ("default".to_owned(), Vec::new());
        Options { store, name, client_urls, max_request_bytes: MAX_REQUEST_BYTES, metrics: None, tasks }
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
        let limit = options.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES);
        let shared = Arc::new(Shared::start(options).await?);
        let watch = watch::Service::new(shared.clone(), tasks.child("watch"));
        let routes = Routes::new(KvServer::new(kv::Service(shared.clone())).max_decoding_message_size(limit))
            .add_service(WatchServer::new(watch.clone()).max_decoding_message_size(limit))
            .add_service(LeaseServer::new(lease::Service(shared.clone())).max_decoding_message_size(limit))
            .add_service(MaintenanceServer::new(maintenance::Service(shared.clone())))
            .add_service(ClusterServer::new(cluster::Service(shared.clone())));
        let mut router = http::add(routes.prepare().into_axum_router(), shared.clone(), metrics.clone());
        let calls = metrics.as_ref().map(metrics::Calls::register);
        if let Some(calls) = &calls {
            router = metrics::count(router, calls.clone());
        }
        let server = fast::server(&shared, watch, router.clone(), limit, calls.as_ref());
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
