//! Why nodes are out of the question, counted by reason: what a pod is told costs the number of reasons, not of nodes.

use std::{collections::HashMap, hash::Hash};

use crate::{diagnosis::Rejection, profile::PluginIndex};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RejectId(u32);

/// `By`: who rejects a node.
#[derive(Debug)]
pub(crate) struct Rejects<By = PluginIndex> {
    list: Vec<(By, Rejection, usize)>,
    by_reason: HashMap<(By, Rejection), RejectId>,
}

impl<By> Default for Rejects<By> {
    fn default() -> Self {
        Rejects { list: Vec::new(), by_reason: HashMap::new() }
    }
}

impl<By: Copy + Eq + Hash> Rejects<By> {
    pub fn add(&mut self, refusal: (By, Rejection)) -> RejectId {
        let id = match self.by_reason.get(&refusal) {
            Some(id) => *id,
            None => {
                let id = RejectId(u32::try_from(self.list.len()).expect("there are no more reasons than nodes"));
                self.list.push((refusal.0, refusal.1.clone(), 0));
                self.by_reason.insert(refusal, id);
                id
            }
        };
        self.list[id.0 as usize].2 += 1;
        id
    }

    pub fn remove(&mut self, id: RejectId) {
        self.list[id.0 as usize].2 -= 1;
    }

    pub fn get(&self, id: RejectId) -> &(By, Rejection, usize) {
        &self.list[id.0 as usize]
    }

    /// Those that some node has.
    pub fn iter(&self) -> impl Iterator<Item = (By, Rejection, usize)> {
        self.list.iter().filter(|(_, _, nodes)| *nodes > 0).cloned()
    }
}
