//! The node's network: a namespace and an address for each pod, and Services answered at the socket by eBPF.
//!
//! ```text
//!   attach / detach ──▶ pods ──▶ bridge, veth, namespace, address file
//!   Services, EndpointSlices ──▶ plan ──▶ table ──▶ sockets  (eBPF maps: clients on this node)
//!     (by watch)               groups    delta └──▶ outside  (nftables: clients of other hosts, masquerade)
//! ```
//!
//! `plan`, `table` and the texts of `outside` are pure; everything that touches the kernel is in `pods`, `netlink`,
//! `sockets` and `sys`. What is programmed stays when the process ends: a restart takes it over without a gap, and only
//! [`cleanup`] removes it. Knows no container and no proxy.

mod addresses;
mod driver;
mod metrics;
mod netlink;
mod outside;
mod plan;
mod pods;
mod restore;
mod sockets;
mod status;
mod sys;
mod table;

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use client::Informers;
use ipnet::Ipv4Net;
use parking_lot::Mutex;
use runtime::{Clock, Tasks};

pub use metrics::Metrics;
pub use pods::{Error as PodError, PodAddress, PodNetwork};
pub use status::{Status, status};

/// Where the datapath keeps what, and what its things are called on the host.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Survives a reboot: address files, what to restore on cleanup.
    pub state_dir: PathBuf,
    /// Holds the mounted network namespaces (`netns/<pod uid>`).
    pub run_dir: PathBuf,
    /// Pinned maps and links; its parent is where the BPF file system is (or gets) mounted.
    pub bpf_dir: PathBuf,
    /// The cgroup whose processes see Services; the root of the cgroup2 tree when not given.
    pub cgroup: Option<PathBuf>,
    pub bridge: String,
    pub nft_table: String,
}

impl Paths {
    /// The usual names.
    pub fn new(state_dir: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        Paths {
            state_dir: state_dir.into(),
            run_dir: run_dir.into(),
            bpf_dir: PathBuf::from("/sys/fs/bpf/plinth"),
            cgroup: None,
            bridge: "plinth0".to_owned(),
            nft_table: "plinth".to_owned(),
        }
    }
}

/// What the datapath needs to start.
pub struct Options {
    pub paths: Paths,
    pub informers: Informers,
    pub node_name: String,
    /// This node's part of `cluster_cidr`; its first address is the gateway.
    pub pod_cidr: Ipv4Net,
    /// Pods of all nodes: between them no address is translated.
    pub cluster_cidr: Ipv4Net,
    pub metrics: Metrics,
    pub clock: Clock,
    pub tasks: Tasks,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("pod network")]
    Pods(#[from] pods::Error),
    #[error("the pod range {0} has no room for a gateway and a pod")]
    PodRange(Ipv4Net),
    #[error("kernel parameter {name}")]
    Sysctl { name: &'static str, source: std::io::Error },
    #[error("packet rules")]
    Outside(#[from] outside::Error),
    #[error("service load balancing")]
    Sockets(#[from] sockets::Error),
    #[error("remove {}", path.display())]
    Remove { path: PathBuf, source: std::io::Error },
}

/// A running datapath; clones share it. It runs until the tasks that it was started with are stopped.
#[derive(Clone)]
pub struct Handle {
    pods: PodNetwork,
    shared: Arc<Mutex<Live>>,
}

/// What only a running datapath knows about itself.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Why Services are not answered for clients on this node.
    pub sockets_error: Option<String>,
    /// Why packet rules (masquerade, node ports from other hosts) are not in place.
    pub outside_error: Option<String>,
    /// The Services and EndpointSlices have been seen and programmed once.
    pub synced: bool,
    pub frontends: usize,
    pub backends: usize,
}

/// Builds the pods' network, attaches the eBPF programs and begins to follow Services. Without eBPF, cgroup2 or nft the
/// rest still works: [`Handle::live`] says what is missing. Pods can be attached as soon as this returns; the API need
/// not be there yet.
pub async fn start(options: Options) -> Result<Handle, Error> {
    if options.pod_cidr.prefix_len() > 29 {
        return Err(Error::PodRange(options.pod_cidr));
    }
    let (paths, tasks) = (options.paths.clone(), options.tasks.clone());
    let (pod_cidr, cluster_cidr) = (options.pod_cidr, options.cluster_cidr);
    let (pods, sockets, outside) = runtime::blocking(move || {
        restore::remember(&paths)?;
        let pods = PodNetwork::open(&paths.bridge, pod_cidr, &paths.state_dir, &paths.run_dir, tasks)?;
        restore::enable_forwarding()?;
        // An earlier process's rules go on until its Services are known again.
        let outside = match outside::present(&paths.nft_table) {
            true => Ok(()),
            false => outside::run(&outside::base(&paths.nft_table, &paths.bridge, pod_cidr, cluster_cidr)),
        };
        Ok::<_, Error>((pods, attach(&paths), outside))
    })
    .await?;
    let mut live = Live::default();
    let sockets = sockets.inspect_err(|error| {
        let error = error_text(error);
        tracing::error!(error, "Services are not reachable by their cluster IPs from this node");
        live.sockets_error = Some(error);
    });
    if let Err(error) = outside {
        let error = error_text(&error);
        tracing::error!(error, "pods cannot reach the outside, and node ports do not answer other hosts");
        live.outside_error = Some(error);
    }
    let shared = Arc::new(Mutex::new(live));
    driver::spawn(options, sockets.ok(), shared.clone());
    Ok(Handle { pods, shared })
}

fn attach(paths: &Paths) -> Result<sockets::Sockets, sockets::Error> {
    let cgroup = match &paths.cgroup {
        Some(cgroup) => cgroup.clone(),
        None => sockets::cgroup2_root()?,
    };
    sockets::Sockets::attach(&cgroup, &paths.bpf_dir)
}

impl Handle {
    /// Gives the pod a network namespace with an address. Idempotent.
    pub async fn attach(&self, uid: &str, namespace: &str, name: &str) -> Result<PodAddress, PodError> {
        self.pods.attach(uid, namespace, name).await
    }

    /// Takes the pod off the network. Idempotent.
    pub async fn detach(&self, uid: &str) -> Result<(), PodError> {
        self.pods.detach(uid).await
    }

    /// Every pod that has an address, also those that an earlier process attached.
    pub fn list(&self) -> Vec<PodAddress> {
        self.pods.list()
    }

    /// The node's address on the pods' network.
    pub fn gateway(&self) -> Ipv4Addr {
        self.pods.gateway()
    }

    /// How the running datapath is.
    pub fn live(&self) -> Live {
        self.shared.lock().clone()
    }
}

/// Removes everything that a datapath with these paths has left on the host; what is gone already is fine.
pub async fn cleanup(paths: &Paths) -> Result<(), Error> {
    let paths = paths.clone();
    runtime::blocking(move || {
        sockets::cleanup(&paths.bpf_dir)?;
        outside::cleanup(&paths.nft_table)?;
        pods::cleanup(&paths.bridge, &paths.state_dir, &paths.run_dir)?;
        restore::restore(&paths)
    })
    .await
}

/// An error with its sources, for a line of text.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
