//! Which node is in which domain of a topology key (`topology.kubernetes.io/zone`, `kubernetes.io/hostname`, a rack).

use std::{collections::HashMap, sync::Arc};

use super::NodeId;

/// A topology key that somebody has asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopologyId(pub(crate) u32);

/// A value of a topology key, by a number. When its last node has left, the number is free for another value: numbers, and all
/// that is kept by them, are no more than there were domains at one time, however many names of nodes there ever were.
///
/// Whoever remembers a number beside a node, as the key of a group does, may go on with it: the node with the old meaning has
/// changed when it left the domain, so it is in the log of changes ([`super::World::changes_since`]) before any node with the
/// new one, and a plan is not asked before it has evaluated all nodes in the log.
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

/// The nodes with one value; without any, its number is free.
#[derive(Debug, Default)]
struct Members {
    value: Arc<str>,
    nodes: Vec<NodeId>,
}

#[derive(Debug)]
pub(crate) struct Topology {
    pub key: Arc<str>,
    /// Above so many domains it is not coarse any more.
    limit: usize,
    is_coarse: bool,
    /// By node; `None`: the node has no such label.
    of_node: Vec<Option<Domain>>,
    by_value: HashMap<Arc<str>, Domain>,
    /// By domain.
    members: Vec<Members>,
    free: Vec<Domain>,
}

impl Topology {
    pub fn new(key: Arc<str>, limit: usize) -> Self {
        Topology {
            key,
            limit,
            is_coarse: true,
            of_node: Vec::new(),
            by_value: HashMap::new(),
            members: Vec::new(),
            free: Vec::new(),
        }
    }

    pub fn domain(&self, node: NodeId) -> Option<Domain> {
        self.of_node.get(node.index()).copied().flatten()
    }

    pub fn nodes(&self, domain: Domain) -> &[NodeId] {
        &self.members[domain.0 as usize].nodes
    }

    /// One past the highest number of a domain.
    pub fn slots(&self) -> usize {
        self.members.len()
    }

    /// It is until there are more domains than the limit, and again when there is half of that: plans are made anew when it
    /// changes, and a cluster that stays about the limit is not to make them anew for each node that comes or goes.
    pub fn is_coarse(&self) -> bool {
        self.is_coarse
    }

    pub fn attach(&mut self, node: NodeId, value: Option<&Arc<str>>) {
        if self.of_node.len() <= node.index() {
            self.of_node.resize(node.index() + 1, None);
        }
        let Some(value) = value else { return };
        let domain = match self.by_value.get(value) {
            Some(domain) => *domain,
            None => self.open(value),
        };
        self.members[domain.0 as usize].nodes.push(node);
        self.of_node[node.index()] = Some(domain);
    }

    pub fn detach(&mut self, node: NodeId) {
        let Some(domain) = self.of_node.get_mut(node.index()).and_then(Option::take) else { return };
        let nodes = &mut self.members[domain.0 as usize].nodes;
        if let Some(at) = nodes.iter().position(|known| *known == node) {
            nodes.swap_remove(at);
        }
        if nodes.is_empty() {
            self.close(domain);
        }
    }

    fn open(&mut self, value: &Arc<str>) -> Domain {
        let domain = self.free.pop().unwrap_or_else(|| {
            self.members.push(Members::default());
            Domain(u32::try_from(self.members.len() - 1).expect("there are no more domains than nodes"))
        });
        self.members[domain.0 as usize].value = value.clone();
        self.by_value.insert(value.clone(), domain);
        if self.by_value.len() > self.limit {
            self.is_coarse = false;
        }
        domain
    }

    fn close(&mut self, domain: Domain) {
        let Members { value, .. } = std::mem::take(&mut self.members[domain.0 as usize]);
        self.by_value.remove(&value);
        self.free.push(domain);
        if self.by_value.len() <= self.limit / 2 {
            self.is_coarse = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves nodes to values, or away, and tells where they are and whether the topology is coarse.
    fn check(topology: &mut Topology, moves: &[(usize, Option<&str>)], domains: &[Option<u32>], is_coarse: bool) {
        for (node, value) in moves {
            topology.detach(NodeId::new(*node));
            topology.attach(NodeId::new(*node), value.map(Arc::from).as_ref());
        }
        let of_nodes: Vec<_> = (0..domains.len()).map(|node| topology.domain(NodeId::new(node))).collect();
        assert_eq!(of_nodes, domains.iter().map(|domain| domain.map(Domain)).collect::<Vec<_>>(), "{moves:?}");
        assert_eq!(topology.is_coarse(), is_coarse, "{moves:?}");
    }

    #[test]
    fn a_number_is_free_when_the_last_node_has_left() {
        let mut topology = Topology::new("zone".into(), 64);
        check(&mut topology, &[(0, Some("a")), (1, Some("a")), (2, Some("b"))], &[Some(0), Some(0), Some(1)], true);
        check(&mut topology, &[(0, Some("c"))], &[Some(2), Some(0), Some(1)], true);
        check(&mut topology, &[(1, None)], &[Some(2), None, Some(1)], true);
        check(&mut topology, &[(1, Some("d")), (3, Some("a"))], &[Some(2), Some(0), Some(1), Some(3)], true);
        assert_eq!((topology.nodes(Domain(0)), topology.slots()), ([NodeId::new(1)].as_slice(), 4));
    }

    #[test]
    fn it_is_coarse_again_when_few_domains_are_left() {
        let mut topology = Topology::new("zone".into(), 4);
        let all = ["a", "b", "c", "d", "e"].map(Some);
        let moves: Vec<_> = all.into_iter().enumerate().collect();
        check(&mut topology, &moves[..4], &[], true);
        check(&mut topology, &moves[4..], &[], false);
        // About the limit, nothing changes.
        check(&mut topology, &[(4, None), (3, None)], &[], false);
        check(&mut topology, &[(4, Some("f")), (3, Some("g")), (3, Some("h"))], &[], false);
        check(&mut topology, &[(4, None), (3, None), (2, None)], &[], true);
        check(&mut topology, &moves[2..4], &[], true);
        check(&mut topology, &moves[4..], &[], false);
    }
}
