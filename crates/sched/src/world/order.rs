//! The order in which nodes are looked at: one of each zone in turn, so that a search that ends early has seen all zones.

use std::{collections::BTreeMap, sync::Arc};

use super::{NodeId, NodeInfo};

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Default)]
pub(crate) struct Order {
    list: Option<Arc<[NodeId]>>,
}

impl Order {
    pub fn invalidate(&mut self) {
        self.list = None;
    }

    pub fn get(&mut self, nodes: &[NodeInfo]) -> Arc<[NodeId]> {
        self.list.get_or_insert_with(|| interleaved(nodes)).clone()
    }
}

fn interleaved(nodes: &[NodeInfo]) -> Arc<[NodeId]> {
    let mut zones: BTreeMap<_, Vec<NodeId>> = BTreeMap::new();
    for info in nodes.iter().filter(|info| info.known) {
        zones.entry((info.node.label(REGION), info.node.label(ZONE))).or_default().push(info.id);
    }
    let longest = zones.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|at| zones.values().filter_map(move |zone| zone.get(at).copied())).collect()
}
