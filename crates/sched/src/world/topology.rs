//! Which node is in which domain of a topology key (`topology.kubernetes.io/zone`, `kubernetes.io/hostname`, a rack).

use std::{collections::HashMap, sync::Arc};

use super::NodeId;

/// A topology key that somebody has asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopologyId(pub(crate) u32);

/// A value of a topology key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(pub(crate) u32);

// As a number in the key of a group of nodes.
impl From<Domain> for i64 {
    fn from(domain: Domain) -> Self {
        domain.0.into()
    }
}

impl From<i64> for Domain {
    /// The number must be a domain's.
    fn from(number: i64) -> Self {
        Domain(u32::try_from(number).expect("only numbers of domains are turned back"))
    }
}

#[derive(Debug)]
pub(crate) struct Topology {
    pub key: Arc<str>,
    /// Up to so many domains it is coarse.
    coarse: usize,
    /// By node; `None`: the node has no such label.
    of_node: Vec<Option<Domain>>,
    by_value: HashMap<Arc<str>, Domain>,
    /// By domain.
    nodes: Vec<Vec<NodeId>>,
}

impl Topology {
    pub fn new(key: Arc<str>, coarse: usize) -> Self {
        Topology { key, coarse, of_node: Vec::new(), by_value: HashMap::new(), nodes: Vec::new() }
    }

    pub fn domain(&self, node: NodeId) -> Option<Domain> {
        self.of_node.get(node.index()).copied().flatten()
    }

    pub fn nodes(&self, domain: Domain) -> &[NodeId] {
        &self.nodes[domain.0 as usize]
    }

    pub fn domains(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_coarse(&self) -> bool {
        self.nodes.len() <= self.coarse
    }

    pub fn attach(&mut self, node: NodeId, value: Option<&Arc<str>>) {
        if self.of_node.len() <= node.index() {
            self.of_node.resize(node.index() + 1, None);
        }
        let Some(value) = value else { return };
        let next = Domain(u32::try_from(self.nodes.len()).expect("there are fewer domains than nodes"));
        let domain = *self.by_value.entry(value.clone()).or_insert(next);
        if domain == next {
            self.nodes.push(Vec::new());
        }
        self.nodes[domain.0 as usize].push(node);
        self.of_node[node.index()] = Some(domain);
    }

    pub fn detach(&mut self, node: NodeId) {
        let Some(domain) = self.of_node.get_mut(node.index()).and_then(Option::take) else { return };
        let nodes = &mut self.nodes[domain.0 as usize];
        if let Some(at) = nodes.iter().position(|known| *known == node) {
            nodes.swap_remove(at);
        }
    }
}
