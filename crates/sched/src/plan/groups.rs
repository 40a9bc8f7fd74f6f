//! Nodes that fit, in groups of equals, and in each group by their score: the best is found without looking at the others,
//! and a node that changes moves at the cost of the move.

use std::collections::{BTreeMap, HashMap};

use crate::world::NodeId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupId(pub u32);

/// Where a node stands: its group, its score there, and its place among those with the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub group: GroupId,
    pub score: i64,
    pub at: u32,
}

#[derive(Debug)]
pub(crate) struct Members {
    pub key: Box<[i64]>,
    pub nodes: usize,
    by_score: BTreeMap<i64, Vec<NodeId>>,
}

impl Members {
    /// The highest score, and who has it.
    pub fn best(&self) -> Option<(i64, &[NodeId])> {
        self.by_score.last_key_value().map(|(score, nodes)| (*score, nodes.as_slice()))
    }

    /// All nodes, the highest score first.
    pub fn descending(&self) -> impl Iterator<Item = (i64, NodeId)> {
        self.by_score.iter().rev().flat_map(|(score, nodes)| nodes.iter().map(|node| (*score, *node)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_key: HashMap<Box<[i64]>, GroupId>,
    list: Vec<Members>,
}

impl Groups {
    /// Where the node will stand.
    pub fn insert(&mut self, node: NodeId, key: &[i64], score: i64) -> Standing {
        let group = self.group(key);
        let members = &mut self.list[group.0 as usize];
        members.nodes += 1;
        let equals = members.by_score.entry(score).or_default();
        equals.push(node);
        Standing { group, score, at: u32::try_from(equals.len() - 1).expect("a node has a number of 32 bits") }
    }

    /// Returns the node that has taken its place, if one did.
    pub fn remove(&mut self, standing: Standing) -> Option<NodeId> {
        let members = &mut self.list[standing.group.0 as usize];
        members.nodes -= 1;
        let equals = members.by_score.get_mut(&standing.score)?;
        equals.swap_remove(standing.at as usize);
        let moved = equals.get(standing.at as usize).copied();
        if equals.is_empty() {
            members.by_score.remove(&standing.score);
        }
        moved
    }

    pub fn get(&self, id: GroupId) -> &Members {
        &self.list[id.0 as usize]
    }

    /// The groups that have members.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Members)> {
        let numbered = self.list.iter().enumerate().filter(|(_, members)| members.nodes > 0);
        numbered.map(|(index, members)| (GroupId(u32::try_from(index).expect("as its number was made")), members))
    }

    /// How many groups there ever were.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    fn group(&mut self, key: &[i64]) -> GroupId {
        if let Some(id) = self.by_key.get(key) {
            return *id;
        }
        let id = GroupId(u32::try_from(self.list.len()).expect("there are no more groups than evaluations"));
        self.list.push(Members { key: key.into(), nodes: 0, by_score: BTreeMap::new() });
        self.by_key.insert(key.into(), id);
        id
    }
}
