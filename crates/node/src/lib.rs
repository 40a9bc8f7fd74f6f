//! The node: kubelet's place. It registers the node, runs the pods that are bound to it as containers, keeps their
//! volumes, probes them, and tells the API what has become of them.
//!
//! ```text
//!   watch spec.nodeName=… ──▶ Pods ──▶ one Worker per pod ──▶ Machine (pure): facts + time → actions, status
//!                                        │    ▲
//!          containers, network, volumes ◀┘    └ exits, probe verdicts, results
//!   Server: /containerLogs, /exec, /pods, /metrics … over any stream
//! ```
//!
//! Knows the world through `client`, containers through `containers`, and the pod network through [`PodNetwork`].
//! Knows no store, no API server, no eBPF.

mod admission;
mod context;
mod convert;
pub mod directory;
mod machine_facts;
mod metrics;
mod network;
mod pod;
mod pods;
mod pull;
mod registration;
pub mod server;
pub mod streaming;
mod volumes;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use client::{Client, Informers, Recorder};
use containers::Runtime;
use k8s_openapi::api::core::v1::{Pod, Service};
use runtime::{Clock, Tasks};
use telemetry::Metrics;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use context::Context;
use convert::dns::Resolver;
use machine_facts::MachineFacts;
use metrics::NodeMetrics;
use pods::Pods;
use pull::Puller;
use registration::Registration;
use server::Server;
use streaming::StreamingState;
use volumes::sources::Sources;

pub use network::{NetworkError, PodAddress, PodNetwork};

/// Pods that a node takes where nothing else is said: kubelet's own figure.
pub const DEFAULT_MAX_PODS: u32 = 110;

/// What a node is made of.
pub struct Options {
    pub client: Client,
    pub informers: Informers,
    /// Containers and images ([`Runtime::images`]).
    pub runtime: Runtime,
    pub network: Arc<dyn PodNetwork>,
    pub node_name: String,
    /// The node's own addresses; the first is the main one.
    pub node_ips: Vec<IpAddr>,
    /// Folder for volumes and logs: `pods/` and `logs/` are made in it.
    pub data_dir: PathBuf,
    /// Servers of the cluster's DNS; empty gives pods the node's own resolver.
    pub cluster_dns: Vec<IpAddr>,
    /// For example `cluster.local`.
    pub cluster_domain: String,
    /// The part of the cluster's network that this node's pods get, as the object shows it.
    pub pod_cidr: Option<String>,
    /// The resolv.conf that pods inherit, for example `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    pub max_pods: u32,
    /// The port that the object names for the kubelet's endpoint; the node itself listens nowhere.
    pub kubelet_port: u16,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub clock: Clock,
    pub tasks: Tasks,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to make {path}")]
    Folder { path: PathBuf, source: std::io::Error },
}

/// The node service.
pub struct Node;

/// A handle on a running node.
#[derive(Clone)]
pub struct Handle {
    server: Server,
    directory: directory::Directory,
    ready: watch::Receiver<bool>,
}

impl Node {
    /// Starts the node. Returns at once; [`Handle::ready`] waits for the node to be Ready in the API. Running
    /// containers are adopted; stopping `tasks` leaves them running.
    pub async fn start(options: Options) -> Result<Handle, Error> {
        for name in ["pods", "logs"] {
            let path = options.data_dir.join(name);
            let made = path.clone();
            let result = runtime::blocking(move || std::fs::create_dir_all(made)).await;
            result.map_err(|source| Error::Folder { path, source })?;
        }
        let directory = directory::Directory::default();
        let (data_dir, resolv_conf) = (options.data_dir.clone(), options.resolv_conf.clone());
        let (machine, resolver) = runtime::blocking(move || {
            let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
            (MachineFacts::read(&data_dir), Resolver::parse(&text))
        })
        .await;
        let streaming = StreamingState {
            directory: directory.clone(),
            runtime: options.runtime.clone(),
            tasks: options.tasks.clone(),
            clock: options.clock.clone(),
        };
        let server = Server::new(options.node_name.clone(), streaming, options.metrics.clone());
        let context = Arc::new(Context {
            sources: Sources::new(options.client.clone(), options.tasks.clone()),
            pulls: Puller::default(),
            services: options.informers.all::<Service>(),
            metrics: NodeMetrics::register(&options.metrics),
            client: options.client,
            runtime: options.runtime,
            network: options.network,
            recorder: options.recorder,
            clock: options.clock,
            tasks: options.tasks.clone(),
            directory: directory.clone(),
            host_ips: options.node_ips,
            data_dir: options.data_dir,
            cluster_dns: options.cluster_dns,
            cluster_domain: options.cluster_domain,
            host_resolver: resolver,
            machine,
            node_name: options.node_name.clone(),
        });
        let (ready_sender, ready) = watch::channel(false);
        let registration = Registration {
            context: context.clone(),
            max_pods: options.max_pods,
            kubelet_port: options.kubelet_port,
            pod_cidr: options.pod_cidr,
            ready: ready_sender,
        };
        options.tasks.spawn("registration", registration.run());
        let informer = options.informers.selected::<Pod>(&format!("spec.nodeName={}", options.node_name));
        options.tasks.spawn("pods", Pods::new(context, informer).run());
        Ok(Handle { server, directory, ready })
    }
}

impl Handle {
    /// Waits until the node is Ready in the API.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        // The sender goes only with the node itself; then nobody waits any more.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Serves the kubelet's HTTP interface on `stream` until it closes. Whoever brings the stream has checked who
    /// speaks.
    pub async fn serve_connection<S>(&self, stream: S) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.server.serve(stream).await
    }

    /// What runs on the node now.
    pub fn directory(&self) -> &directory::Directory {
        &self.directory
    }
}
