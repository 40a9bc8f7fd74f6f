//! A node and the sums over its pods.

use std::sync::Arc;

use super::population::PopulationId;
use crate::{HostPort, Node, Pod, Resources, pod::Volume};

/// A node's number, stable while the node or one of its pods is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    pub(crate) fn new(index: usize) -> Self {
        NodeId(u32::try_from(index).expect("there are fewer nodes than four billion"))
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Default for NodeId {
    fn default() -> Self {
        NodeId(u32::MAX)
    }
}

/// A pod on a node.
#[derive(Clone, Debug)]
pub struct Resident {
    pub pod: Arc<Pod>,
    pub(crate) population: PopulationId,
}

#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub id: NodeId,
    pub node: Arc<Node>,
    /// The API knows the node; otherwise only its pods do.
    pub known: bool,
    pub requested: Resources,
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
    pub pods: i64,
    pub ports: Vec<HostPort>,
    /// Volumes of its pods, with their namespaces.
    pub volumes: Vec<(Arc<str>, Volume)>,
    pub residents: Vec<Resident>,
    /// Pods for which preemption has freed this node, and which are not there yet.
    pub nominated: Vec<Resident>,
}

impl NodeInfo {
    pub(crate) fn new(id: NodeId, node: Arc<Node>) -> Self {
        NodeInfo { id, node, ..Default::default() }
    }

    /// A node that runs nothing, to ask whether a pod could ever run there.
    pub fn empty(node: Arc<Node>) -> Self {
        NodeInfo { node, known: true, ..Default::default() }
    }

    /// Adds a pod to the sums (1) or takes it off (-1).
    pub(crate) fn count(&mut self, pod: &Pod, pods: i64) {
        let spec = &pod.spec;
        if pods > 0 {
            self.requested.add(&spec.requests);
            self.ports.extend(spec.host_ports.iter().cloned());
        } else {
            self.requested.subtract(&spec.requests);
            for port in &spec.host_ports {
                if let Some(at) = self.ports.iter().position(|known| known == port) {
                    self.ports.swap_remove(at);
                }
            }
        }
        self.scored_milli_cpu += pods * spec.scored_milli_cpu;
        self.scored_memory += pods * spec.scored_memory;
        self.pods += pods;
        if !spec.volumes.is_empty() {
            self.count_volumes(pod, pods);
        }
    }

    fn count_volumes(&mut self, pod: &Pod, pods: i64) {
        for volume in &pod.spec.volumes {
            let held = |(namespace, known): &(Arc<str>, Volume)| *namespace == pod.namespace && known == volume;
            if pods > 0 {
                self.volumes.push((pod.namespace.clone(), volume.clone()));
            } else if let Some(at) = self.volumes.iter().position(held) {
                self.volumes.swap_remove(at);
            }
        }
    }
}
