//! What every part of the node shares.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use client::{Client, Informer, Recorder};
use containers::Runtime;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service};
use runtime::{Clock, Tasks};

use crate::{
    convert::{dns::Resolver, downward::NodeFacts},
    directory::Directory,
    machine_facts::MachineFacts,
    metrics::NodeMetrics,
    network::PodNetwork,
    pull::Puller,
    volumes::sources::Sources,
};

pub(crate) struct Context {
    pub client: Client,
    pub runtime: Runtime,
    pub network: Arc<dyn PodNetwork>,
    pub recorder: Recorder,
    pub clock: Clock,
    pub tasks: Tasks,
    pub directory: Directory,
    pub sources: Sources,
    pub pulls: Puller,
    pub services: Informer<Service>,
    pub node_name: String,
    pub host_ips: Vec<IpAddr>,
    pub data_dir: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's own resolv.conf.
    pub host_resolver: Resolver,
    pub machine: MachineFacts,
    pub metrics: NodeMetrics,
}

impl Context {
    /// The folder of a pod's log files.
    pub fn log_dir(&self, pod: &Pod) -> PathBuf {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let meta = &pod.metadata;
        let name = format!("{}_{}_{}", text(&meta.namespace), text(&meta.name), text(&meta.uid));
        self.data_dir.join("logs").join(name)
    }

    /// What the downward API tells of the node.
    pub fn facts(&self, pod_ips: &[IpAddr]) -> NodeFacts {
        NodeFacts {
            pod_ips: pod_ips.iter().map(ToString::to_string).collect(),
            host_ips: self.host_ips.iter().map(ToString::to_string).collect(),
            node_name: self.node_name.clone(),
            cpu_milli: self.machine.cpus.saturating_mul(1000),
            memory_bytes: self.machine.memory_bytes,
            ephemeral_storage_bytes: self.machine.disk_bytes,
        }
    }
}

/// A reference to one container of a pod, as kubelet's events carry it.
pub(crate) fn container_reference(pod: &Pod, container: &Container) -> ObjectReference {
    let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let list = if inits.iter().any(|init| init.name == container.name) { "initContainers" } else { "containers" };
    let mut reference = client::object_reference(pod);
    reference.field_path = Some(format!("spec.{list}{{{}}}", container.name));
    reference
}
