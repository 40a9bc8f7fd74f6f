//! What runs where, kept up to date by each change: nodes with the sums of their pods, and counts of pods by topology.
//!
//! A decision reads it as it stands; nothing changes while one is made, so it is a consistent snapshot that costs nothing.
//! A log of the nodes that changed lets a plan ([`crate::plan`]) catch up at the cost of the change.
//!
//! A pod that was placed is *assumed* at once, long before the API confirms it; the next decision already counts it.
//! Pods may come before their node: the node is then a name with sums, and no candidate until it is known.

mod change;
mod counter;
mod devices;
mod intern;
mod node_info;
mod order;
mod population;
mod topology;
mod volumes;
mod workloads;

pub use counter::{Carried, CounterId, CounterKey, Eligibility, TermKind, What};
pub use devices::{Devices, Promised};
pub use node_info::{NodeId, NodeInfo, Resident};
pub use topology::{Domain, TopologyId};
pub use volumes::{Held, HeldClaim, HeldVolume, Volumes};

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::resource::v1::DeviceClass;

use crate::{Pod, device::DeviceEvent, labels::Labels};
use counter::{Counter, Counters};
use intern::Interner;
use order::Order;
use population::Populations;
use topology::Topology;
use workloads::Workloads;

/// Changes of nodes that are remembered; a plan that is further behind begins anew.
const MAX_LOG: usize = 1 << 16;
/// Counters that are kept; past it, all are dropped with the plans that use them, and those in use come back.
const MAX_COUNTERS: usize = 16_384;

struct Placed {
    resident: Resident,
    node: NodeId,
    assumed: bool,
}

#[derive(Default)]
pub struct World {
    nodes: Vec<NodeInfo>,
    free: Vec<NodeId>,
    by_name: HashMap<Arc<str>, NodeId>,
    known: usize,
    order: Order,
    pods: HashMap<Arc<str>, Placed>,
    /// How many pods on nodes have which priority.
    priorities: BTreeMap<i32, usize>,
    nominations: HashMap<Arc<str>, NodeId>,
    populations: Populations,
    topologies: Vec<Topology>,
    counters: Counters,
    namespaces: HashMap<Arc<str>, Labels>,
    images: HashMap<Arc<str>, usize>,
    pub workloads: Workloads,
    pub volumes: Volumes,
    pub devices: Devices,
    interner: Interner,
    log: VecDeque<NodeId>,
    log_start: u64,
    epoch: u64,
    coarse_domains: usize,
    /// Since 1970, at the decision that is being made.
    unix_time: Duration,
}

/// Up to so many domains of a topology, nodes are told apart by their domain, and what is counted in it is looked up when a
/// decision is made. Above, they are told apart by the count itself, and a change of the count re-evaluates the domain's
/// nodes: there are few in each. When half as many are left, it is as before.
pub const COARSE_DOMAINS: usize = 64;

impl World {
    /// A world without anything in it; [`COARSE_DOMAINS`] says what the number means.
    pub fn new(coarse_domains: usize, devices: Devices) -> Self {
        World { coarse_domains, devices, ..Default::default() }
    }

    /// A class of devices; `None`: it is gone.
    pub(crate) fn set_device_class(&mut self, name: &Arc<str>, class: Option<DeviceClass>) -> Option<DeviceEvent> {
        let (event, concerns_all) = self.devices.set_class(name, class);
        if concerns_all {
            // Plugins may answer otherwise now about any pod that wants extended resources.
            self.epoch += 1;
        }
        event
    }

    pub(crate) fn set_unix_time(&mut self, time: Duration) {
        self.unix_time = time;
    }
}

// What plugins read.
impl World {
    pub fn info(&self, id: NodeId) -> &NodeInfo {
        &self.nodes[id.index()]
    }

    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The time since 1970.
    pub fn unix_time(&self) -> Duration {
        self.unix_time
    }

    /// Nodes that the API knows.
    pub fn known_nodes(&self) -> usize {
        self.known
    }

    /// Known nodes, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|info| info.known)
    }

    /// Known nodes, zone by zone in turn.
    pub fn order(&mut self) -> Arc<[NodeId]> {
        self.order.get(&self.nodes)
    }

    pub fn domain(&self, topology: TopologyId, node: NodeId) -> Option<Domain> {
        self.topologies[topology.0 as usize].domain(node)
    }

    /// Whether nodes are told apart by their domain of this topology, rather than by what is counted there.
    pub fn is_coarse(&self, topology: TopologyId) -> bool {
        self.topologies[topology.0 as usize].is_coarse()
    }

    /// One past the highest number of a domain, of the topology key that has the most: so long at most is what is kept for each
    /// domain.
    pub fn domain_slots(&self) -> usize {
        self.topologies.iter().map(Topology::slots).max().unwrap_or(0)
    }

    pub fn count(&self, counter: CounterId, domain: Domain) -> i64 {
        self.counters.get(counter).count(domain)
    }

    /// The pods that a counter counts, over all domains.
    pub fn total(&self, counter: CounterId) -> i64 {
        self.counters.get(counter).total()
    }

    /// The fewest pods in a domain, and how many domains there are.
    pub fn lowest(&self, counter: CounterId) -> (Option<i64>, usize) {
        let counter = self.counters.get(counter);
        (counter.lowest(), counter.domains())
    }

    /// Terms of existing pods that speak about pods with these labels.
    pub fn terms_about(&self, pod: &Pod) -> Vec<Arc<Carried>> {
        let of_namespace = self.namespaces.get(&pod.namespace);
        let about = self.counters.terms_about(&pod.namespace);
        about.filter(|term| term.term.peers.contain(&pod.namespace, &pod.labels, of_namespace)).cloned().collect()
    }

    /// Whether terms that were first heard of after so many speak about the pod.
    pub(crate) fn terms_since(&self, known: usize, pod: &Pod) -> bool {
        let of_namespace = self.namespaces.get(&pod.namespace);
        let new = self.counters.terms.get(known..).unwrap_or_default();
        new.iter().any(|term| term.term.peers.contain(&pod.namespace, &pod.labels, of_namespace))
    }

    pub fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    /// On how many nodes an image is.
    pub fn nodes_with_image(&self, name: &str) -> usize {
        self.images.get(name).copied().unwrap_or(0)
    }

    /// A topology key, from now on followed.
    pub fn topology(&mut self, key: &Arc<str>) -> TopologyId {
        let found = self.topologies.iter().position(|topology| topology.key == *key);
        let index = found.unwrap_or_else(|| {
            let mut topology = Topology::new(key.clone(), self.coarse_domains);
            for info in self.nodes.iter().filter(|info| info.known) {
                topology.attach(info.id, info.node.label(key));
            }
            self.topologies.push(topology);
            self.topologies.len() - 1
        });
        TopologyId(u32::try_from(index).expect("topology keys are few"))
    }

    /// A counter, from now on kept.
    pub fn counter(&mut self, key: CounterKey) -> CounterId {
        if let Some(id) = self.counters.find(&key) {
            return id;
        }
        let topology = &self.topologies[key.topology.0 as usize];
        let mut counter = Counter::new(key);
        for info in self.nodes.iter().filter(|info| info.known) {
            counter.attach(topology, info.id, &info.node);
        }
        let id = self.counters.insert(counter);
        let counter = &mut self.counters.list[id.0 as usize];
        for population in self.populations.iter_mut() {
            let labels = self.namespaces.get(&population.key.namespace);
            if population.key.belongs_to(&counter.key.what, labels) {
                population.counters.push(id);
                for (node, pods) in &population.nodes {
                    counter.add(topology, *node, i64::from(*pods));
                }
            }
        }
        id
    }
}
