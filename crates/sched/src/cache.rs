//! What runs where: nodes with the sums of their pods, kept up to date by each change, and the snapshot that a
//! decision reads.
//!
//! A pod that was placed is *assumed* at once, long before the API confirms it; the next decision already counts it.
//! Pods may come before their node: the node is then a name with sums, and no candidate until it is known.

use std::{collections::HashMap, sync::Arc};

use crate::{HostPort, Node, Pod, Resources};

/// A node and the sums over its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub requested: Resources,
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
    pub pods: i64,
    pub ports: Vec<HostPort>,
}

impl NodeInfo {
    /// A node that runs nothing.
    pub fn empty(node: Arc<Node>) -> Self {
        NodeInfo { node, ..Default::default() }
    }

    fn add(&mut self, pod: &Pod) {
        self.requested.add(&pod.requests);
        self.scored_milli_cpu += pod.scored_milli_cpu;
        self.scored_memory += pod.scored_memory;
        self.pods += 1;
        self.ports.extend(pod.host_ports.iter().cloned());
    }

    fn remove(&mut self, pod: &Pod) {
        self.requested.subtract(&pod.requests);
        self.scored_milli_cpu -= pod.scored_milli_cpu;
        self.scored_memory -= pod.scored_memory;
        self.pods -= 1;
        for port in &pod.host_ports {
            if let Some(at) = self.ports.iter().position(|known| known == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}

struct Slot {
    info: Arc<NodeInfo>,
    /// The API knows the node; otherwise only its pods do.
    known: bool,
}

struct Placed {
    pod: Arc<Pod>,
    slot: usize,
    assumed: bool,
}

#[derive(Default)]
pub(crate) struct Cache {
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_name: HashMap<Arc<str>, usize>,
    pods: HashMap<Arc<str>, Placed>,
    /// Slots whose sums or node changed since the last snapshot.
    dirty: Vec<usize>,
    /// The list of known nodes itself changed.
    relist: bool,
}

/// The nodes as of one moment. Shares what did not change with the snapshot before.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub nodes: Vec<Arc<NodeInfo>>,
    /// Where a slot of the cache stands in `nodes`.
    position: Vec<Option<usize>>,
}

impl Cache {
    /// The node before, if it was known.
    pub fn upsert_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let at = self.slot(&node.name);
        let slot = &mut self.slots[at];
        let before = slot.known.then(|| slot.info.node.clone());
        self.relist |= !slot.known;
        slot.known = true;
        Arc::make_mut(&mut slot.info).node = node;
        self.dirty.push(at);
        before
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(&at) = self.by_name.get(name) {
            self.slots[at].known = false;
            self.relist = true;
            self.release(at);
        }
    }

    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        let slot = &self.slots[*self.by_name.get(name)?];
        slot.known.then_some(&slot.info.node)
    }

    /// Counts a pod on a node; one that is counted already is moved or updated.
    pub fn place(&mut self, pod: Arc<Pod>, node: &str, assumed: bool) {
        self.remove(&pod.uid);
        let slot = self.slot(node);
        Arc::make_mut(&mut self.slots[slot].info).add(&pod);
        self.dirty.push(slot);
        self.pods.insert(pod.uid.clone(), Placed { pod, slot, assumed });
    }

    /// Stops counting a pod.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let placed = self.pods.remove(uid)?;
        Arc::make_mut(&mut self.slots[placed.slot].info).remove(&placed.pod);
        self.dirty.push(placed.slot);
        self.release(placed.slot);
        Some(placed.pod)
    }

    /// Whether the pod is counted on a node where the API does not show it yet.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    pub fn placed(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|placed| &placed.pod)
    }

    /// Brings a snapshot up to date: costs what changed, not what there is.
    pub fn update(&mut self, snapshot: &mut Snapshot) {
        if std::mem::take(&mut self.relist) {
            snapshot.nodes.clear();
            snapshot.position.clear();
            for slot in &self.slots {
                snapshot.position.push(slot.known.then_some(snapshot.nodes.len()));
                if slot.known {
                    snapshot.nodes.push(slot.info.clone());
                }
            }
            self.dirty.clear();
            return;
        }
        for at in self.dirty.drain(..) {
            if let Some(Some(index)) = snapshot.position.get(at) {
                snapshot.nodes[*index] = self.slots[at].info.clone();
            }
        }
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(&at) = self.by_name.get(name) {
            return at;
        }
        let name: Arc<str> = name.into();
        let node = Arc::new(Node { name: name.clone(), ..Default::default() });
        let slot = Slot { info: Arc::new(NodeInfo::empty(node)), known: false };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.by_name.insert(name, at);
        at
    }

    /// Forgets a name that neither the API nor a pod knows.
    fn release(&mut self, at: usize) {
        let slot = &self.slots[at];
        if !slot.known && slot.info.pods == 0 && self.by_name.remove(&slot.info.node.name).is_some() {
            self.free.push(at);
        }
    }
}
